/**
 * What the paths between hosts really carry, measured before a network is admitted: a LAN whose frames vanish on a path
 * that drops large packets would look alive to ping and be dead to everything else. Asks hosts; decides nothing but
 * whether a network's MTU fits.
 */
import { Fault } from "#model/fault";
import type { HostRecord } from "#model/site";
import type { Ms, SiteId } from "#model/units";
import { isEncrypted, vxlanOverheadBytes, wireguardOverheadBytes } from "#network/tunnels";
import type { Clock } from "#ports/clock";
import type { Hosts } from "#ports/host";

/** Ethernet's usual packet: what a LAN is made for when its declaration says nothing. */
const usualBytes = 1500;
/** A stack declares many networks at once, and paths do not change while it does. */
const keepMs: Ms = 60_000;
/** Pairs of hosts that are asked at once for one network. */
const maxPairs = 64;

export interface Paths {
  /**
   * The MTU of a network at these sites: as asked, else the largest for the usual underlay. Faults `network.path_mtu`
   * (a path carries less), `network.path_unproven` (nothing came through between two sites).
   */
  admit(request: {
    readonly network: string;
    readonly siteIds: readonly SiteId[];
    readonly mtu?: number | undefined;
  }): Promise<{ readonly mtu: number }>;
}

export function createPaths(world: {
  readonly hosts: Hosts;
  readonly fleet: readonly HostRecord[];
  readonly clock: Clock;
}): Paths {
  const proven = new Map<string, { readonly bytes: number; readonly atMs: Ms }>();

  /** Undefined: the host did not answer, so nothing is known. */
  async function measure(
    from: HostRecord,
    to: HostRecord,
    wanted: number,
  ): Promise<number | undefined> {
    const key = `${from.id}>${to.id}`;
    const known = proven.get(key);
    const nowMs = world.clock.nowMs();
    if (known !== undefined && known.bytes >= wanted && nowMs - known.atMs < keepMs)
      return known.bytes;
    try {
      const bytes = await world.hosts.network(from.id).pathMtu(to.migrationAddress, wanted);
      proven.set(key, { bytes, atMs: nowMs });
      return bytes;
    } catch (error) {
      if (error instanceof Fault && error.code === "network.feature_missing") throw error;
      return undefined;
    }
  }

  return {
    async admit({ network, siteIds, mtu }) {
      const here = world.fleet.filter((host) => siteIds.includes(host.siteId));
      const pairs = here
        .flatMap((from) => here.map((to) => ({ from, to })))
        .filter(({ from, to }) => from.id !== to.id)
        .slice(0, maxPairs);
      const overhead = (from: HostRecord, to: HostRecord) =>
        vxlanOverheadBytes + (isEncrypted(from, to) ? wireguardOverheadBytes : 0);
      const largest = Math.max(
        vxlanOverheadBytes,
        ...pairs.map(({ from, to }) => overhead(from, to)),
      );
      const given = mtu ?? usualBytes - largest;
      const measured = await Promise.all(
        pairs.map(async ({ from, to }) => {
          const neededBytes = given + overhead(from, to);
          return { from, to, neededBytes, pathBytes: await measure(from, to, neededBytes) };
        }),
      );
      // The path that leaves least: what fits there fits everywhere.
      const [small] = measured
        .filter(
          ({ pathBytes, neededBytes }) =>
            pathBytes !== undefined && pathBytes > 0 && pathBytes < neededBytes,
        )
        .toSorted(
          (left, right) =>
            (left.pathBytes ?? 0) - left.neededBytes - ((right.pathBytes ?? 0) - right.neededBytes),
        );
      if (small !== undefined) {
        const { from, to, neededBytes, pathBytes = 0 } = small;
        throw new Fault("network.path_mtu", {
          network,
          from: from.id,
          to: to.id,
          neededBytes,
          pathBytes,
          possibleMtu: pathBytes - overhead(from, to),
        });
      }
      // A silent host, or a site of silent hosts, is no reason to refuse: it is degraded, and nothing is placed there until
      // it answers. A pair of sites that answer, and between which nothing passed, is.
      const answering = new Set(
        measured.filter(({ pathBytes }) => pathBytes !== undefined).map(({ from }) => from.siteId),
      );
      for (const { from, to } of pairs) {
        if (!answering.has(from.siteId) || !answering.has(to.siteId)) continue;
        const between = measured.filter(
          (one) => one.from.siteId === from.siteId && one.to.siteId === to.siteId,
        );
        if (from.siteId === to.siteId || between.some(({ pathBytes = 0 }) => pathBytes > 0))
          continue;
        throw new Fault("network.path_unproven", { network, from: from.siteId, to: to.siteId });
      }
      return { mtu: given };
    },
  };
}
