import { problemOf, Refused } from "@drover/shepherd/api/problems";
import type { Decision, Finding } from "@drover/shepherd/model/request";
import { decisionFor, explainDenial } from "@drover/shepherd/policy/disclose";
import type { PolicyInput } from "@drover/shepherd/policy/input";
import { inputFor } from "@drover/shepherd/policy/visible";
import { expect, test } from "@jest/globals";
import { changed, exampleInput } from "../opa/vectors.ts";

/** Numbers that stand nowhere else: whoever reads 4711 or 815 has read what is not theirs. */
const input: PolicyInput = changed(exampleInput, {
  "/sites/0/hosts/0/free/memory_mib": 4711,
  "/sites/0/shares/rows/1/memory_mib": 815,
});

const finding = (more: Partial<Finding>): Finding => ({
  rule: "host_headroom",
  id: "lent",
  level: "deny",
  ok: false,
  code: "policy.denied",
  msg: "north-1 has room for 4711 of memory_mib",
  params: { room: 4711 },
  owner: "operator",
  disclose: "operator",
  fix: { memory_mib: 4711 },
  ...more,
});

const decision: Decision = {
  id: "d",
  requestId: "r",
  environmentId: "e",
  point: "plan",
  effect: "deny",
  code: "policy.denied",
  message: "capacity: There is no room for it now.",
  findings: [
    finding({}),
    finding({
      rule: "envelope",
      ok: true,
      disclose: "owner",
      msg: "within the envelope",
      params: {},
      fix: {},
    }),
  ],
  obligations: [],
  limits: { avoid: [{ machine: "rank-0", hostId: "north-4711" }], ttlMs: 5 },
  consents: [],
  input,
  decidedAtMs: 1,
};

const stack = { type: "stack", roles: ["stack"] } as const;

test("a stack reads no number of another owner, nor a hint of which rule it was", () => {
  const seen = decisionFor(stack, decision);
  expect(JSON.stringify(seen)).not.toMatch(/4711|815|host_headroom/);
  expect(seen.findings.map(({ rule, ok, msg }) => [rule, ok, msg])).toEqual([
    ["envelope", true, "within the envelope"],
    ["capacity", false, "There is no room for it now."],
  ]);
  expect(seen.limits).toEqual({ ttlMs: 5 });
});

test.each(["operator", "local-root", "approver", "security"])("%s reads all of it", (role) => {
  expect(decisionFor({ type: "operator", roles: [role] }, decision)).toBe(decision);
});

test("a guest that claims to be an operator is still a guest", () => {
  const claimed = decisionFor({ type: "guest", roles: ["operator"] }, decision);
  expect(JSON.stringify(claimed)).not.toMatch(/4711|815/);
});

test("a problem shows its reader what the reader may see", () => {
  const refused = new Refused(decision);
  const told = JSON.stringify(problemOf(refused, stack));
  expect(told).not.toMatch(/4711|815|host_headroom/);
  expect(told).toContain("There is no room for it now.");
  expect(JSON.stringify(problemOf(refused))).not.toMatch(/4711|815/);
  const operator = { type: "operator", roles: ["operator"] } as const;
  expect(JSON.stringify(problemOf(refused, operator))).toContain("4711");
});

test("what code decided without policy, or an older shepherd wrote, shows no input", () => {
  const old = { ...decision, input: { built_in: "release", hosts: 4711 } };
  expect(decisionFor(stack, old).input).toBeNull();
});

test("a denial whose reason is hidden is capacity; a site's is the site's", () => {
  const guest = { type: "guest", name: "rank-0", roles: [] } as const;
  expect(explainDenial({ subject: guest }, decision)).toMatchObject({
    rule: "capacity",
    message: "capacity: There is no room for it now.",
    nearest: {},
  });
  const site = { ...decision, findings: [finding({ owner: "site:north" })] };
  expect(explainDenial({ subject: guest }, site).message).toBe("Site north does not take it.");
});

test.each([
  ["operator", ["whole", "whole"], [2, 1], [2, 0]],
  ["site:north", ["whole", "none"], [2, 0], [2, 0]],
  ["owner:alice", ["own", "own"], [0, 0], [1, 0]],
  ["owner:bob", ["own", "own"], [0, 0], [1, 0]],
])("%s is shown its part of every site", (owner, views, hosts, shares) => {
  const { sites } = inputFor(owner, input);
  expect(sites.map(({ view }) => view)).toEqual(views);
  expect(sites.map((site) => site.hosts.length)).toEqual(hosts);
  expect(sites.map((site) => site.shares.rows.length)).toEqual(shares);
  expect(sites.map((site) => site.shares.total)).toEqual(shares);
});

test("an exemption is shown to the bundle that it excuses, and to no other", () => {
  const one = {
    id: "x",
    owner: "site:north",
    rule: "freeze",
    instance: "i",
    environments: ["ring"],
    expires_ms: 2_000_000,
    approved_by: "sam",
    ticket: "T-1",
  };
  const given = { ...input, exemptions: [one] };
  expect(inputFor("site:north", given).exemptions).toEqual([one]);
  expect(inputFor("operator", given).exemptions).toEqual([]);
});
