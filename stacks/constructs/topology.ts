/** Which machines of a group are linked: pairs of indexes, by the shapes parallel programs use. Pure. */

/** Two distinct machine names; a link holds in both directions. */
export type Pair = readonly [string, string];

/** Each machine with its next, and the last with the first: n links for n >= 3, one for two machines. */
export function ringTopology(machines: readonly string[]): readonly Pair[] {
  if (machines.length < 2) return [];
  if (machines.length === 2) return pairs(machines, [[0, 1]]);
  return pairs(
    machines,
    machines.map((_, index) => [index, (index + 1) % machines.length] as const),
  );
}

/** The first machine with each other. */
export function starTopology(machines: readonly string[]): readonly Pair[] {
  return pairs(
    machines,
    machines.slice(1).map((_, index) => [0, index + 1] as const),
  );
}

/** Every machine with every other. */
export function meshTopology(machines: readonly string[]): readonly Pair[] {
  return pairs(
    machines,
    machines.flatMap((_, left) =>
      machines.slice(left + 1).map((__, offset) => [left, left + 1 + offset] as const),
    ),
  );
}

function pairs(
  machines: readonly string[],
  indexes: readonly (readonly [number, number])[],
): readonly Pair[] {
  return indexes.map(([left, right]) => {
    const names = [machines[left], machines[right]].filter((name) => name !== undefined).sort();
    const [first, second] = names;
    if (first === undefined || second === undefined || first === second) {
      throw new Error(`A link needs two machines; got ${JSON.stringify(names)}.`);
    }
    return [first, second] as const;
  });
}
