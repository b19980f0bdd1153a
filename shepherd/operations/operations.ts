/**
 * Admission and the schedule of operations: what the gate permits is journaled in the gate's own transaction, then run
 * in order, one operation per machine at a time. Knows grants and rows; engine.ts knows how one operation runs.
 */

import type { MachineBlocker } from "#model/blocker";
import { canonicalJson } from "#model/canonical";
import { Fault, toFaultData } from "#model/fault";
import type { Operation, OperationKind, OperationState, Plan } from "#model/plan";
import type { Grant, Request } from "#model/request";
import type { HostId, MachineId, Ms, OperationId } from "#model/units";
import { declare } from "#operations/declare";
import { type Run, runOperation } from "#operations/engine";
import { createExclusives } from "#operations/exclusives";
import { expand } from "#operations/expand";
import { blockersOfMoves } from "#operations/preflight";
import { tellChange } from "#operations/records";
import { reservationsOf } from "#operations/reservations";
import { schedule, type Work, workOf } from "#operations/schedule";
import type { OperationWorld } from "#operations/step";
import { rotateTunnels } from "#operations/tunnels";
import { hasVolume } from "#operations/volumes";
import { diskBytesOf } from "#planner/room";
import type { Journal } from "#ports/store";
import { tell } from "#ports/tracing";

export type { OperationWorld } from "#operations/step";

export interface Order {
  readonly grant: Grant;
  readonly plan: Plan;
  readonly request: Request;
  readonly kind: OperationKind;
  /** The trace that it belongs to; absent: one of its own. */
  readonly traceparent?: string | undefined;
}

export interface Operations {
  /**
   * Inside the gate's transaction: checks the grant's plan digest and expiry, marks it used, stores a new spec, writes
   * reservations and the pending operation. Faults `grant.unknown`, `grant.used`, `grant.plan_mismatch`,
   * `grant.expired`, `operation.machine_stuck`.
   */
  admit(journal: Journal, order: Order): Promise<Operation>;
  /** After the commit: runs what is pending; also looks again at what waits for a host. */
  kick(): void;
  /** Resolves when it ended, at the timeout, or when the signal is aborted: with what it is then. Fault `operation.unknown`. */
  wait(id: OperationId, timeoutMs: Ms, signal?: AbortSignal): Promise<Operation>;
  /** What stands in the way of a plan's moves, asked of the hosts; changes nothing. */
  blockersOf(plan: Plan): Promise<readonly MachineBlocker[]>;
  /** Asks it to end: what can be undone is, a switch that happened stays. No effect on one that ended. */
  cancel(id: OperationId): Promise<Operation>;
  /**
   * Looks again at one that is stuck: goes on when the answer is there now, is stuck again when not. Fault
   * `operation.unknown`; one that is not stuck is returned as it is.
   */
  retry(id: OperationId): Promise<Operation>;
  /** New keys on every host of the mesh between sites, without losing a packet. Fault `network.rotation_failed`. */
  rotateTunnels(): ReturnType<typeof rotateTunnels>;
  /** On start: observes, then resumes or undoes everything that had not ended; stuck ones are tried again. */
  recover(): Promise<void>;
  /** Leaves running operations where they are, for the next start. */
  stop(): Promise<void>;
}

const unfinished: readonly OperationState[] = ["pending", "running", "undoing"];
/** Operations whose waiting is told in one commit. */
const toldTogether = 50;
/** After that long a step that hangs is left to the journal. */
const stopPatienceMs = 5_000;

