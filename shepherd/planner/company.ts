/**
 * What policy says of machines that share places: those it keeps apart, and those it keeps together. Pure: is told where
 * everything is or will be by the plan so far; knows no room and no cost.
 */
import type { Facts, HostFacts } from "#model/facts";
import type { MachineRecord } from "#model/objects";
import type { Limits } from "#model/request";
import type { HostId, SiteId } from "#model/units";

export interface Arrival {
  readonly machine: MachineRecord;
  readonly host: HostFacts;
  readonly facts: Facts;
  readonly limits: Limits;
  /** Where a machine will be, as far as it is decided; undefined: nowhere, or not decided yet. */
  readonly hostOf: (machine: MachineRecord) => HostId | undefined;
  readonly siteOf: (hostId: HostId) => SiteId | undefined;
}

/** As many of those that policy keeps apart are there, or come there by this plan, as may be. */
export function isCrowded(arrival: Arrival): boolean {
  return (arrival.limits.apart ?? []).some(({ machines, per, most }) => {
    const company = companyOf(arrival, machines);
    if (company === undefined) return false;
    const place = placeOf(arrival, per, arrival.host.id);
    const there = company.filter((other) => placeOf(arrival, per, arrival.hostOf(other)) === place);
    return there.length >= most;
  });
}

/** Those that policy keeps together would be at more places than they may, and than they are at now. */
export function isScattered(arrival: Arrival): boolean {
  return (arrival.limits.together ?? []).some(({ machines, per, most }) => {
    const company = companyOf(arrival, machines);
    if (company === undefined) return false;
    const { machine, host, hostOf } = arrival;
    const places = (hosts: readonly (HostId | undefined)[]) =>
      new Set(hosts.map((id) => placeOf(arrival, per, id)).filter((place) => place !== undefined));
    const before = places([machine, ...company].map(({ effective }) => effective.hostId));
    return places([host.id, ...company.map(hostOf)]).size > Math.max(most, before.size);
  });
}

/** Whether policy keeps this machine together with others. */
export function isKeptTogether({ spec }: MachineRecord, { together = [] }: Limits): boolean {
  return together.some(({ machines }) => machines.includes(spec.name));
}

/** The others that are named with it; undefined when it is not named. */
function companyOf(
  { machine, facts }: Arrival,
  names: readonly string[],
): readonly MachineRecord[] | undefined {
  if (!names.includes(machine.spec.name)) return undefined;
  return facts.machines.filter(
    ({ id, environmentId, spec }) =>
      id !== machine.id && environmentId === machine.environmentId && names.includes(spec.name),
  );
}

function placeOf(
  { siteOf }: Arrival,
  per: "host" | "site",
  hostId: HostId | undefined,
): string | undefined {
  if (hostId === undefined || hostId === "") return undefined;
  return per === "host" ? hostId : siteOf(hostId);
}
