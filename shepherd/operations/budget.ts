/** Time budgets on the injected clock. A promise that overran is left alone: it may still happen, so look afterwards. */
import { Fault } from "#model/fault";
import type { Ms } from "#model/units";
import type { Clock } from "#ports/clock";

export async function withBudget<T>(
  clock: Clock,
  limit: { readonly what: string; readonly budgetMs: Ms },
  work: () => Promise<T>,
): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const cancel = clock.at(clock.nowMs() + limit.budgetMs, () =>
    reject(new Fault("operation.step_timeout", { step: limit.what, budgetMs: limit.budgetMs })),
  );
  try {
    return await Promise.race([work(), promise]);
  } finally {
    cancel();
  }
}
