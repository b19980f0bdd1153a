import { findReply } from "@drover/shepherd/lab/guest-shell";
import { expect, test } from "@jest/globals";

const text = (value: string) => Buffer.from(value).toString("base64");

test.each([
  ["our answer", `id-1 0 ${text("hello\n")}\n`, { code: 0, stdout: "hello\n" }],
  ["an answer without output", "id-1 3 \n", { code: 3, stdout: "" }],
  [
    "our answer after an earlier asker's",
    `id-0 1 ${text("x")}\nid-1 0 ${text("y")}\n`,
    { code: 0, stdout: "y" },
  ],
  [
    "our answer after the rest of a cut line",
    `ZGVmid-1 0 ${text("y")}\n`,
    { code: 0, stdout: "y" },
  ],
  ["half of our answer", `id-1 0 ${text("y")}`, undefined],
  ["only another's answer", `id-2 0 ${text("y")}\n`, undefined],
])("reads %s", (_what, received, reply) => {
  expect(findReply(received, "id-1")).toEqual(reply);
});
