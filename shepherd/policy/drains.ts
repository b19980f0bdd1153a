/**
 * Empties hosts that a person drains: asks for each machine there to move anywhere else, again and again until none is
 * left, and names what keeps each of the others. Every move is judged like any ask: draining is a wish, not a right.
 * All state but the last refusals is in the journal; after a restart it goes on.
 */
import type { Logger } from "pino";
import type { MachineRecord } from "#model/objects";
import type { HostMark } from "#model/site";
import type { HostId, MachineId, Ms, OperationId } from "#model/units";
import type { HostMarks } from "#operations/host-marks";
import type { Gate, GateOperations } from "#policy/gate";
import { shepherdSubject } from "#policy/request";
import type { Clock, Ids } from "#ports/clock";
import type { Store } from "#ports/store";

export interface Drains {
  start(): void;
  stop(): void;
  /** Where a drain stands; undefined for a host that nobody drains. */
  progress(hostId: HostId): Promise<DrainProgress | undefined>;
}
export interface DrainProgress {
  readonly mark: HostMark;
  /** Machines that are still there. Counts to zero. */
  readonly machines: number;
  readonly moving: readonly {
    readonly machine: MachineRecord;
    readonly operationId: OperationId;
  }[];
  /** Why each of the others is still there, as far as it was asked. */
  readonly blockers: readonly Blocker[];
}
export interface Blocker {
  readonly machine: MachineRecord;
  /** Of the decision or of the fault. */
  readonly code: string;
  readonly message: string;
}

/** A no may become a yes when another machine has left or a window opens. */
const retryMs: Ms = 60_000;
/** Longest wait for one move before looking at it again. */
const operationMs: Ms = 24 * 3_600_000;
/** As many asks at once; the schedule of operations holds the moves themselves back. */
const mostAtOnce = 4;

export interface DrainsOptions {
  readonly store: Store;
  readonly marks: HostMarks;
  readonly gate: Pick<Gate, "submit">;
  readonly operations: Pick<GateOperations, "wait">;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly log: Logger;
}

export function createDrains(options: DrainsOptions): Drains {
  return new DrainLoop(options);
}

class DrainLoop implements Drains {
  readonly #options: DrainsOptions;
  readonly #asking = new Set<MachineId>();
  readonly #refusals = new Map<
    MachineId,
    { readonly code: string; readonly message: string; readonly atMs: Ms }
  >();
  #cancelTimer: () => void = () => undefined;
  #unlisten: () => void = () => undefined;
  #stopped = true;

  constructor(options: DrainsOptions) {
    this.#options = options;
  }

  start(): void {
    if (!this.#stopped) return;
    this.#stopped = false;
    this.#unlisten = this.#options.marks.onChange(() => {
      this.#refusals.clear();
      void this.#look();
    });
    void this.#look();
  }

  stop(): void {
    this.#stopped = true;
    this.#unlisten();
    this.#cancelTimer();
  }

  async progress(hostId: HostId): Promise<DrainProgress | undefined> {
    const mark = this.#draining().find((one) => one.hostId === hostId);
    if (mark === undefined) return undefined;
    const here = await this.#machinesOn(hostId);
    const moving: { machine: MachineRecord; operationId: OperationId }[] = [];
    const blockers: Blocker[] = [];
    for (const machine of here) {
      const open = await this.#openOperation(machine.id);
      const refusal = this.#refusals.get(machine.id);
      if (open !== undefined) moving.push({ machine, operationId: open });
      else if (refusal !== undefined) blockers.push({ machine, ...refusal });
    }
    return { mark, machines: here.length, moving, blockers };
  }

  #draining(): readonly HostMark[] {
    return this.#options.marks.list().filter(({ kind }) => kind === "draining");
  }

  async #machinesOn(hostId: HostId): Promise<readonly MachineRecord[]> {
    const { store } = this.#options;
    return await store.read((journal) => journal.objects.list("machine", { hostId }));
  }

  async #openOperation(machineId: MachineId): Promise<OperationId | undefined> {
    const [open] = await this.#options.store.read((journal) =>
      journal.operations.list({ states: ["pending", "running", "undoing"], machineId }),
    );
    return open?.id;
  }

  async #look(): Promise<void> {
    if (this.#stopped) return;
    const { clock, log } = this.#options;
    this.#cancelTimer();
    const marks = this.#draining();
    if (marks.length === 0) return;
    try {
      for (const mark of marks) {
        for (const machine of await this.#machinesOn(mark.hostId)) {
          if (this.#asking.size >= mostAtOnce) break;
          if (this.#mayAsk(machine)) void this.#ask(mark, machine);
        }
      }
    } catch (error) {
      log.error({ err: error }, "draining hosts were not looked at; trying again");
    }
    if (this.#stopped) return;
    this.#cancelTimer();
    this.#cancelTimer = clock.at(clock.nowMs() + retryMs, () => void this.#look());
  }

  #mayAsk({ id }: MachineRecord): boolean {
    const refusal = this.#refusals.get(id);
    const waits = refusal !== undefined && this.#options.clock.nowMs() - refusal.atMs < retryMs;
    return !this.#asking.has(id) && !waits;
  }

  async #ask(mark: HostMark, machine: MachineRecord): Promise<void> {
    const { gate, operations, clock, ids, log } = this.#options;
    this.#asking.add(machine.id);
    let moved = false;
    try {
      const id = ids.next();
      const { decision, operation } = await gate.submit({
        id,
        kind: "move",
        environmentId: machine.spec.environmentId,
        subject: shepherdSubject,
        machines: [{ machineId: machine.id }],
        links: [],
        reason: `${mark.hostId} is drained by ${mark.by}: ${mark.reason}`.slice(0, 200),
        idempotencyKey: `drain:${mark.hostId}:${id}`,
        receivedAtMs: clock.nowMs(),
      });
      if (operation === undefined) {
        this.#refuse(machine.id, decision.code, decision.message);
        return;
      }
      const ended = await operations.wait(operation.id, operationMs);
      moved = ended.state === "succeeded" || ended.state === "partial";
      if (!moved) {
        this.#refuse(machine.id, ended.fault?.code ?? ended.state, ended.fault?.message ?? "");
      }
    } catch (error) {
      log.error({ err: error, machine: machine.id }, "a machine was not drained; trying again");
      this.#refuse(machine.id, "bug", "the shepherd failed to ask; its log says why");
    } finally {
      this.#asking.delete(machine.id);
      if (moved) this.#refusals.delete(machine.id);
      // The next one, and those that were refused for room which is there now.
      void this.#look();
    }
  }

  #refuse(machineId: MachineId, code: string, message: string): void {
    this.#refusals.set(machineId, { code, message, atMs: this.#options.clock.nowMs() });
  }
}
