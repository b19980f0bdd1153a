/**
 * Moves machines out of sites that recalled their consent: asks the gate for a move to anywhere else, again and again
 * until nobody is left. Nobody is killed for a recall: when no other site takes a machine by the deadline, it stays
 * where it runs and an alert says so. All state is in the journal; after a restart it goes on.
 */
import type { Logger } from "pino";
import type { Recall } from "#model/consent";
import type { MachineId, Ms } from "#model/units";
import { watchEvents } from "#policy/event-watch";
import type { Gate, GateOperations } from "#policy/gate";
import { leftAt } from "#policy/recall";
import { type NewRequest, newRequest, shepherdSubject } from "#policy/request";
import type { Clock, Ids } from "#ports/clock";
import type { Store } from "#ports/store";

export interface Recalls {
  start(): void;
  stop(): void;
}

/** Until a machine that nobody took is asked for again, doubled each time; each try is a journaled request. */
const firstRetryMs: Ms = 5_000;
const longestRetryMs: Ms = 120_000;
/** Longest wait for one move before looking at it again. */
const operationMs: Ms = 3_600_000;
const longestSleepMs: Ms = 30_000;

export function createRecalls(world: {
  readonly store: Store;
  readonly gate: Pick<Gate, "submit">;
  readonly operations: Pick<GateOperations, "wait">;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly log: Logger;
}): Recalls {
  const { store, gate, operations, clock, log } = world;
  const moving = new Set<MachineId>();
  const later = new Map<string, { readonly tries: number; readonly atMs: Ms }>();
  let cancelTimer: () => void = () => undefined;
  let unwatch: () => void = () => undefined;
  let stopped = true;

  async function look(): Promise<void> {
    if (stopped) return;
    const nowMs = clock.nowMs();
    let nextMs = nowMs + longestSleepMs;
    try {
      for (const { recall, left } of await standing()) {
        for (const machineId of left) {
          if (moving.has(machineId)) continue;
          const dueMs = later.get(keyOf(recall, machineId))?.atMs ?? nowMs;
          if (dueMs <= nowMs) void moveOut(recall, machineId);
          else nextMs = Math.min(nextMs, dueMs);
        }
        if (left.length === 0) continue;
        if (nowMs < recall.deadlineMs) nextMs = Math.min(nextMs, recall.deadlineMs);
        else if (recall.overdueSinceMs === undefined) await alert(recall, left, nowMs);
      }
    } catch (error) {
      log.error({ err: error }, "recalls were not read; trying again");
    }
    cancelTimer();
    if (!stopped) cancelTimer = clock.at(nextMs, () => void look());
  }

  async function standing() {
    return await store.read(async (journal) => {
      const recalls = await journal.recalls.list();
      if (recalls.length === 0) return [];
      const machines = await journal.objects.list("machine");
      return recalls.map((recall) => ({ recall, left: leftAt(recall, { machines }) }));
    });
  }

  async function moveOut(recall: Recall, machineId: MachineId): Promise<void> {
    moving.add(machineId);
    const key = keyOf(recall, machineId);
    try {
      const ask: NewRequest = {
        kind: "move",
        environmentId: recall.environmentId,
        subject: shepherdSubject,
        machines: [{ machineId }],
        reason: `site ${recall.siteId} recalled its consent: ${recall.reason}`,
      };
      const { decision, operation } = await gate.submit(newRequest(world, ask));
      const ended = operation && (await operations.wait(operation.id, operationMs));
      if (ended?.state === "succeeded") later.delete(key);
      else tryLater(key);
      if (decision.effect !== "allow") {
        log.warn(
          { recall: recall.id, machine: machineId, why: decision.message },
          "nobody takes a machine whose site wants it gone",
        );
      }
    } catch (error) {
      log.error({ err: error, recall: recall.id }, "a machine was not moved out; trying again");
      tryLater(key);
    } finally {
      moving.delete(machineId);
      void look();
    }
  }

  function tryLater(key: string): void {
    const tries = later.get(key)?.tries ?? 0;
    const waitMs = Math.min(firstRetryMs * 2 ** tries, longestRetryMs);
    later.set(key, { tries: tries + 1, atMs: clock.nowMs() + waitMs });
  }

  /** Once: the deadline is over and machines are still there. They run on. */
  async function alert(recall: Recall, left: readonly MachineId[], nowMs: Ms): Promise<void> {
    await store.transaction(async (journal) => {
      const now = await journal.recalls.get(recall.id);
      if (now === undefined || now.overdueSinceMs !== undefined) return;
      await journal.recalls.put({ ...now, overdueSinceMs: nowMs });
      await journal.events.append({
        kind: "recall.overdue",
        atMs: nowMs,
        environmentId: recall.environmentId,
        data: {
          recallId: recall.id,
          siteId: recall.siteId,
          machineIds: left,
          reason: recall.reason,
        },
      });
    });
    log.error({ recall: recall.id, site: recall.siteId, machines: left }, "a recall is overdue");
  }

  return {
    start() {
      if (!stopped) return;
      stopped = false;
      // a look at all machines: not for every commit
      unwatch = watchEvents(world, {
        isWanted: ({ kind }) => kind === "recall.changed",
        wake: () => void look(),
        sleeper: "recalls",
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

function keyOf(recall: Recall, machineId: MachineId): string {
  return `${recall.id} ${machineId}`;
}
