/**
 * Data source `drover_adaptations`: what was granted beyond the baselines of an environment, each with the lines that
 * make it the new baseline. Changes as machines adapt: keep it out of outputs of stacks whose plan must stay empty.
 */
import type { AdaptationView } from "@drover/shepherd/api/contract";
import { attributes, type StateOf } from "#schema/attribute";
import { defineDataSource } from "#schema/resource";
import { leaseTime } from "../resources/time.ts";
import { type AdaptedValues, cdktfPatch, hclPatch } from "./adoption.ts";
import { reading } from "./reading.ts";

const declared = attributes({
  environment: { type: "string", required: true, description: "Name or id of the environment." },
  machine: {
    type: "string",
    optional: true,
    description: "Only adaptations of the machine with this name.",
  },
  adaptations: {
    type: {
      nesting: "list",
      attributes: {
        id: { type: "string", computed: true, description: "Id of the adaptation." },
        machine: {
          type: "string",
          computed: true,
          description: "Name of the machine; null for a link.",
        },
        link: {
          type: "string",
          computed: true,
          description: "The two machines of the link, `rank-0--rank-1`; null for a machine.",
        },
        vcpus: { type: "number", computed: true, description: "Granted virtual CPUs, if adapted." },
        cpu_percent: {
          type: "number",
          computed: true,
          description: "Granted CPU cap in percent of one host core, if adapted.",
        },
        memory_mib: {
          type: "number",
          computed: true,
          description: "Granted memory in MiB, if adapted.",
        },
        site: { type: "string", computed: true, description: "Granted site, if adapted." },
        rate_mbps: {
          type: "number",
          computed: true,
          description: "Granted rate of a link in Mbit/s, if adapted.",
        },
        decision_id: {
          type: "string",
          computed: true,
          description: "The decision that granted it.",
        },
        lease_until: {
          type: "string",
          computed: true,
          description: "When it is released, in RFC 3339. Null: not by time.",
        },
        reason: {
          type: "string",
          computed: true,
          description: "Reason given for it. Untrusted text of the asker.",
        },
        hcl: {
          type: "string",
          computed: true,
          description:
            "Attribute lines for the body of its resource: with them it is the new baseline.",
        },
        cdktf: {
          type: "string",
          computed: true,
          description: "Entry for `baselines` of the CDKTF construct `Environment`, for the same.",
        },
      },
    },
    computed: true,
    description: "The adaptations in force, by the name of the machine or link.",
  },
});
type Row = NonNullable<StateOf<typeof declared>["adaptations"]>[number];

export const adaptations = defineDataSource({
  name: "drover_adaptations",
  description:
    "What was granted beyond the baselines, with the lines that adopt it as the new baseline.",
  attributes: declared,
  read: (work, { environment, machine }) =>
    reading(work, `read the adaptations of "${environment}"`, ["environment"], async () => {
      const { items } = await work.client.get<{ items: readonly AdaptationView[] }>(
        "/v1/adaptations",
        { query: { environment }, signal: work.signal },
      );
      const rows = items
        .filter((view) =>
          machine === null ? (view.machine ?? view.link) : view.machine === machine,
        )
        .map(rowOf);
      return { environment, machine, adaptations: rows.toSorted(byObject) };
    }),
});

function rowOf(view: AdaptationView): Row {
  const { vcpus, cpu_percent, memory_mib, site_id, rate_mbps } = view.values;
  const values: AdaptedValues = { vcpus, cpu_percent, memory_mib, site: site_id, rate_mbps };
  return {
    id: view.id,
    machine: view.machine,
    link: view.link,
    vcpus: vcpus ?? null,
    cpu_percent: cpu_percent ?? null,
    memory_mib: memory_mib ?? null,
    site: site_id ?? null,
    rate_mbps: rate_mbps ?? null,
    decision_id: view.decision_id,
    lease_until: leaseTime(view.lease_until_ms),
    reason: view.reason,
    hcl: hclPatch(values),
    cdktf: cdktfPatch(view.machine ?? view.link ?? "", values),
  };
}

function byObject(left: Row, right: Row): number {
  const name = (row: Row) => row.machine ?? row.link ?? "";
  return name(left) < name(right) ? -1 : 1;
}
