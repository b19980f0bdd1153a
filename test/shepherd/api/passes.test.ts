/** Passes end by themselves, open what they are for and nothing else, and are bounded. */
import { Passes } from "@drover/shepherd/api/passes";
import { isFault } from "@drover/shepherd/model/fault";
import { expect, test } from "@jest/globals";

function staged() {
  let nowMs = 1_000;
  let count = 0;
  const never = () => {
    throw new Error("nobody waits here");
  };
  const passes = new Passes({
    clock: { nowMs: () => nowMs, sleep: never, at: never },
    ids: { next: () => `pass-${++count}` },
  });
  const issue = (kind: "console" | "guest" = "console", by = "alice") =>
    passes.issue({ kind, machineId: "m", by, methods: ["status"], lastsMs: 60_000 });
  return {
    passes,
    issue,
    pass: (ms: number) => {
      nowMs += ms;
    },
  };
}
const codeOf = (work: () => unknown): string => {
  try {
    work();
    return "nothing";
  } catch (error) {
    return isFault(error) ? error.code : String(error);
  }
};

test("a console's opens once, a guest's as often as it likes, neither the other's door", () => {
  const { passes, issue } = staged();
  const [console, guest] = [issue("console").secret, issue("guest").secret];
  expect(codeOf(() => passes.show("guest", console))).toBe("pass.unknown");
  expect(passes.show("console", console)).toMatchObject({ machineId: "m" });
  expect(codeOf(() => passes.show("console", console))).toBe("pass.unknown");
  expect(passes.show("guest", guest)).toEqual(passes.show("guest", guest));
});

test("it is over after its time, unless who got it renewed it", () => {
  const { passes, issue, pass } = staged();
  const [kept, left] = [issue(), issue()];
  pass(59_999);
  expect(codeOf(() => passes.renew(kept.pass.id, "mallory"))).toBe("pass.unknown");
  expect(passes.renew(kept.pass.id, "alice")).toMatchObject({ expiresAtMs: 120_999 });
  pass(1);
  expect(codeOf(() => passes.show("console", left.secret))).toBe("pass.unknown");
  expect(passes.show("console", kept.secret)).toMatchObject({ id: kept.pass.id });
});

test("who got it ends it, nobody else does", () => {
  const { passes, issue } = staged();
  const { pass, secret } = issue();
  passes.end(pass.id, "mallory");
  expect(passes.renew(pass.id, "alice")).toMatchObject({ id: pass.id });
  passes.end(pass.id, "alice");
  expect(codeOf(() => passes.show("console", secret))).toBe("pass.unknown");
});

test("a thousand are out at most; those that are over make room", () => {
  const { issue, pass } = staged();
  for (let n = 0; n < 1_000; n += 1) issue();
  expect(codeOf(() => issue())).toBe("pass.too_many");
  pass(60_000);
  expect(issue().pass.id).toBe("pass-1001");
});
