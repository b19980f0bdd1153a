/**
 * Finds the nearest request that would be granted: tries the values that rules themselves propose, then halves the way
 * between what is and what was asked, first for all attributes together, then for each alone. Every answer was tried and
 * allowed; that nothing nearer exists holds where rules are monotone. Knows no policy: it is given a way to ask.
 */
import type { Sizing } from "#model/objects";
import type { Preview } from "#policy/gate";

export type Sizes = Partial<Sizing>;

export interface NearestSearch {
  readonly from: Sizing;
  readonly to: Sizes;
  /** Values that failed rules propose. */
  readonly hints: Sizes;
  readonly ask: (sizes: Sizes) => Promise<Preview>;
}
export interface Nearest {
  /** Undefined when nothing between was allowed. */
  readonly sizes: Sizes | undefined;
  readonly tried: number;
}

/** Decisions that one search may cost; each takes milliseconds of the gate's queue. */
const mostTries = 60;

export async function nearestAllowed(search: NearestSearch): Promise<Nearest> {
  const { from, to, ask } = search;
  const keys = (Object.keys(to) as (keyof Sizing)[]).filter((key) => to[key] !== from[key]);
  let tried = 0;
  const seen = new Map<string, boolean>();
  const allows = async (sizes: Sizes): Promise<boolean> => {
    const key = JSON.stringify(keys.map((name) => sizes[name]));
    const known = seen.get(key);
    if (known !== undefined) return known;
    if (tried >= mostTries) return false;
    tried += 1;
    const { decision } = await ask(sizes);
    seen.set(key, decision.effect === "allow");
    return decision.effect === "allow";
  };
  const between = (share: number): Sizes =>
    Object.fromEntries(
      keys.map((key) => [
        key,
        Math.round(from[key] + ((to[key] ?? from[key]) - from[key]) * share),
      ]),
    );

  let best: Sizes | undefined;
  const hinted: Sizes = {
    ...Object.fromEntries(keys.map((key) => [key, to[key]])),
    ...pick(search.hints, keys),
  };
  if (await allows(hinted)) best = hinted;
  if (best === undefined) {
    let [low, high] = [0, 1];
    for (let halving = 0; halving < 8; halving++) {
      const middle = (low + high) / 2;
      const sizes = between(middle);
      if (await allows(sizes)) {
        best = sizes;
        low = middle;
      } else {
        high = middle;
      }
    }
  }
  for (const key of keys) {
    // Each alone from the best so far towards what was asked; from nothing, with the others as they are.
    best = await raise(key, { start: best, from, to, allows });
  }
  const changes = best !== undefined && keys.some((key) => best?.[key] !== from[key]);
  return { sizes: changes ? best : undefined, tried };
}

async function raise(
  key: keyof Sizing,
  of: {
    readonly start: Sizes | undefined;
    readonly from: Sizing;
    readonly to: Sizes;
    readonly allows: (sizes: Sizes) => Promise<boolean>;
  },
): Promise<Sizes | undefined> {
  const { start, from, to, allows } = of;
  const base = start ?? {};
  const goal = to[key] ?? from[key];
  let best = start;
  let low = base[key] ?? from[key];
  if (low === goal) return start;
  let high = goal;
  const whole = { ...base, [key]: goal };
  if (await allows(whole)) return whole;
  while (Math.abs(high - low) > 1) {
    const middle = Math.round((low + high) / 2);
    const sizes = { ...base, [key]: middle };
    if (await allows(sizes)) {
      best = sizes;
      low = middle;
    } else {
      high = middle;
    }
  }
  return best;
}

function pick(of: Sizes, keys: readonly (keyof Sizing)[]): Sizes {
  return Object.fromEntries(keys.flatMap((key) => (of[key] === undefined ? [] : [[key, of[key]]])));
}
