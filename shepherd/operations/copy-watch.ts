/**
 * Watches over a copy while it runs: tells people how far it is, climbs the ladder when it gets nowhere
 * (operations/ladder.ts), and ends it when it is cancelled, hangs, or cannot succeed. The source then fails it by itself,
 * and its guest goes on. Knows the source's half of a migration, not what comes before or after the copy.
 */
import { Fault, toFaultData } from "#model/fault";
import type { Bytes, Ms } from "#model/units";
import { withBudget } from "#operations/budget";
import { type Climb, createLadder, defaultRungs, type Ladder } from "#operations/ladder";
import type { MoveLimits } from "#operations/move-limits";
import type { OperationWorld, StepContext } from "#operations/step";
import type { MigrationProgress, MigrationSource } from "#ports/host";

/** A copy that does not even say anything new for so long is given up: its line is down. */
export const stallMs: Ms = 120_000;
/** For the calls around the copy: starting and tearing down a QEMU under load. Left open, a session holds its guest. */
export const callMs: Ms = 120_000;

export interface CopyWatch {
  /** Given to the source as its listener. */
  follow(progress: MigrationProgress): void;
  /** Runs the copy under this watch. Faults `migration.stalled`, `migration.hopeless`, `operation.cancelled`. */
  over<T>(perform: () => Promise<T>): Promise<T>;
  /** As the hypervisor counted; known when the copy has ended. */
  figures(): CopyFigures;
}

export interface CopyFigures {
  readonly bytes: Bytes;
  readonly diskBytes: Bytes;
  readonly memoryBytes: Bytes;
  readonly downtimeMs?: Ms | undefined;
  readonly iterations: number;
  /** What had to be done about it, in order. */
  readonly climbed: Ladder["climbed"];
}

export function watchCopy(
  context: StepContext,
  copy: {
    readonly name: string;
    readonly source: MigrationSource;
    readonly limits: MoveLimits;
    readonly budgetMs: Ms;
  },
): CopyWatch {
  const { world, signal } = context;
  const { clock } = world;
  const { source, limits, name, budgetMs } = copy;
  const progress = createProgress(context, name);
  const startedAtMs = clock.nowMs();
  const allowed = limits.rungs ?? defaultRungs;
  const ladder = createLadder({
    allowed,
    startedAtMs,
    budgetMs,
    bandwidthMbps: limits.bandwidthMbps,
    maxMbps: limits.maxMbps,
  });
  let givenUp: Fault | undefined;
  const end = () => void attempt(world, () => source.abort());
  const giveUp = (fault: Fault) => {
    givenUp ??= fault;
    end();
  };
  const hopeless = (why: string) =>
    new Fault("migration.hopeless", {
      machine: name,
      why,
      tried: ladder.climbed.filter((rung) => rung !== "abort"),
      afterMs: clock.nowMs() - startedAtMs,
    });
  const act = (climb: Climb) => {
    const afterMs = clock.nowMs() - startedAtMs;
    world.log.info(
      { operation: context.operation.id, name, ...climb, afterMs },
      "a copy is helped",
    );
    switch (climb.rung) {
      case "bandwidth":
        void attempt(world, () => source.setBandwidth(climb.toMbps));
        break;
      case "post_copy":
        void attempt(world, () => source.startPostCopy());
        break;
      case "abort":
        giveUp(hopeless(climb.why));
        break;
      case "downtime":
      case "throttle":
        // The hypervisor's own, within what it was told at the start; the ladder only gives it its time.
        break;
    }
  };
  return {
    follow(told) {
      progress.follow(told);
      if (told.phase !== "memory") return;
      const climb = ladder.observe({
        atMs: clock.nowMs(),
        iteration: told.iteration ?? 0,
        remainingBytes: told.remainingBytes,
        bytesPerS: told.bytesPerS,
        dirtyBytesPerS: told.dirtyBytesPerS,
      });
      if (climb !== undefined) act(climb);
    },
    async over(perform) {
      const stalled = Promise.withResolvers<never>();
      let cancelTimer: () => void = () => undefined;
      const look = () => {
        const nowMs = clock.nowMs();
        const afterMs = nowMs - startedAtMs;
        const stands = nowMs - progress.movedAtMs() > stallMs;
        if (stands || afterMs > budgetMs) {
          // It did not even answer the abort: look at the hosts instead.
          if (givenUp !== undefined) return stalled.reject(givenUp);
          if (stands) giveUp(new Fault("migration.stalled", { afterMs }));
          else giveUp(hopeless(`it has not ended within ${budgetMs} ms`));
        }
        cancelTimer = clock.at(nowMs + stallMs / 8, look);
      };
      signal.addEventListener("abort", end, { once: true });
      look();
      try {
        if (signal.aborted) throw new Fault("operation.cancelled", {});
        return await Promise.race([perform(), stalled.promise]);
      } catch (error) {
        if (givenUp === undefined || error === givenUp) throw error;
        throw new Fault(givenUp.code, givenUp.details, { cause: error });
      } finally {
        cancelTimer();
        signal.removeEventListener("abort", end);
      }
    },
    figures: () => ({ ...progress.figures(), climbed: ladder.climbed }),
  };
}

