/**
 * Ephemeral resource `drover_guest_token`: a short-lived token with which a program asks in the name of a machine over
 * HTTP, where it cannot open the machine's channel. Bound to the machine and to methods; judged like the guest itself.
 */
import { path } from "@drover/shepherd/api/client";
import type { GuestPass, GuestPassBody } from "@drover/shepherd/api/contract-passes";
import { attributes } from "#schema/attribute";
import { defineEphemeral } from "#schema/ephemeral";
import { size, wholeNumber } from "#schema/validators";
import { reportError } from "../resources/problems.ts";
import { machineId, passLife, renewAtMs } from "./passes.ts";

const declared = attributes({
  machine: {
    type: "string",
    required: true,
    description: "Id of the machine, or `environment/name`.",
  },
  methods: {
    type: ["list", "string"],
    optional: true,
    description:
      "Methods of the guest protocol that it may use: `resize`, `rate`, `move`, `scale`, `topology`, `release`, `forecast`, `status`. Absent: all.",
    validators: [size({ min: 1, max: 8 }, "at least one method")],
  },
  lasts_s: {
    type: "number",
    optional: true,
    description:
      "How long it holds when nobody renews it, in seconds; Terraform renews it while it runs. Default 600.",
    validators: [wholeNumber({ min: 60, max: 86_400 })],
  },
  token: {
    type: "string",
    computed: true,
    sensitive: true,
    description: "The header `Drover-Pass` of `POST /v1/guest`.",
  },
  endpoint: { type: "string", computed: true, description: "The shepherd that takes it." },
});

export const guestToken = defineEphemeral({
  name: "drover_guest_token",
  description: "A short-lived token with which a program asks in the name of a machine.",
  attributes: declared,
  open: async (work, { machine, methods, lasts_s }) => {
    const { client, signal } = work;
    try {
      const id = await machineId(work, machine);
      if (id === undefined) return null;
      const body: GuestPassBody = {
        ...(methods === null ? {} : { methods: [...methods] }),
        ...(lasts_s === null ? {} : { lasts_ms: lasts_s * 1_000 }),
      };
      const given = await client.call<GuestPass>("POST", path`/v1/machines/${id}/guest-passes`, {
        body,
        signal,
      });
      return {
        result: { machine, methods, lasts_s, token: given.pass, endpoint: client.endpoint },
        renewAtMs: renewAtMs(given.expires_at_ms),
        private: { id: given.id },
      };
    } catch (error) {
      const what = `get a token of "${machine}"`;
      reportError(work, error, { what, attributes: ["machine", "methods", "lasts_s"] });
      return null;
    }
  },
  ...passLife,
});
