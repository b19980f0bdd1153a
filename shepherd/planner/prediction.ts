/**
 * What a live move will take, with the band that its figures are expected to lie in: the physical model of cost.ts, put
 * right by what earlier moves took. Pure and deterministic. Of the samples of the pair of sites (else of all) it learns how
 * many bytes really go (empty pages are not sent), how fast, what a move takes beside its bytes, and how long guests
 * stand still; the band is how far these samples lie from the line through them.
 */
import type { MachineLoad, MoveSample } from "#model/facts";
import type { Band, Cost, MoveBasis } from "#model/plan";
import type { Bytes, MachineId, Mbps, Mib, Ms, SiteId } from "#model/units";
import { defaultDirtyMibPerS, defaultSiteRateMbps, measured, moveCost } from "#planner/cost";

export interface PredictedMove {
  readonly cost: Cost;
  readonly basis: MoveBasis;
}

/** Fewer tell nothing about how much they scatter. */
const leastSamples = 3;
/** Of one machine: it is like itself more than like others. */
const leastOfMachine = 2;
/** Bytes must differ by this factor before a line through the samples says what a byte takes. */
const leastSpread = 1.5;
/** What nobody measured yet: half to double. */
const unknownBand = { low: 0.5, high: 2 } as const;
/** Clocks, schedulers and page tables are never more regular than this. */
const leastMargin = 0.05;
const kibPerMs = 125;

export function predictMove(move: {
  readonly machineId: MachineId;
  readonly fromSiteId: SiteId;
  readonly toSiteId: SiteId;
  readonly memoryMib: Mib;
  readonly load: MachineLoad | undefined;
  /** Measured between the sites; undefined: nobody moved there yet. */
  readonly siteRateMbps: Mbps | undefined;
  /** Of the decision. */
  readonly maxMbps: Mbps | undefined;
  readonly maxDowntimeMs: Ms | undefined;
  /** Newest first. */
  readonly samples: readonly MoveSample[];
}): PredictedMove {
  const ofPair = move.samples.filter(
    (one) => one.fromSiteId === move.fromSiteId && one.toSiteId === move.toSiteId,
  );
  const samples = ofPair.length >= leastSamples ? ofPair : move.samples;
  const own = move.samples.filter((one) => one.machineId === move.machineId);
  const ofBytes = own.length >= leastOfMachine ? own : samples;
  const siteRateMbps = move.siteRateMbps ?? defaultSiteRateMbps;
  const basis: MoveBasis = {
    memoryMib: move.memoryMib,
    diskBytes: move.load?.diskAllocatedBytes ?? 0,
    dirtyMibPerS: move.load?.dirtyMibPerS ?? defaultDirtyMibPerS,
    rateMbps: Math.min(siteRateMbps, move.maxMbps ?? siteRateMbps),
    samples: samples.length,
  };
  const raw = rawCost(basis, move.maxDowntimeMs);
  if (samples.length < leastSamples) return { cost: { ...raw, band: bandOf(raw, {}) }, basis };

  const bytes = fitted(
    raw.bytes,
    ratiosOf(ofBytes, (one) => one.bytes / rawCost(one.basis).bytes),
  );
  const line = lineThrough(samples, raw, siteRateMbps);
  const alone = line.fixedMs + bytes.value / line.bytesPerMs;
  // A limit below what the line carries stretches the copy.
  const limitMs = bytes.value / (basis.rateMbps * kibPerMs);
  const durationMs = Math.max(alone, line.fixedMs + limitMs);
  const durations = samples.map(
    (one) => one.durationMs / Math.max(1, line.fixedMs + one.bytes / line.bytesPerMs),
  );
  const downtime = downtimeOf(raw, samples);
  const cost: Cost = {
    durationMs: Math.ceil(durationMs),
    bytes: Math.ceil(bytes.value),
    downtimeMs: Math.ceil(downtime.value),
  };
  // Bytes that were guessed wrong take time too.
  const reach = spreadOf(durations);
  const share = durationMs === 0 ? 0 : (durationMs - line.fixedMs) / durationMs;
  const band = bandOf(cost, {
    durationMs: {
      low: reach.low * (1 - share * (1 - bytes.band.low)),
      high: reach.high * (1 + share * (bytes.band.high - 1)),
    },
    bytes: bytes.band,
    downtimeMs: downtime.band,
  });
  return { cost: { ...cost, band }, basis };
}

/** Where the end of several costs one after the other lies at the latest. */
export function latestMs(cost: Cost): Ms {
  return Math.ceil(cost.band?.durationMs[1] ?? cost.durationMs * unknownBand.high);
}

