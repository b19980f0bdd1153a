/** One after the other for calls about the same thing: a repeated PUT must find what the first one started, not undo it. */
export interface Turns {
  /** Runs when every earlier work of this key has ended, well or not. */
  inTurn<T>(key: string, work: () => Promise<T>): Promise<T>;
}

export function createTurns(): Turns {
  const last = new Map<string, Promise<unknown>>();
  return {
    async inTurn(key, work) {
      const mine = (last.get(key) ?? Promise.resolve()).then(work);
      const settled = mine.catch(() => undefined); // its own caller is told; the next one only waits
      last.set(key, settled);
      try {
        return await mine;
      } finally {
        if (last.get(key) === settled) last.delete(key);
      }
    },
  };
}
