/**
 * Ephemeral resource `drover_console`: how to reach the serial console of a machine right now. It names a host, which
 * changes when the machine moves, so it belongs into no state.
 */
import { path } from "@drover/shepherd/api/client";
import type { ConsoleView, MachineView } from "@drover/shepherd/api/contract";
import { attributes } from "#schema/attribute";
import { defineEphemeral } from "#schema/ephemeral";
import { splitImportId } from "../resources/declared-object.ts";
import { findOne } from "../resources/lookup.ts";
import { reportError } from "../resources/problems.ts";

const declared = attributes({
  machine: {
    type: "string",
    required: true,
    description: "Id of the machine, or `environment/name`.",
  },
  host: { type: "string", computed: true, description: "Host that it runs on now." },
  command: { type: "string", computed: true, description: "What reaches it: run at the host." },
  log_file: {
    type: "string",
    computed: true,
    description: "File at the host that holds what it has printed.",
  },
});

export const consoleAccess = defineEphemeral({
  name: "drover_console",
  description: "How to reach the serial console of a machine now.",
  attributes: declared,
  open: async (work, { machine }) => {
    const { client, report, signal } = work;
    try {
      const key = splitImportId(machine);
      const id =
        key === undefined ? machine : (await findOne<MachineView>(client, "/v1/machines", key))?.id;
      if (id === undefined) {
        report
          .at("machine")
          .error("No such machine", `The shepherd knows no machine "${machine}".`);
        return null;
      }
      const view = await client.get<ConsoleView>(path`/v1/machines/${id}/console`, { signal });
      return { result: { machine, ...view } };
    } catch (error) {
      reportError(work, error, {
        what: `reach the console of "${machine}"`,
        attributes: ["machine"],
      });
      return null;
    }
  },
});
