/**
 * What one operation writes: its rows, their events, its progress and its end, each in one transaction. Knows what is
 * journaled together; which step comes next, engine.ts says.
 */
import { Fault, type FaultData, toFaultData } from "#model/fault";
import type { Cost, Operation, OperationState, Plan, StepRecord, StepState } from "#model/plan";
import type { DecisionId, Ms } from "#model/units";
import { forgetGroup, forgetUndone, recordAdaptations } from "#operations/adaptations";
import { changeMachine } from "#operations/records";
import type { OperationWorld, Step } from "#operations/step";
import type { Journal } from "#ports/store";
import { tell } from "#ports/tracing";

const progressEveryMs = 1_000;

/** An operation, its plan, and the steps that the plan expands into. */
export interface Work {
  readonly operation: Operation;
  readonly plan: Plan;
  readonly steps: readonly Step[];
  /** What granted it; undefined: the shepherd's own promise. */
  readonly decisionId?: DecisionId | undefined;
}

/** The shepherd stops; nothing failed. */
export class Stopped extends Error {}

export class OperationRows {
  /** As journaled, by number of the step. */
  readonly records = new Map<number, StepRecord>();
  readonly #world: OperationWorld;
  readonly #operation: Operation;
  readonly #plan: Plan;
  readonly #steps: readonly Step[];
  readonly #isStopped: () => boolean;
  #lastProgressMs = 0;

  constructor(world: OperationWorld, work: Work, isStopped: () => boolean) {
    this.#world = world;
    this.#operation = work.operation;
    this.#plan = work.plan;
    this.#steps = work.steps;
    this.#isStopped = isStopped;
  }

  /** Reads what earlier runs wrote. */
  async load(): Promise<void> {
    const rows = await this.#world.store.read((journal) =>
      journal.steps.ofOperation(this.#operation.id),
    );
    for (const row of rows) this.records.set(row.n, row);
  }

  /** It turns round, and why. */
  async beginUndo(fault: FaultData): Promise<void> {
    await this.#write((journal) => this.#patch(journal, { state: "undoing", fault }));
  }

