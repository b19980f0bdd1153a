/**
 * One RPC connection over any byte stream: calls by serial, keepalive both ways, streams, events, and the end of all
 * of them when the transport ends. Obeys the daemon's queueing rules (libvirt.md 2.7):
 * - at most `maxInFlight` ordinary calls are outstanding, since one more than the daemon's own limit (5) stops it
 *   reading, pongs included; calls that the daemon runs on its priority workers have one place more and go first;
 * - the daemon keeps no order between outstanding calls, so calls with the same `order` key go one after the other;
 * - nothing can be cancelled: a call given up by its caller keeps its place until libvirt answers it.
 * Knows no roles and never reconnects; that is host-connections.ts.
 */
import type { Duplex } from "node:stream";
import { libvirtFault, remoteError } from "#libvirt/rpc/errors";
import {
  encodeFrame,
  type Frame,
  FrameSplitter,
  messageTypes,
  programs,
  statuses,
} from "#libvirt/rpc/frame";
import { type Procedure, remote } from "#libvirt/rpc/procedures";
import { RpcStream, type RpcStreamOptions } from "#libvirt/rpc/streams";
import { XdrReader, XdrWriter } from "#libvirt/rpc/xdr";
import { Fault } from "#model/fault";
import type { Ms } from "#model/units";
import { inChildSpan } from "#ports/tracing";

export interface ConnectionOptions {
  /** The server-side URI, such as `qemu:///system`. */
  readonly uri: string;
  readonly readOnly?: boolean | undefined;
  /** Ordinary calls at once; default 4, the daemon's default limit less one place for priority calls. */
  readonly maxInFlight?: number | undefined;
  /**
   * Ask the server to ping us. Not for connections that carry a guest's channel: the daemon closes a connection whose
   * pong it cannot read, and a stalled guest is no dead connection.
   */
  readonly serverKeepalive?: boolean | undefined;
  /** We ping after this much silence; default 5,000. */
  readonly pingIntervalMs?: Ms | undefined;
  /** Unanswered pings until the connection counts as dead; default 5. */
  readonly maxMissedPings?: number | undefined;
  /** Time for opening altogether; default 20,000. */
  readonly openTimeoutMs?: Ms | undefined;
}

export interface CallOptions {
  /** Gives up waiting after this long with `libvirt.call_timeout`; the call itself goes on. Never for migrations. */
  readonly timeoutMs?: Ms | undefined;
  /** Calls with equal keys run one after the other; a domain's id, usually. */
  readonly order?: string | undefined;
}

/** An event as it came: the procedure number says which, the payload is still encoded. */
export type MessageListener = (frame: Frame) => void;

interface Call {
  readonly procedure: Procedure<unknown, unknown>;
  readonly payload: Buffer;
  readonly order: string | undefined;
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: Error) => void;
  /** Present when a stream is to follow: installed before the call is sent, as data may come with the reply. */
  readonly stream: RpcStream | undefined;
}

const defaultInFlight = 4;
/** Answered by VIR_DRV_FEATURE_PROGRAM_KEEPALIVE, which also switches the server's pings on. */
const keepaliveFeature = 10;
const ping = 1;
const pong = 2;

export class RpcConnection {
  readonly #transport: Duplex;
  readonly #splitter = new FrameSplitter();
  readonly #maxInFlight: number;
  readonly #queue: Call[] = [];
  readonly #inFlight = new Map<number, Call>();
  readonly #busyOrders = new Set<string>();
  readonly #streams = new Map<number, RpcStream>();
  readonly #listeners = new Set<MessageListener>();
  readonly #awaitedPongs: (() => void)[] = [];
  readonly #closed = Promise.withResolvers<Fault>();
  #ended: Fault | undefined;
  #nextSerial = 1;
  #heardAtMs = performance.now();
  #missedPings = 0;
  #pinger: NodeJS.Timeout | undefined;
  readonly #pausedBy = new Set<RpcStream>();

