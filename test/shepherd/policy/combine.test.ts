import type { Finding } from "@drover/shepherd/model/request";
import { combine, meet } from "@drover/shepherd/policy/combine";
import type { PolicyAnswer } from "@drover/shepherd/ports/policy-engine";
import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";

const effects = ["allow", "approve", "deny"] as const;

function finding(owner: string, of: Partial<Finding>): Finding {
  return {
    rule: "envelope",
    id: "i",
    code: "policy.allowed",
    level: "deny",
    ok: true,
    msg: "",
    params: {},
    owner,
    disclose: "owner",
    ...of,
  };
}

function answer(owner: string, of: Partial<PolicyAnswer>): PolicyAnswer {
  return {
    owner,
    entrypoint: "decision",
    effect: "allow",
    findings: [],
    obligations: [],
    limits: {},
    policyDigest: `p-${owner}`,
    dataDigest: `d-${owner}`,
    durationMs: 1,
    ...of,
  };
}

test.each([
  [[], "deny", "policy.absent"],
  [["allow"], "allow", "granted"],
  [["allow", "allow", "allow"], "allow", "granted"],
  [["allow", "approve"], "approve", "policy.approval_needed"],
  [["approve", "deny", "allow"], "deny", "policy.denied"],
] as const)("%j together: %s", (said, effect, code) => {
  const verdict = combine(said.map((each, index) => answer(`site:${index}`, { effect: each })));
  expect([verdict.effect, verdict.code]).toEqual([effect, code]);
});

test("each owner's verdict is named with its digests", () => {
  const verdict = combine([
    answer("operator", {}),
    answer("site:south", {
      effect: "deny",
      findings: [finding("site:south", { ok: false, code: "policy.denied", msg: "no" })],
    }),
  ]);
  expect(verdict.consents).toEqual([
    {
      owner: "operator",
      effect: "allow",
      policyDigest: "p-operator",
      dataDigest: "d-operator",
      durationMs: 1,
    },
    {
      owner: "site:south",
      effect: "deny",
      policyDigest: "p-site:south",
      dataDigest: "d-site:south",
      durationMs: 1,
    },
  ]);
});

test("limits meet at the strictest; who sets none does not care", () => {
  expect(
    meet([{}, { maxDowntimeMs: 500, ttlMs: 9 }, { maxDowntimeMs: 300 }, { maxMbps: 100 }]),
  ).toEqual({ maxDowntimeMs: 300, maxMbps: 100, ttlMs: 9 });
});

test("a place that one owner rules out is ruled out, named once", () => {
  const north = { machine: "rank-0", siteId: "north" };
  const host = { machine: "rank-0", hostId: "south-1" };
  expect(meet([{ avoid: [north, host] }, {}, { avoid: [north] }]).avoid).toEqual([host, north]);
  expect("avoid" in meet([{}, { ttlMs: 1 }])).toBe(false);
  expect(
    meet([{ forbidRungs: ["throttle"] }, { forbidRungs: ["abort", "throttle"] }, {}]).forbidRungs,
  ).toEqual(["abort", "throttle"]);
  const apart = { machines: ["rank-0", "rank-1"], per: "host", most: 1 } as const;
  expect(meet([{ apart: [apart] }, { apart: [apart] }, {}]).apart).toEqual([apart]);
  expect(meet([{ together: [apart] }, { together: [apart] }, {}]).together).toEqual([apart]);
});

