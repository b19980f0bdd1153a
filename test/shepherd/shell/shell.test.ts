import { execFileSync } from "node:child_process";
import { commandLine, lastLines } from "@drover/shepherd/shell/shell";
import { expect, test } from "@jest/globals";
import fc from "fast-check";

test("plain words stay readable, others are quoted", () => {
  expect(commandLine(["ip", "-j", "link", "a b", "it's", "", "$(id)"])).toBe(
    String.raw`ip -j link 'a b' 'it'\''s' '' '$(id)'`,
  );
});

test("a shell hands over exactly the arguments that were written", () => {
  const argument = fc
    .string({ unit: "binary", maxLength: 20 })
    .filter((text) => !text.includes("\0") && text.isWellFormed());
  fc.assert(
    fc.property(fc.array(argument, { minLength: 1, maxLength: 5 }), (argv) => {
      const line = commandLine(["printf", "%s\\0", ...argv]);
      expect(
        execFileSync("/bin/sh", ["-c", line]).toString("utf8").split("\0").slice(0, -1),
      ).toEqual(argv);
    }),
    { numRuns: 60 },
  );
});

test("a NUL is refused", () => {
  expect(() => commandLine(["echo", "a\0b"])).toThrow(TypeError);
});

test("the end of an output is kept, not its length", () => {
  expect(lastLines("1\n2\n3\n4\n5\n6\n7\n")).toBe("3; 4; 5; 6; 7");
  expect(lastLines("x".repeat(2000))).toHaveLength(500);
});
