/**
 * Predicts what an action will take: milliseconds, bytes over the wire, milliseconds in which the guest stands still.
 * Pure. The move is the pre-copy model of papers.md 2.4 (Akoush, Liu): rounds of dirty pages until the rest fits the
 * downtime limit. Every constant names where it was measured; sensing replaces them as soon as it knows better.
 */
import type { MachineLoad } from "#model/facts";
import type { Band, Cost } from "#model/plan";
import type { Mbps, Mib, Ms } from "#model/units";

/**
 * Milliseconds of one step with its looks, over SSH, and its journal writes: measured in the lab of two busy cores
 * (libvirt 9.0, QEMU 7.2 without KVM). libvirt's own share is 3 ms for memory, 9 for a cap, 48 for a vCPU (libvirt.md 5).
 */
export const measured = {
  setMemoryMs: 60,
  setVcpusMs: 150,
  setCpuPercentMs: 60,
  /** One batch of tc over SSH at each of two hosts. */
  setRateMs: 250,
  /** Bridge, VXLAN and forwarding of one host in one batch. */
  applyNetworkMs: 250,
  /** Overlay, network, definition and start, the image being there; the guest's own boot is not waited for. */
  createMs: 2_200,
  destroyMs: 2_100,
  /** Powered off and started again; the guest's own boot is not counted (destroy and create, put together). */
  restartMs: 4_300,
  removeVolumeMs: 100,
  growVolumeMs: 200,
  /** Plugging or unplugging one card, with its bridge and port. */
  setNetworksMs: 700,
  /** Connections, the five phases and the disk mirror's start, apart from the bytes: fastest whole move seen (lab.md). */
  moveSetupMs: 1_200,
  /** Device state, switch and announcements of a move: downtime with nothing left to copy, 134-214 ms (lab.md). */
  switchMs: 214,
} as const;

/** 1 Gb/s: what is assumed between two hosts until a move was measured. */
export const defaultSiteRateMbps: Mbps = 1_000;
/** Memory that a working guest dirties when nobody sampled it (papers.md 2.4, the moderate row). */
export const defaultDirtyMibPerS = 5;
/** QEMU's own downtime limit (papers.md 2.1): a move aims at it, or at policy's limit when that is smaller. */
export const defaultMaxDowntimeMs: Ms = 300;
/** Pre-copy that has not converged by then never will; also bounds the loop. */
const maxRounds = 30;

const bytesPerMib = 2 ** 20;

export const noCost: Cost = { durationMs: 0, bytes: 0, downtimeMs: 0 };

export function fixedCost(durationMs: Ms): Cost {
  return { durationMs, bytes: 0, downtimeMs: 0 };
}

/** Actions run one after the other; downtimes of different machines are not added but the worst is shown. */
export function totalCost(costs: readonly Cost[]): Cost {
  const total = costs.reduce<Cost>(
    (sum, cost) => ({
      durationMs: sum.durationMs + cost.durationMs,
      bytes: sum.bytes + cost.bytes,
      downtimeMs: Math.max(sum.downtimeMs, cost.downtimeMs),
    }),
    noCost,
  );
  if (costs.every(({ band }) => band === undefined)) return total;
  // What has no band of its own takes what it takes.
  const ends = (end: 0 | 1) => {
    const at = (cost: Cost, figure: keyof Band) => cost.band?.[figure][end] ?? cost[figure];
    return {
      durationMs: costs.reduce((sum, cost) => sum + at(cost, "durationMs"), 0),
      bytes: costs.reduce((sum, cost) => sum + at(cost, "bytes"), 0),
      downtimeMs: costs.reduce((most, cost) => Math.max(most, at(cost, "downtimeMs")), 0),
    };
  };
  const [low, high] = [ends(0), ends(1)];
  return {
    ...total,
    band: {
      durationMs: [low.durationMs, high.durationMs],
      bytes: [low.bytes, high.bytes],
      downtimeMs: [low.downtimeMs, high.downtimeMs],
    },
  };
}

/** A live move of memory and of the machine's own disk layer. Without convergence the downtime says so. */
export function moveCost(move: {
  readonly memoryMib: Mib;
  readonly load: MachineLoad | undefined;
  readonly rateMbps: Mbps;
  readonly maxDowntimeMs: Ms | undefined;
}): Cost {
  const bytesPerMs = Math.max(1, move.rateMbps * 125);
  const dirtyBytesPerMs = ((move.load?.dirtyMibPerS ?? defaultDirtyMibPerS) * bytesPerMib) / 1_000;
  const aimMs = Math.min(move.maxDowntimeMs ?? defaultMaxDowntimeMs, defaultMaxDowntimeMs);
  const limitBytes = aimMs * bytesPerMs;

  let memoryBytes = 0;
  let round = move.memoryMib * bytesPerMib;
  for (let n = 0; n < maxRounds && round > limitBytes; n++) {
    memoryBytes += round;
    const next = (round / bytesPerMs) * dirtyBytesPerMs;
    if (next >= round) break;
    round = next;
  }
  const bytes = memoryBytes + round + (move.load?.diskAllocatedBytes ?? 0);
  const downtimeMs = measured.switchMs + round / bytesPerMs;
  return {
    durationMs: Math.ceil(measured.moveSetupMs + bytes / bytesPerMs + measured.switchMs),
    bytes: Math.ceil(bytes),
    downtimeMs: Math.ceil(downtimeMs),
  };
}

/** Key of `Facts.siteRates`. */
export function siteRateKey(fromSiteId: string, toSiteId: string): string {
  return `${fromSiteId}>${toSiteId}`;
}
