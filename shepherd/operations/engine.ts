/**
 * Runs one operation: each step is looked at, journaled, done, looked at again, journaled. A fault turns it round:
 * steps are undone backwards to the start, or to the pivot. The journal is always one write ahead of the world, so
 * that this may stop at any instruction and go on in another process from the same rows.
 */
import { Fault, type FaultData, toFaultData } from "#model/fault";
import type { Operation, Plan, StepRecord } from "#model/plan";
import type { Ms } from "#model/units";
import { withBudget } from "#operations/budget";
import type { Exclusives } from "#operations/exclusives";
import { OperationRows, Stopped, type Work } from "#operations/operation-rows";
import {
  isSilence,
  type Look,
  type OperationWorld,
  type Step,
  type StepContext,
  type StepData,
} from "#operations/step";
import { inChildSpan, inSpan, outsideSpans } from "#ports/tracing";

/** Waiting for a host: soon at first, then at an easy pace. */
const firstWaitMs = 500;
const longestWaitMs = 30_000;
const lookBudgetMs = 60_000;
/** A fault that is not silence: a busy lock passes, a real refusal does not. */
const undoAttempts = 3;
const insistWithoutSilence = 20;
/** What cleans up is worth a second try; what changes a machine is looked at and undone. */
const attemptsOf = { undo: 1, go_on: 3, insist: Number.POSITIVE_INFINITY };

export interface Run {
  /** Resolves when the operation ended, or when the engine was told to stop. */
  readonly ended: Promise<void>;
  cancel(): void;
  /** Looks again at once at what is waited for. */
  wake(): void;
  /** Leaves the operation where it is: the next start goes on. */
  stop(): void;
}

/** The end of the operation that only a human can go on from. */
class Stuck extends Error {
  readonly question: string;
  readonly commands: readonly string[];
  constructor(question: string, commands: readonly string[] = []) {
    super(question);
    this.question = question;
    this.commands = commands;
  }
}

export function runOperation(world: OperationWorld, exclusives: Exclusives, work: Work): Run {
  const engine = new Engine(world, exclusives, work);
  const { id, kind, requestId, planId, environmentId, traceparent } = work.operation;
  const words = {
    operation: id,
    kind,
    request: requestId,
    plan: planId,
    environment: environmentId,
    decision: work.decisionId,
  };
  return {
    // Under the ask that it came from, however long ago and in whichever shepherd that was.
    ended: outsideSpans(() => inSpan(`operation ${kind}`, words, () => engine.run(), traceparent)),
    cancel: () => engine.cancelled.abort(new Fault("operation.cancelled", {})),
    wake: () => engine.wake(),
    stop: () => engine.stop(),
  };
}

class Engine {
  readonly cancelled = new AbortController();
  readonly #stopped = new AbortController();
  readonly #world: OperationWorld;
  readonly #exclusives: Exclusives;
  readonly #operation: Operation;
  readonly #plan: Plan;
  readonly #steps: readonly Step[];
  readonly #rows: OperationRows;
  /** What ends the steps under way: a cancel, or another lane's fault while all can still stay. */
  readonly #ends = new AbortController();
  #givenUpFor: FaultData | undefined;
  readonly #failedLanes = new Set<string>();
  readonly #sleepers = new Set<() => void>();
  /** Faults of steps that the operation went on after, and of those that came out short. */
  readonly #leftovers: FaultData[] = [];

  constructor(world: OperationWorld, exclusives: Exclusives, work: Work) {
    this.#world = world;
    this.#exclusives = exclusives;
    this.#operation = work.operation;
    this.#plan = work.plan;
    this.#steps = work.steps;
    this.#rows = new OperationRows(world, work, () => this.#stopped.signal.aborted);
    this.cancelled.signal.addEventListener("abort", () =>
      this.#ends.abort(this.cancelled.signal.reason),
    );
  }

