import { LineCutter } from "@drover/shepherd/intake/lines";
import { expect, test } from "@jest/globals";
import fc from "fast-check";

function cutAll(cutter: LineCutter, chunks: readonly Uint8Array[]): string[] {
  return chunks.flatMap((chunk) =>
    [...cutter.push(chunk)].map((cut) =>
      cut.kind === "line" ? Buffer.from(cut.bytes).toString() : `too long: ${cut.bytes}`,
    ),
  );
}

test("lines survive any split", () => {
  fc.assert(
    fc.property(
      fc.array(fc.string({ unit: "binary", maxLength: 20 }), { maxLength: 10 }),
      fc.array(fc.integer({ min: 1, max: 15 }), { minLength: 1, maxLength: 60 }),
      (texts, sizes) => {
        const lines = texts.map((text) => text.replaceAll(/[\r\n]/g, "x")).filter((t) => t !== "");
        const whole = Buffer.from(lines.map((line) => `${line}\n`).join(""));
        const chunks: Uint8Array[] = [];
        for (let at = 0, n = 0; at < whole.length; n++) {
          const size = sizes[n % sizes.length] ?? 1;
          chunks.push(whole.subarray(at, at + size));
          at += size;
        }
        expect(cutAll(new LineCutter(), chunks)).toEqual(
          lines.map((line) => Buffer.from(line).toString()),
        );
      },
    ),
  );
});

test("a line of exactly the limit passes, one byte more is skipped, and the next one is read", () => {
  const cutter = new LineCutter(10);
  expect(cutAll(cutter, [Buffer.from("123456789\n1234567890\nnext\n")])).toEqual([
    "123456789",
    "too long: 11",
    "next",
  ]);
});

test("10 MB without a newline keeps nothing", () => {
  const cutter = new LineCutter();
  const chunk = Buffer.alloc(65_536, "x");
  const before = process.memoryUsage().arrayBuffers;
  const told: string[] = [];
  for (let n = 0; n < 160; n++) told.push(...cutAll(cutter, [Buffer.from(chunk)]));
  expect(told).toEqual([]);
  // Without skipping, 10 MB more would be held here; what the collector has not taken yet is allowed for.
  expect(cutAll(cutter, [Buffer.from("\nok\n")])).toEqual([`too long: ${160 * 65_536 + 1}`, "ok"]);
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(64 * 2 ** 20);
});

test("after a cut connection the rest of a line is not glued to the next", () => {
  const cutter = new LineCutter();
  expect(cutAll(cutter, [Buffer.from("half a li")])).toEqual([]);
  cutter.reset();
  expect(cutAll(cutter, [Buffer.from("whole\r\n\n")])).toEqual(["whole"]);
});
