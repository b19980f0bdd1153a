/**
 * In which order, and how many at once, the machines of one plan switch to their new hosts. Pure. While some are over and
 * others are not, what they say to each other crosses between the sites: the order keeps that least, counted as promised
 * rate times the time that the two are parted. How many switch at once is what the line bears: k machines share it, so
 * that k dirty rates together must stay well below it (papers.md 2.4), else the copies only make each other longer.
 */
import type { Facts } from "#model/facts";
import type { Cost, PlanAction } from "#model/plan";
import type { MachineId, Ms } from "#model/units";
import { moveCost, noCost } from "#planner/cost";
import { compareText } from "#planner/target";

type Move = Extract<PlanAction, { kind: "move_machine" }>;

/** Copies at once on one line; more at once only make each other longer. */
const maxAtOnce = 2;
/** Of the line's rate, what guests of one wave may dirty together. */
const maxDirtyShare = 0.5;
/** So many orders are all tried (7! = 5,040); more machines are ordered greedily. */
const maxTried = 7;
/** What two machines of one LAN are taken to say to each other when nobody promised them a rate. */
const silentTalkMbps = 1;
const bytesPerMib = 2 ** 20;
const kibPerMs = 125;

/** The same moves with their waves, in the order of these. One move has no wave. */
export function inWaves(moves: readonly Move[], facts: Facts): readonly Move[] {
  if (moves.length < 2) return moves;
  const talk = talkBetween(moves, facts);
  const atOnce = widthOf(moves);
  const order = moves.length <= maxTried ? bestOrder(moves, talk, atOnce) : greedy(moves, talk);
  return order.map((move, index) => ({ ...move, wave: Math.floor(index / atOnce) }));
}

/** All of them prepared side by side, then wave after wave: bytes share the line, the rest of a wave runs at once. */
export function costOfWaves(moves: readonly Move[]): Cost {
  if (moves.length === 0) return noCost;
  const waves = new Map<number, Move[]>();
  for (const move of moves) {
    const wave = move.wave ?? 0;
    waves.set(wave, [...(waves.get(wave) ?? []), move]);
  }
  const figure = (pick: (cost: Cost) => number, low: (cost: Cost) => Ms) =>
    [...waves.values()].reduce((total, wave) => {
      const copies = wave.reduce((sum, move) => sum + Math.min(copyMs(move), low(move.cost)), 0);
      const rest = Math.max(...wave.map((move) => Math.max(0, pick(move.cost) - copyMs(move))));
      return total + copies + rest;
    }, 0);
  const sum = (pick: (cost: Cost) => number) =>
    moves.reduce((total, { cost }) => total + pick(cost), 0);
  const bands = moves.flatMap(({ cost }) => cost.band ?? []);
  const durationMs = Math.ceil(
    figure(
      (cost) => cost.durationMs,
      (cost) => cost.durationMs,
    ),
  );
  const total: Cost = {
    durationMs,
    bytes: sum(({ bytes }) => bytes),
    downtimeMs: Math.max(...moves.map(({ cost }) => cost.downtimeMs)),
  };
  if (bands.length < moves.length) return total;
  const alone = sum((cost) => cost.durationMs);
  const share = (pick: (cost: Cost) => number) => sum(pick) / Math.max(1, alone);
  return {
    ...total,
    band: {
      durationMs: [
        Math.floor(durationMs * share((cost) => cost.band?.durationMs[0] ?? 0)),
        Math.ceil(durationMs * share((cost) => cost.band?.durationMs[1] ?? 0)),
      ],
      bytes: [sum((cost) => cost.band?.bytes[0] ?? 0), sum((cost) => cost.band?.bytes[1] ?? 0)],
      downtimeMs: [
        Math.max(...bands.map((band) => band.downtimeMs[0])),
        Math.max(...bands.map((band) => band.downtimeMs[1])),
      ],
    },
  };
}

