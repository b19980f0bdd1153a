/**
 * How old the facts are that a decision rests on, and when they are too old to give or move anything. Giving back,
 * destroying, and a change that stays on its host within what its lease grants need no fresh facts: they take nothing
 * that somebody else may have. Pure.
 */
import type { Facts, HostFacts } from "#model/facts";
import type { Plan, PlanAction } from "#model/plan";
import type { Request } from "#model/request";
import type { HostId, Ms } from "#model/units";
import type { Stopped } from "#policy/refusals";

/** By host, in the order of their names: goes into the record of a decision. */
export type FactAges = Readonly<Record<HostId, Ms>>;

/** Since the host said what stands in the facts; never negative, also when a clock was set back. */
export function ageOf(host: Pick<HostFacts, "observedAtMs">, { nowMs }: Facts): Ms {
  return Math.max(0, Math.round(nowMs - host.observedAtMs));
}

/** Of the hosts where the request's machines are, and of those that the plan works on. */
export function factAges(request: Request, facts: Facts, plan?: Plan): FactAges {
  const asked = new Set(request.machines.map(({ machineId }) => machineId));
  const concerned = new Set([
    ...facts.machines.filter(({ id }) => asked.has(id)).map(({ effective }) => effective.hostId),
    ...(plan?.actions ?? []).flatMap((action) => hostsOf(action, facts)),
  ]);
  return agesOf([...concerned], facts);
}

/**
 * What of this plan must rest on fresh facts and does not; of a request without a plan, whether its machines' own hosts
 * have been silent for too long to say anything about them.
 */
export function tooOldFor(
  request: Request,
  facts: Facts,
  plan: { readonly actions: readonly PlanAction[] } | undefined,
): Stopped | undefined {
  const { maxAgeMs } = facts;
  if (maxAgeMs === undefined || neverStale.has(request.kind)) return undefined;
  const ages =
    plan === undefined
      ? factAges(request, facts)
      : agesOf(
          plan.actions.filter(needsFreshFacts).flatMap((action) => hostsOf(action, facts)),
          facts,
        );
  const [oldest] = Object.entries(ages).toSorted(([, left], [, right]) => right - left);
  if (oldest === undefined || oldest[1] <= maxAgeMs) return undefined;
  const [hostId, ageMs] = oldest;
  // Which host it is, an operator reads in the decision's input; a guest knows sites only.
  const site = facts.sites.find(({ hosts }) => hosts.some(({ id }) => id === hostId));
  return {
    code: "facts.stale",
    message: `What is known at site ${site?.id ?? ""} is ${seconds(ageMs)} old, and decisions rest on nothing older than ${seconds(maxAgeMs)}. Nothing grows, comes or leaves there until it answers; giving back goes on.`,
  };
}

const neverStale: ReadonlySet<Request["kind"]> = new Set(["release", "repair", "destroy"]);

/** What takes room, or carries a machine from one host to another. */
function needsFreshFacts(action: PlanAction): boolean {
  switch (action.kind) {
    case "create_machine":
    case "move_machine":
    case "restart_machine":
      return true;
    case "set_memory":
      return action.toMib > action.fromMib;
    case "set_vcpus":
    case "set_cpu_percent":
      return action.to > action.from;
    default:
      return false;
  }
}

function hostsOf(action: PlanAction, facts: Facts): readonly HostId[] {
  if (action.kind === "move_machine") return [action.fromHostId, action.toHostId];
  if (action.kind === "create_machine") return [action.hostId];
  if (!("machineId" in action)) return [];
  return facts.machines
    .filter(({ id }) => id === action.machineId)
    .map(({ effective }) => effective.hostId);
}

function agesOf(hostIds: readonly HostId[], facts: Facts): FactAges {
  const wanted = new Set(hostIds);
  return Object.fromEntries(
    facts.sites
      .flatMap(({ hosts }) => hosts)
      .filter(({ id }) => wanted.has(id))
      .toSorted((left, right) => (left.id < right.id ? -1 : 1))
      .map((host) => [host.id, ageOf(host, facts)]),
  );
}

function seconds(ms: Ms): string {
  return `${(ms / 1000).toFixed(ms < 10_000 ? 1 : 0)} s`;
}
