/** `drover_link`: a promised rate between two machines. The rate is a baseline; the one in force stands in `effective`. */
import { path } from "@drover/shepherd/api/client";
import type { LinkBody, LinkPatch, LinkView } from "@drover/shepherd/api/contract";
import { attributes } from "#schema/attribute";
import { defineResource } from "#schema/resource";
import { size, wholeNumber } from "#schema/validators";
import { isUnknown, unknown } from "#schema/value";
import { declaredObject, splitImportId } from "./declared-object.ts";
import { findOne } from "./lookup.ts";
import { leaseTime } from "./time.ts";

const declared = attributes({
  id: { type: "string", computed: true, description: "Id of the link." },
  environment_id: {
    type: "string",
    required: true,
    replaces: true,
    description: "Id of the environment that it belongs to.",
  },
  machines: {
    type: ["set", "string"],
    required: true,
    replaces: true,
    description: "Names of the two machines that it joins, in any order.",
    validators: [size({ min: 2, max: 2 }, "the names of two machines")],
  },
  rate_mbps: {
    type: "number",
    required: true,
    description: "Baseline of the rate in both directions, in Mbit/s. An edit takes effect live.",
    validators: [wholeNumber({ min: 1, max: 400_000 })],
  },
  effective: {
    type: {
      nesting: "single",
      attributes: {
        rate_mbps: { type: "number", computed: true, description: "Rate now, in Mbit/s." },
        adaptation_id: {
          type: "string",
          computed: true,
          description: "The adaptation in force, if any.",
        },
        lease_until: {
          type: "string",
          computed: true,
          description: "When the adaptation is released, in RFC 3339. Null: not by time.",
        },
      },
    },
    computed: true,
    description: "What is in force now.",
  },
});

export const link = defineResource({
  name: "drover_link",
  version: 0,
  description: "A promised rate between two machines of one environment.",
  importId: "environment/machine,machine or id",
  attributes: declared,
  plan: ({ prior, planned }) => {
    if (prior === null || planned.rate_mbps === prior.rate_mbps) return {};
    const rate = isUnknown(planned.rate_mbps) ? unknown : planned.rate_mbps;
    return { effective: { rate_mbps: rate, adaptation_id: unknown, lease_until: unknown } };
  },
  ...declaredObject<typeof declared, LinkView>({
    noun: "link",
    typeName: "drover_link",
    attributes: Object.keys(declared),
    put: (planned) => ({
      path: path`/v1/environments/${String(planned.environment_id)}/links`,
      body: {
        machines: ends(planned.machines),
        rate_mbps: Number(planned.rate_mbps),
      } satisfies LinkBody,
    }),
    one: (id) => path`/v1/links/${id}`,
    lookUp: (client, planned) =>
      findOne<LinkView>(client, "/v1/links", {
        environment: String(planned.environment_id),
        machines: ends(planned.machines).join(","),
      }),
    patch: ({ prior, planned }) =>
      planned.rate_mbps === prior.rate_mbps
        ? undefined
        : ({ rate_mbps: Number(planned.rate_mbps) } satisfies LinkPatch),
    state: (view) => ({
      state: {
        id: view.id,
        environment_id: view.environment_id,
        machines: view.machines,
        rate_mbps: view.rate_mbps,
        effective: {
          rate_mbps: view.effective.rate_mbps,
          adaptation_id: view.effective.adaptation_id,
          lease_until: leaseTime(view.effective.lease_until_ms),
        },
      },
    }),
    // What the plan promised was reached, or the call would have failed; live values may have moved on since.
    settle: (reached, planned) => {
      const promised = planned.effective;
      if (promised === null || isUnknown(promised) || reached.effective === null) return reached;
      const { rate_mbps } = promised;
      return typeof rate_mbps === "number"
        ? { ...reached, effective: { ...reached.effective, rate_mbps } }
        : reached;
    },
    idOf: (state) => state.id ?? "",
    nameOf: (state) => ends(state.machines).join(" - "),
    find: (client, id) => {
      const key = splitImportId(id);
      return key === undefined
        ? client.find(path`/v1/links/${id}`)
        : findOne<LinkView>(client, "/v1/links", {
            environment: key.environment,
            machines: key.name,
          });
    },
    importIdOf: (planned) =>
      `${String(planned.environment_id)}/${ends(planned.machines).join(",")}`,
  }),
});

/** Both names, sorted, as the shepherd keeps them. */
function ends(machines: unknown): [string, string] {
  const [left = "", right = ""] = Array.isArray(machines) ? machines.map(String).toSorted() : [];
  return [left, right];
}