  wake(): void {
    for (const wakeUp of this.#sleepers) wakeUp();
  }

  stop(): void {
    this.#stopped.abort(new Stopped());
    this.wake();
  }

  async run(): Promise<void> {
    try {
      await this.#rows.load();
      if (this.#operation.cancelRequested)
        this.cancelled.abort(new Fault("operation.cancelled", {}));
      if (this.#operation.state === "undoing" || this.#rows.anyUndone()) {
        await this.#turnRound(this.#rows.firstFault());
      } else {
        await this.#rows.begin();
        await this.#forward();
      }
    } catch (error) {
      if (error instanceof Stopped) return;
      if (error instanceof Stuck) {
        const { question } = error;
        const commands = [...error.commands, `drover stuck retry ${this.#operation.id}`];
        await this.#rows.end(
          "stuck",
          toFaultData(new Fault("operation.question", { question, commands })),
        );
        return;
      }
      throw error;
    }
  }

  async #forward(): Promise<void> {
    let laneFault: FaultData | undefined;
    for (const stage of stagesOf(this.#steps)) {
      const isParted = stage.some(([n = 0]) => this.#steps[n]?.lane !== undefined);
      // What follows the lanes is about all of them.
      if (laneFault !== undefined && !isParted) break;
      // Every lane comes to rest before anything is concluded from one of them.
      const ends = await Promise.allSettled(stage.map((lane) => this.#runLane(lane)));
      for (const end of ends) if (end.status === "rejected") throw end.reason;
      const faults = ends.flatMap((end) => (end.status === "fulfilled" ? (end.value ?? []) : []));
      const fault = this.#givenUpFor ?? faults[0];
      if (fault === undefined) continue;
      if (!isParted || this.cancelled.signal.aborted || !this.#anyCrossed()) {
        await this.#turnRound(fault);
        return;
      }
      // Some are over already: what can follow them does, for those that talk to each other are parted meanwhile.
      laneFault ??= fault;
    }
    if (laneFault !== undefined) {
      await this.#turnRound(laneFault);
      return;
    }
    const [leftover] = this.#leftovers;
    await this.#rows.end(leftover === undefined ? "succeeded" : "partial", leftover);
  }

  /** Steps one after the other; resolves with the fault that ended them early. */
  async #runLane(numbers: readonly number[]): Promise<FaultData | undefined> {
    for (const n of numbers) {
      const step = this.#steps[n];
      const state = this.#rows.records.get(n)?.state;
      if (step === undefined) continue;
      if (state === "done") {
        this.#keepLeftover(n);
        continue;
      }
      if (step.lane !== undefined && this.#failedLanes.has(step.lane)) return undefined;
      if (state === "failed" && step.onFault === "go_on") {
        this.#keepLeftover(n);
        continue;
      }
      // A cancel never leaves a machine between two hosts: what follows a switch is carried to its end.
      if (this.#ends.signal.aborted && step.undoImpossible === undefined) {
        return toFaultData(this.#ends.signal.reason);
      }
      try {
        await this.#runStep(n, step);
      } catch (error) {
        if (error instanceof Stopped || error instanceof Stuck) throw error;
        const fault = toFaultData(this.#whyFailed(error));
        await this.#rows.record(n, { state: "failed", fault, endedAtMs: this.#nowMs() });
        if (step.onFault === "go_on") {
          this.#keepLeftover(n);
          continue;
        }
        if (step.lane !== undefined) {
          this.#failedLanes.add(step.lane);
          if (!this.#anyCrossed()) this.#giveUp(fault);
        }
        return fault;
      }
    }
    return undefined;
  }

  /** None has left its host: the other lanes are called back, so that all of them stay. */
  #giveUp(fault: FaultData): void {
    if (this.#ends.signal.aborted) return;
    this.#givenUpFor = fault;
    this.#ends.abort(new Fault("operation.cancelled", {}));
  }

  #anyCrossed(): boolean {
    return this.#steps.some(
      (step, n) => step.pivot === true && this.#rows.records.get(n)?.state === "done",
    );
  }

  #runStep(n: number, step: Step): Promise<void> {
    const words = { operation: this.#operation.id, step: n, machine: step.machine?.id };
    return inChildSpan(`step ${step.name}`, words, () => this.#tryStep(n, step));
  }

  async #tryStep(n: number, step: Step): Promise<void> {
    const resumed = this.#rows.records.get(n)?.state === "doing";
    const attempts = attemptsOf[step.onFault ?? "undo"];
    for (let attempt = 1; ; attempt += 1) {
      try {
        await this.#lookAndDo(n, step, resumed || attempt > 1);
        return;
      } catch (error) {
        if (error instanceof Stopped || error instanceof Stuck) throw error;
        if (attempt >= attempts) throw error;
        if (attempt >= insistWithoutSilence && !isSilence(error)) {
          throw new Stuck(`${step.name} is refused again and again: ${toFaultData(error).message}`);
        }
        await this.#pause(waitOf(attempt), step, toFaultData(error).message);
      }
    }
  }

  async #lookAndDo(n: number, step: Step, resumed: boolean): Promise<void> {
    // Looking is part of a step's time: over a slow line it may be most of it.
    const startedAtMs = this.#rows.records.get(n)?.startedAtMs ?? this.#nowMs();
    // Where something may have happened already, silence is waited out; a fresh step on a silent host just fails.
    const before = await this.#look(n, step, { phase: "before", patient: resumed, resumed });
    if (before.verdict === "done") {
      await this.#finishStep(n, step, {
        seen: before.seen ?? {},
        outcome: before.outcome ?? {},
        short: before.short,
        startedAtMs,
      });
      return;
    }
    const observed = this.#rows.records.get(n)?.observed ?? before.seen ?? {};
    await this.#rows.record(n, {
      state: "doing",
      observed,
      startedAtMs,
    });
    let outcome: StepData | undefined;
    let fault: unknown;
    let failed = false;
    try {
      const context = this.#context(n, step, { phase: "before", resumed });
      const limit = { what: step.name, budgetMs: step.budgetMs };
      outcome =
        (await withBudget(this.#world.clock, limit, () => step.do(context, before.seen ?? {}))) ??
        undefined;
    } catch (error) {
      failed = true;
      fault = error;
      this.#world.log.warn(
        { operation: this.#operation.id, step: step.name, fault: toFaultData(error) },
        "a step's work failed; looking what is there",
      );
    }
    this.#throwIfStopped();
    const phase = failed ? "after_fault" : "after";
    const after = await this.#look(n, step, { phase, patient: true, resumed });
    if (after.verdict === "done") {
      const journaled = (this.#rows.records.get(n)?.outcome ?? {}) as StepData;
      await this.#finishStep(n, step, {
        seen: after.seen ?? {},
        outcome: { ...journaled, ...after.outcome, ...outcome },
        short: after.short,
        startedAtMs,
      });
      return;
    }
    if (failed) throw fault;
    throw new Fault("operation.not_confirmed", { step: step.name, seen: after.seen });
  }

  /** patient: asks until the world answers. Never returns `unknown` or `broken`. */
  async #look(
    n: number,
    step: Step,
    how: { phase: StepContext["phase"]; patient: boolean; resumed: boolean },
  ): Promise<Extract<Look, { verdict: "done" | "todo" }>> {
    let faults = 0;
    for (let attempt = 1; ; attempt += 1) {
      this.#throwIfStopped();
      let question: string;
      try {
        const limit = { what: `looking at ${step.name}`, budgetMs: lookBudgetMs };
        const look = await withBudget(this.#world.clock, limit, () =>
          step.observe(this.#context(n, step, how)),
        );
        if (look.verdict === "broken") {
          await this.#rows.setMachineUnknown(step, true);
          throw new Stuck(look.question, look.commands);
        }
        if (look.verdict !== "unknown") {
          if (attempt > 1) await this.#rows.setMachineUnknown(step, false);
          return look;
        }
        if (!how.patient) throw new Fault("operation.question", { question: look.question });
        question = look.question;
      } catch (error) {
        if (!how.patient || error instanceof Stuck || error instanceof Stopped) throw error;
        // A refusal instead of an answer may pass; one that stays is the answer.
        if (!isSilence(error) && (faults += 1) >= undoAttempts) throw error;
        question = toFaultData(error).message;
      }
      if (attempt === 1) await this.#rows.setMachineUnknown(step, true);
      await this.#pause(waitOf(attempt), step, question);
    }
  }

  /** Undoes backwards. Past the pivot there is no way back: what was reached stays, and the operation is `partial`. */
  async #turnRound(fault: FaultData): Promise<void> {
    if (this.#operation.state !== "undoing") {
      await this.#rows.beginUndo(fault);
    }
    const crossedLanes = new Set<string>();
    for (let n = this.#steps.length - 1; n >= 0; n -= 1) {
      const step = this.#steps[n];
      const record = this.#rows.records.get(n);
      if (step === undefined || record === undefined || record.state === "undone") continue;
      if (crossedLanes.has(laneOf(step))) continue;
      // Refused before anything was begun.
      if (record.startedAtMs === undefined) continue;
      if (step.pivot === true) {
        const crossed = await this.#crossed(n, step, record);
        if (crossed) {
          await this.#carryToTheEnd(n + 1, step);
          crossedLanes.add(laneOf(step));
          // Without lanes it is all one: what came before the pivot stays as it is.
          if (step.lane === undefined) break;
          continue;
        }
      }
      if (step.undoImpossible !== undefined) {
        // Behind a pivot it only cleaned up; the pivot itself is met further down.
        const isBehind = this.#steps
          .slice(0, n)
          .some((earlier) => earlier.pivot === true && laneOf(earlier) === laneOf(step));
        if (isBehind) continue;
        // Else this is a destroy: it stays half done, and another destroy goes on.
        await this.#rows.end("failed", fault);
        return;
      }
      // What changed nothing has nothing to take back.
      if (step.undo !== undefined) await this.#undoStep(n, step, step.undo);
    }
    const undone = fault.code === "operation.cancelled" ? "cancelled" : "failed";
    await this.#rows.end(crossedLanes.size > 0 ? "partial" : undone, fault);
  }

