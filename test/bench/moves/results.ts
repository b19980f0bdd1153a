/** The raw data of `make bench-migration`, and the floors that are read from it. Pure. */
export interface Figures {
  readonly duration_ms: number;
  readonly bytes: number;
  readonly downtime_ms: number;
}
type Span = readonly [number, number];
export interface Predicted extends Figures {
  readonly band?:
    | { readonly duration_ms: Span; readonly bytes: Span; readonly downtime_ms: Span }
    | undefined;
}
export interface TimedStep {
  readonly name: string;
  readonly fromMs: number;
  readonly toMs: number;
  /** What the step left behind: of a copy its rounds, rates, and how it was helped. */
  readonly outcome: unknown;
}
export interface MachineRun {
  readonly who: "drover" | "virsh";
  readonly load: string | number;
  readonly rttMs: number;
  readonly run: number;
  readonly ended: boolean;
  readonly why: string | undefined;
  /** From the ask (ours: from the first step) to the end of everything. */
  readonly tookMs: number;
  /** From the first byte to the source's stop, where it is known. */
  readonly copyMs: number | undefined;
  /** By the uplink's own counter, headers included. */
  readonly sentBytes: number;
  /** Longest stop, by the guest's hardware clock; 0: below 50 ms, which it cannot tell from noise. */
  readonly downtimeMs: number;
  /** Longest silence that a pinging peer heard; NaN where there was none. */
  readonly peerSilenceMs: number | null;
  readonly predicted: Predicted | undefined;
  readonly measured: Figures | undefined;
  /** Earlier moves that the prediction rested on. */
  readonly samples: number;
  /** By the guest, over all of its cell; a guest that moves may get less than it asked for. */
  readonly wroteMibPerS: number;
  /** Ours alone has some. */
  readonly steps: readonly TimedStep[];
}
export interface EnvironmentRun {
  readonly who: "drover" | "virsh one by one" | "virsh all at once";
  readonly run: number;
  readonly ended: boolean;
  readonly tookMs: number;
  readonly sentBytes: number;
  /** From the first machine that is over to the last. */
  readonly splitMs: number;
  readonly brokenConnections: number | undefined;
  /** The longest that one of its machines heard nothing of its neighbour. */
  readonly longestSilenceMs: number | undefined;
  readonly predicted: Predicted | undefined;
  readonly steps: readonly TimedStep[];
}
export interface Results {
  readonly rateMbps: number;
  readonly memoryMib: number;
  /** Of the machines' common image, at least; each site has got it once, before any move. */
  readonly imageMib: number;
  readonly runs: number;
  readonly startedAt: string;
  readonly machineCount: number;
  /** Of this machine; its load average over a minute at the end of each cell tells whether something else ran. */
  readonly cores: number;
  readonly loadAverages: number[];
  /** What was left out because the time was over. */
  readonly leftOut: string[];
  /** What went wrong, and with what: nothing of it is in the tables. */
  readonly failures: string[];
  readonly machines: MachineRun[];
  readonly environments: EnvironmentRun[];
}

/** Fewer say nothing about how much moves scatter; the prediction itself says so by a wide band. */
export const leastSamples = 3;

/** The least that any of our moves of an idle guest sent: what has to go once. */
export function onceBytes({ machines }: Results): number {
  const idle = machines.filter((run) => run.who === "drover" && run.load === "idle" && run.ended);
  return idle.length === 0 ? Number.NaN : Math.min(...idle.map(({ sentBytes }) => sentBytes));
}

export function leastStopMs({ machines }: Results): number {
  const near = machines.filter(
    // 0 is what the ticker cannot tell from noise: no floor, and nothing to divide by.
    (run) => run.who === "drover" && run.rttMs === 0 && run.ended && run.downtimeMs > 0,
  );
  return near.length === 0 ? Number.NaN : Math.min(...near.map(({ downtimeMs }) => downtimeMs));
}
