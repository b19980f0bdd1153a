/**
 * Asks for the values of a `fix` instead of what was asked for: the input as the shepherd would make it then. An oracle
 * of tests: what a rule calls the nearest request that would pass is asked again.
 */
import type { PolicyInput, PolicyMachine } from "@drover/shepherd/policy/input";

export type Fix = Readonly<Record<string, number | string>>;

const sizes = ["vcpus", "cpu_percent", "memory_mib"] as const;
/** As the facts forget them. */
const hourMs = 3_600_000;
const dayMs = 86_400_000;

/** Throws for a key that no request has. */
export function withFix(input: PolicyInput, fix: Fix): PolicyInput {
  return Object.entries(fix).reduce(applied, input);
}

function applied(input: PolicyInput, [key, value]: [string, number | string]): PolicyInput {
  if (key === "retry_after_ms" && typeof value === "number") return later(input, value);
  if (key === "lease_ms" && typeof value === "number")
    return { ...input, request: { ...input.request, lease_ms: value } };
  if (key === "rate_mbps" && typeof value === "number") {
    const links = input.environment.links.map((link) =>
      link.proposed_mbps === link.rate_mbps ? link : { ...link, proposed_mbps: value },
    );
    return { ...input, environment: { ...input.environment, links } };
  }
  if (key === "machines" && typeof value === "number") return scaled(input, value);
  if (key === "site" && typeof value === "string")
    return changed(input, (machine) => atSite(input, machine, value));
  const size = sizes.find((one) => one === key);
  if (size === undefined || typeof value !== "number")
    throw new Error(`no request has ${key} = ${value}`);
  return changed(input, (machine) => ofSize(input, machine, size, value));
}

/** So many of the group: the last of those that would be new do not come. */
function scaled(input: PolicyInput, wanted: number): PolicyInput {
  const { environment, request } = input;
  const added = environment.machines.filter(
    ({ vcpus, proposed }) => vcpus === 0 && proposed.vcpus > 0,
  );
  const { group } = added[0] ?? { group: "" };
  const members = environment.machines.filter(
    (one) => one.group === group && one.proposed.vcpus > 0,
  );
  const gone = new Set(added.map(({ name }) => name).slice(added.length - members.length + wanted));
  const stay = ({ name }: { readonly name: string }) => !gone.has(name);
  const machines = environment.machines.filter(stay);
  return {
    ...input,
    request: { ...request, machines: request.machines.filter((name) => !gone.has(name)) },
    environment: {
      ...environment,
      machines,
      counts: { ...environment.counts, machines: machines.length },
      groups: environment.groups.map((one) => ({
        ...one,
        machines: one.machines.filter((name) => !gone.has(name)),
      })),
    },
  };
}

/** An audit judges what is: there the fix is what would have to be. */
function stands({ point }: PolicyInput): boolean {
  return point === "audit";
}

function ofSize(
  input: PolicyInput,
  machine: PolicyMachine,
  size: (typeof sizes)[number],
  value: number,
): PolicyMachine {
  if (stands(input)) {
    if (machine[size] <= value) return machine;
    return { ...machine, [size]: value, proposed: { ...machine.proposed, [size]: value } };
  }
  // What is only moved is asked to be as large as it is.
  if (input.request.kind === "move" && machine.proposed.host !== machine.host)
    return { ...machine, proposed: { ...machine.proposed, [size]: value } };
  const isGrowth = input.environment.machines.some((one) => one.proposed[size] > one[size]);
  const isAsked = isGrowth
    ? machine.proposed[size] > machine[size]
    : machine.proposed[size] < machine[size];
  return isAsked ? { ...machine, proposed: { ...machine.proposed, [size]: value } } : machine;
}

function atSite(input: PolicyInput, machine: PolicyMachine, site: string): PolicyMachine {
  if (stands(input)) {
    if (machine.site === site) return machine;
    const host = hostAt(input, site);
    return { ...machine, site, host, proposed: { ...machine.proposed, site, host } };
  }
  if (machine.proposed.site === machine.site) return machine;
  const stays = machine.site === site;
  const host = stays ? machine.host : input.point === "plan" ? hostAt(input, site) : "";
  return { ...machine, proposed: { ...machine.proposed, site, host } };
}

function hostAt({ sites }: PolicyInput, site: string): string {
  return sites.find(({ id }) => id === site)?.hosts[0]?.id ?? `${site}-1`;
}

/** With the plan that such a request would have: it moves what changes its host. */
function changed(
  input: PolicyInput,
  change: (machine: PolicyMachine) => PolicyMachine,
): PolicyInput {
  const machines = input.environment.machines.map(change);
  const environment = { ...input.environment, machines };
  if (input.plan === undefined) return { ...input, environment };
  const moving = machines.flatMap(({ name, host, proposed }) =>
    host !== "" && proposed.host !== "" && proposed.host !== host ? [name] : [],
  );
  const moves = input.plan.moves.filter(({ machine }) => moving.includes(machine));
  return { ...input, environment, plan: { ...input.plan, moves } };
}

/** The same request after that long, with nothing else asked meanwhile. */
function later(input: PolicyInput, waitMs: number): PolicyInput {
  const nowMs = input.now_ms + waitMs;
  const over = <Hold extends PolicyInput["hold"]>(hold: Hold): Hold =>
    hold.active && hold.until_ms !== 0 && hold.until_ms <= nowMs
      ? { ...hold, active: false, by: "", reason: "", since_ms: 0, until_ms: 0 }
      : hold;
  const { recent, moves } = input.environment;
  const requests = recent.requests.filter(({ at_ms }) => at_ms > nowMs - hourMs);
  const rows = moves.rows.filter(({ at_ms }) => at_ms > nowMs - dayMs);
  return {
    ...input,
    now_ms: nowMs,
    hold: over(input.hold),
    sites: input.sites.map((site) => ({ ...site, hold: over(site.hold) })),
    environment: {
      ...input.environment,
      hold: over(input.environment.hold),
      recent: { total: requests.length, requests },
      moves: { total: rows.length, rows },
    },
  };
}