  /** The pivot may have happened although its step failed: only the hosts know. */
  async #crossed(n: number, step: Step, record: StepRecord): Promise<boolean> {
    if (record.state === "done") return true;
    const look = await this.#look(n, step, { phase: "after_fault", patient: true, resumed: true });
    if (look.verdict !== "done") return false;
    await this.#finishStep(n, step, {
      seen: look.seen ?? {},
      outcome: (record.outcome ?? {}) as StepData,
      startedAtMs: record.startedAtMs ?? this.#nowMs(),
    });
    return true;
  }

  /** After the pivot: the steps that clean up behind it, as far as they have not been done. */
  async #carryToTheEnd(from: number, pivot: Step): Promise<void> {
    for (let n = from; n < this.#steps.length; n += 1) {
      const step = this.#steps[n];
      if (step === undefined || laneOf(step) !== laneOf(pivot)) continue;
      if (step.undoImpossible === undefined) return;
      const state = this.#rows.records.get(n)?.state;
      if (state === "done" || state === "undone" || state === "failed") continue;
      try {
        await this.#runStep(n, step);
      } catch (error) {
        if (error instanceof Stopped || error instanceof Stuck) throw error;
        await this.#rows.record(n, {
          state: "failed",
          fault: toFaultData(error),
          endedAtMs: this.#nowMs(),
        });
      }
    }
  }

  #undoStep(n: number, step: Step, undo: NonNullable<Step["undo"]>): Promise<void> {
    const words = { operation: this.#operation.id, step: n, machine: step.machine?.id };
    return inChildSpan(`undo ${step.name}`, words, () => this.#tryUndo(n, step, undo));
  }

  async #tryUndo(n: number, step: Step, undo: NonNullable<Step["undo"]>): Promise<void> {
    await this.#rows.record(n, { state: "undoing" });
    let refusals = 0;
    for (let attempt = 1; ; attempt += 1) {
      this.#throwIfStopped();
      try {
        const context = this.#context(n, step, { phase: "after_fault", resumed: true });
        const limit = { what: `undoing ${step.name}`, budgetMs: step.budgetMs };
        await withBudget(this.#world.clock, limit, () => undo(context));
        break;
      } catch (error) {
        const fault = toFaultData(error);
        // Not answering is no reason to give up; refusing is.
        const waits = isSilence(error) || fault.code === "operation.question";
        if (!waits && (refusals += 1) >= undoAttempts) {
          await this.#rows.record(n, { state: "undo_failed", fault, endedAtMs: this.#nowMs() });
          throw new Stuck(`${step.name} could not be undone: ${fault.message}`);
        }
        if (attempt === 1 && waits) await this.#rows.setMachineUnknown(step, true);
        await this.#pause(waitOf(attempt), step, fault.message);
      }
    }
    await this.#rows.record(n, { state: "undone", endedAtMs: this.#nowMs() }, (journal) =>
      step.revert?.(journal, this.#context(n, step, { phase: "after_fault", resumed: true })),
    );
  }

  async #finishStep(
    n: number,
    step: Step,
    {
      seen,
      outcome,
      short,
      startedAtMs,
    }: { seen: StepData; outcome: StepData; short?: Fault | undefined; startedAtMs: Ms },
  ): Promise<void> {
    const context = this.#context(n, step, { phase: "after", resumed: false });
    const record = this.#rows.records.get(n);
    await this.#rows.record(
      n,
      {
        state: "done",
        observed: record?.observed ?? seen,
        outcome,
        ...(short === undefined ? {} : { fault: toFaultData(short) }),
        startedAtMs,
        endedAtMs: this.#nowMs(),
      },
      (journal) => step.commit?.(journal, context, seen),
    );
    this.#keepLeftover(n);
  }

  #context(
    n: number,
    step: Step,
    how: { readonly phase: StepContext["phase"]; readonly resumed: boolean },
  ): StepContext {
    const world = this.#world;
    return {
      world,
      exclusives: this.#exclusives,
      operation: this.#operation,
      plan: this.#plan,
      record: this.#rows.records.get(n),
      phase: how.phase,
      resumed: how.resumed,
      signal: this.#ends.signal,
      read: (work) => world.store.read(work),
      progress: (fraction, message) => this.#rows.tellProgress(n, step, fraction, message),
      mark: async (outcome, work) => {
        const record = this.#rows.records.get(n);
        if (record === undefined) throw new Error(`step ${step.name} marks before it began`);
        const merged = { ...(record.outcome as StepData | undefined), ...outcome };
        await this.#rows.record(n, { state: record.state, outcome: merged }, work, "silent");
      },
    };
  }

  async #pause(durationMs: Ms, step: Step, question: string): Promise<void> {
    await this.#rows.putProgress(this.#rows.percent(), `${step.name}: ${question}`);
    const woken = Promise.withResolvers<void>();
    this.#sleepers.add(woken.resolve);
    const cancel = this.#world.clock.at(this.#nowMs() + durationMs, woken.resolve);
    await woken.promise;
    this.#sleepers.delete(woken.resolve);
    cancel();
    this.#throwIfStopped();
  }

  /** A step that a cancel broke off did not fail by itself. */
  #whyFailed(error: unknown): unknown {
    if (!this.#ends.signal.aborted) return error;
    return new Fault("operation.cancelled", {}, { cause: error });
  }

  #keepLeftover(n: number): void {
    const fault = this.#rows.records.get(n)?.fault;
    if (fault !== undefined) this.#leftovers.push(fault);
  }

  #throwIfStopped(): void {
    if (this.#stopped.signal.aborted) throw new Stopped();
  }

  #nowMs(): Ms {
    return this.#world.clock.nowMs();
  }
}

/** Stages in their order, each as lanes of step numbers. A step without a stage is one by itself. */
function stagesOf(steps: readonly Step[]): readonly (readonly (readonly number[])[])[] {
  const stages: { readonly name: string | undefined; readonly lanes: Map<string, number[]> }[] = [];
  for (const [n, step] of steps.entries()) {
    const last = stages.at(-1);
    const isSame = last !== undefined && step.stage !== undefined && last.name === step.stage;
    const stage = isSame ? last : { name: step.stage, lanes: new Map<string, number[]>() };
    if (!isSame) stages.push(stage);
    const lane = stage.lanes.get(laneOf(step)) ?? [];
    lane.push(n);
    stage.lanes.set(laneOf(step), lane);
  }
  return stages.map(({ lanes }) => [...lanes.values()]);
}

function laneOf(step: Step): string {
  return step.lane ?? "";
}

function waitOf(attempt: number): Ms {
  return Math.min(longestWaitMs, firstWaitMs * 2 ** Math.min(attempt - 1, 10));
}
