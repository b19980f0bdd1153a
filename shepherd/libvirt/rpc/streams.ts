/**
 * A libvirt stream as a Node Duplex: guest channels, consoles, volume up- and downloads (libvirt.md 2.6).
 * Reading: data packets, holes as zeros (or told apart through `onHole`); at the end the goodbye is said by itself.
 * Writing: packets of bounded size; libvirt acknowledges nothing, so after every `windowBytes` a keepalive round trip is
 * awaited: the daemon answers it only while it still reads, that is, while it gets rid of what we sent.
 * Knows its connection only through StreamLink.
 */
import { Duplex } from "node:stream";
import { libvirtFault, remoteError } from "#libvirt/rpc/errors";
import { type Frame, messageTypes, statuses } from "#libvirt/rpc/frame";
import { i64, struct, u32 } from "#libvirt/rpc/schema";
import { limits, protocolFault, XdrReader, XdrWriter } from "#libvirt/rpc/xdr";
import { Fault } from "#model/fault";

/** What a stream needs from its connection. */
export interface StreamLink {
  send(
    packet: { readonly type: number; readonly status: number; readonly payload: Uint8Array },
    onFlushed: (error?: Error | null) => void,
  ): void;
  /** Calls back when everything sent before has been read by the daemon. */
  roundTrip(onAnswered: () => void): void;
  pause(): void;
  resume(): void;
  released(): void;
}

export interface RpcStreamOptions {
  /** Bytes sent without a sign of life from the daemon; Infinity leaves it to the socket. Default 65,536. */
  readonly windowBytes?: number | undefined;
  /** Called for each hole of a sparse download instead of delivering zeros. */
  readonly onHole?: ((lengthBytes: number) => void) | undefined;
}

const defaultWindowBytes = 65_536;
/**
 * Packets of windowed streams. Each unread packet holds one of the daemon's five request places, so four of these
 * fill a window while one place is left for the keepalive that asks.
 */
const windowedPacketBytes = 16_384;
const zeros = Buffer.alloc(65_536);
const hole = struct({ lengthBytes: i64, flags: u32 });

export class RpcStream extends Duplex {
  readonly #link: StreamLink;
  readonly #name: string;
  readonly #windowBytes: number;
  readonly #packetBytes: number;
  readonly #onHole: ((lengthBytes: number) => void) | undefined;
  #identity: { serial: number; procedure: { program: number; number: number } } | undefined;
  #unacknowledgedBytes = 0;
  #awaitsCredit = false;
  #received: (Buffer | { holeBytes: number } | "end")[] = [];
  #wantsData = false;
  #state: "open" | "finishing" | "over" = "open";
  #onFinished: ((error?: Error | null) => void) | undefined;

