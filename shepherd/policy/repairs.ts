/**
 * Brings networks back to the journal when a host comes back, and once after every start: what a host missed while it
 * was silent (a neighbour's move, its own reboot) is applied under the built-in grant `repair`. Also tells operations
 * that wait for a host to look again at once. Decides nothing: which hosts differ is looked at by the operation's steps.
 */
import type { Logger } from "pino";
import type { Request } from "#model/request";
import type { Ms } from "#model/units";
import { watchEvents } from "#policy/event-watch";
import type { Gate, GateOperations } from "#policy/gate";
import { newRequest, shepherdSubject } from "#policy/request";
import type { Clock, Ids } from "#ports/clock";
import type { Store } from "#ports/store";

export interface Repairs {
  start(): void;
  stop(): void;
  /** Brings all hosts' networks back, shortly; for whoever saw a difference that stays. */
  repairSoon(): void;
}

/** Hosts of a site come back together: one repair for all of them. */
const gatherMs: Ms = 2_000;
const retryMs: Ms = 60_000;
const operationMs: Ms = 300_000;

export interface RepairsOptions {
  readonly store: Store;
  readonly gate: Pick<Gate, "submit">;
  readonly operations: Pick<GateOperations, "wait" | "kick">;
  /** Told of each host that came back; for whoever put something off because of it. */
  readonly onHostBack?: (() => void) | undefined;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly log: Logger;
}

export function createRepairs(options: RepairsOptions): Repairs {
  return new RepairTimer(options);
}

class RepairTimer implements Repairs {
  readonly #options: RepairsOptions;
  #cancelTimer: () => void = () => undefined;
  #unwatch: () => void = () => undefined;
  #stopped = true;

  constructor(options: RepairsOptions) {
    this.#options = options;
  }

  start(): void {
    if (!this.#stopped) return;
    this.#stopped = false;
    this.#unwatch = watchEvents(this.#options, {
      isWanted: ({ kind, data }) => kind === "host.state" && data["state"] === "up",
      wake: () => this.#onHostBack(),
      sleeper: "repairs",
    });
    this.#schedule(gatherMs);
  }

  stop(): void {
    this.#stopped = true;
    this.#unwatch();
    this.#cancelTimer();
  }

  repairSoon(): void {
    if (!this.#stopped) this.#schedule(gatherMs);
  }

  #onHostBack(): void {
    this.#options.operations.kick();
    this.#options.onHostBack?.();
    this.#schedule(gatherMs);
  }

  #schedule(afterMs: Ms): void {
    const { clock } = this.#options;
    this.#cancelTimer();
    this.#cancelTimer = clock.at(clock.nowMs() + afterMs, () => void this.#repair());
  }

  async #repair(): Promise<void> {
    if (this.#stopped) return;
    const { store, gate, operations, log } = this.#options;
    try {
      const machines = await store.read((journal) => journal.objects.list("machine"));
      const placed = machines.find(({ effective }) => effective.hostId !== "");
      // Without machines there are no networks on hosts; the last one took them along.
      if (placed === undefined) return;
      const { operation } = await gate.submit(this.#request(placed.spec.environmentId));
      if (operation === undefined) return;
      const ended = await operations.wait(operation.id, operationMs);
      if (ended.state !== "succeeded" && !this.#stopped) this.#schedule(retryMs);
    } catch (error) {
      log.error({ err: error }, "networks were not repaired; trying again");
      if (!this.#stopped) this.#schedule(retryMs);
    }
  }

  /** Without machines: every host that answers. A host's network is of all environments, so any of them may ask. */
  #request(environmentId: string): Request {
    return newRequest(this.#options, {
      kind: "repair",
      environmentId,
      subject: shepherdSubject,
      reason: "a host came back",
    });
  }
}
