/**
 * Candidates that are tried: asked about recorded decisions, in the background, with progress. They are read unsigned,
 * because nothing they say is ever heard by a decision. Kept in memory; a restart forgets them.
 */
import { type FaultData, toFaultData } from "#model/fault";
import type { Ms } from "#model/units";
import { type ActivationStep, checkBundle } from "#opa/activation";
import type { FlipReport } from "#policy/flips";
import type { ReplayProgress, ReplayRange } from "#policy/replay";
import type { Ids } from "#ports/clock";
import type { Store } from "#ports/store";

export interface Trial {
  readonly id: string;
  readonly owner: string;
  readonly by: string;
  readonly state: "running" | "done" | "failed";
  readonly begunAtMs: Ms;
  readonly durationMs: Ms;
  /** Decisions in the journal when it began: an upper bound of what will be read. */
  readonly recorded: number;
  readonly progress: ReplayProgress;
  readonly steps: readonly ActivationStep[];
  readonly report: FlipReport | undefined;
  readonly problem: FaultData | undefined;
}

/** Enough to come back to after lunch. */
const kept = 20;
/** Each takes a worker and a share of this process; more would slow live decisions. */
const atOnce = 2;
const everything = Number.MAX_SAFE_INTEGER;

export interface Trials {
  /** Undefined: too many run already. */
  start(order: {
    readonly owner: string;
    readonly packed: Uint8Array;
    readonly by: string;
    readonly range: ReplayRange;
  }): Promise<Trial | undefined>;
  get(id: string): Trial | undefined;
  stop(): Promise<void>;
}

export function createTrials(world: {
  readonly store: Store;
  readonly ids: Ids;
  readonly nowMs: () => Ms;
  readonly speaksFor: (owner: string) => (asked: string) => boolean;
}): Trials {
  const trials = new Map<string, Trial>();
  const running = new Map<string, Promise<void>>();
  const stopped = new AbortController();

  async function run(id: string, packed: Uint8Array, range: ReplayRange): Promise<void> {
    const update = (change: Partial<Trial>): void => {
      const before = trials.get(id);
      if (before === undefined) return;
      trials.set(id, { ...before, durationMs: world.nowMs() - before.begunAtMs, ...change });
    };
    const owner = trials.get(id)?.owner ?? "";
    try {
      const checked = await checkBundle({
        owner,
        candidate: { packed, keys: "unsigned" },
        store: world.store,
        speaksFor: world.speaksFor(owner),
        limit: { last: range.last ?? everything, maxFlips: everything, sinceMs: range.sinceMs },
        onProgress: (progress) => update({ progress }),
        signal: stopped.signal,
      });
      await checked.engine.close();
      update({ state: "done", steps: checked.steps, report: checked.flips });
    } catch (error) {
      update({ state: "failed", problem: toFaultData(error) });
    }
  }

  return {
    async start({ owner, packed, by, range }) {
      if (running.size >= atOnce) return undefined;
      const id = world.ids.next();
      const [newest] = await world.store.read((journal) => journal.decisions.page({ limit: 1 }));
      const trial: Trial = {
        id,
        owner,
        by,
        state: "running",
        begunAtMs: world.nowMs(),
        durationMs: 0,
        recorded: newest?.n ?? 0,
        progress: { read: 0, replayed: 0, flips: 0 },
        steps: [],
        report: undefined,
        problem: undefined,
      };
      trials.set(id, trial);
      for (const oldest of [...trials.keys()].slice(0, -kept)) trials.delete(oldest);
      running.set(
        id,
        run(id, packed, range).finally(() => running.delete(id)),
      );
      return trial;
    },
    get: (id) => trials.get(id),
    async stop() {
      stopped.abort();
      await Promise.all(running.values());
    },
  };
}