const hour = 3_600_000;
test.each<[string, string, Readonly<Record<string, unknown>>, string | undefined]>([
  ["somebody is told", "notify", { to: "sue" }, undefined],
  ["hosts are asked", "verify", { within_ms: 60_000, otherwise: "release" }, undefined],
  ["a person looks at it", "review", { within_ms: hour, otherwise: "tell" }, undefined],
  ["nobody knows it", "call", { to: "sue" }, "which this shepherd does not know"],
  ["a name of every object", "toString", {}, "which this shepherd does not know"],
  ["nobody is named", "notify", {}, "must have required propert"],
  ["an empty name", "notify", { to: "" }, "to must not have fewer"],
  ["more than it knows", "notify", { to: "sue", by: "mail" }, "that it cannot read (by "],
  ["a time that is text", "verify", { within_ms: "60000", otherwise: "tell" }, "within_ms must be"],
  ["no time at all", "review", { within_ms: 0, otherwise: "tell" }, "within_ms must be >= 1000"],
  ["another end", "review", { within_ms: hour, otherwise: "kill" }, "otherwise must be equal"],
])("an obligation: %s", (_, id, params, problem) => {
  const demand = { id, params, owner: "site:south", rule: "aftercare", instance: "i" };
  const verdict = combine([
    answer("operator", {}),
    answer("site:south", { obligations: [demand], findings: [finding("site:south", {})] }),
  ]);
  if (problem === undefined) {
    expect(verdict.effect).toBe("allow");
    expect(verdict.obligations).toEqual([demand]);
    return;
  }
  expect(verdict.effect).toBe("deny");
  expect(verdict.code).toBe("obligation.unsupported");
  expect(verdict.findings[0]).toMatchObject({ rule: "obligation", id, owner: "site:south" });
  expect(verdict.findings[0]?.msg).toContain(problem);
  expect(verdict.consents.map(({ effect }) => effect)).toEqual(["allow", "deny"]);
});

test("obligations add up, each owner's own, the same one once", () => {
  const notify = (owner: string, to: string) => ({
    id: "notify",
    params: { to },
    owner,
    rule: "aftercare",
    instance: "i",
  });
  const verdict = combine([
    answer("a", { obligations: [notify("a", "sue"), notify("a", "bob"), notify("a", "sue")] }),
    answer("b", { obligations: [notify("b", "sue")] }),
  ]);
  expect(verdict.effect).toBe("allow");
  expect(verdict.obligations).toEqual([notify("a", "bob"), notify("a", "sue"), notify("b", "sue")]);
});

test("findings stand with the denials first, then approvals, warnings, audits, and what passed", () => {
  const levels = ["audit", "warn", "approve", "deny"] as const;
  const failed = levels.map((level) =>
    finding("a", { id: level, level, ok: false, code: "policy.denied" }),
  );
  const verdict = combine([
    answer("a", { effect: "deny", findings: [finding("a", { id: "passed" }), ...failed] }),
  ]);
  expect(verdict.findings.map(({ id }) => id)).toEqual([
    "deny",
    "approve",
    "warn",
    "audit",
    "passed",
  ]);
});

test("the code is the first denial's", () => {
  const verdict = combine([
    answer("a", {
      effect: "deny",
      findings: [finding("a", { ok: false, code: "policy.timeout" })],
    }),
  ]);
  expect(verdict.code).toBe("policy.timeout");
});

describe("properties", () => {
  const answers = fc.array(
    fc.record({
      effect: fc.constantFrom(...effects),
      obliged: fc.boolean(),
      maxDowntimeMs: fc.option(fc.nat(), { nil: undefined }),
    }),
    { maxLength: 6 },
  );
  const asAnswers = (
    rows: readonly {
      effect: (typeof effects)[number];
      obliged: boolean;
      maxDowntimeMs: number | undefined;
    }[],
  ) =>
    rows.map((row, index) =>
      answer(`o${index}`, {
        effect: row.effect,
        obligations: row.obliged
          ? [{ id: "tell", params: {}, owner: `o${index}`, rule: "r", instance: "i" }]
          : [],
        limits: { maxDowntimeMs: row.maxDowntimeMs },
      }),
    );
  const strictness = (effect: string) => effects.indexOf(effect as (typeof effects)[number]);

  test("one more owner never makes it laxer", () => {
    fc.assert(
      fc.property(answers, answers, (some, more) => {
        if (some.length === 0) return;
        const few = combine(asAnswers(some));
        const all = combine(asAnswers([...some, ...more]));
        expect(strictness(all.effect)).toBeGreaterThanOrEqual(strictness(few.effect));
        expect(all.limits.maxDowntimeMs ?? Number.POSITIVE_INFINITY).toBeLessThanOrEqual(
          few.limits.maxDowntimeMs ?? Number.POSITIVE_INFINITY,
        );
      }),
    );
  });

  test("the order of the owners does not matter to the verdict", () => {
    fc.assert(
      fc.property(answers, (rows) => {
        const forwards = combine(asAnswers(rows));
        const backwards = combine(asAnswers(rows).toReversed());
        expect([backwards.effect, backwards.limits, backwards.obligations]).toEqual([
          forwards.effect,
          forwards.limits,
          forwards.obligations,
        ]);
      }),
    );
  });
});
