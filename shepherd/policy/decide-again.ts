/**
 * Decides a snapshot again: the same judge, the same planner, on the facts that were saved, in a world where nothing can
 * be done. Needs an empty store and engines of the policies of then; asks no host and no clock.
 */
import type { Plan } from "#model/plan";
import type { Decision } from "#model/request";
import type { Engines } from "#policy/consult";
import { History } from "#policy/history";
import { Judge } from "#policy/judge";
import type { DecisionSnapshot } from "#policy/snapshot";
import type { Clock } from "#ports/clock";
import type { Store } from "#ports/store";

export async function decideAgain(
  snapshot: DecisionSnapshot,
  world: { readonly store: Store; readonly engines: Engines },
): Promise<{ readonly decisions: readonly Decision[]; readonly plan: Plan | undefined }> {
  const { request, looks, operations, approved } = snapshot;
  await world.store.transaction(async (journal) => {
    for (const operation of operations) await journal.operations.put(operation);
  });
  let made = 0;
  const judge = new Judge(
    {
      ...world,
      clock: stopped(snapshot.takenAtMs),
      ids: { next: () => `again-${(made += 1)}` },
      sensed: {
        sites: () => [],
        observed: () => ({}),
        loads: () => ({}),
        refresh: async () => undefined,
      },
    },
    new History(),
  );
  let look = 0;
  const { decisions, plan } = await judge.judge(request, {
    ...(approved === undefined ? {} : { approved }),
    assume(gathered) {
      const saved = looks[Math.min(look, looks.length - 1)];
      look += 1;
      return saved ?? gathered;
    },
  });
  return { decisions, plan };
}

/** Time stands still; what waits for it waits until it is told to stop. */
function stopped(nowMs: number): Clock {
  return {
    nowMs: () => nowMs,
    at: () => () => undefined,
    sleep: (_durationMs, signal) =>
      new Promise((_, reject) => {
        signal?.addEventListener("abort", () => reject(signal.reason as Error), { once: true });
      }),
  };
}
