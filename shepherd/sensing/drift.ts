/**
 * Compares what the journal granted with what hosts say: which attributes of a machine nobody granted. Pure.
 * A balloon takes time: between the last reached and the granted value it settles, and that is no drift.
 */
import type { ObservedMachine } from "#model/facts";
import { defaultCpuWeight, type MachineRecord, type Nic, type Sizing } from "#model/objects";
import type { HostId, SiteId } from "#model/units";
import { unplugged } from "#planner/cards";
import { hasSettled, liveCpuWeight, liveSizing, sizingAttributes } from "#planner/target";

export type DriftAttribute =
  | "vcpus"
  | "cpuPercent"
  | "cpuWeight"
  | "memoryMib"
  | "siteId"
  | "networks";
export interface Drift {
  readonly attribute: DriftAttribute;
  readonly expected: number | string;
  readonly actual: number | string;
}

/**
 * Empty when nothing is known (not observed, or an operation is changing it) or nothing differs.
 * `siteOf` tells the site of a host.
 */
export function driftOf(
  machine: MachineRecord,
  seen: ObservedMachine | undefined,
  siteOf: (hostId: HostId) => SiteId | undefined,
): readonly Drift[] {
  const { effective } = machine;
  if (seen === undefined || !seen.running || effective.state !== "running") return [];
  if (seen.hostId !== effective.hostId) {
    const actual = siteOf(seen.hostId);
    if (actual === undefined || actual === effective.siteId) return [];
    return [{ attribute: "siteId", expected: effective.siteId, actual }];
  }
  const live = liveSizing(machine, seen);
  const weight = liveCpuWeight(machine, seen);
  const grantedWeight = effective.cpuWeight ?? defaultCpuWeight;
  const sizes: readonly Drift[] = [
    ...sizingAttributes.flatMap((attribute) =>
      live[attribute] === effective[attribute]
        ? []
        : [{ attribute, expected: effective[attribute], actual: live[attribute] }],
    ),
    ...(weight === grantedWeight
      ? []
      : [{ attribute: "cpuWeight" as const, expected: grantedWeight, actual: weight }]),
  ];
  const gone = new Set(unplugged(machine, seen));
  if (gone.size === 0) return sizes;
  const expected = addressesOf(effective.nics);
  const actual = addressesOf(effective.nics.filter((nic) => !gone.has(nic)));
  return [...sizes, { attribute: "networks", expected, actual }];
}

function addressesOf(nics: readonly Nic[]): string {
  return nics.length === 0 ? "none" : nics.map(({ address }) => address).join(", ");
}

/** What to show as the live sizes: the granted memory while it settles towards it, what the host says otherwise. */
export function shownSizing(machine: MachineRecord, seen: ObservedMachine | undefined): Sizing {
  return machine.effective.state === "running"
    ? liveSizing(machine, seen)
    : liveSizing(machine, undefined);
}

/** True while the guest has not reached its granted memory yet. */
export function isSettling(machine: MachineRecord, seen: ObservedMachine | undefined): boolean {
  if (seen === undefined || !seen.running || seen.hostId !== machine.effective.hostId) return false;
  return !hasSettled(machine, seen) && driftOf(machine, seen, () => undefined).length === 0;
}
