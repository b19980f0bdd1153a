/** Tables fit, and nothing that a guest wrote is obeyed by a terminal. */
import { clean, table } from "@drover/shepherd/cli/output";
import { expect, test } from "@jest/globals";
import fc from "fast-check";

test("a wide table is cut in its widest column", () => {
  const text = table(["NAME", "TEXT"], [["a", "x".repeat(300)]]);
  expect(text.split("\n").map((line) => line.length)).toEqual([10, 100]);
  expect(text).toContain("…");
});

test("an id is never cut, however wide its neighbours", () => {
  const id = "01a208c3-2546-7000-9e70-f016f1d83b5c";
  const text = table(["DECISION", "WHO", "WHY"], [[id, "w".repeat(40), "y".repeat(60)]]);
  expect(text).toContain(id);
  expect(text.split("\n").every((line) => line.length <= 100)).toBe(true);
});

test("no text reaches the terminal with control or direction characters", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), (text) => {
      expect(clean(text)).not.toMatch(/[\p{C}\p{Zl}\p{Zp}]/u);
    }),
  );
  expect(clean("\u001b[2J\u202e")).toBe("\\u{1b}[2J\\u{202e}");
});

test("every line of any table fits into 100 columns", () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.string(), fc.string(), fc.string()), { maxLength: 5 }),
      (rows) => {
        const lines = table(["ONE", "TWO", "THREE"], rows).split("\n");
        expect(lines.every((line) => line.length <= 100)).toBe(true);
        expect(lines).toHaveLength(rows.length + 1);
      },
    ),
  );
});
