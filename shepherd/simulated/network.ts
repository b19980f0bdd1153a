/**
 * A simulated host's network: keeps the last config applied, forgets ports whose tap went, and says whether a frame
 * from one guest would reach another. Knows nothing of how a real host is told.
 */
import { createHash } from "node:crypto";
import { canonicalJson } from "#model/canonical";
import type { HostId, MachineId } from "#model/units";
import type { HostNetwork, HostNetworkConfig, NetworkDifference } from "#ports/host-network";
import type { Caller } from "#simulated/caller";
import { type HostData, tapsOf, type WorldData, withoutDeadPorts } from "#simulated/data";
import type { Machinery } from "#simulated/machinery";

export function createSimulatedNetwork(
  machinery: Machinery,
  caller: Caller,
  hostId: HostId,
): HostNetwork {
  const host = () => machinery.host(hostId);
  /** How often a device's key was made anew. */
  const madeKeys = new Map<string, number>();
  const differences = (wish: HostNetworkConfig) =>
    compare(withoutDeadPorts(wish, tapsOf(host())), host().network);
  return {
    audit: (wish) => caller.call(hostId, "network.audit", () => differences(wish)),
    apply: (wish) =>
      caller.call(hostId, "network.apply", () => {
        const changes = differences(wish);
        host().network = withoutDeadPorts(wish, tapsOf(host()));
        machinery.changed();
        return changes;
      }),
    arm: () => caller.call(hostId, "network.arm", () => undefined), // here an apply takes no time
    // The simulated world meets everybody in the clear, over wires of the usual size.
    tunnelKey: (device, { fresh = false } = {}) =>
      caller.call(hostId, "network.key", () => {
        const times = (madeKeys.get(device) ?? 0) + (fresh ? 1 : 0);
        madeKeys.set(device, times);
        return simulatedKey(`${hostId} ${device} ${times}`);
      }),
    shakesHands: () => caller.call(hostId, "network.handshake", () => true),
    pathMtu: (_address, maxBytes) =>
      caller.call(hostId, "network.path", () => Math.min(maxBytes, host().pathMtu ?? underlayMtu)),
    clockMs: () =>
      caller.call(
        hostId,
        "network.clock",
        () => machinery.clock.nowMs() + (host().clockOffsetMs ?? 0),
      ),
    moveWay: () =>
      caller.call(hostId, "network.way", () => ({
        ownsAddress: host().lacksAddress !== true,
        canMakeKeys: true,
        portsTaken: host().migrationPortsTaken ?? 0,
        peer: host().movesFiltered === true ? ("filtered" as const) : ("passes" as const),
      })),
  };
}

const underlayMtu = 1500;

function simulatedKey(seed: string): string {
  return createHash("sha256").update(seed).digest("base64");
}

/** Whether a frame from one running guest reaches another over any network that both are on. */
export function reaches(data: WorldData, from: MachineId, to: MachineId): boolean {
  const source = locate(data, from);
  const target = locate(data, to);
  if (source === undefined || target === undefined) return false;
  return source.host.network.bridges.some((bridge) => {
    const leaves = bridge.ports.some((port) => source.taps.has(port.tap) && !port.blocked);
    if (!leaves) return false;
    const peerBridge = target.host.network.bridges.find(
      (candidate) => candidate.networkId === bridge.networkId,
    );
    const arrives = peerBridge?.ports.find((port) => target.taps.has(port.tap) && !port.blocked);
    if (arrives === undefined || peerBridge === undefined) return false;
    if (source.host === target.host) return true;
    const entry = bridge.remotes.find((remote) => remote.mac === arrives.mac);
    return entry?.address === peerBridge.localAddress && bridge.vni === peerBridge.vni;
  });
}

function locate(data: WorldData, id: MachineId) {
  for (const host of Object.values(data.hosts)) {
    const domain = host.domains[id];
    if (domain?.state !== "running" || domain.spec === undefined) continue;
    return { host, taps: new Set(domain.spec.nics.map((nic) => nic.tap)) };
  }
  return undefined;
}

function compare(wish: HostNetworkConfig, actual: HostData["network"]): NetworkDifference[] {
  const wished = flatten(wish);
  const there = flatten(actual);
  const differences: NetworkDifference[] = [];
  for (const [object, detail] of wished) {
    const found = there.get(object);
    if (found === undefined) differences.push({ object, problem: "missing", detail });
    else if (found !== detail) differences.push({ object, problem: "different", detail });
  }
  for (const [object, detail] of there) {
    if (!wished.has(object)) differences.push({ object, problem: "surplus", detail });
  }
  return differences;
}

function flatten(config: HostNetworkConfig): ReadonlyMap<string, string> {
  const objects = new Map<string, string>();
  for (const { ports, remotes, peers, ...bridge } of config.bridges) {
    objects.set(`bridge ${bridge.bridge}`, canonicalJson(bridge));
    for (const peer of peers) objects.set(`peer ${peer} of ${bridge.bridge}`, "");
    for (const remote of remotes) {
      objects.set(`remote ${remote.mac} of ${bridge.bridge}`, canonicalJson(remote));
    }
    for (const port of ports) objects.set(`port ${port.tap}`, canonicalJson(port));
  }
  return objects;
}
