/**
 * Frames as readable hex, one line a field: what the golden file holds. Reads captured bytes back from such text.
 * Only for tests; decodes and encodes with the product's schema, so a wrong schema shows as different bytes.
 */
import { remoteError } from "@drover/shepherd/libvirt/rpc/errors";
import { events } from "@drover/shepherd/libvirt/rpc/events";
import {
  type Frame,
  FrameSplitter,
  messageTypes,
  programs,
  statuses,
} from "@drover/shepherd/libvirt/rpc/frame";
import { everyProcedure } from "@drover/shepherd/libvirt/rpc/procedures";
import { type Codec, i64, struct, u32 } from "@drover/shepherd/libvirt/rpc/schema";
import { XdrReader, XdrWriter } from "@drover/shepherd/libvirt/rpc/xdr";

const hole = struct({ lengthBytes: i64, flags: u32 });
const nothing = struct({});

/** Bytes of each frame in annotated text; direction `>` is ours to the daemon. */
export function readFrames(text: string): { direction: string; bytes: Buffer }[] {
  return text
    .trim()
    .split(/\n\n+/)
    .map((block) => {
      const hex = block.replace(/#.*$/gm, "").replace(/[<>\s]/g, "");
      return { direction: block[0] ?? "", bytes: Buffer.from(hex, "hex") };
    });
}

export function frameOf(bytes: Buffer): Frame {
  const [frame, ...others] = new FrameSplitter().push(bytes);
  if (frame === undefined || others.length > 0) throw new Error("not exactly one frame");
  return frame;
}

/** The codec of a frame's payload by header alone, as connection.ts and events.ts choose it. */
export function payloadCodec(frame: Frame): { name: string; codec: Codec<unknown> } {
  if (frame.program === programs.keepalive) {
    return { name: frame.procedure === 1 ? "keepalive ping" : "keepalive pong", codec: nothing };
  }
  const procedure = everyProcedure.find(
    (row) => row.program === frame.program && row.number === frame.procedure,
  );
  const name = procedure?.name ?? "";
  if (frame.status === statuses.error) return { name: `${name} error`, codec: remoteError };
  switch (frame.type) {
    case messageTypes.call:
      return { name: `${name} call`, codec: procedure?.args ?? nothing };
    case messageTypes.reply:
      return { name: `${name} reply`, codec: procedure?.result ?? nothing };
    case messageTypes.streamHole:
      return { name: `${name} hole`, codec: hole };
    case messageTypes.stream:
      return { name: `${name} stream`, codec: rest };
    default: {
      const row = Object.entries(events).find(([, event]) => event.procedure === frame.procedure);
      return { name: `event ${row?.[0]}`, codec: (row?.[1].payload as Codec<unknown>) ?? nothing };
    }
  }
}

/** Stream data: whatever is left, unpadded. */
const rest: Codec<unknown> = {
  encode: (writer, value) => {
    for (const byte of value as Buffer) (writer as RecordingWriter).raw(byte);
  },
  decode: (reader) => {
    const words = reader.remainingBytes;
    return reader.fixed(words);
  },
  minBytes: 0,
};

/** One block of text for one frame. */
export function annotate(direction: string, bytes: Buffer): string {
  const frame = frameOf(bytes);
  const { name, codec } = payloadCodec(frame);
  const reader = new XdrReader(frame.payload);
  const value = codec.decode(reader);
  reader.end();
  const recorder = new RecordingWriter();
  codec.encode(recorder, value);
  const header = ["length", "program", "version", "procedure", "type", "serial", "status"].map(
    (field, index) => {
      const word = bytes.subarray(index * 4, index * 4 + 4);
      const number = word.readUInt32BE(0);
      const shown = field === "program" ? `0x${number.toString(16)}` : number;
      return line(word, `${field} ${shown}`);
    },
  );
  return [`${direction} # ${name}`, ...header, ...recorder.lines()].join("\n");
}

function line(bytes: Uint8Array, comment: string): string {
  const words =
    Buffer.from(bytes)
      .toString("hex")
      .match(/.{1,8}/g) ?? [];
  return `  ${words.join(" ").padEnd(17)} # ${comment}`;
}

/** Notes each primitive with its bytes. */
class RecordingWriter extends XdrWriter {
  readonly #fields: { from: number; comment: string }[] = [];
  #inside = false;
  #raw: number[] = [];

  override u32(value: number): void {
    this.#note(`u32 ${value}`, () => super.u32(value));
  }
  override i32(value: number): void {
    this.#note(`i32 ${value}`, () => super.i32(value));
  }
  override u64(value: bigint): void {
    this.#note(`u64 ${value}`, () => super.u64(value));
  }
  override i64(value: bigint): void {
    this.#note(`i64 ${value}`, () => super.i64(value));
  }
  override f64(value: number): void {
    this.#note(`double ${value}`, () => super.f64(value));
  }
  override fixed(bytes: Uint8Array): void {
    this.#note(`${bytes.length} bytes`, () => super.fixed(bytes));
  }
  override opaque(bytes: Uint8Array, maxBytes: number): void {
    this.#note(`opaque of ${bytes.length} bytes`, () => super.opaque(bytes, maxBytes));
  }
  override string(text: string, maxBytes: number): void {
    this.#note(`string ${JSON.stringify(text)}`, () => super.string(text, maxBytes));
  }
  raw(byte: number): void {
    this.#raw.push(byte);
  }
  lines(): string[] {
    const bytes = this.bytes();
    const fields = this.#fields.map((field, index) =>
      line(
        bytes.subarray(field.from, this.#fields[index + 1]?.from ?? bytes.length),
        field.comment,
      ),
    );
    if (this.#raw.length === 0) return fields;
    const data = Buffer.from(this.#raw);
    return [...fields, line(data, `data ${JSON.stringify(data.toString("latin1"))}`)];
  }
  #note(comment: string, write: () => void): void {
    if (!this.#inside) this.#fields.push({ from: this.bytes().length, comment });
    const outer = this.#inside;
    this.#inside = true;
    write();
    this.#inside = outer;
  }
}