/** Follows the copy for people, for the measured cost and for the supervision. */
function createProgress(context: StepContext, name: string) {
  const { clock } = context.world;
  const totals = new Map<MigrationProgress["phase"], Bytes>();
  let remaining = Number.POSITIVE_INFINITY;
  let phase: MigrationProgress["phase"] | undefined;
  let movedAtMs = clock.nowMs();
  let downtimeMs: Ms | undefined;
  let iterations = 0;
  const total = (of: MigrationProgress["phase"]) => totals.get(of) ?? 0;
  return {
    follow(progress: MigrationProgress): void {
      const round = progress.iteration ?? 0;
      const moved =
        progress.phase !== phase || progress.remainingBytes < remaining || round > iterations;
      if (moved) movedAtMs = clock.nowMs();
      phase = progress.phase;
      remaining = progress.remainingBytes;
      iterations = Math.max(iterations, round);
      downtimeMs = progress.downtimeMs ?? downtimeMs;
      totals.set(phase, Math.max(total(phase), progress.totalBytes));
      const done = progress.totalBytes === 0 ? 1 : 1 - remaining / progress.totalBytes;
      const share = phase === "disk" ? done / 2 : phase === "memory" ? 0.5 + done / 2 : 1;
      context.progress(
        share,
        `${name}: copying ${phase}, ${Math.floor(done * 100)} %${paceOf(progress)}`,
      );
    },
    movedAtMs: () => movedAtMs,
    figures() {
      // Each phase counts those before it too; the end knows what was really sent.
      const bytes = totals.get("done") ?? Math.max(0, ...totals.values());
      const diskBytes = Math.min(bytes, total("disk"));
      return { bytes, diskBytes, memoryBytes: bytes - diskBytes, downtimeMs, iterations };
    },
  };
}

/** `, round 4, 24 MiB/s` */
function paceOf({ iteration, bytesPerS }: MigrationProgress): string {
  const round = iteration === undefined || iteration < 2 ? "" : `, round ${iteration}`;
  return bytesPerS === undefined || bytesPerS === 0
    ? round
    : `${round}, ${Math.round(bytesPerS / 2 ** 20)} MiB/s`;
}

/** For calls whose failure changes nothing that is still to be decided: what is there is looked at afterwards. */
export async function attempt(
  world: OperationWorld,
  work: () => Promise<unknown> | undefined,
): Promise<void> {
  try {
    const limit = { what: "a closing call of a move", budgetMs: callMs };
    await withBudget(world.clock, limit, async () => work());
  } catch (error) {
    world.log.warn({ fault: toFaultData(error) }, "a closing call of a move failed");
  }
}
