/**
 * The connections to one host, by role, so that nothing slow sits in front of anything urgent (libvirt.md 2.7):
 * `control` and `stats` are kept and re-made on demand; the event connection is supervised, with backoff and jitter,
 * and resynchronised before its events are trusted again; every migration, channel and transfer gets its own.
 * Knows how to dial only through a function: a unix socket, TLS, or a stream that the shell room forwards over SSH.
 */
import { randomInt } from "node:crypto";
import type { Duplex } from "node:stream";
import { type ConnectionOptions, RpcConnection } from "#libvirt/rpc/connection";
import {
  type EventListeners,
  type EventName,
  type EventPayload,
  subscribe,
} from "#libvirt/rpc/events";
import { Fault, isFault } from "#model/fault";
import type { HostId, Ms } from "#model/units";
import type { Clock } from "#ports/clock";

/** Opens a byte stream to the host's libvirt socket. */
export type Dial = () => Promise<Duplex>;

export interface HostConnectionsOptions {
  readonly hostId: HostId;
  readonly dial: Dial;
  /** Default `qemu:///system`. */
  readonly uri?: string | undefined;
  readonly clock: Clock;
  /** First pause after a failure, doubled up to `maxPauseMs`, each with jitter; defaults 500 and 15,000. */
  readonly firstPauseMs?: Ms | undefined;
  readonly maxPauseMs?: Ms | undefined;
}

export type KeptRole = "control" | "stats";
export type OwnRole = "migration" | "channel" | "transfer";

export interface Watcher {
  readonly listeners: EventListeners;
  /** Registered again: read everything now. Events that come meanwhile are delivered when it resolves. */
  readonly resync: (connection: RpcConnection) => Promise<void>;
  /** No more events until the next resync. Called once for each loss, also when the first attempt fails. */
  readonly onLost: (reason: Fault) => void;
}

interface KeptSlot {
  connection?: RpcConnection | undefined;
  opening?: Promise<RpcConnection> | undefined;
  failures: number;
  /** Until then, callers get the last fault at once instead of another storm of attempts. */
  restUntilMs: Ms;
  lastFault?: Fault | undefined;
}

