/**
 * What moves lately took, as predictions learn it: read from the journal's steps, one sample a machine that arrived, with
 * what it was predicted from. What has ended does not change any more and is kept here, so that a decision reads only
 * what is new.
 */
import type { MoveSample } from "#model/facts";
import type { Operation, PlanAction, StepRecord } from "#model/plan";
import type { Ms, OperationId } from "#model/units";
import type { Journal } from "#ports/store";

/** Operations looked back at; links and guests of long ago were others. */
const maxOperations = 256;
/** More tell a prediction nothing new. */
const maxSamples = 64;
/** Looking costs a list of operations. */
const everyMs: Ms = 2_000;

type Move = Extract<PlanAction, { kind: "move_machine" }>;

export class MoveSamples {
  readonly #ofOperation = new Map<OperationId, readonly MoveSample[]>();
  #samples: readonly MoveSample[] = [];
  #lookedAtMs: Ms = Number.NEGATIVE_INFINITY;

  /** Newest first. */
  async recent(journal: Journal, nowMs: Ms): Promise<readonly MoveSample[]> {
    if (nowMs - this.#lookedAtMs < everyMs) return this.#samples;
    this.#lookedAtMs = nowMs;
    const ended = await journal.operations.list({
      states: ["succeeded", "partial"],
      limit: maxOperations,
    });
    const known = new Set(ended.map(({ id }) => id));
    for (const id of this.#ofOperation.keys()) if (!known.has(id)) this.#ofOperation.delete(id);
    for (const operation of ended) {
      if (!this.#ofOperation.has(operation.id))
        this.#ofOperation.set(operation.id, await samplesOf(journal, operation));
    }
    this.#samples = ended
      .toSorted((left, right) => (right.endedAtMs ?? 0) - (left.endedAtMs ?? 0))
      .flatMap(({ id }) => this.#ofOperation.get(id) ?? [])
      .slice(0, maxSamples);
    return this.#samples;
  }
}

async function samplesOf(journal: Journal, operation: Operation): Promise<readonly MoveSample[]> {
  const plan = await journal.plans.get(operation.planId);
  const moves = plan?.actions.filter((action): action is Move => action.kind === "move_machine");
  if (moves === undefined || moves.length === 0) return [];
  const steps = await journal.steps.ofOperation(operation.id);
  const samples: MoveSample[] = [];
  for (const move of moves) {
    const record = await journal.objects.get("machine", move.machineId);
    if (record === undefined || move.basis === undefined) continue;
    const own = steps.filter(({ name }) => name.startsWith(`${record.spec.name}: `));
    const beside = moves.filter(({ wave }) => wave !== undefined && wave === move.wave).length;
    const took = tookOf(own, { besides: Math.max(1, beside) });
    if (took === undefined) continue;
    samples.push({
      machineId: move.machineId,
      fromSiteId: move.fromSiteId,
      toSiteId: move.toSiteId,
      basis: move.basis,
      ...took,
    });
  }
  return samples;
}

/**
 * What one machine's steps took; undefined: it did not switch. `besides`: so many copies shared the line, itself counted;
 * alone it would have taken that much less. An image that had to be placed first is no time of the move: it is placed once.
 */
export function tookOf(
  steps: readonly StepRecord[],
  { besides = 1 }: { readonly besides?: number } = {},
): Pick<MoveSample, "bytes" | "durationMs" | "downtimeMs"> | undefined {
  let bytes = 0;
  let durationMs = 0;
  let downtimeMs: Ms | undefined;
  for (const { name, startedAtMs, endedAtMs, outcome } of steps) {
    if (name.includes(": image on ")) continue;
    const said = (outcome ?? {}) as { bytes?: number; downtimeMs?: number };
    bytes += said.bytes ?? 0;
    downtimeMs = said.downtimeMs ?? downtimeMs;
    if (startedAtMs === undefined || endedAtMs === undefined) continue;
    durationMs += (endedAtMs - startedAtMs) / (said.downtimeMs === undefined ? 1 : besides);
  }
  return downtimeMs === undefined ? undefined : { bytes, durationMs, downtimeMs };
}
