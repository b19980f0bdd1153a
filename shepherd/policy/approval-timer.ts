/**
 * Ends approvals that nobody gave in time, and carries on those that were complete when the shepherd was killed. Sleeps
 * until the next one is due; all state is in the journal. Decides nothing: gate.ts does.
 */
import type { Logger } from "pino";
import type { Ms } from "#model/units";
import type { Gate } from "#policy/gate";
import type { Clock } from "#ports/clock";

export interface ApprovalTimer {
  start(): void;
  stop(): void;
}

/** New ones are given a day, so this is early enough; also what corrects a clock that was set. */
const longestSleepMs: Ms = 60_000;
const retryMs: Ms = 5_000;

export function createApprovalTimer(world: {
  readonly gate: Pick<Gate, "settleApprovals">;
  readonly clock: Clock;
  readonly log: Logger;
}): ApprovalTimer {
  const { gate, clock, log } = world;
  let cancelTimer: () => void = () => undefined;
  let stopped = true;

  function sleepUntil(atMs: Ms): void {
    cancelTimer();
    if (!stopped) cancelTimer = clock.at(atMs, () => void look());
  }

  async function look(): Promise<void> {
    if (stopped) return;
    try {
      const nextMs = await gate.settleApprovals();
      sleepUntil(Math.min(nextMs ?? Infinity, clock.nowMs() + longestSleepMs));
    } catch (error) {
      // Also the plan that is another by now: its votes are void, and people are asked anew.
      log.warn({ err: error }, "approvals were not all settled; looking again");
      sleepUntil(clock.nowMs() + retryMs);
    }
  }

  return {
    start() {
      if (!stopped) return;
      stopped = false;
      void look();
    },
    stop() {
      stopped = true;
      cancelTimer();
    },
  };
}