export class HostConnections {
  readonly #options: HostConnectionsOptions;
  readonly #slots: Record<KeptRole, KeptSlot> = {
    control: { failures: 0, restUntilMs: 0 },
    stats: { failures: 0, restUntilMs: 0 },
  };
  readonly #own = new Set<RpcConnection>();
  readonly #closing = new AbortController();

  constructor(options: HostConnectionsOptions) {
    this.#options = options;
  }

  /** The kept connection of a role, made when it is not there. Fault `host.unreachable`. */
  async kept(role: KeptRole): Promise<RpcConnection> {
    const slot = this.#slots[role];
    if (slot.connection?.isOpen === true) return slot.connection;
    if (slot.opening !== undefined) return slot.opening;
    if (slot.lastFault !== undefined && this.#options.clock.nowMs() < slot.restUntilMs) {
      throw slot.lastFault;
    }
    slot.opening = this.#open({}).then(
      (connection) => {
        slot.connection = connection;
        slot.opening = undefined;
        slot.lastFault = undefined;
        slot.failures = 0;
        return connection;
      },
      (error: unknown) => {
        const fault = this.#unreachable(error);
        slot.opening = undefined;
        slot.lastFault = fault;
        slot.restUntilMs = this.#options.clock.nowMs() + this.#pauseMs(slot.failures);
        slot.failures += 1;
        throw fault;
      },
    );
    return slot.opening;
  }

  /** A connection of its own for a long or stalling job; its user closes it. Fault `host.unreachable`. */
  async own(role: OwnRole): Promise<RpcConnection> {
    // A channel's daemon side must not ping: it could not read our pong while the guest does not read.
    const settings = role === "channel" ? { serverKeepalive: false } : {};
    const connection = await this.#open(settings).catch((error: unknown) => {
      throw this.#unreachable(error);
    });
    this.#own.add(connection);
    void connection.closed.then(() => this.#own.delete(connection));
    return connection;
  }

  /** Keeps an event connection until the returned function is called. */
  watch(watcher: Watcher): () => void {
    const stop = new AbortController();
    void this.#supervise(watcher, AbortSignal.any([stop.signal, this.#closing.signal]));
    return () => stop.abort(new Error("the watcher left"));
  }

  async close(): Promise<void> {
    this.#closing.abort(new Error("the host's connections are closed"));
    const kept = [this.#slots.control.connection, this.#slots.stats.connection];
    const open = [...kept.filter((connection) => connection !== undefined), ...this.#own];
    await Promise.all(open.map((connection) => connection.close()));
  }

  async #supervise(watcher: Watcher, signal: AbortSignal): Promise<void> {
    let told = false;
    for (let failures = 0; !signal.aborted; failures += 1) {
      try {
        await this.#watchOnce(watcher, signal, () => {
          failures = 0;
          told = false;
        });
      } catch (error) {
        if (!signal.aborted && !told) watcher.onLost(this.#unreachable(error));
        told = true;
      }
      if (signal.aborted) return;
      await this.#options.clock.sleep(this.#pauseMs(failures), signal).catch((error: unknown) => {
        if (!signal.aborted) throw error;
      });
    }
  }

  /** One life of the event connection; throws the reason of its end. */
  async #watchOnce(watcher: Watcher, signal: AbortSignal, onReady: () => void): Promise<void> {
    const connection = await this.#open({});
    const leave = () => void connection.close();
    signal.addEventListener("abort", leave, { once: true });
    try {
      let kept: (() => void)[] | undefined = [];
      const deliver = (work: () => void) => (kept === undefined ? work() : kept.push(work));
      await subscribe(connection, held(watcher.listeners, deliver), {
        onDriverLost: () =>
          connection.destroy(
            new Fault("libvirt.disconnected", { problem: "the daemon lost its driver" }),
          ),
      });
      await watcher.resync(connection);
      onReady();
      const waiting = kept;
      kept = undefined;
      for (const work of waiting) work();
      throw await connection.closed;
    } finally {
      signal.removeEventListener("abort", leave);
      await connection.close();
    }
  }

  async #open(settings: Partial<ConnectionOptions>): Promise<RpcConnection> {
    this.#closing.signal.throwIfAborted();
    const transport = await this.#options.dial();
    const uri = this.#options.uri ?? "qemu:///system";
    return RpcConnection.open(transport, { uri, ...settings });
  }

  #unreachable(error: unknown): Fault {
    // What the shell room says of a host (wrong key, refused login) is more exact than ours.
    if (isFault(error) && error.code.startsWith("host.")) return error;
    const problem = error instanceof Error ? error.message : String(error);
    return new Fault("host.unreachable", { host: this.#options.hostId, problem }, { cause: error });
  }

  /** Doubles with each failure; between half and all of it, so that many hosts do not come back in step. */
  #pauseMs(failures: number): Ms {
    const first = this.#options.firstPauseMs ?? 500;
    const most = Math.min(first * 2 ** Math.min(failures, 16), this.#options.maxPauseMs ?? 15_000);
    return Math.ceil(most / 2) + randomInt(Math.floor(most / 2) + 1);
  }
}

/** The same listeners, each call passed through `deliver`. */
function held(listeners: EventListeners, deliver: (work: () => void) => void): EventListeners {
  const wrapped: Partial<Record<EventName, (payload: never) => void>> = {};
  for (const name of Object.keys(listeners) as EventName[]) {
    const listener = listeners[name] as ((payload: EventPayload<EventName>) => void) | undefined;
    wrapped[name] = (payload) => deliver(() => listener?.(payload));
  }
  return wrapped as EventListeners;
}