  constructor(link: StreamLink, name: string, options: RpcStreamOptions = {}) {
    super({ allowHalfOpen: false, writableHighWaterMark: defaultWindowBytes });
    this.#link = link;
    this.#name = name;
    this.#windowBytes = options.windowBytes ?? defaultWindowBytes;
    this.#packetBytes =
      this.#windowBytes === Number.POSITIVE_INFINITY
        ? limits.streamPacketBytes
        : Math.min(windowedPacketBytes, this.#windowBytes);
    this.#onHole = options.onHole;
    // Whoever reads or writes it hears of its end there; a connection that ends under a stream that nobody waits for
    // any more is no reason to end the process.
    this.on("error", () => undefined);
  }

  /** True while the daemon does not read on: its consumer stalls. */
  get awaitsCredit(): boolean {
    return this.#awaitsCredit;
  }

  attach(serial: number, procedure: { program: number; number: number }): void {
    this.#identity = { serial, procedure };
  }

  identity(): { serial: number; procedure: { program: number; number: number } } {
    if (this.#identity === undefined) throw new Error("a stream was used before its call was sent");
    return this.#identity;
  }

  /** The call that should have opened it failed: nothing to abort, nobody to tell. */
  refuse(): void {
    this.#state = "over";
    this.destroy();
  }

  connectionEnded(reason: Fault): void {
    if (this.#state === "over") return;
    this.#state = "over";
    this.#onFinished?.(reason);
    this.destroy(reason);
  }

  /** Tells the daemon that `lengthBytes` zeros follow, without sending them (sparse upload, flag 1). */
  writeHole(lengthBytes: number): Promise<void> {
    const writer = new XdrWriter();
    hole.encode(writer, { lengthBytes, flags: 0 });
    const packet = {
      type: messageTypes.streamHole,
      status: statuses.more,
      payload: Buffer.from(writer.bytes()),
    };
    return new Promise((resolve, reject) => {
      this.#link.send(packet, (error) => (error ? reject(error) : resolve()));
    });
  }

  receive(frame: Frame): void {
    if (this.#state === "over") return;
    if (frame.type === messageTypes.streamHole) {
      const reader = new XdrReader(frame.payload);
      const { lengthBytes } = hole.decode(reader);
      if (lengthBytes < 0) throw protocolFault(`a hole of ${lengthBytes} bytes`);
      return this.#deliver({ holeBytes: lengthBytes });
    }
    if (frame.status === statuses.error) {
      const error = remoteError.decode(new XdrReader(frame.payload));
      return this.#finish(libvirtFault(error, this.#name));
    }
    if (frame.status === statuses.ok) return this.#finish(undefined);
    if (frame.payload.length > 0) return this.#deliver(frame.payload);
    this.#deliver("end");
  }

  override _read(): void {
    this.#wantsData = true;
    this.#flow();
  }

  override _write(chunk: Buffer, _: BufferEncoding, done: (error?: Error | null) => void): void {
    if (this.#state !== "open")
      return done(new Fault("libvirt.disconnected", { problem: "the stream is over" }));
    const packet = chunk.subarray(0, this.#packetBytes);
    const rest = chunk.subarray(packet.length);
    this.#unacknowledgedBytes += packet.length;
    const next = (error?: Error | null) => {
      if (error) return done(error);
      if (rest.length > 0) return this._write(rest, _, done);
      done();
    };
    const message = { type: messageTypes.stream, status: statuses.more, payload: packet };
    this.#link.send(message, (error) => {
      if (error || this.#unacknowledgedBytes < this.#windowBytes) return next(error);
      this.#awaitsCredit = true;
      this.#link.roundTrip(() => {
        this.#awaitsCredit = false;
        this.#unacknowledgedBytes = 0;
        next();
      });
    });
  }

  /** All written: tells the daemon, and waits for its word that everything arrived. */
  override _final(done: (error?: Error | null) => void): void {
    if (this.#state !== "open") return done();
    this.#state = "finishing";
    this.#onFinished = done;
    const packet = { type: messageTypes.stream, status: statuses.ok, payload: Buffer.alloc(0) };
    this.#link.send(packet, (error) => {
      if (error) this.#finish(error);
    });
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    if (this.#state === "open") {
      // Abort. What the daemon still sends for this serial is dropped by the connection.
      const payload = Buffer.alloc(0);
      const packet = { type: messageTypes.stream, status: statuses.error, payload };
      this.#link.send(packet, () => undefined);
    }
    this.#state = "over";
    this.#received = [];
    if (this.#identity !== undefined) this.#link.released();
    done(error);
  }

  #deliver(item: Buffer | { holeBytes: number } | "end"): void {
    this.#received.push(item);
    this.#flow();
    if (this.#received.length > 0 && this.#state !== "over") this.#link.pause();
  }

  #flow(): void {
    while (this.#wantsData) {
      const item = this.#received.shift();
      if (item === undefined) return this.#link.resume();
      if (item === "end") {
        this.push(null);
        return this.#link.resume();
      }
      this.#wantsData = Buffer.isBuffer(item) ? this.push(item) : this.#pushHole(item.holeBytes);
    }
  }

  #pushHole(holeBytes: number): boolean {
    if (this.#onHole !== undefined) {
      this.#onHole(holeBytes);
      return true;
    }
    const bytes = Math.min(holeBytes, zeros.length);
    if (holeBytes > bytes) this.#received.unshift({ holeBytes: holeBytes - bytes });
    return bytes === 0 ? true : this.push(zeros.subarray(0, bytes));
  }

  /** The daemon has said the last word. */
  #finish(error: Error | undefined): void {
    const expected = this.#state === "finishing";
    this.#state = "over";
    this.#link.released();
    this.#onFinished?.(error ?? null);
    if (error !== undefined) this.destroy(error);
    else if (!expected) this.destroy();
    else if (!this.readableEnded) this.#deliver("end");
  }
}