export function createOperations(world: OperationWorld): Operations {
  const exclusives = createExclusives();
  const running = new Map<OperationId, Run & { readonly machineIds: readonly MachineId[] }>();
  const waiting = new Map<OperationId, Set<() => void>>();
  const works = new Map<OperationId, Work>();
  let stopped = false;
  /** One scheduling pass at a time, and one more when something changed meanwhile. */
  let passing = false;
  let again = false;

  async function pass(): Promise<void> {
    if (passing) {
      again = true;
      return;
    }
    passing = true;
    try {
      do {
        again = false;
        await startWhatMay();
      } while (again && !stopped);
    } finally {
      passing = false;
    }
  }

  async function startWhatMay(): Promise<void> {
    const open = await world.store.read((journal) =>
      journal.operations.list({ states: unfinished }),
    );
    const isOpen = new Set(open.map(({ id }) => id));
    for (const id of works.keys()) if (!isOpen.has(id)) works.delete(id);
    for (const operation of open) await learn(operation);
    const ofOpen = open.flatMap((operation) => works.get(operation.id) ?? []);
    const { start: first, waiting: held } = schedule(ofOpen, new Set(running.keys()), {
      silent: await silentHostsOf(open),
    });
    for (const operation of open) {
      if (stopped) return;
      if (first.includes(operation.id)) await start(operation);
    }
    const news = open.filter(
      ({ id, progress }) => (held.get(id) ?? progress.message) !== progress.message,
    );
    for (let from = 0; from < news.length && !stopped; from += toldTogether) {
      await tellWaiting(news.slice(from, from + toldTogether), held);
    }
  }

  /** Of what may wait for its host, and has not been cancelled: the host that does not answer. */
  async function silentHostsOf(
    open: readonly Operation[],
  ): Promise<ReadonlyMap<OperationId, HostId>> {
    const patient = open.filter(
      ({ id, cancelRequested }) => works.get(id)?.patient === true && !cancelRequested,
    );
    const { answers } = world;
    if (patient.length === 0 || answers === undefined) return new Map();
    const machines = await world.store.read((journal) => journal.objects.list("machine"));
    const hostOf = new Map(machines.map(({ id, effective }) => [id, effective.hostId]));
    return new Map(
      patient.flatMap(({ id, machineIds }) => {
        const hostIds = machineIds.flatMap((machineId) => hostOf.get(machineId) ?? []);
        const silent = hostIds.find((hostId) => hostId !== "" && !answers(hostId));
        return silent === undefined ? [] : [[id, silent] as const];
      }),
    );
  }

  async function learn(operation: Operation): Promise<void> {
    if (works.has(operation.id)) return;
    const { plan, request } = await world.store.read(async (journal) => ({
      plan: await journal.plans.get(operation.planId),
      request: await journal.requests.get(operation.requestId),
    }));
    if (plan === undefined) throw new Error(`operation ${operation.id} has no plan`);
    works.set(operation.id, workOf(operation, plan, request));
  }

  /** Back-pressure that people can see. A thousand may wait: many in one commit, none for long. */
  async function tellWaiting(
    operations: readonly Operation[],
    why: ReadonlyMap<OperationId, string>,
  ): Promise<void> {
    await world.store.transaction(async (journal) => {
      for (const { id } of operations) {
        const stored = await journal.operations.get(id);
        if (stored?.state !== "pending") continue;
        const message = why.get(id) ?? "";
        await journal.operations.put({ ...stored, progress: { percent: 0, message } });
      }
    });
  }

  async function start(operation: Operation): Promise<void> {
    const { plan, names, grant } = await world.store.read(async (journal) => {
      const machines = await journal.objects.list("machine");
      return {
        grant: await journal.grants.get(operation.grantId),
        plan: await journal.plans.get(operation.planId),
        names: new Map(machines.map((machine) => [machine.id, machine.spec.name])),
      };
    });
    if (plan === undefined) throw new Error(`operation ${operation.id} has no plan`);
    const steps = expand(plan, (machineId) => names.get(machineId) ?? machineId);
    const work = { operation, plan, steps, decisionId: grant?.decisionId };
    const run = runOperation(world, exclusives, work);
    running.set(operation.id, { ...run, machineIds: operation.machineIds });
    void follow(operation.id, run);
  }

  async function follow(id: OperationId, run: Run): Promise<void> {
    try {
      await run.ended;
    } catch (error) {
      // A bug or a lost journal: the operation stays as journaled, and the next start goes on with it.
      world.log.error({ operation: id, fault: toFaultData(error) }, "an operation was dropped");
      for (const wake of waiting.get(id) ?? []) wake();
      return;
    }
    running.delete(id);
    for (const wake of waiting.get(id) ?? []) wake();
    if (!stopped) await kickSafely();
  }

  async function kickSafely(): Promise<void> {
    try {
      await pass();
    } catch (error) {
      world.log.error({ fault: toFaultData(error) }, "operations could not be scheduled");
    }
  }

  const find = async (id: OperationId): Promise<Operation> => {
    const operation = await world.store.read((journal) => journal.operations.get(id));
    if (operation === undefined) throw new Fault("operation.unknown", { operation: id });
    return operation;
  };

  return {
    admit: (journal, order) => admit(world, journal, order),
    kick() {
      for (const run of running.values()) run.wake();
      void kickSafely();
    },
    async wait(id, timeoutMs, signal) {
      const first = await find(id);
      if (hasEnded(first)) return first;
      const { promise, resolve } = Promise.withResolvers<void>();
      const wakers = waiting.get(id) ?? new Set();
      waiting.set(id, wakers.add(resolve));
      const cancelTimer = world.clock.at(world.clock.nowMs() + timeoutMs, resolve);
      signal?.addEventListener("abort", () => resolve(), { once: true });
      try {
        // It may have ended between the first look and the registration.
        if (signal?.aborted !== true && !hasEnded(await find(id))) await promise;
      } finally {
        cancelTimer();
        wakers.delete(resolve);
        if (wakers.size === 0) waiting.delete(id);
      }
      return find(id);
    },
    async blockersOf(plan) {
      const moves = plan.actions.filter((action) => action.kind === "move_machine");
      const machines = await world.store.read((journal) => journal.objects.list("machine"));
      const names = new Map(machines.map((machine) => [machine.id, machine.spec.name]));
      return blockersOfMoves(world, moves, ({ machineId }) => names.get(machineId) ?? machineId);
    },
    async cancel(id) {
      const operation = await world.store.transaction(async (journal) => {
        const stored = await journal.operations.get(id);
        if (stored === undefined) throw new Fault("operation.unknown", { operation: id });
        if (hasEnded(stored)) return stored;
        const asked: Operation = { ...stored, cancelRequested: true };
        await journal.operations.put(asked);
        return asked;
      });
      running.get(id)?.cancel();
      // What waits for a silent host waits no longer.
      if (!running.has(id)) void kickSafely();
      return operation;
    },
    async retry(id) {
      const operation = await world.store.transaction(async (journal) => {
        const stored = await journal.operations.get(id);
        if (stored === undefined) throw new Fault("operation.unknown", { operation: id });
        if (stored.state !== "stuck") return stored;
        const again: Operation = { ...stored, state: "undoing", endedAtMs: undefined };
        await journal.operations.put(again);
        return again;
      });
      await kickSafely();
      return operation;
    },
    async rotateTunnels() {
      // One after the other: two rotations at once would take each other's new keys for old ones.
      return exclusives("tunnels", () =>
        rotateTunnels({ world, exclusives, read: (work) => world.store.read(work) }),
      );
    },
    async recover() {
      const left = await world.store.transaction(async (journal) => {
        const stuck = await journal.operations.list({ states: ["stuck"] });
        for (const operation of stuck) {
          // A start is a human's act: look again, the answer may be there now.
          await journal.operations.put({ ...operation, state: "undoing", endedAtMs: undefined });
        }
        return journal.operations.list({ states: unfinished });
      });
      world.log.info({ operations: left.length }, "recovering operations");
      await pass();
    },
    async stop() {
      stopped = true;
      for (const run of running.values()) run.stop();
      const ends = [...running.values()].map((run) => run.ended.catch(() => undefined));
      const patience = Promise.withResolvers<void>();
      const cancel = world.clock.at(world.clock.nowMs() + stopPatienceMs, patience.resolve);
      await Promise.race([Promise.all(ends), patience.promise]);
      cancel();
    },
  };
}

