/**
 * Action `drover_drain`: moves all machines off a host, live, and keeps new ones away from it. Ends when the host is empty;
 * what cannot leave is told with its reason, and stays where it runs.
 */

import { setTimeout as pause } from "node:timers/promises";
import { path } from "@drover/shepherd/api/client";
import type { DrainView } from "@drover/shepherd/api/contract";
import { defineAction } from "#schema/action";
import { attributes } from "#schema/attribute";
import { reportError } from "../resources/problems.ts";

/** The drain has no event of its own: this often is looked how far it is. */
const lookEveryMs = 1000;
/** So many looks with nothing moving and the same blockers: it goes no further without a person. */
const patienceLooks = 5;

const declared = attributes({
  host: { type: "string", required: true, description: "Name of the host." },
  reason: { type: "string", required: true, description: "Why, for those who look at it later." },
});

export const drain = defineAction({
  name: "drover_drain",
  description: "Moves all machines off a host, live, and keeps new ones away until it is returned.",
  attributes: declared,
  invoke: async (work, { host, reason }, progress) => {
    const { client, report, signal } = work;
    const what = `drain host "${host}"`;
    try {
      let view = await client.call<DrainView>("POST", path`/v1/hosts/${host}/drain`, {
        body: { reason },
        signal,
      });
      let told = "";
      let still = 0;
      while (!view.done && still < patienceLooks) {
        const line = wordsOf(view);
        still = line === told && view.moving.length === 0 ? still + 1 : 0;
        if (line !== told) progress(line);
        told = line;
        await pause(lookEveryMs, undefined, { signal });
        view = await client.get<DrainView>(path`/v1/hosts/${host}/drain`, { signal });
      }
      if (view.done) return progress(`host ${host} is empty`);
      report
        .at("host")
        .error(
          "The host is not empty",
          `Could not ${what}: ${view.machines} machines are still there, and none moves. ` +
            `${view.blockers.map(({ machine, message, code }) => `${machine}: ${message} [${code}]`).join(" ")}\n` +
            `It stays drained: nothing new is placed there. Invoke again, or end it with \`drover drain ${host} --end\`.`,
        );
    } catch (error) {
      if (signal.aborted)
        report.error(
          "Interrupted",
          `Stopped waiting to ${what}; the shepherd goes on draining it.`,
        );
      else reportError(work, error, { what, attributes: Object.keys(declared) });
    }
  },
});

function wordsOf({ host_id, machines, moving, blockers }: DrainView): string {
  const stuck =
    blockers.length === 0 ? "" : `; ${blockers.length} blocked: ${blockers[0]?.message}`;
  return `host ${host_id}: ${machines} machines left, ${moving.length} moving${stuck}`;
}
