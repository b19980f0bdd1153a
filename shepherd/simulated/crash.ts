/**
 * A shepherd that dies: wraps a store so that after a given number of writes nothing of that shepherd ever goes on.
 * The write itself is kept, as a kill -9 right after the commit; the store below lives on for the next shepherd.
 */
import type { Store } from "#ports/store";

export interface MortalStore extends Store {
  /** Writes so far. */
  readonly writes: number;
}

/** `onDeath` runs once, before the last write's caller could have learnt of it. */
export function createMortalStore(
  store: Store,
  death: { readonly afterWrites: number; readonly onDeath: () => void },
): MortalStore {
  const never = new Promise<never>(() => undefined);
  let writes = 0;
  let dead = false;
  return {
    get writes() {
      return writes;
    },
    async transaction(work) {
      if (dead) return never;
      const result = await store.transaction(work);
      if (dead) return never;
      writes += 1;
      if (writes < death.afterWrites) return result;
      dead = true;
      death.onDeath();
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