  private constructor(transport: Duplex, options: ConnectionOptions) {
    this.#transport = transport;
    this.#maxInFlight = options.maxInFlight ?? defaultInFlight;
    transport.on("data", (piece: Buffer) => this.#receive(piece));
    transport.on("error", (error) => this.#end(disconnected(error.message, error)));
    transport.on("close", () => this.#end(disconnected("the transport closed")));
    transport.on("end", () => this.#end(disconnected("the daemon closed the connection")));
  }

  /**
   * Authenticates, sets up keepalive and opens the URI over an already connected transport, which is destroyed on
   * failure. Faults: libvirt.auth_required, libvirt.disconnected, libvirt.call_timeout, what the daemon answers.
   */
  static async open(transport: Duplex, options: ConnectionOptions): Promise<RpcConnection> {
    const connection = new RpcConnection(transport, options);
    const timeoutMs = options.openTimeoutMs ?? 20_000;
    try {
      await connection.#authenticate(timeoutMs);
      if (options.serverKeepalive !== false) {
        await connection.call(remote.supportsFeature, { feature: keepaliveFeature }, { timeoutMs });
      }
      const flags = options.readOnly === true ? 1 : 0;
      await connection.call(remote.connectOpen, { uri: options.uri, flags }, { timeoutMs });
    } catch (error) {
      connection.destroy(error instanceof Fault ? error : disconnected("open failed", error));
      throw error;
    }
    connection.#startPinging(options.pingIntervalMs ?? 5_000, options.maxMissedPings ?? 5);
    return connection;
  }

  /** Resolves with the reason once the connection has ended; never rejects. */
  get closed(): Promise<Fault> {
    return this.#closed.promise;
  }

  get isOpen(): boolean {
    return this.#ended === undefined;
  }

  /** Calls waiting and outstanding; for tests and metrics. */
  get load(): { readonly queued: number; readonly inFlight: number } {
    return { queued: this.#queue.length, inFlight: this.#inFlight.size };
  }

  /** Calls and waits for the result. Faults: `libvirt.*`; after a timeout or disconnect the call may have happened. */
  call<Args, Result>(
    procedure: Procedure<Args, Result>,
    args: Args,
    options: CallOptions = {},
  ): Promise<Result> {
    return inChildSpan(`libvirt ${procedure.name}`, {}, () =>
      this.#enqueue(procedure, args, options, undefined),
    );
  }

  /**
   * Makes a call that opens a stream; resolves when libvirt has accepted it. Open streams only on a connection of
   * their own: a stream whose consumer stalls blocks everything else on the connection.
   */
  async openStream<Args>(
    procedure: Procedure<Args, unknown>,
    args: Args,
    options: CallOptions & RpcStreamOptions = {},
  ): Promise<RpcStream> {
    const stream = new RpcStream(
      {
        send: (packet, onFlushed) => this.#sendStreamPacket(stream, packet, onFlushed),
        roundTrip: (onAnswered) => this.#ping(onAnswered),
        pause: () => this.#pause(stream),
        resume: () => this.#resume(stream),
        released: () => this.#release(stream),
      },
      procedure.name,
      options,
    );
    try {
      await this.#enqueue(procedure, args, options, stream);
    } catch (error) {
      stream.refuse();
      throw error;
    }
    return stream;
  }

  /** Hears events; must return at once and never await a call of this connection. The returned function ends it. */
  onMessage(listener: MessageListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Says goodbye when that is quick, then closes. Outstanding calls are rejected. */
  async close(): Promise<void> {
    if (this.isOpen && this.#inFlight.size === 0) {
      await this.call(remote.connectClose, {}, { timeoutMs: 2_000 }).catch((error: unknown) => {
        if (!(error instanceof Fault)) throw error; // a dying connection is closed below all the same
      });
    }
    this.destroy(disconnected("closed by the shepherd"));
  }

  destroy(reason: Fault): void {
    this.#end(reason);
  }

  async #authenticate(timeoutMs: Ms): Promise<void> {
    const { types } = await this.call(remote.authList, {}, { timeoutMs });
    if (types.length === 0 || types.includes(0)) return;
    if (!types.includes(2)) throw new Fault("libvirt.auth_required", { offered: types.join(", ") });
    await this.call(remote.authPolkit, {}, { timeoutMs });
  }

  #enqueue<Args, Result>(
    procedure: Procedure<Args, Result>,
    args: Args,
    options: CallOptions,
    stream: RpcStream | undefined,
  ): Promise<Result> {
    if (this.#ended !== undefined) return Promise.reject(this.#ended);
    const writer = new XdrWriter();
    try {
      procedure.args.encode(writer, args);
    } catch (error) {
      return Promise.reject(error instanceof Error ? error : new Error(String(error)));
    }
    const answer = Promise.withResolvers<Result>();
    let timer: NodeJS.Timeout | undefined;
    const settle = () => clearTimeout(timer);
    const call: Call = {
      procedure: procedure as Procedure<unknown, unknown>,
      payload: Buffer.from(writer.bytes()),
      order: options.order,
      stream,
      resolve: (result) => {
        settle();
        answer.resolve(result as Result);
      },
      reject: (error) => {
        settle();
        answer.reject(error);
      },
    };
    if (options.timeoutMs !== undefined) {
      const timeoutMs = options.timeoutMs;
      timer = setTimeout(() => {
        // Still queued: it never happens. Already sent: it keeps its place, the answer is dropped when it comes.
        const waiting = this.#queue.indexOf(call);
        if (waiting >= 0) this.#queue.splice(waiting, 1);
        const sent = waiting < 0;
        const details = { procedure: procedure.name, timeout_ms: timeoutMs, sent };
        answer.reject(new Fault("libvirt.call_timeout", details));
      }, timeoutMs);
    }
    this.#queue.push(call);
    this.#sendWaiting();
    return answer.promise;
  }

  #sendWaiting(): void {
    for (let next = this.#takeNext(); next !== undefined; next = this.#takeNext()) {
      const serial = this.#nextSerial;
      this.#nextSerial = serial === 0xffff_ffff ? 1 : serial + 1;
      this.#inFlight.set(serial, next);
      if (next.order !== undefined) this.#busyOrders.add(next.order);
      if (next.stream !== undefined) {
        next.stream.attach(serial, next.procedure);
        this.#streams.set(serial, next.stream);
      }
      this.#write(next.procedure, messageTypes.call, serial, statuses.ok, next.payload);
    }
  }

  /** The next call that may go now: priority calls first, then in order of arrival, passing over blocked order keys. */
  #takeNext(): Call | undefined {
    const outstanding = this.#inFlight.size;
    if (this.#queue.length === 0 || outstanding > this.#maxInFlight) return undefined;
    const blocked = new Set(this.#busyOrders);
    let ordinary = -1;
    for (const [index, call] of this.#queue.entries()) {
      const free = call.order === undefined || !blocked.has(call.order);
      if (free && call.procedure.priority) return this.#queue.splice(index, 1)[0];
      if (free && ordinary < 0) ordinary = index;
      // A later call with this key must not overtake this one.
      if (call.order !== undefined) blocked.add(call.order);
    }
    if (ordinary < 0 || outstanding >= this.#maxInFlight) return undefined;
    return this.#queue.splice(ordinary, 1)[0];
  }

  #write(
    procedure: { readonly program: number; readonly number: number },
    type: number,
    serial: number,
    status: number,
    payload: Uint8Array,
    onFlushed?: (error?: Error | null) => void,
  ): void {
    const { program, number } = procedure;
    const header = { program, version: 1, procedure: number, type, serial, status };
    this.#transport.write(encodeFrame(header, payload), onFlushed);
  }

  #receive(piece: Buffer): void {
    if (this.#ended !== undefined) return;
    this.#heardAtMs = performance.now();
    this.#missedPings = 0;
    try {
      for (const frame of this.#splitter.push(piece)) this.#dispatch(frame);
    } catch (error) {
      if (!(error instanceof Fault)) throw error;
      this.#end(error);
    }
  }

  #dispatch(frame: Frame): void {
    if (frame.program === programs.keepalive) return this.#keepalive(frame);
    switch (frame.type) {
      case messageTypes.reply:
        return this.#reply(frame);
      case messageTypes.stream:
      case messageTypes.streamHole:
        // Data of a stream that we already left is dropped.
        return this.#streams.get(frame.serial)?.receive(frame);
      case messageTypes.message:
        for (const listener of this.#listeners) listener(frame);
        return;
      default:
        throw new Fault("libvirt.protocol", { problem: `a frame of type ${frame.type} came` });
    }
  }

  #reply(frame: Frame): void {
    const call = this.#inFlight.get(frame.serial);
    if (call === undefined) {
      throw new Fault("libvirt.protocol", { problem: `a reply to serial ${frame.serial} came` });
    }
    this.#inFlight.delete(frame.serial);
    if (call.order !== undefined) this.#busyOrders.delete(call.order);
    this.#settle(call, frame);
    this.#sendWaiting();
  }

  #settle(call: Call, frame: Frame): void {
    const reader = new XdrReader(frame.payload);
    if (frame.status === statuses.error) {
      if (call.stream !== undefined) this.#streams.delete(frame.serial);
      call.reject(libvirtFault(remoteError.decode(reader), call.procedure.name));
      return;
    }
    try {
      const result = call.procedure.result.decode(reader);
      reader.end();
      call.resolve(result);
    } catch (error) {
      // The frame was whole, only its inside is strange: this call fails, the connection lives on.
      const problem = error instanceof Error ? error.message : String(error);
      const details = { problem: `reply to ${call.procedure.name}: ${problem}` };
      call.reject(new Fault("libvirt.protocol", details, { cause: error }));
    }
  }

  #keepalive(frame: Frame): void {
    if (frame.procedure === ping) {
      const answer = { program: programs.keepalive, number: pong };
      this.#write(answer, messageTypes.message, 0, statuses.ok, Buffer.alloc(0));
    } else if (frame.procedure === pong) {
      this.#awaitedPongs.shift()?.();
    }
  }

  #ping(onPong: () => void): void {
    this.#awaitedPongs.push(onPong);
    const question = { program: programs.keepalive, number: ping };
    this.#write(question, messageTypes.message, 0, statuses.ok, Buffer.alloc(0));
  }

  #startPinging(intervalMs: Ms, maxMissed: number): void {
    this.#pinger = setInterval(() => {
      // While a slow consumer holds our reading up, silence says nothing about the host.
      if (this.#pausedBy.size > 0 || performance.now() - this.#heardAtMs < intervalMs) return;
      const stalled = [...this.#streams.values()].some((stream) => stream.awaitsCredit);
      if (stalled) return;
      if (this.#missedPings >= maxMissed) {
        return this.#end(disconnected(`no answer to ${maxMissed} pings, ${intervalMs} ms apart`));
      }
      this.#missedPings += 1;
      this.#ping(() => undefined);
    }, intervalMs);
    this.#pinger.unref();
  }

  #sendStreamPacket(
    stream: RpcStream,
    packet: { readonly type: number; readonly status: number; readonly payload: Uint8Array },
    onFlushed: (error?: Error | null) => void,
  ): void {
    if (this.#ended !== undefined) return onFlushed(this.#ended);
    const { serial, procedure } = stream.identity();
    this.#write(procedure, packet.type, serial, packet.status, packet.payload, onFlushed);
  }

  #pause(stream: RpcStream): void {
    this.#pausedBy.add(stream);
    this.#transport.pause();
  }

  #resume(stream: RpcStream): void {
    this.#pausedBy.delete(stream);
    if (this.#pausedBy.size === 0) this.#transport.resume();
  }

  #release(stream: RpcStream): void {
    this.#streams.delete(stream.identity().serial);
    this.#resume(stream);
  }

  #end(reason: Fault): void {
    if (this.#ended !== undefined) return;
    this.#ended = reason;
    clearInterval(this.#pinger);
    this.#transport.destroy();
    const calls = [...this.#inFlight.values(), ...this.#queue.splice(0)];
    this.#inFlight.clear();
    for (const call of calls) call.reject(reason);
    const streams = [...this.#streams.values()];
    this.#streams.clear();
    for (const stream of streams) stream.connectionEnded(reason);
    this.#listeners.clear();
    this.#awaitedPongs.length = 0;
    this.#closed.resolve(reason);
  }
}

function disconnected(problem: string, cause?: unknown): Fault {
  return new Fault("libvirt.disconnected", { problem }, { cause });
}