/** Whether a measured figure lies in the band that was told. */
export function isWithin(value: number, band: readonly [number, number]): boolean {
  return value >= band[0] && value <= band[1];
}

function rawCost(basis: MoveBasis, maxDowntimeMs?: Ms): Cost {
  const { memoryMib, diskBytes, dirtyMibPerS, rateMbps } = basis;
  return moveCost({
    memoryMib,
    load: { diskAllocatedBytes: diskBytes, dirtyMibPerS },
    rateMbps,
    maxDowntimeMs,
  });
}

interface Reach {
  readonly low: number;
  readonly high: number;
}

function bandOf(cost: Cost, reach: { readonly [Figure in keyof Band]?: Reach }): Band {
  const of = (value: number, { low, high }: Reach = unknownBand): readonly [number, number] => [
    Math.floor(value * low),
    Math.ceil(value * high),
  ];
  return {
    durationMs: of(cost.durationMs, reach.durationMs),
    bytes: of(cost.bytes, reach.bytes),
    downtimeMs: of(cost.downtimeMs, reach.downtimeMs),
  };
}

function ratiosOf(
  samples: readonly MoveSample[],
  ratio: (sample: MoveSample) => number,
): readonly number[] {
  return samples.map(ratio).filter((value) => Number.isFinite(value) && value > 0);
}

/** A modelled figure put right by the middle of the ratios, and how far they reach around it. */
function fitted(modelled: number, ratios: readonly number[]): { value: number; band: Reach } {
  if (ratios.length === 0) return { value: modelled, band: unknownBand };
  const middle = medianOf(ratios);
  return { value: modelled * middle, band: spreadOf(ratios.map((ratio) => ratio / middle)) };
}

/**
 * Guests stand still as long as the model says times a factor, or all about equally long, whatever they are: whichever of
 * the two the samples scatter around less.
 */
function downtimeOf(raw: Cost, samples: readonly MoveSample[]): { value: number; band: Reach } {
  const asModelled = fitted(
    raw.downtimeMs,
    ratiosOf(samples, (one) => one.downtimeMs / rawCost(one.basis).downtimeMs),
  );
  const alike = fitted(
    1,
    ratiosOf(samples, ({ downtimeMs }) => downtimeMs),
  );
  const width = ({ band }: { band: Reach }) => band.high - band.low;
  return width(alike) < width(asModelled) ? alike : asModelled;
}

/** From the least to the most seen, wider the fewer were seen: the next one has to lie within too. */
function spreadOf(ratios: readonly number[]): Reach {
  const least = Math.min(...ratios);
  const most = Math.max(...ratios);
  const margin = Math.max(leastMargin, (most - least) / Math.max(1, ratios.length));
  return {
    low: Math.max(0, Math.min(least, 1) - margin),
    high: Math.max(most, 1) + margin,
  };
}

/**
 * What a move takes: so much beside its bytes, and so much a byte. The middle of all slopes between two samples (Theil
 * and Sen), which one odd move does not bend; where all moved alike much, the rate between the sites tells the slope.
 */
function lineThrough(
  samples: readonly MoveSample[],
  raw: Cost,
  siteRateMbps: Mbps,
): { readonly fixedMs: Ms; readonly bytesPerMs: number } {
  const known = siteRateMbps * kibPerMs;
  const sizes = samples.map(({ bytes }) => bytes);
  const isSpread = Math.max(...sizes) >= leastSpread * Math.max(1, Math.min(...sizes));
  const slopes = !isSpread
    ? []
    : samples.flatMap((one, index) =>
        samples.slice(index + 1).flatMap((other) => {
          const bytes = other.bytes - one.bytes;
          return Math.abs(bytes) < minorBytes ? [] : [(other.durationMs - one.durationMs) / bytes];
        }),
      );
  const slope = slopes.length === 0 ? 0 : medianOf(slopes);
  const bytesPerMs = slope > 0 ? 1 / slope : known;
  const rests = samples.map(({ bytes, durationMs }) => durationMs - bytes / bytesPerMs);
  const least = Math.min(measured.switchMs, raw.durationMs);
  return { fixedMs: Math.max(least, medianOf(rests)), bytesPerMs };
}

/** Two moves whose bytes differ by less say nothing about what a byte takes. */
const minorBytes: Bytes = 2 ** 20;

function medianOf(values: readonly number[]): number {
  const sorted = values.toSorted((left, right) => left - right);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? 0;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? upper) + upper) / 2;
}
