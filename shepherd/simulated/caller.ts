/**
 * One shepherd's way to call a simulated host: counted, delayed, failed on demand, and never answered once the
 * shepherd is gone. Knows calls by name, not what they do.
 */
import { Fault } from "#model/fault";
import type { HostId, Ms } from "#model/units";
import { type HostClaim, refusalOf } from "#ports/claim";
import { type Faults, injectedFault, lateMs } from "#simulated/faults";
import type { Machinery } from "#simulated/machinery";

/** One connection's way to call: counted, delayed, failed on demand, never answered once it is cut. */
export interface Caller {
  call<T>(hostId: HostId, name: string, work: () => T | Promise<T>): Promise<T>;
  /** Time inside a call. */
  pause(hostId: HostId, durationMs: Ms): Promise<void>;
  onCut(listener: () => void): () => void;
}

export function createCaller(
  machinery: Machinery,
  faults: Faults,
  reachability: Set<(hostId: HostId) => void>,
  claim?: HostClaim,
): Caller & { cut(): void } {
  const state = { cut: false };
  const listeners = new Set<() => void>();
  const never = new Promise<never>(() => undefined);
  const unreachable = (hostId: HostId) =>
    new Fault("host.unreachable", { host: hostId, problem: "the connection ended" });

  /** The work's own end, or the host's disappearance, whichever is first. */
  const whileReachable = async <T>(hostId: HostId, work: Promise<T>): Promise<T> => {
    const { promise, reject } = Promise.withResolvers<never>();
    const listener = (changed: HostId) => {
      if (changed === hostId && !machinery.host(hostId).reachable) reject(unreachable(hostId));
    };
    reachability.add(listener);
    try {
      return await Promise.race([work, promise]);
    } finally {
      reachability.delete(listener);
    }
  };

  /** As a real host at each connection: whose it is is looked at before anything is done. */
  const take = (hostId: HostId): void => {
    if (claim === undefined) return;
    const host = machinery.host(hostId);
    const refusal = refusalOf(host.claim, claim);
    if (refusal === undefined) {
      host.claim = claim;
      return;
    }
    throw new Fault("host.claimed", {
      host: hostId,
      who: `${refusal} (epoch ${host.claim?.epoch})`,
      file: "its claim",
    });
  };

  const call: Caller["call"] = async (hostId, name, work) => {
    if (state.cut) return never;
    const effect = faults.take(hostId, name);
    await machinery.clock.sleep(machinery.speeds.callMs);
    if (state.cut) return never;
    if (!machinery.host(hostId).reachable) throw unreachable(hostId);
    take(hostId);
    if (effect === "hang") return never;
    if (effect === "fail") throw injectedFault(hostId, name);
    if (effect === "late") {
      await machinery.clock.sleep(lateMs);
      if (state.cut) return never;
      if (!machinery.host(hostId).reachable) throw unreachable(hostId);
    }
    const result = await whileReachable(hostId, Promise.resolve().then(work));
    if (effect === "twice") {
      // A repeated request: whatever the second one says, the first one's answer is what arrives.
      await whileReachable(hostId, Promise.resolve().then(work)).catch(() => undefined);
    }
    if (state.cut || effect === "hang_after") return never;
    if (effect === "fail_after") throw injectedFault(hostId, name);
    return result;
  };
  return {
    call,
    async pause(_hostId, durationMs) {
      await machinery.clock.sleep(durationMs);
      if (state.cut) await never;
    },
    onCut(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    cut() {
      state.cut = true;
      for (const listener of listeners) listener();
    },
  };
}
