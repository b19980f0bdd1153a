import { remoteError } from "@drover/shepherd/libvirt/rpc/errors";
import { events } from "@drover/shepherd/libvirt/rpc/events";
import { encodeFrame, type Frame, FrameSplitter } from "@drover/shepherd/libvirt/rpc/frame";
import { everyProcedure } from "@drover/shepherd/libvirt/rpc/procedures";
import {
  type Codec,
  list,
  optional,
  string,
  struct,
  typedParameters,
  u32,
  u64,
  uuid,
} from "@drover/shepherd/libvirt/rpc/schema";
import { XdrReader, XdrWriter } from "@drover/shepherd/libvirt/rpc/xdr";
import { isFault } from "@drover/shepherd/model/fault";
import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";

const codecs: readonly { name: string; codec: Codec<unknown> }[] = [
  ...everyProcedure.flatMap((procedure) => [
    { name: `${procedure.name} arguments`, codec: procedure.args },
    { name: `${procedure.name} result`, codec: procedure.result },
  ]),
  ...Object.entries(events).map(([name, event]) => ({
    name: `event ${name}`,
    codec: event.payload as Codec<unknown>,
  })),
  { name: "error", codec: remoteError as Codec<unknown> },
];

/** Answers a codec's questions with generated values, so that every codec is its own generator. */
class GeneratingReader extends XdrReader {
  readonly #g: fc.GeneratorValue;
  constructor(g: fc.GeneratorValue) {
    super(Buffer.alloc(0));
    this.#g = g;
  }
  override u32(): number {
    return this.#g(() =>
      fc.oneof({ weight: 20, arbitrary: fc.nat(1) }, { weight: 1, arbitrary: fc.nat(0xffff_ffff) }),
    );
  }
  override i32(): number {
    return this.#g(() =>
      fc.oneof(
        { weight: 20, arbitrary: fc.integer({ min: 1, max: 7 }) },
        { weight: 1, arbitrary: fc.integer() },
      ),
    );
  }
  override u64(): bigint {
    return this.#g(() => fc.oneof(fc.bigInt({ min: 0n, max: 2n ** 53n - 1n }), fc.constant(0n)));
  }
  override i64(): bigint {
    return this.#g(() => fc.bigInt({ min: -(2n ** 53n) + 1n, max: 2n ** 53n - 1n }));
  }
  override f64(): number {
    return this.#g(() => fc.double({ noNaN: true }));
  }
  override fixed(length: number): Buffer {
    return Buffer.from(this.#g(() => fc.uint8Array({ minLength: length, maxLength: length })));
  }
  override opaque(maxBytes: number): Buffer {
    return Buffer.from(this.#g(() => fc.uint8Array({ maxLength: Math.min(maxBytes, 9) })));
  }
  override string(maxBytes: number): string {
    const written = this.#g(() =>
      fc.string({ unit: "binary", maxLength: Math.min(maxBytes / 4, 9) }),
    );
    return written.replaceAll("\0", "");
  }
  override count(maxItems: number): number {
    return this.#g(() => fc.nat(Math.min(maxItems, 3)));
  }
}

describe("every type of every call and event", () => {
  test.each(codecs)("$name survives the wire", ({ codec }) => {
    fc.assert(
      fc.property(fc.gen(), (g) => {
        const value = generated(codec, g);
        fc.pre(value !== undefined);
        const writer = new XdrWriter();
        codec.encode(writer, value);
        const reader = new XdrReader(writer.bytes());
        expect(codec.decode(reader)).toEqual(value);
        expect(reader.remainingBytes).toBe(0);
        expect(writer.bytes().length).toBeGreaterThanOrEqual(codec.minBytes);
      }),
      { numRuns: 25 },
    );
  });

  test("refuses hostile bytes with a protocol fault and nothing else, whatever they are", () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...codecs),
        fc.uint8Array({ maxLength: 200 }),
        ({ codec }, bytes) => {
          const reader = new XdrReader(bytes);
          const read = attempt(() => {
            codec.decode(reader);
            reader.end();
          });
          expect(read === undefined || isFault(read, "libvirt.protocol")).toBe(true);
        },
      ),
      { numRuns: 3_000 },
    );
  });
});