  async begin(): Promise<void> {
    await this.#write(async (journal) => {
      const resumed = this.#operation.state === "running" || this.records.size > 0;
      await this.#patch(journal, { state: "running", epoch: this.#world.epoch });
      await journal.events.append({
        kind: "operation.started",
        atMs: this.#world.clock.nowMs(),
        environmentId: this.#operation.environmentId,
        machineId: this.#operation.machineIds[0],
        data: {
          operationId: this.#operation.id,
          kind: this.#operation.kind,
          requestId: this.#operation.requestId,
          planId: this.#operation.planId,
          machineIds: this.#operation.machineIds,
          resumed,
        },
      });
    });
  }

  async end(state: OperationState, fault: FaultData | undefined): Promise<void> {
    tell({ state, code: fault?.code });
    await this.#write(async (journal) => {
      const nowMs = this.nowMs();
      const operation = await this.#patch(journal, {
        state,
        fault,
        measured: this.#measured(nowMs),
        endedAtMs: nowMs,
        progress: { percent: state === "succeeded" ? 100 : this.percent(), message: state },
      });
      if (state !== "stuck") {
        // What may still happen at a host of a stuck one stays counted.
        await journal.reservations.removeOf(operation.id);
        await this.#settleUnknown(journal, operation, nowMs);
      }
      const ended = { operation, plan: this.#plan, nowMs, ids: this.#world.ids };
      // What was taken back leaves the terms of what stands alone.
      if (state === "succeeded" || state === "partial") {
        await recordAdaptations(journal, ended);
        await forgetGroup(journal, ended);
      } else if (state !== "stuck") await forgetUndone(journal, ended);
      await journal.events.append({
        kind: "operation.ended",
        atMs: nowMs,
        environmentId: operation.environmentId,
        machineId: operation.machineIds[0],
        data: {
          operationId: operation.id,
          kind: operation.kind,
          requestId: operation.requestId,
          state,
          measured: operation.measured,
          fault: briefly(fault),
          machineIds: operation.machineIds,
        },
      });
    });
    this.#world.log.info({ operation: this.#operation.id, state, fault }, "operation ended");
  }

  /** One row, its event, and whatever belongs into the same transaction. */
  async record(
    n: number,
    change: Partial<StepRecord> & { readonly state: StepState },
    work?: (journal: Journal) => Promise<void> | undefined,
    events: "told" | "silent" = "told",
  ): Promise<void> {
    const before = this.records.get(n);
    // Of one that is done: in what it came out short.
    const hasFault = tellsFault.has(change.state) || change.fault !== undefined;
    const row: StepRecord = {
      ...before,
      operationId: this.#operation.id,
      n,
      name: before?.name ?? this.#steps[n]?.name ?? "",
      ...change,
    };
    await this.#write(async (journal) => {
      await journal.steps.put(row);
      await work?.(journal);
      if (events === "silent") return;
      await journal.events.append({
        kind: row.state === "doing" || row.state === "undoing" ? "step.started" : "step.ended",
        atMs: this.nowMs(),
        environmentId: this.#operation.environmentId,
        machineId: this.#steps[n]?.machine?.id ?? this.#operation.machineIds[0],
        data: {
          operationId: row.operationId,
          n,
          name: row.name,
          state: row.state,
          observed: row.observed,
          outcome: row.outcome,
          fault: hasFault ? briefly(row.fault) : undefined,
        },
      });
    });
    this.records.set(n, row);
    this.#world.log.debug?.({ step: n, name: row.name, state: row.state }, "step");
  }

  /** Every write passes here: a stopped engine writes no more. */
  #write<T>(work: (journal: Journal) => Promise<T>): Promise<T> {
    this.#checkRunning();
    return this.#world.store.transaction(work);
  }

  /** Read, change, put: `cancelRequested` may have been set meanwhile. */
  async #patch(journal: Journal, change: Partial<Operation>): Promise<Operation> {
    const stored = (await journal.operations.get(this.#operation.id)) ?? this.#operation;
    const operation = { ...stored, ...change };
    await journal.operations.put(operation);
    return operation;
  }

  tellProgress(n: number, step: Step, fraction: number, message: string): void {
    const nowMs = this.nowMs();
    if (nowMs - this.#lastProgressMs < progressEveryMs || this.#isStopped()) return;
    this.#lastProgressMs = nowMs;
    void this.putProgress(this.percent(n, step.weightMs * fraction), message);
  }

  async putProgress(percent: number, message: string): Promise<void> {
    try {
      await this.#write(async (journal) => {
        const stored = await journal.operations.get(this.#operation.id);
        if (stored === undefined || stored.endedAtMs !== undefined) return;
        const progress = { percent: Math.max(percent, stored.progress.percent), message };
        await journal.operations.put({ ...stored, progress });
        await journal.events.append({
          kind: "operation.progress",
          atMs: this.nowMs(),
          environmentId: stored.environmentId,
          machineId: stored.machineIds[0],
          data: { operationId: stored.id, requestId: stored.requestId, ...progress },
        });
      });
    } catch (error) {
      // Progress is for people; what matters is journaled by its own step.
      this.#world.log.warn({ fault: toFaultData(error) }, "progress was not journaled");
    }
  }

  percent(current = -1, currentMs = 0): number {
    let doneMs = 0;
    let allMs = 0;
    for (const [n, step] of this.#steps.entries()) {
      allMs += step.weightMs;
      if (this.records.get(n)?.state === "done") doneMs += step.weightMs;
      else if (n === current) doneMs += currentMs;
    }
    return allMs === 0 ? 0 : Math.min(99, Math.floor((doneMs / allMs) * 100));
  }

  #measured(nowMs: Ms): Cost {
    let bytes = 0;
    let downtimeMs = 0;
    let startedAtMs = nowMs;
    for (const { outcome, startedAtMs: at } of this.records.values()) {
      const measured = (outcome ?? {}) as { bytes?: number; downtimeMs?: number };
      bytes += measured.bytes ?? 0;
      // Of different machines, as it was predicted: the longest.
      downtimeMs = Math.max(downtimeMs, measured.downtimeMs ?? 0);
      startedAtMs = Math.min(startedAtMs, at ?? nowMs);
    }
    return { durationMs: nowMs - startedAtMs, bytes, downtimeMs };
  }

  /** Nobody knows how the machine is while its host does not say; journaled, so that everyone sees it. */
  async setMachineUnknown(step: Step, unknown: boolean): Promise<void> {
    const { machine } = step;
    if (machine === undefined) return;
    await this.#write((journal) =>
      changeMachine(journal, machine.id, this.nowMs(), {
        state: unknown ? "unknown" : machine.state,
      }),
    );
  }

  /**
   * It ended, so every host has answered: nothing stays unknown. A predecessor may have died between the answer and the
   * row that says so, and a step that is done is not looked at again.
   */
  async #settleUnknown(journal: Journal, operation: Operation, nowMs: Ms): Promise<void> {
    for (const id of operation.machineIds) {
      const effective = (await journal.objects.get("machine", id))?.effective;
      if (effective?.state !== "unknown") continue;
      const lives = effective.hostId === "" ? "failed" : "running";
      const state = operation.kind === "destroy" ? "destroying" : lives;
      await changeMachine(journal, id, nowMs, { state });
    }
  }

  anyUndone(): boolean {
    const undone: readonly StepState[] = ["undoing", "undone", "undo_failed"];
    return [...this.records.values()].some((record) => undone.includes(record.state));
  }

  firstFault(): FaultData {
    const failed = [...this.records.values()].find((record) => record.fault !== undefined);
    return (
      this.#operation.fault ??
      failed?.fault ??
      toFaultData(new Fault("operation.interrupted", { operation: this.#operation.id }))
    );
  }

  #checkRunning(): void {
    if (this.#isStopped()) throw new Stopped();
  }

  nowMs(): Ms {
    return this.#world.clock.nowMs();
  }
}

const tellsFault: ReadonlySet<StepState> = new Set(["failed", "undo_failed"]);

function briefly(fault: FaultData | undefined) {
  return fault && { code: fault.code, message: fault.message };
}
