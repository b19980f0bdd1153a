/** `drover_link`: a promised rate between two machines, or between a machine and its network. The rate is a baseline; the one in force stands in `effective`. */
import { path } from "@drover/shepherd/api/client";
import type { LinkBody, LinkPatch, LinkView } from "@drover/shepherd/api/contract";
import { attributes, type StateOf } from "#schema/attribute";
import { identityById } from "#schema/identity";
import { defineResource, type PrivateData } from "#schema/resource";
import { exactlyOneOf, together } from "#schema/rules";
import { timeoutsAttribute } from "#schema/timeouts";
import { oneOf, size, wholeNumber } from "#schema/validators";
import { isUnknown, unknown } from "#schema/value";
import { rateMbps } from "./adaptation-attributes.ts";
import { declaredObject, splitImportId } from "./declared-object.ts";
import { findOne } from "./lookup.ts";
import { known } from "./machine-body.ts";
import { onlyStack, waysAttribute } from "./plan-check.ts";
import { leaseTime } from "./time.ts";

const declared = attributes({
  id: { type: "string", computed: true, neverNull: true, description: "Id of the link." },
  environment_id: {
    type: "string",
    required: true,
    replaces: true,
    description: "Id of the environment that it belongs to.",
  },
  machines: {
    type: ["set", "string"],
    optional: true,
    replaces: true,
    description: "Names of the two machines that it joins, in any order.",
    validators: [size({ min: 2, max: 2 }, "the names of two machines")],
  },
  machine: {
    type: "string",
    optional: true,
    replaces: true,
    description: "Name of the one machine of a link with a network.",
  },
  network: {
    type: "string",
    optional: true,
    replaces: true,
    description:
      "Name of the network that `machine` is joined with: the rate counts all that the machine sends there and receives from there, except with machines that it has a link of its own with.",
  },
  rate_mbps: {
    type: "number",
    required: true,
    description: "Baseline of the rate in both directions, in Mbit/s. An edit takes effect live.",
    validators: [rateMbps],
  },
  latency: {
    type: "string",
    optional: true,
    replaces: true,
    description:
      "`low`: a short queue, so that a small packet never waits long behind large ones. Absent: a usual one.",
    validators: [oneOf(["low"])],
  },
  burst_kib: {
    type: "number",
    optional: true,
    replaces: true,
    description:
      "What may pass at once above the rate, in KiB. Absent: as little as the rate needs.",
    validators: [wholeNumber({ min: 16, max: 65_536 })],
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
  ways: waysAttribute,
  timeouts: timeoutsAttribute({ create: "20m", update: "20m", delete: "20m" }),
});
type State = StateOf<typeof declared>;

/** What read keeps beside the state: the baseline at the shepherd, where an unexplained rate hides it. */
interface Kept {
  readonly rate_mbps?: number;
}

/** The rate in force when no adaptation explains that it is not the baseline: it stands in the baseline's place then. */
function driftedRate({ rate_mbps, effective }: LinkView): number | undefined {
  const explained = effective.adaptation_id !== null || effective.rate_mbps === rate_mbps;
  return explained ? undefined : effective.rate_mbps;
}

export const link = defineResource({
  name: "drover_link",
  version: 0,
  description:
    "A promised rate between two machines of one environment, or between a machine and its network.",
  importId: "environment/machine,machine, environment/machine@network or id",
  attributes: declared,
  rules: [exactlyOneOf("machines", "machine"), together("machine", "network")],
  identity: identityById("link"),
  plan: ({ prior, planned, config, private: kept }, report) => {
    if (prior === null || prior.effective === null) return {};
    const baseline = config.rate_mbps === null ? (kept as Kept).rate_mbps : undefined;
    const rate = baseline ?? planned.rate_mbps;
    if (rate === prior.rate_mbps) return {};
    const { effective } = prior;
    const adopts = rate === effective.rate_mbps;
    if (effective.adaptation_id !== null && !adopts)
      report
        .at("rate_mbps")
        .warning(
          "An approved adaptation will be superseded",
          `Adaptation ${effective.adaptation_id} is in force ${effective.lease_until === null ? "until released" : `until ${effective.lease_until}`}; live now: rate_mbps = ${effective.rate_mbps}. Applying this puts the planned rate in force instead.`,
        );
    return {
      rate_mbps: rate,
      effective: {
        rate_mbps: isUnknown(rate) ? unknown : rate,
        adaptation_id: unknown,
        lease_until: unknown,
      },
    };
  },
  ...declaredObject<typeof declared, LinkView>({
    noun: "link",
    checkedAs: "link",
    typeName: "drover_link",
    attributes: Object.keys(declared),
    put: (planned) => ({
      path: path`/v1/environments/${String(planned.environment_id)}/links`,
      body: {
        machines: ends(planned),
        network: known(planned.network),
        rate_mbps: planned.rate_mbps as number,
        latency: known(planned.latency) as LinkBody["latency"] & string,
        burst_kib: known(planned.burst_kib),
      } satisfies LinkBody,
    }),
    one: (id) => path`/v1/links/${id}`,
    lookUp: (client, planned) =>
      findOne<LinkView>(client, "/v1/links", {
        environment: String(planned.environment_id),
        ...keyOf(planned),
      }),
    patch: ({ prior, planned }) =>
      planned.rate_mbps === prior.rate_mbps
        ? undefined
        : ({
            rate_mbps: planned.rate_mbps as number,
            ...promised(prior, planned.rate_mbps),
          } satisfies LinkPatch),
    state: (view, prior) => ({
      private: (driftedRate(view) === undefined
        ? {}
        : { rate_mbps: view.rate_mbps }) satisfies Kept as PrivateData,
      state: {
        id: view.id,
        environment_id: view.environment_id,
        machines: view.network == null ? view.machines : null,
        machine: view.network == null ? null : (view.machines[0] ?? null),
        network: view.network ?? null,
        rate_mbps: driftedRate(view) ?? view.rate_mbps,
        latency: view.latency ?? null,
        burst_kib: view.burst_kib ?? null,
        ways: onlyStack(prior?.ways) ?? {},
        timeouts: onlyStack(prior?.timeouts),
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
    nameOf: (state) => [...ends(state), known(state.network) ?? []].flat().join(" - "),
    find: (client, id) => {
      const key = splitImportId(id);
      return key === undefined
        ? client.find(path`/v1/links/${id}`)
        : findOne<LinkView>(client, "/v1/links", {
            environment: key.environment,
            ...keyOfName(key.name),
          });
    },
    importIdOf: (planned) => {
      const network = known(planned.network);
      const name = ends(planned).join(",") + (network === null ? "" : `@${network}`);
      return `${String(planned.environment_id)}/${name}`;
    },
  }),
});

/** Unless the rate in force is still the one that the plan saw, the shepherd answers plan.stale. */
function promised({ effective }: State, rate: unknown): Partial<LinkPatch> {
  if (effective?.rate_mbps == null || typeof rate !== "number") return {};
  return {
    planned_from: { rate_mbps: effective.rate_mbps },
    planned_effective: { rate_mbps: rate },
  };
}

/** The names, sorted, as the shepherd keeps them: two, or the one of a link with a network. */
function ends({ machines, machine }: Joined): string[] {
  if (Array.isArray(machines)) return machines.map(String).toSorted();
  return typeof machine === "string" ? [machine] : [];
}
interface Joined {
  readonly machines: unknown;
  readonly machine: unknown;
}

/** What the list of links is searched by. */
function keyOf(joined: Joined & { readonly network: unknown }): Record<string, string> {
  return {
    machines: ends(joined).join(","),
    ...(typeof joined.network === "string" ? { network: joined.network } : {}),
  };
}
function keyOfName(name: string): Record<string, string> {
  const [machines = "", network] = name.split("@");
  return { machines, ...(network === undefined ? {} : { network }) };
}
