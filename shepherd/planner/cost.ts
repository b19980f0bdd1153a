/**
 * Predicts what an action will take: milliseconds, bytes over the wire, milliseconds in which the guest stands still.
 * Pure. The move is the pre-copy model of papers.md 2.4 (Akoush, Liu): rounds of dirty pages until the rest fits the
 * downtime limit. Every constant names where it was measured; sensing replaces them as soon as it knows better.
 */
import type { MachineLoad } from "#model/facts";
import type { Cost } from "#model/plan";
import type { Mbps, Mib, Ms } from "#model/units";

/** Measured on libvirt 9.0 and QEMU 7.2 (reference libvirt.md 5, lab.md): the upper end of each range. */
export const measured = {
  setMemoryMs: 3,
  setVcpusMs: 48,
  setCpuPercentMs: 9,
  /** One batch of tc over SSH at each of two hosts. */
  setRateMs: 120,
  /** Bridge, VXLAN and forwarding of one host in one batch. */
  applyNetworkMs: 250,
  /** Definition, overlay, network and start; the guest's own boot is not waited for. */
  createMs: 1_500,
  destroyMs: 2_100,
  /** Connections, the five phases and the disk mirror's start, apart from the bytes: fastest whole move seen. */
  moveSetupMs: 1_200,
  /** Device state, switch and announcements of a move: downtime with nothing left to copy. */
  switchMs: 134,
} as const;

/** 1 Gb/s: what is assumed between two hosts until a move was measured. */
export const defaultSiteRateMbps: Mbps = 1_000;
/** Memory that a working guest dirties when nobody sampled it (papers.md 2.4, the moderate row). */
export const defaultDirtyMibPerS = 5;
/** QEMU's own downtime limit (papers.md 2.1), aimed at unless policy sets a smaller one. */
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
  return costs.reduce<Cost>(
    (total, cost) => ({
      durationMs: total.durationMs + cost.durationMs,
      bytes: total.bytes + cost.bytes,
      downtimeMs: Math.max(total.downtimeMs, cost.downtimeMs),
    }),
    noCost,
  );
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
  const limitBytes = (move.maxDowntimeMs ?? defaultMaxDowntimeMs) * bytesPerMs;

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
