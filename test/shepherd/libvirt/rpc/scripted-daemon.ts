/**
 * The daemon's end of a connection, for tests of what a real daemon does rarely: never answering, answering out of
 * order, dying, sending nonsense. Speaks with the product's own frames; answers authentication and opening by itself.
 */
import { Duplex, duplexPair } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { type ConnectionOptions, RpcConnection } from "@drover/shepherd/libvirt/rpc/connection";
import { type RemoteError, remoteError } from "@drover/shepherd/libvirt/rpc/errors";
import {
  encodeFrame,
  type Frame,
  FrameSplitter,
  messageTypes,
  programs,
  statuses,
} from "@drover/shepherd/libvirt/rpc/frame";
import { remote } from "@drover/shepherd/libvirt/rpc/procedures";
import type { Codec } from "@drover/shepherd/libvirt/rpc/schema";
import { XdrWriter } from "@drover/shepherd/libvirt/rpc/xdr";

export class ScriptedDaemon {
  readonly transport: Duplex;
  /** Everything that came after opening, in order. */
  readonly received: Frame[] = [];
  answersPings = true;
  readonly #ours: Duplex;
  readonly #splitter = new FrameSplitter();

  constructor() {
    const [ours, theirs] = duplexPair({ highWaterMark: 1 << 20 });
    this.#ours = ours;
    this.transport = theirs;
    ours.on("data", (piece: Buffer) => {
      for (const frame of this.#splitter.push(piece)) this.#take(frame);
    });
  }

  static async connect(options: Partial<ConnectionOptions> = {}) {
    const daemon = new ScriptedDaemon();
    const connection = await RpcConnection.open(daemon.transport, { uri: "test:///", ...options });
    return { daemon, connection };
  }

  /** Frames of calls of one procedure received so far. */
  calls(procedure: { readonly number: number }): Frame[] {
    return this.received.filter(
      (frame) => frame.type === messageTypes.call && frame.procedure === procedure.number,
    );
  }
  streamFrames(): Frame[] {
    return this.received.filter((frame) => frame.type === messageTypes.stream);
  }

  reply<R>(call: Frame, codec: Codec<R>, value: R): void {
    this.send({ ...call, type: messageTypes.reply, status: statuses.ok }, encoded(codec, value));
  }
  fail(call: Frame, error: Partial<RemoteError>, type: number = messageTypes.reply): void {
    const whole = { code: 1, domain: 10, level: 2, int1: -1, int2: -1, ...error } as RemoteError;
    this.send({ ...call, type, status: statuses.error }, encoded(remoteError, whole));
  }
  stream(call: Frame, status: number, payload: Uint8Array = Buffer.alloc(0)): void {
    this.send({ ...call, type: messageTypes.stream, status }, payload);
  }
  send(header: Omit<Frame, "payload">, payload: Uint8Array): void {
    this.raw(encodeFrame(header, payload));
  }
  raw(bytes: Buffer): void {
    this.#ours.write(bytes);
  }
  ping(): void {
    this.#keepalive(1);
  }
  pong(): void {
    this.#keepalive(2);
  }
  hangUp(): void {
    this.#ours.end();
  }

  #keepalive(procedure: number): void {
    const type = messageTypes.message;
    const header = {
      program: programs.keepalive,
      version: 1,
      procedure,
      type,
      serial: 0,
      status: 0,
    };
    this.send(header, Buffer.alloc(0));
  }

  #take(frame: Frame): void {
    if (frame.program === programs.keepalive && frame.procedure === 1 && this.answersPings) {
      return this.pong();
    }
    if (frame.program === programs.remote && frame.type === messageTypes.call) {
      const open = {
        [remote.authList.number]: () => this.reply(frame, remote.authList.result, { types: [0] }),
        [remote.supportsFeature.number]: () =>
          this.reply(frame, remote.supportsFeature.result, { supported: true }),
        [remote.connectOpen.number]: () => this.reply(frame, remote.connectOpen.result, {}),
        [remote.connectClose.number]: () => this.reply(frame, remote.connectClose.result, {}),
      }[frame.procedure];
      if (open !== undefined) return open();
    }
    this.received.push(frame);
  }
}

export function encoded<T>(codec: Codec<T>, value: T): Buffer {
  const writer = new XdrWriter();
  codec.encode(writer, value);
  return Buffer.from(writer.bytes());
}

/** Lets everything already sent arrive. */
export async function settled(): Promise<void> {
  await sleep(5);
}