describe("counts and lengths that cannot be", () => {
  const hostile = Buffer.from("ffffffff00000000", "hex");
  test.each([
    { what: "a list of four thousand million", codec: list(u32) as Codec<unknown>, bytes: hostile },
    {
      what: "a list just over its limit",
      codec: list(u32, 1),
      bytes: Buffer.from("00000002", "hex"),
    },
    {
      what: "a list with more items than bytes",
      codec: list(u64),
      bytes: Buffer.from("0000000400000000", "hex"),
    },
    {
      what: "a list of structs with more items than bytes",
      codec: typedParameters(),
      bytes: Buffer.from("00000002".padEnd(40, "0"), "hex"),
    },
    { what: "a string of four thousand million bytes", codec: string, bytes: hostile },
    {
      what: "a string longer than what follows",
      codec: string,
      bytes: Buffer.from("0000000541424344", "hex"),
    },
    {
      what: "a padding that is not zero",
      codec: string,
      bytes: Buffer.from("0000000141424344", "hex"),
    },
    {
      what: "an optional that is neither there nor absent",
      codec: optional(u32),
      bytes: Buffer.from("0000000200000000", "hex"),
    },
    {
      what: "a typed parameter of unknown type",
      codec: typedParameters(),
      bytes: Buffer.from("00000001000000017800000000000008", "hex"),
    },
  ])("$what is refused", ({ codec, bytes }) => {
    expect(attempt(() => (codec as Codec<unknown>).decode(new XdrReader(bytes)))).toMatchObject({
      code: "libvirt.protocol",
    });
  });

  test.each([
    { what: "no UUID", write: () => uuid.encode(new XdrWriter(), "zz") },
    { what: "a string with a NUL byte", write: () => string.encode(new XdrWriter(), "a\0b") },
    { what: "a fraction as u32", write: () => u32.encode(new XdrWriter(), 1.5) },
    { what: "a negative u32", write: () => u32.encode(new XdrWriter(), -1) },
    { what: "an inexact u64", write: () => u64.encode(new XdrWriter(), 2 ** 60) },
  ])("$what is not sent", ({ write }) => {
    expect(attempt(write)).toMatchObject({ code: "libvirt.protocol" });
  });
});

describe("numbers beyond 2^53", () => {
  test("are kept exactly in typed parameters and rounded in gauges", () => {
    const most = 2n ** 64n - 1n;
    const writer = new XdrWriter();
    const parameter = { field: "limit", type: "ullong", value: most } as const;
    typedParameters().encode(writer, [parameter]);
    writer.u64(most);
    const reader = new XdrReader(writer.bytes());
    expect(typedParameters().decode(reader)).toEqual([parameter]);
    expect(u64.decode(reader)).toBe(2 ** 64);
  });
});

describe("frames", () => {
  const frames: Frame[] = Array.from({ length: 4 }, (_, serial) => ({
    program: 0x2000_8086,
    version: 1,
    procedure: 34,
    type: 1,
    serial,
    status: 0,
    payload: Buffer.alloc(serial * 7, serial),
  }));
  const bytes = Buffer.concat(frames.map((frame) => encodeFrame(frame, frame.payload)));

  test("come out whole, wherever the stream is cut in two", () => {
    for (let at = 0; at <= bytes.length; at += 1) {
      const splitter = new FrameSplitter();
      const parts = [...splitter.push(bytes.subarray(0, at)), ...splitter.push(bytes.subarray(at))];
      expect(parts).toEqual(frames);
      expect(splitter.pendingBytes).toBe(0);
    }
  });

  test("come out whole from single bytes and from any pieces", () => {
    fc.assert(
      fc.property(fc.array(fc.nat(bytes.length)), (cuts) => {
        const splitter = new FrameSplitter();
        const edges = [0, ...cuts.toSorted((a, b) => a - b), bytes.length];
        const parts = edges
          .slice(1)
          .flatMap((to, index) => splitter.push(bytes.subarray(edges[index], to)));
        expect(parts).toEqual(frames);
      }),
    );
    const splitter = new FrameSplitter();
    expect([...bytes].flatMap((byte) => splitter.push(Buffer.from([byte])))).toEqual(frames);
  });

  test("over the limit are not sent", () => {
    const header = { program: 1, version: 1, procedure: 1, type: 0, serial: 1, status: 0 };
    expect(attempt(() => encodeFrame(header, Buffer.alloc(32 * 1024 * 1024)))).toMatchObject({
      code: "libvirt.protocol",
    });
  });

  test("a struct's fields go out in the order they are written", () => {
    const writer = new XdrWriter();
    struct({ b: u32, a: u32 }).encode(writer, { a: 1, b: 2 });
    expect(writer.bytes().toString("hex")).toBe("0000000200000001");
  });
});

function generated(codec: Codec<unknown>, g: fc.GeneratorValue): unknown {
  try {
    return codec.decode(new GeneratingReader(g));
  } catch (error) {
    if (isFault(error, "libvirt.protocol")) return undefined;
    throw error;
  }
}

function attempt(work: () => unknown): unknown {
  try {
    work();
    return undefined;
  } catch (error) {
    return error;
  }
}
