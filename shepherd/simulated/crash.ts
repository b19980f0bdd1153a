/**
 * A shepherd that dies: wraps a store so that from a given write on nothing of that shepherd ever goes on. The write
 * itself is kept, as with a kill -9 right after the commit; the store below lives on for the next shepherd.
 */
import type { StepRecord } from "#model/plan";
import type { Store } from "#ports/store";

export interface Death {
  /** Dies with this write, counted from 1. */
  readonly afterWrites?: number;
  /** Dies instead of this write, counted from 1: what was done in the world is not journaled. */
  readonly losesWrite?: number;
  /** Dies with the write that journals such a step. */
  readonly afterStep?: (step: StepRecord) => boolean;
  /** Runs once, before anybody could have learnt of the last write. */
  readonly onDeath: () => void;
}

export interface MortalStore extends Store {
  /** Dies now. */
  die(): void;
}

export function createMortalStore(store: Store, death: Death): MortalStore {
  const never = new Promise<never>(() => undefined);
  let begun = 0;
  let writes = 0;
  let dead = false;
  const die = () => {
    if (dead) return;
    dead = true;
    death.onDeath();
  };
  return {
    die,
    async transaction(work) {
      if (dead) return never;
      begun += 1;
      // Counted as they begin: lanes of one operation write at the same time.
      if (begun === death.losesWrite) {
        die();
        return never;
      }
      let last = false;
      const result = await store.transaction((journal) =>
        work({
          ...journal,
          steps: {
            ...journal.steps,
            put(step) {
              last ||= death.afterStep?.(step) === true;
              return journal.steps.put(step);
            },
          },
        }),
      );
      if (dead) return never;
      writes += 1;
      if (!last && writes < (death.afterWrites ?? Number.POSITIVE_INFINITY)) return result;
      die();
      return never;
    },
    async read(work) {
      if (dead) return never;
      const result = await store.read(work);
      return dead ? never : result;
    },
    onCommit: (listener) => store.onCommit((seq) => (dead ? undefined : listener(seq))),
    async close() {
      // The store below belongs to whoever opened it.
    },
  };
}
