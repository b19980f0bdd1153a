/**
 * The mesh between sites, as far as it is more than what derive makes of the journal: each host's public key is asked
 * for and journaled before the host is told its network, and keys are rotated so that no packet is lost. Private keys
 * are the hosts' own; nothing here ever sees one.
 */
import { Fault, isFault, toFaultData } from "#model/fault";
import type { HostRecord, TunnelEnd } from "#model/site";
import type { HostId } from "#model/units";
import { derive } from "#network/derive";
import { isEncrypted, tunnelName } from "#network/tunnels";
import { type NetworkReach, readNetworkState, withHost } from "#operations/network-state";
import type { Journal } from "#ports/store";

/** Addresses inside the mesh: the tail of the range for networks of carriers (RFC 6598), which no LAN of a site uses. */
const meshPrefix = "100.127";
const firstGeneration = 0;
/** After senders changed, what is still on its way was sent with the old keys. */
const graceMs = 3_000;

/** Hosts whose key was asked for by this process and has not been doubted since. */
const verified = new WeakMap<object, Set<HostId>>();

/**
 * Makes sure that the journal knows these hosts' keys. True when it learned something: other hosts have to be told. A
 * host that does not answer is left as it was; one whose key others may have read is a Fault (`network.key_exposed`).
 */
export async function settleTunnels(
  reach: NetworkReach,
  hostIds: readonly HostId[],
): Promise<boolean> {
  const known = verifiedOf(reach);
  const { fleet } = reach.world;
  const asked = fleet.filter(
    (host) =>
      hostIds.includes(host.id) &&
      !known.has(host.id) &&
      fleet.some((other) => isEncrypted(host, other)),
  );
  const learned = await Promise.all(asked.map((host) => settle(reach, host)));
  return learned.some(Boolean);
}

/** The next apply asks the host for its key again: it was started anew, or refused what it was told. */
export function doubtTunnel(reach: NetworkReach, hostId: HostId): boolean {
  return verifiedOf(reach).delete(hostId);
}

async function settle(reach: NetworkReach, host: HostRecord): Promise<boolean> {
  const { world } = reach;
  const ends = await reach.read((journal) => journal.tunnelEnds.list());
  const generations = ends
    .find((end) => end.hostId === host.id)
    ?.keys.map((key) => key.generation) ?? [
    // All hosts send with the same generation: a new one joins the others.
    Math.max(firstGeneration, ...ends.map((end) => end.generation)),
  ];
  try {
    const keys = await Promise.all(
      generations.map(async (generation) => ({
        generation,
        publicKey: await world.hosts.network(host.id).tunnelKey(tunnelName(host.id, generation)),
      })),
    );
    const changed = await world.store.transaction((journal) =>
      remember(journal, { hostId: host.id, keys, nowMs: world.clock.nowMs() }),
    );
    verifiedOf(reach).add(host.id);
    return changed;
  } catch (error) {
    if (isFault(error) && error.code === "network.key_exposed") throw error;
    // Its own network may still be applied; other sites are not met before its key is known.
    world.log.warn({ host: host.id, fault: toFaultData(error) }, "no tunnel key of this host");
    return false;
  }
}

async function remember(
  journal: Journal,
  found: {
    readonly hostId: HostId;
    readonly keys: TunnelEnd["keys"];
    readonly nowMs: number;
  },
): Promise<boolean> {
  const { hostId, keys, nowMs } = found;
  const ends = await journal.tunnelEnds.list();
  const before = ends.find((end) => end.hostId === hostId);
  if (before !== undefined && JSON.stringify(before.keys) === JSON.stringify(keys)) return false;
  const end: TunnelEnd = {
    hostId,
    address: before?.address ?? lowestFreeMeshAddress(ends),
    keys,
    generation: before?.generation ?? keys.at(-1)?.generation ?? firstGeneration,
  };
  await journal.tunnelEnds.put(end);
  await journal.events.append({ kind: "tunnel.key", atMs: nowMs, data: { ...end } });
  return true;
}

function lowestFreeMeshAddress(ends: readonly TunnelEnd[]): string {
  const taken = new Set(ends.map((end) => end.address));
  for (let number = 1; number < 65_535; number += 1) {
    const address = `${meshPrefix}.${Math.floor(number / 256)}.${number % 256}`;
    if (!taken.has(address)) return address;
  }
  throw new Error("65,534 hosts have an address in the mesh");
}

/**
 * New keys on every host of the mesh, without losing a packet: the new devices come up beside the old ones and shake
 * hands while the old ones carry the traffic, then all hosts change the device they send by (both still receive), and
 * the old ones go with their keys. Every stage is journaled: a shepherd that ends in between leaves a mesh that works.
 * Faults `network.rotation_failed` (nothing has changed then), `host.unreachable`.
 */