async function admit(world: OperationWorld, journal: Journal, order: Order): Promise<Operation> {
  const { grant, plan, request, kind } = order;
  const nowMs = world.clock.nowMs();
  if (grant.planDigest !== plan.digest || grant.planId !== plan.id) {
    throw new Fault("grant.plan_mismatch", { grant: grant.id, plan: plan.id });
  }
  if (grant.expiresAtMs < nowMs) {
    throw new Fault("grant.expired", { grant: grant.id, expiredAtMs: grant.expiresAtMs });
  }
  const growing = plan.actions.flatMap((one) => (one.kind === "grow_volume" ? [one.volumeId] : []));
  const holders =
    growing.length === 0
      ? []
      : (await journal.objects.list("machine")).filter((one) =>
          growing.some((id) => hasVolume(one, id)),
        );
  const machineIds = [
    ...new Set([
      ...request.machines.map((ask) => ask.machineId),
      // It does not move meanwhile.
      ...holders.map(({ id }) => id),
      ...plan.actions.flatMap((action) => ("machineId" in action ? [action.machineId] : [])),
    ]),
  ].toSorted();
  if (kind !== "destroy") await refuseStuck(journal, machineIds);

  const operation: Operation = {
    id: world.ids.next(),
    kind,
    state: "pending",
    environmentId: request.environmentId,
    machineIds,
    requestId: request.id,
    planId: plan.id,
    grantId: grant.id,
    epoch: world.epoch,
    progress: { percent: 0, message: "waiting for its turn" },
    cancelRequested: false,
    traceparent: order.traceparent,
    createdAtMs: nowMs,
  };
  tell({ operation: operation.id });
  await journal.grants.use(grant.id, operation.id);
  await declare(journal, request, nowMs);
  if (kind === "update") await storeSpec(journal, request, nowMs);
  await journal.operations.put(operation);
  const machines = new Map(
    (await journal.objects.list("machine")).map((machine) => [machine.id, machine]),
  );
  const images = await journal.objects.list("image");
  const of = { images, volumes: await journal.objects.list("volume") };
  for (const reservation of reservationsOf(plan, {
    operationId: operation.id,
    machines,
    diskBytes: (machine) => diskBytesOf(of, machine),
    nowMs,
  })) {
    await journal.reservations.add(reservation);
  }
  return operation;
}

/** Nothing more is started on a machine of which nobody knows where it is; destroying it is always possible. */
async function refuseStuck(journal: Journal, machineIds: readonly MachineId[]): Promise<void> {
  for (const machineId of machineIds) {
    const [stuck] = await journal.operations.list({ states: ["stuck"], machineId });
    if (stuck === undefined) continue;
    throw new Fault("operation.machine_stuck", {
      machine: machineId,
      operation: stuck.id,
      question: stuck.fault?.message,
    });
  }
}

/** The stack's new word is in force with the grant for it; the same word again changes nothing. */
async function storeSpec(journal: Journal, request: Request, nowMs: Ms): Promise<void> {
  const machineId = request.machines[0]?.machineId;
  if (request.update === undefined || machineId === undefined) return;
  const record = await journal.objects.get("machine", machineId);
  if (record === undefined) return;
  const { spec } = request.update;
  if (canonicalJson(spec) === canonicalJson(record.spec)) return;
  const changed = { ...record, spec, version: record.version + 1 };
  await journal.objects.put(changed);
  await tellChange(journal, changed, nowMs);
}

function hasEnded(operation: Operation): boolean {
  return !unfinished.includes(operation.state);
}
