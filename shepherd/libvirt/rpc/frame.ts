/**
 * One message on the wire: length word, six header words, payload. The splitter takes the stream in whatever pieces
 * the transport delivers and gives whole frames; a length that cannot be is a protocol fault, before any allocation.
 */
import { limits, protocolFault, XdrWriter } from "#libvirt/rpc/xdr";

export const programs = { remote: 0x2000_8086, qemu: 0x2000_8087, keepalive: 0x6b65_6570 } as const;

/** call and reply, event or keepalive message, stream data, call and reply with descriptors, stream hole. */
export const messageTypes = {
  call: 0,
  reply: 1,
  message: 2,
  stream: 3,
  callWithDescriptors: 4,
  replyWithDescriptors: 5,
  streamHole: 6,
} as const;
/** more: stream data follows. */
export const statuses = { ok: 0, error: 1, more: 2 } as const;

export interface FrameHeader {
  readonly program: number;
  readonly version: number;
  readonly procedure: number;
  readonly type: number;
  /** Chosen by the caller and echoed; 0 in messages. */
  readonly serial: number;
  readonly status: number;
}
export interface Frame extends FrameHeader {
  readonly payload: Buffer;
}

/** Length word and header: the payload starts here. */
export const headerBytes = 28;

export function encodeFrame(header: FrameHeader, payload: Uint8Array): Buffer {
  const length = headerBytes + payload.length;
  if (length > limits.messageBytes) {
    throw protocolFault(`a message of ${length} bytes is over ${limits.messageBytes}`);
  }
  const writer = new XdrWriter();
  writer.u32(length);
  writer.u32(header.program);
  writer.u32(header.version);
  writer.i32(header.procedure);
  writer.u32(header.type);
  writer.u32(header.serial);
  writer.u32(header.status);
  return Buffer.concat([writer.bytes(), payload]);
}

export class FrameSplitter {
  #pieces: Buffer[] = [];
  #bytes = 0;

  /** Bytes of an unfinished frame. */
  get pendingBytes(): number {
    return this.#bytes;
  }

  /** Takes a piece, gives the frames that it completes. After a fault the stream is lost: close the connection. */
  push(piece: Buffer): Frame[] {
    this.#pieces.push(piece);
    this.#bytes += piece.length;
    const frames: Frame[] = [];
    while (this.#bytes >= 4) {
      const length = this.#peekLength();
      if (length < headerBytes) throw protocolFault(`a frame of ${length} bytes is too short`);
      if (length > limits.messageBytes) {
        throw protocolFault(`a frame of ${length} bytes is over ${limits.messageBytes}`);
      }
      if (this.#bytes < length) break;
      frames.push(parse(this.#take(length)));
    }
    return frames;
  }

  #peekLength(): number {
    const first = this.#pieces[0];
    if (first !== undefined && first.length >= 4) return first.readUInt32BE(0);
    // The length word itself is split: join once, rarely.
    this.#pieces = [Buffer.concat(this.#pieces)];
    return this.#pieces[0]?.readUInt32BE(0) ?? 0;
  }

  #take(length: number): Buffer {
    let first = this.#pieces[0] ?? Buffer.alloc(0);
    if (first.length < length) {
      first = Buffer.concat(this.#pieces);
      this.#pieces = [first];
    }
    const rest = first.subarray(length);
    if (rest.length > 0) this.#pieces[0] = rest;
    else this.#pieces.shift();
    this.#bytes -= length;
    return first.subarray(0, length);
  }
}

function parse(frame: Buffer): Frame {
  return {
    program: frame.readUInt32BE(4),
    version: frame.readUInt32BE(8),
    procedure: frame.readInt32BE(12),
    type: frame.readUInt32BE(16),
    serial: frame.readUInt32BE(20),
    status: frame.readUInt32BE(24),
    payload: frame.subarray(headerBytes),
  };
}