export async function rotateTunnels(reach: NetworkReach): Promise<{
  readonly generation: number;
  readonly hostIds: readonly HostId[];
}> {
  const { world } = reach;
  // What an earlier rotation left half done goes first; the keys that are in use stay.
  await changeEnds(reach, (end) => onlyKeys(end, end.generation));
  const before = await reach.read((journal) => journal.tunnelEnds.list());
  const present = before.filter((end) => world.fleet.some((host) => host.id === end.hostId));
  if (present.length === 0) return { generation: firstGeneration, hostIds: [] };
  const next = Math.max(...before.map((end) => end.generation)) + 1;
  try {
    const fresh = new Map(
      await Promise.all(
        present.map(async ({ hostId }) => {
          const network = world.hosts.network(hostId);
          const publicKey = await network.tunnelKey(tunnelName(hostId, next), { fresh: true });
          return [hostId, publicKey] as const;
        }),
      ),
    );
    await changeEnds(reach, (end) => {
      const publicKey = fresh.get(end.hostId);
      return publicKey === undefined
        ? end
        : { ...end, keys: [...end.keys, { generation: next, publicKey }] };
    });
    await applyEverywhere(reach);
    await shakeHands(reach, next);
  } catch (error) {
    await changeEnds(reach, (end) => onlyKeys(end, end.generation));
    await applyEverywhere(reach).catch((second: unknown) => {
      world.log.warn({ fault: toFaultData(second) }, "new tunnels stay until the next repair");
    });
    const problem = isFault(error) ? error.message : String(error);
    throw new Fault("network.rotation_failed", { problem }, { cause: error });
  }
  await changeEnds(reach, (end) =>
    end.keys.some((key) => key.generation === next) ? { ...end, generation: next } : end,
  );
  await applyEverywhere(reach);
  await world.clock.sleep(graceMs);
  await changeEnds(reach, (end) => onlyKeys(end, end.generation));
  await applyEverywhere(reach);
  const hostIds = present.map((end) => end.hostId);
  await world.store.transaction((journal) =>
    journal.events.append({
      kind: "tunnel.rotated",
      atMs: world.clock.nowMs(),
      data: { generation: next, hosts: hostIds },
    }),
  );
  return { generation: next, hostIds };
}

function onlyKeys(end: TunnelEnd, generation: number): TunnelEnd {
  return { ...end, keys: end.keys.filter((key) => key.generation === generation) };
}

async function changeEnds(
  { world }: NetworkReach,
  change: (end: TunnelEnd) => TunnelEnd,
): Promise<void> {
  await world.store.transaction(async (journal) => {
    for (const end of await journal.tunnelEnds.list()) {
      const after = change(end);
      if (JSON.stringify(after) !== JSON.stringify(end)) await journal.tunnelEnds.put(after);
    }
  });
}

/** Every host that carries a network, at once. */
async function applyEverywhere(reach: NetworkReach): Promise<void> {
  const { world } = reach;
  await Promise.all(
    world.fleet.map((host) =>
      withHost(reach, host.id, async (wish) => {
        if (wish.bridges.length > 0) await world.hosts.network(host.id).apply(wish);
      }),
    ),
  );
}

/** The new devices of hosts that carry networks must have met each other before anybody sends by them. */
async function shakeHands(reach: NetworkReach, generation: number): Promise<void> {
  const { world } = reach;
  const state = await reach.read((journal) => readNetworkState(journal, world.fleet));
  const carriers = world.fleet
    .map((host) => ({ host, wish: derive(host.id, state) }))
    .filter(({ wish }) => wish.bridges.length > 0);
  const awake = new Set(
    carriers.map(({ host }) => state.tunnelEnds?.find((end) => end.hostId === host.id)?.address),
  );
  await Promise.all(
    carriers.map(async ({ host, wish }) => {
      const device = tunnelName(host.id, generation);
      const tunnel = wish.tunnels?.devices.find((candidate) => candidate.device === device);
      const peers = (tunnel?.peers ?? []).filter((peer) => awake.has(peer.address));
      if (peers.length === 0) return;
      if (await world.hosts.network(host.id).shakesHands(device, peers)) return;
      throw new Fault("network.rotation_failed", {
        problem: `${host.id} does not meet every other host with the new keys`,
      });
    }),
  );
}

function verifiedOf({ world }: NetworkReach): Set<HostId> {
  const found = verified.get(world.hosts) ?? new Set<HostId>();
  verified.set(world.hosts, found);
  return found;
}
