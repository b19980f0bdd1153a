/** Faults on demand: which call of which host goes wrong, when, and how. Knows no world; world.ts asks before each call. */
import { Fault } from "#model/fault";
import type { HostId, Ms } from "#model/units";

/**
 * fail: refused before anything happened. fail_after: it happened, the answer says no. hang: no answer, nothing
 * happened. hang_after: it happened, no answer ever comes. twice: it is done two times over, and answered once. late: it
 * happens only `lateMs` later, after whatever else was asked meanwhile, and is answered then.
 */
export type FaultEffect = "fail" | "fail_after" | "hang" | "hang_after" | "twice" | "late";

/** Longer than anybody expects, shorter than the budget of a step. */
export const lateMs: Ms = 20_000;

export interface InjectedFault {
  /** Absent: any host. */
  readonly hostId?: HostId;
  /** Name of the port's method: `startDomain`, `volumes.upload`, `perform`, `network.apply`; absent: any. */
  readonly call?: string;
  /** Counted from now, from 1. */
  readonly nth?: number;
  /** How many calls from the nth on; default 1. */
  readonly times?: number;
  readonly effect: FaultEffect;
}

export interface Faults {
  inject(fault: InjectedFault): void;
  clear(): void;
  /** The effect on this call, and counts it. */
  take(hostId: HostId, call: string): FaultEffect | undefined;
  /** Every call made so far, `host call`, for tests that walk through them. */
  readonly calls: readonly string[];
}

export function createFaults(): Faults {
  const rules = new Map<InjectedFault, { seen: number }>();
  const calls: string[] = [];
  return {
    calls,
    inject(fault) {
      rules.set(fault, { seen: 0 });
    },
    clear() {
      rules.clear();
    },
    take(hostId, call) {
      calls.push(`${hostId} ${call}`);
      let effect: FaultEffect | undefined;
      for (const [rule, count] of rules) {
        if (rule.hostId !== undefined && rule.hostId !== hostId) continue;
        if (rule.call !== undefined && rule.call !== call) continue;
        count.seen += 1;
        const first = rule.nth ?? 1;
        if (count.seen >= first && count.seen < first + (rule.times ?? 1)) effect ??= rule.effect;
      }
      return effect;
    },
  };
}

/** What a host answers to an injected failure. */
export function injectedFault(hostId: HostId, call: string): Fault {
  return new Fault("libvirt.operation_failed", {
    procedure: call,
    message: `injected on ${hostId}`,
  });
}
