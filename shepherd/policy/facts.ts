/**
 * Gathers the facts of one moment: the journal's records, what hosts last said, what happened lately. The gate decides
 * on these and nothing else. Knows no rule and no plan; asks sensing, never a host.
 */
import type { Facts, MachineLoad, ObservedMachine, SiteFacts } from "#model/facts";
import type { EnvironmentId, HostId, MachineId, Ms } from "#model/units";
import { isInForce } from "#policy/exemptions";
import type { History } from "#policy/history";
import type { Journal } from "#ports/store";

/** What hosts last said; sensing/observer.ts keeps it. */
export interface Sensed {
  /** Every site of the configuration with its hosts; foreign machines counted as used. */
  sites(): readonly SiteFacts[];
  /** Domains that carry our mark, by the id they carry. */
  observed(): Readonly<Record<MachineId, ObservedMachine>>;
  loads(): Readonly<Record<MachineId, MachineLoad>>;
  /** What was said longer ago is no ground for a decision; absent: no bound. */
  readonly maxAgeMs?: Ms | undefined;
}

export async function gatherFacts(
  journal: Journal,
  from: {
    readonly sensed: Sensed;
    readonly history: History;
    readonly nowMs: Ms;
    /** Lows and recent requests are read for this environment only. */
    readonly environmentId: EnvironmentId;
  },
): Promise<Facts> {
  const { sensed, history, nowMs, environmentId } = from;
  const machines = await journal.objects.list("machine");
  const observed = sensed.observed();
  const known = new Set<string>(machines.map(({ id }) => id));
  return {
    nowMs,
    maxAgeMs: sensed.maxAgeMs,
    sites: withStrays(sensed.sites(), observed, known),
    environments: await journal.objects.list("environment"),
    networks: await journal.objects.list("network"),
    images: await journal.objects.list("image"),
    machines,
    links: await journal.objects.list("link"),
    groups: await journal.objects.list("group"),
    volumes: await journal.objects.list("volume"),
    forecasts: (await journal.objects.list("forecast")).filter(
      ({ spec }) => (spec.untilMs ?? nowMs) >= nowMs,
    ),
    reservations: await journal.reservations.list(),
    observed,
    loads: sensed.loads(),
    recent: history.recent(environmentId, nowMs),
    moves: await history.moves(journal, nowMs),
    hourLow: await history.hourLow(journal, environmentId, nowMs),
    holds: await journal.holds.list(),
    recalls: await journal.recalls.list(),
    exemptions: (await journal.exemptions.list()).filter((one) => isInForce(one, nowMs)),
    constraints: await journal.objects.list("constraint", { environmentId }),
    siteRates: await history.siteRates(journal, nowMs),
    moveSamples: await history.moveSamples(journal, nowMs),
  };
}

/** A domain with our mark that the journal does not know is used room like a foreign one, until somebody removes it. */
function withStrays(
  sites: readonly SiteFacts[],
  observed: Readonly<Record<MachineId, ObservedMachine>>,
  known: ReadonlySet<string>,
): readonly SiteFacts[] {
  const strays = Object.entries(observed).filter(([id, seen]) => !known.has(id) && seen.running);
  if (strays.length === 0) return sites;
  return sites.map((site) => ({
    ...site,
    hosts: site.hosts.map((host) => ({
      ...host,
      foreign: addStrays(
        host.id,
        host.foreign,
        strays.map(([, seen]) => seen),
      ),
    })),
  }));
}

function addStrays(
  hostId: HostId,
  foreign: SiteFacts["hosts"][number]["foreign"],
  strays: readonly ObservedMachine[],
): SiteFacts["hosts"][number]["foreign"] {
  const here = strays.filter((seen) => seen.hostId === hostId);
  return {
    count: foreign.count + here.length,
    cpuPercent: here.reduce(
      (total, seen) => total + (seen.cpuPercent ?? seen.vcpus * 100),
      foreign.cpuPercent,
    ),
    memoryMib: here.reduce(
      (total, seen) => total + Math.max(seen.memoryMib, seen.memoryTargetMib),
      foreign.memoryMib,
    ),
  };
}
