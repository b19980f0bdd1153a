/**
 * Looks after demands that fall due after an operation: sees on the hosts that machines have what was granted, and notices
 * when nobody reviewed in time. What is missed is an event, and given back where policy wants that (its lease ends; the
 * lease timer does the rest). All state is in the journal; after a restart it goes on. Decides nothing.
 */
import type { Logger } from "pino";
import type { MachineRecord } from "#model/objects";
import type { OwedObligation } from "#model/obligation";
import type { Operation } from "#model/plan";
import type { Ms } from "#model/units";
import { hasSettled, liveSizing, sizingAttributes } from "#planner/target";
import { watchEvents } from "#policy/event-watch";
import type { Sensed } from "#policy/facts";
import { endObligation, laterOf } from "#policy/obligations";
import type { Clock } from "#ports/clock";
import type { Journal, Store } from "#ports/store";

export interface ObligationKeeper {
  start(): void;
  stop(): void;
}

/** A balloon inflates and CPUs come online within seconds; until then hosts are asked this often. */
const lookAgainMs: Ms = 2_000;
/** Also what corrects a clock that was set. */
const longestSleepMs: Ms = 60_000;

const overStates: readonly Operation["state"][] = ["succeeded", "partial", "failed", "cancelled"];

export function createObligationKeeper(world: {
  readonly store: Store;
  readonly sensed: Sensed & { refresh(hostIds?: readonly string[]): Promise<void> };
  readonly clock: Clock;
  readonly log: Logger;
}): ObligationKeeper {
  const { store, sensed, clock, log } = world;
  let cancelTimer: () => void = () => undefined;
  let unwatch: () => void = () => undefined;
  let stopped = true;
  let busy = false;
  let again = false;

  /** One round at a time; what happens meanwhile is looked at right after. */
  async function look(): Promise<void> {
    if (stopped) return;
    if (busy) {
      again = true;
      return;
    }
    busy = true;
    let nextMs = clock.nowMs() + longestSleepMs;
    try {
      const waiting = await store.read((journal) =>
        journal.obligations.list({ states: ["waiting"] }),
      );
      for (const owed of waiting) nextMs = Math.min(nextMs, await lookAt(owed));
    } catch (error) {
      log.error({ err: error }, "obligations were not looked after; trying again");
      nextMs = clock.nowMs() + lookAgainMs;
    } finally {
      busy = false;
    }
    cancelTimer();
    if (stopped) return;
    if (again) {
      again = false;
      void look();
    } else cancelTimer = clock.at(nextMs, () => void look());
  }

  /** When to look at it again. */
  async function lookAt(owed: OwedObligation): Promise<Ms> {
    const nowMs = clock.nowMs();
    const found = await store.read(async (journal) => ({
      operation: await journal.operations.get(owed.operationId),
      machines: await machinesOf(journal, owed),
      stands: await stillStands(journal, owed),
    }));
    const { operation, machines } = found;
    const later = laterOf(owed.demand);
    if (operation === undefined || later === undefined) {
      return await over(owed, { state: "void", outcome: "its operation is not known any more" });
    }
    if (!overStates.includes(operation.state) || operation.endedAtMs === undefined) {
      return Infinity;
    }
    if (operation.state === "failed" || operation.state === "cancelled") {
      return await over(owed, { state: "void", outcome: `the operation ${operation.state}` });
    }
    if (!found.stands) {
      return await over(owed, { state: "void", outcome: "something else was granted since" });
    }
    const dueAtMs = operation.endedAtMs + later.within_ms;
    if (owed.dueAtMs !== dueAtMs) await setDue(owed, dueAtMs);
    if (owed.demand.id === "review") {
      if (nowMs < dueAtMs) return dueAtMs;
      return await missed(owed, later.otherwise, "nobody reviewed it in time");
    }
    await sensed.refresh([...new Set(machines.map(({ effective }) => effective.hostId))]);
    const lacking = machines.flatMap((machine) => lackOf(machine, sensed));
    if (lacking.length === 0) {
      const outcome = "the hosts say that it is in force";
      return await over(owed, { state: "kept", outcome });
    }
    if (clock.nowMs() >= dueAtMs) return await missed(owed, later.otherwise, lacking.join("; "));
    return Math.min(dueAtMs, clock.nowMs() + lookAgainMs);
  }

  async function missed(
    owed: OwedObligation,
    otherwise: "tell" | "release",
    what: string,
  ): Promise<Ms> {
    const giveBack = otherwise === "release";
    log.warn({ obligation: owed.id, request: owed.requestId, what, giveBack }, "missed");
    const outcome = giveBack ? `${what}; given back` : what;
    return await over(owed, { state: "missed", outcome, giveBack });
  }

  async function over(
    owed: OwedObligation,
    how: Omit<Parameters<typeof endObligation>[2], "atMs">,
  ): Promise<Ms> {
    await store.transaction((journal) =>
      endObligation(journal, owed.id, { ...how, atMs: clock.nowMs() }),
    );
    return Infinity;
  }

  async function setDue(owed: OwedObligation, dueAtMs: Ms): Promise<void> {
    await store.transaction(async (journal) => {
      const now = await journal.obligations.get(owed.id);
      if (now?.state === "waiting") await journal.obligations.put({ ...now, dueAtMs });
    });
  }

  return {
    start() {
      if (!stopped) return;
      stopped = false;
      // other commits are none of its business
      unwatch = watchEvents(world, {
        isWanted: ({ kind }) => kind === "operation.ended",
        wake: () => void look(),
        sleeper: "obligations",
      });
      void look();
    },
    stop() {
      stopped = true;
      unwatch();
      cancelTimer();
    },
  };
}

async function machinesOf(
  journal: Journal,
  { machineIds }: OwedObligation,
): Promise<readonly MachineRecord[]> {
  const found = await Promise.all(machineIds.map((id) => journal.objects.get("machine", id)));
  return found.filter((machine) => machine !== undefined);
}

/** False once everything that the decision brought was released or replaced by another decision. */
async function stillStands(
  journal: Journal,
  { environmentId, decisionId, requestId }: OwedObligation,
): Promise<boolean> {
  const request = await journal.requests.get(requestId);
  // What the stack declares leaves no adaptation behind: it stands while its machines do.
  if (request?.kind === "create" || request?.kind === "update") return true;
  const adaptations = await journal.adaptations.list({ environmentId });
  return adaptations.some((adaptation) => adaptation.decisionId === decisionId);
}

/** What a host does not say yet of a machine; nothing when it has all that was granted. */
function lackOf(machine: MachineRecord, sensed: Sensed): readonly string[] {
  const { effective, spec } = machine;
  const seen = sensed.observed()[machine.id];
  if (seen === undefined) return [`${spec.name}: its host does not say`];
  if (!seen.running) return [`${spec.name} does not run`];
  if (seen.hostId !== effective.hostId) return [`${spec.name} is at ${seen.hostId}`];
  const live = liveSizing(machine, seen);
  return [
    ...sizingAttributes
      .filter((attribute) => live[attribute] !== effective[attribute])
      .map((attribute) => `${spec.name}: ${wireName[attribute]} is ${live[attribute]}`),
    ...(hasSettled(machine, seen) ? [] : [`${spec.name}: memory_mib is ${seen.memoryMib}`]),
  ];
}

const wireName = { vcpus: "vcpus", cpuPercent: "cpu_percent", memoryMib: "memory_mib" } as const;
