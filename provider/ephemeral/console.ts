/**
 * Ephemeral resource `drover_console`: a pass that opens the serial console of a machine once, for a provisioner or
 * another program that speaks to a guest which has no network yet. Kept alive while Terraform runs, ended with it.
 */
import { path } from "@drover/shepherd/api/client";
import type { ConsolePass } from "@drover/shepherd/api/contract-passes";
import { attributes } from "#schema/attribute";
import { defineEphemeral } from "#schema/ephemeral";
import { reportError } from "../resources/problems.ts";
import { machineId, passLife, renewAtMs } from "./passes.ts";

const declared = attributes({
  machine: {
    type: "string",
    required: true,
    description: "Id of the machine, or `environment/name`.",
  },
  pass: {
    type: "string",
    computed: true,
    sensitive: true,
    description:
      "Opens the console once: `DROVER_PASS=… drover console`, or the header `Drover-Pass` of `POST /v1/console`.",
  },
  endpoint: {
    type: "string",
    computed: true,
    description: "The shepherd that takes it, for `drover --endpoint`.",
  },
});

export const console = defineEphemeral({
  name: "drover_console",
  description: "A pass that opens the serial console of a machine once.",
  attributes: declared,
  open: async (work, { machine }) => {
    const { client, signal } = work;
    try {
      const id = await machineId(work, machine);
      if (id === undefined) return null;
      const given = await client.call<ConsolePass>(
        "POST",
        path`/v1/machines/${id}/console-passes`,
        { signal },
      );
      return {
        result: { machine, pass: given.pass, endpoint: client.endpoint },
        renewAtMs: renewAtMs(given.expires_at_ms),
        private: { id: given.id },
      };
    } catch (error) {
      const what = `get a pass for the console of "${machine}"`;
      reportError(work, error, { what, attributes: ["machine"] });
      return null;
    }
  },
  ...passLife,
});
