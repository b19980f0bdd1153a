/**
 * Keeps an asker within a rate, and counts what was refused before policy: one row per machine, reason and second, so
 * that a flood costs the journal no more than a whisper. Time comes from the injected clock.
 */
import type { Logger } from "pino";
import type { EnvironmentId, MachineId, Ms } from "#model/units";
import type { Clock } from "#ports/clock";
import type { Store } from "#ports/store";

export class TokenBucket {
  readonly #clock: Pick<Clock, "nowMs">;
  readonly #perSecond: number;
  readonly #burst: number;
  #tokens: number;
  #atMs: Ms;

  /** Full at first. */
  constructor(
    clock: Pick<Clock, "nowMs">,
    rate: { readonly perSecond: number; readonly burst: number },
  ) {
    this.#clock = clock;
    this.#perSecond = rate.perSecond;
    this.#burst = rate.burst;
    this.#tokens = rate.burst;
    this.#atMs = clock.nowMs();
  }

  /** Takes one when there is one. */
  take(): boolean {
    this.#refill();
    if (this.#tokens < 1) return false;
    this.#tokens -= 1;
    return true;
  }

  /** Takes so many, into debt if need be; returns how long until the debt is paid. */
  spend(amount: number): Ms {
    this.#refill();
    this.#tokens -= amount;
    return this.#tokens >= 0 ? 0 : Math.ceil((-this.#tokens / this.#perSecond) * 1_000);
  }

  /** Until the next one is there. */
  waitMs(): Ms {
    this.#refill();
    return this.#tokens >= 1 ? 0 : Math.ceil(((1 - this.#tokens) / this.#perSecond) * 1_000);
  }

  #refill(): void {
    const nowMs = this.#clock.nowMs();
    const passedMs = Math.max(0, nowMs - this.#atMs);
    this.#atMs = nowMs;
    this.#tokens = Math.min(this.#burst, this.#tokens + (passedMs * this.#perSecond) / 1_000);
  }
}

/** Why something did not reach policy. */
export type RefusalReason =
  | "rate"
  | "line_too_long"
  | "not_utf8"
  | "not_json"
  | "not_a_request"
  | "unknown_method"
  | "bad_parameter"
  | "not_yours"
  | "key_reused"
  | "answers_unread";

interface Count {
  readonly environmentId: EnvironmentId | undefined;
  readonly machineId: MachineId;
  readonly reason: RefusalReason;
  readonly secondMs: Ms;
  count: number;
}

export class RefusalCounter {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #log: Logger;
  #counts = new Map<string, Count>();
  #flushing = false;

  constructor(world: { readonly store: Store; readonly clock: Clock; readonly log: Logger }) {
    this.#store = world.store;
    this.#clock = world.clock;
    this.#log = world.log;
  }

  add(
    machine: { readonly id: MachineId; readonly environmentId: EnvironmentId | undefined },
    reason: RefusalReason,
  ): void {
    const nowMs = this.#clock.nowMs();
    const secondMs = nowMs - (nowMs % 1_000);
    const key = `${machine.id} ${reason} ${secondMs}`;
    const count = this.#counts.get(key);
    if (count !== undefined) {
      count.count += 1;
      return;
    }
    const { id: machineId, environmentId } = machine;
    this.#counts.set(key, { environmentId, machineId, reason, secondMs, count: 1 });
    if (this.#flushing) return;
    this.#flushing = true;
    this.#clock.at(secondMs + 1_000, () => void this.flush());
  }

  /** Journals what was counted. A crash loses at most a second of counts, never a decision. */
  async flush(): Promise<void> {
    const counts = [...this.#counts.values()];
    this.#counts = new Map();
    this.#flushing = false;
    if (counts.length === 0) return;
    try {
      await this.#store.transaction(async (journal) => {
        for (const { environmentId, machineId, reason, secondMs, count } of counts) {
          await journal.events.append({
            kind: "request.refused",
            atMs: secondMs,
            environmentId,
            machineId,
            data: { reason, count },
          });
        }
      });
    } catch (error) {
      this.#log.error({ err: error, rows: counts.length }, "refusals were not journaled");
    }
  }
}
