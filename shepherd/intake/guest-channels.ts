/**
 * Keeps a channel open to every running machine, wherever it runs: opens `dev.drover.0` through its host, again after a
 * move, a reconnect or a restart. The channel is the identity: what comes through it is that machine's, whatever it says.
 * Knows hosts through ports; the talking is guest-session.ts.
 */

import { GuestSession, type SessionWorld } from "#intake/guest-session";
import { RefusalCounter } from "#intake/limits";
import type { MachineRecord } from "#model/objects";
import type { HostId, MachineId, Ms } from "#model/units";
import type { Hosts } from "#ports/host";

export interface GuestChannels {
  start(): void;
  stop(): Promise<void>;
  /** Looks now which machines run where; also called by itself after every journaled change. */
  reconcile(): Promise<void>;
  /** Machines whose channel is open now. */
  open(): readonly MachineId[];
}
export type GuestChannelsOptions = Omit<SessionWorld, "refusals"> & { readonly hosts: Hosts };

const channelName = "dev.drover.0";
/** Between two attempts: short at first, because a moved machine is there within a second. */
const firstRetryMs: Ms = 200;
const longestRetryMs: Ms = 5_000;
/** A missed change of the journal is noticed after this. */
const reconcileEveryMs: Ms = 5_000;
/** Channels opened in one turn of the loop: a start with a large fleet opens them all. */
const sliceMachines = 100;
/** Changes come in bursts. */
const settleMs: Ms = 50;

interface Attachment {
  readonly session: GuestSession;
  readonly stop: AbortController;
  hostId: HostId;
  /** Ends the connection, not the session. */
  hangUp: (() => void) | undefined;
  /** Wakes the loop when the machine turns up elsewhere. */
  wake: AbortController;
}

export function createGuestChannels(options: GuestChannelsOptions): GuestChannels {
  return new Channels(options);
}

class Channels implements GuestChannels {
  readonly #options: GuestChannelsOptions;
  readonly #world: SessionWorld;
  readonly #attached = new Map<MachineId, Attachment>();
  readonly #loops = new Set<Promise<void>>();
  #unlisten: () => void = () => undefined;
  #cancelTimer: () => void = () => undefined;
  #cancelSoon: (() => void) | undefined;
  #looked: readonly MachineRecord[] | undefined;
  #stopped = true;

  constructor(options: GuestChannelsOptions) {
    this.#options = options;
    this.#world = { ...options, refusals: new RefusalCounter(options) };
  }

  start(): void {
    if (!this.#stopped) return;
    this.#stopped = false;
    this.#unlisten = this.#options.store.onCommit(() => this.#soon());
    void this.#tick();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#unlisten();
    this.#cancelTimer();
    this.#cancelSoon?.();
    for (const machineId of this.#attached.keys()) this.#detach(machineId);
    await Promise.all(this.#loops);
    await this.#world.refusals.flush();
  }

  open(): readonly MachineId[] {
    return [...this.#attached]
      .filter(([, { hangUp }]) => hangUp !== undefined)
      .map(([machineId]) => machineId);
  }

  async reconcile(): Promise<void> {
    const machines = await this.#options.store.read((journal) => journal.objects.list("machine"));
    // The journal hands out the same list until something of it changes; most commits are about something else.
    if (this.#stopped || machines === this.#looked) return;
    this.#looked = machines;
    const running = new Map(machines.filter(hasChannel).map((machine) => [machine.id, machine]));
    for (const machineId of this.#attached.keys()) {
      if (!running.has(machineId)) this.#detach(machineId);
    }
    let inSlice = 0;
    for (const machine of running.values()) {
      this.#attach(machine);
      inSlice = (inSlice + 1) % sliceMachines;
      if (inSlice > 0) continue;
      await new Promise((resolve) => setImmediate(resolve));
      // A younger look has begun meanwhile, and sees to all of them.
      if (this.#stopped || machines !== this.#looked) return;
    }
  }

  async #tick(): Promise<void> {
    const { clock, log } = this.#options;
    try {
      await this.reconcile();
    } catch (error) {
      log.error({ err: error }, "guest channels were not looked at; trying again");
    }
    if (this.#stopped) return;
    this.#cancelTimer = clock.at(clock.nowMs() + reconcileEveryMs, () => void this.#tick());
  }

  #soon(): void {
    if (this.#stopped || this.#cancelSoon !== undefined) return;
    const { clock, log } = this.#options;
    this.#cancelSoon = clock.at(clock.nowMs() + settleMs, () => {
      this.#cancelSoon = undefined;
      this.reconcile().catch((error: unknown) =>
        log.error({ err: error }, "guest channels were not looked at"),
      );
    });
  }

  #attach(machine: MachineRecord): void {
    const { hostId } = machine.effective;
    const known = this.#attached.get(machine.id);
    if (known === undefined) {
      const session = new GuestSession(machine, this.#world);
      const attachment: Attachment = {
        session,
        stop: new AbortController(),
        hostId,
        hangUp: undefined,
        wake: new AbortController(),
      };
      this.#attached.set(machine.id, attachment);
      const loop = this.#keepOpen(attachment).finally(() => this.#loops.delete(loop));
      this.#loops.add(loop);
      return;
    }
    if (known.hostId === hostId) return;
    known.hostId = hostId;
    known.hangUp?.();
    known.wake.abort();
  }

  #detach(machineId: MachineId): void {
    const attachment = this.#attached.get(machineId);
    if (attachment === undefined) return;
    this.#attached.delete(machineId);
    attachment.stop.abort();
    attachment.hangUp?.();
    attachment.wake.abort();
  }

  async #keepOpen(attachment: Attachment): Promise<void> {
    const { hosts, log, clock } = this.#options;
    const { session, stop } = attachment;
    let retryMs = firstRetryMs;
    while (!stop.signal.aborted) {
      const { hostId } = attachment;
      try {
        const stream = await hosts.get(hostId).openChannel(session.machineId, channelName);
        if (stop.signal.aborted || attachment.hostId !== hostId) {
          stream.destroy();
          continue;
        }
        const openedMs = clock.nowMs();
        attachment.hangUp = () => stream.destroy();
        await session.serve(stream);
        if (clock.nowMs() - openedMs > longestRetryMs) retryMs = firstRetryMs;
      } catch (error) {
        log.debug({ machine: session.machineId, host: hostId, err: error }, "no guest channel");
      }
      attachment.hangUp = undefined;
      if (stop.signal.aborted) return;
      attachment.wake = new AbortController();
      if (attachment.hostId !== hostId) {
        retryMs = firstRetryMs;
        continue;
      }
      // Woken early when the machine turns up elsewhere.
      await clock.sleep(retryMs, attachment.wake.signal).catch(() => {
        retryMs = firstRetryMs;
      });
      retryMs = Math.min(retryMs * 2, longestRetryMs);
    }
  }
}

/** An unknown machine may run; asking its last host costs little. */
function hasChannel({ effective }: MachineRecord): boolean {
  return effective.hostId !== "" && ["running", "moving", "unknown"].includes(effective.state);
}
