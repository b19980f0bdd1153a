/**
 * Whether promised rates fit what hosts' uplinks and the paths between sites carry. A link between machines of one host
 * uses neither. A link of a machine with its network may be used up towards any one of the network's other machines, so
 * it counts on its own host's uplink and on the path to every other site where one of them lives. Pure arithmetic over facts; what nobody gave a number for is not counted. A plan that makes an overfull
 * uplink less full passes: only what adds to it is refused.
 */
import type { Facts } from "#model/facts";
import type { LinkRecord } from "#model/objects";
import type { PlanAction, PlanRefusal } from "#model/plan";
import type { HostId, LinkId, MachineId, Mbps } from "#model/units";

/** Undefined: every promise fits after these actions. */
export function uplinkRefusal(
  actions: readonly PlanAction[],
  facts: Facts,
): PlanRefusal | undefined {
  const capacity = capacities(facts);
  if (capacity.size === 0) return undefined;
  const before = promisedOn(facts, placesOf(facts, []), ratesOf(facts, []));
  const places = placesOf(facts, actions);
  const rates = ratesOf(facts, actions);
  const after = promisedOn(facts, places, rates);
  for (const [name, limit] of capacity) {
    const promised = after.get(name) ?? 0;
    if (promised <= limit || promised <= (before.get(name) ?? 0)) continue;
    const asked = actions.flatMap((action) =>
      action.kind === "set_rate" && action.toMbps > action.fromMbps ? [action.toMbps] : [],
    );
    const room = Math.max(0, limit - (promised - Math.max(0, ...asked)));
    const fits = asked.length === 1 && room > 0;
    return {
      kind: "refused",
      code: "placement.uplink_full",
      message: `${name} carries ${limit} Mbit/s, and ${promised} Mbit/s would be promised over it${fits ? `; a link of ${room} fits` : ""}`,
      ...(fits ? { nearest: { rate_mbps: room } } : {}),
      refusedBy: { [name]: 1 },
    };
  }
  return undefined;
}

/** By the name that people are told. */
function capacities(facts: Facts): ReadonlyMap<string, Mbps> {
  const found = new Map<string, Mbps>();
  for (const site of facts.sites) {
    for (const host of site.hosts)
      if (host.uplinkMbps !== undefined) found.set(uplinkName(host.id), host.uplinkMbps);
    for (const [other, mbps] of Object.entries(site.pathMbps ?? {}))
      found.set(pathName(site.id, other), mbps);
  }
  return found;
}

function promisedOn(
  facts: Facts,
  places: ReadonlyMap<MachineId, HostId>,
  rates: ReadonlyMap<LinkId, Mbps>,
): ReadonlyMap<string, Mbps> {
  const siteOf = new Map(
    facts.sites.flatMap((site) => site.hosts.map((host) => [host.id, site.id] as const)),
  );
  const machineOf = new Map(
    facts.machines.map((machine) => [
      `${machine.spec.environmentId}/${machine.spec.name}`,
      machine,
    ]),
  );
  const promised = new Map<string, Mbps>();
  const count = (name: string, mbps: Mbps) => promised.set(name, (promised.get(name) ?? 0) + mbps);
  const countWithNetwork = ({ environmentId, spec }: LinkRecord, mbps: Mbps) => {
    const own = machineOf.get(`${environmentId}/${spec.machines[0]}`);
    const hostId = places.get(own?.id ?? "");
    const network = facts.networks.find(({ key }) => key === `${environmentId}/${spec.network}`);
    if (hostId === undefined || network === undefined) return;
    const others = facts.machines.flatMap((machine) => {
      const otherId = places.get(machine.id);
      const isOnIt = machine.spec.networks.some(({ networkId }) => networkId === network.id);
      return isOnIt && otherId !== undefined && otherId !== hostId ? [otherId] : [];
    });
    if (others.length > 0) count(uplinkName(hostId), mbps);
    const siteId = siteOf.get(hostId) ?? "";
    for (const other of new Set(others.map((otherId) => siteOf.get(otherId) ?? "")))
      if (other !== siteId) count(pathName(siteId, other), mbps);
  };
  for (const link of facts.links) {
    const mbps = rates.get(link.id) ?? 0;
    if (mbps === 0) continue;
    if (link.spec.network !== undefined) {
      countWithNetwork(link, mbps);
      continue;
    }
    const [left, right] = link.spec.machines.map((name) =>
      places.get(machineOf.get(`${link.spec.environmentId}/${name}`)?.id ?? ""),
    );
    if (left === undefined || right === undefined || left === right) continue;
    count(uplinkName(left), mbps);
    count(uplinkName(right), mbps);
    const [leftSite = "", rightSite = ""] = [siteOf.get(left), siteOf.get(right)];
    if (leftSite !== rightSite) count(pathName(leftSite, rightSite), mbps);
  }
  return promised;
}

function placesOf(facts: Facts, actions: readonly PlanAction[]): ReadonlyMap<MachineId, HostId> {
  const places = new Map<MachineId, HostId>();
  for (const { id, effective } of facts.machines)
    if (effective.hostId !== "") places.set(id, effective.hostId);
  for (const action of actions) {
    if (action.kind === "create_machine") places.set(action.machineId, action.hostId);
    if (action.kind === "move_machine") places.set(action.machineId, action.toHostId);
    if (action.kind === "destroy_machine") places.delete(action.machineId);
  }
  return places;
}

function ratesOf(facts: Facts, actions: readonly PlanAction[]): ReadonlyMap<LinkId, Mbps> {
  const rates = new Map<LinkId, Mbps>(
    facts.links.map((link) => [link.id, link.effective.rateMbps]),
  );
  for (const action of actions)
    if (action.kind === "set_rate") rates.set(action.linkId, action.toMbps);
  return rates;
}

function uplinkName(hostId: HostId): string {
  return `the uplink of ${hostId}`;
}

function pathName(left: string, right: string): string {
  return left < right
    ? `the path between ${left} and ${right}`
    : `the path between ${right} and ${left}`;
}
