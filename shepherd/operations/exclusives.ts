/** One at a time per key, in the order of asking: a host's network, a part on a host. Knows no meaning of keys. */
export type Exclusives = <T>(key: string, work: () => Promise<T>) => Promise<T>;

export function createExclusives(): Exclusives {
  const tails = new Map<string, Promise<unknown>>();
  return async (key, work) => {
    const before = tails.get(key) ?? Promise.resolve();
    const mine = before.then(work, work);
    tails.set(key, mine);
    try {
      return await mine;
    } finally {
      if (tails.get(key) === mine) tails.delete(key);
    }
  };
}
