/**
 * How fast each machine writes its memory: what a prediction of its move needs most. Every host is asked about one machine
 * at a time, the one whose figure is oldest, by the hypervisor's own sampling of pages, which costs the guest nothing that
 * it would notice. A figure that is too old is none. Knows hosts through ports only.
 */
import type { ObservedMachine } from "#model/facts";
import { isFault } from "#model/fault";
import type { HostId, MachineId, Ms } from "#model/units";
import type { Clock } from "#ports/clock";
import type { Hosts } from "#ports/host";

/** Between two machines of one host. */
const pauseMs: Ms = 4_000;
/** What a guest does now says little about what it does a quarter of an hour from now. */
const keepMs: Ms = 15 * 60_000;
/** The same machine again; many machines of a host take longer to come round. */
const againMs: Ms = 30_000;
/** A second tells a working guest from an idle one; longer would hold the host's attention for longer. */
const sampleSeconds = 1;
/** Of what was measured before, so that one odd second does not rule. */
const weightOfNew = 0.5;

export interface DirtyRates {
  start(): void;
  stop(): void;
  /** MiB written in a second; undefined: nobody knows, or not any more. */
  of(id: MachineId): number | undefined;
}

interface Due {
  readonly id: MachineId;
  readonly lastMs: Ms;
}

export function createDirtyRates(options: {
  readonly hosts: Hosts;
  readonly hostIds: () => readonly HostId[];
  readonly observed: () => Readonly<Record<MachineId, ObservedMachine>>;
  readonly clock: Clock;
}): DirtyRates {
  const { hosts, hostIds, observed, clock } = options;
  const known = new Map<MachineId, { readonly mibPerS: number; readonly atMs: Ms }>();
  const askedMs = new Map<MachineId, Ms>();
  const asking = new Set<HostId>();
  let cancel: () => void = () => undefined;
  let stopped = true;

  const tick = (): void => {
    if (stopped) return;
    const due = dueOf(observed());
    for (const hostId of hostIds()) {
      const next = due.get(hostId);
      if (next !== undefined && !asking.has(hostId)) void sample(hostId, next.id);
    }
    cancel = clock.at(clock.nowMs() + pauseMs, tick);
  };

  /** Of each host the running machine that was asked about longest ago; the fleet is walked once for all hosts. */
  function dueOf(machines: Readonly<Record<MachineId, ObservedMachine>>): ReadonlyMap<HostId, Due> {
    for (const id of askedMs.keys()) {
      if (machines[id] !== undefined) continue;
      askedMs.delete(id);
      known.delete(id);
    }
    const nowMs = clock.nowMs();
    const due = new Map<HostId, Due>();
    for (const [id, { running, hostId }] of Object.entries(machines)) {
      const lastMs = askedMs.get(id) ?? Number.NEGATIVE_INFINITY;
      if (!running || nowMs - lastMs < againMs) continue;
      if (lastMs < (due.get(hostId)?.lastMs ?? Number.POSITIVE_INFINITY)) {
        due.set(hostId, { id, lastMs });
      }
    }
    return due;
  }

  async function sample(hostId: HostId, next: MachineId): Promise<void> {
    askedMs.set(next, clock.nowMs());
    asking.add(hostId);
    try {
      const mibPerS = await hosts.get(hostId).dirtyMibPerS(next, sampleSeconds);
      if (mibPerS === undefined) return;
      const before = known.get(next)?.mibPerS ?? mibPerS;
      const smoothed = before + (mibPerS - before) * weightOfNew;
      known.set(next, { mibPerS: Math.round(smoothed * 10) / 10, atMs: clock.nowMs() });
    } catch (error) {
      // A host that does not answer is the observer's news.
      if (!isFault(error)) throw error;
    } finally {
      asking.delete(hostId);
    }
  }

  return {
    start() {
      if (!stopped) return;
      stopped = false;
      tick();
    },
    stop() {
      stopped = true;
      cancel();
    },
    of(id) {
      const found = known.get(id);
      return found === undefined || clock.nowMs() - found.atMs > keepMs ? undefined : found.mibPerS;
    },
  };
}