/** Rate times time, in Mbit/s and milliseconds, that crosses between those that are over and those that are not. */
export function partedTalk(
  order: readonly Move[],
  talk: (one: MachineId, other: MachineId) => number,
  atOnce: number,
): number {
  let parted = 0;
  for (let done = atOnce; done < order.length; done += atOnce) {
    const over = order.slice(0, done);
    const next = order.slice(done, done + atOnce);
    const takesMs = next.reduce((sum, move) => sum + switchMs(move), 0);
    for (const one of over)
      for (const other of order.slice(done))
        parted += talk(one.machineId, other.machineId) * takesMs;
  }
  return parted;
}

/** Promised rates of links; machines that share a LAN talk a little in any case. */
export function talkBetween(
  moves: readonly Move[],
  facts: Facts,
): (one: MachineId, other: MachineId) => number {
  const machines = new Map(
    facts.machines
      .filter(({ id }) => moves.some(({ machineId }) => machineId === id))
      .map((machine) => [machine.id, machine]),
  );
  return (one, other) => {
    const [left, right] = [machines.get(one), machines.get(other)];
    if (left === undefined || right === undefined) return 0;
    const shares = left.effective.nics.some((nic) =>
      right.effective.nics.some(({ networkId }) => networkId === nic.networkId),
    );
    const promised = facts.links
      .filter(
        ({ environmentId, spec }) =>
          environmentId === left.environmentId &&
          spec.machines.some((name) => name === left.spec.name) &&
          spec.machines.some((name) => name === right.spec.name),
      )
      .reduce((sum, { effective }) => sum + effective.rateMbps, 0);
    return promised + (shares ? silentTalkMbps : 0);
  };
}

function widthOf(moves: readonly Move[]): number {
  const rates = moves.map((move) => (move.basis?.rateMbps ?? 0) * kibPerMs * 1_000);
  const dirty = moves.map((move) => (move.basis?.dirtyMibPerS ?? 0) * bytesPerMib);
  const line = Math.min(...rates);
  const worst = Math.max(...dirty);
  if (line <= 0 || worst <= 0) return maxAtOnce;
  return Math.max(1, Math.min(maxAtOnce, Math.floor((maxDirtyShare * line) / worst)));
}

function bestOrder(
  moves: readonly Move[],
  talk: (one: MachineId, other: MachineId) => number,
  atOnce: number,
): readonly Move[] {
  let best = moves;
  let least = Number.POSITIVE_INFINITY;
  for (const order of permutations(moves)) {
    const parted = partedTalk(order, talk, atOnce);
    // Equal ones: the first in the order of names, the same every time.
    if (parted >= least - 1e-9) continue;
    least = parted;
    best = order;
  }
  return best;
}

/** Next is always the one that talks most to those that are over already; the first is the one that talks most at all. */
function greedy(
  moves: readonly Move[],
  talk: (one: MachineId, other: MachineId) => number,
): readonly Move[] {
  const left = [...moves];
  const order: Move[] = [];
  while (left.length > 0) {
    const others = order.length === 0 ? moves : order;
    const said = (move: Move) =>
      others.reduce(
        (sum, other) => sum + (other === move ? 0 : talk(move.machineId, other.machineId)),
        0,
      );
    const [next] = left.toSorted(
      (one, other) => said(other) - said(one) || compareText(one.machineId, other.machineId),
    );
    if (next === undefined) break;
    order.push(next);
    left.splice(left.indexOf(next), 1);
  }
  return order;
}

function* permutations<T>(items: readonly T[]): Generator<readonly T[]> {
  if (items.length < 2) {
    yield items;
    return;
  }
  for (const [index, first] of items.entries()) {
    const others = items.toSpliced(index, 1);
    for (const rest of permutations(others)) yield [first, ...rest];
  }
}

function copyMs({ cost, basis }: Move): Ms {
  return basis === undefined ? cost.durationMs : cost.bytes / (basis.rateMbps * kibPerMs);
}

/** Memory only: disks are over before the first one switches. */
function switchMs({ cost, basis }: Move): Ms {
  if (basis === undefined) return cost.durationMs;
  return moveCost({
    memoryMib: basis.memoryMib,
    load: { diskAllocatedBytes: 0, dirtyMibPerS: basis.dirtyMibPerS },
    rateMbps: basis.rateMbps,
    maxDowntimeMs: undefined,
  }).durationMs;
}
