import { assertNever } from "@drover/shepherd/model/assert-never";
import { expect, test } from "@jest/globals";

test("a value outside the union crashes with the value in the message", () => {
  expect(() => assertNever({ kind: "ghost" } as never)).toThrow(
    'unexpected value: {"kind":"ghost"}',
  );
});
