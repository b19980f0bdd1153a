import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { isFault } from "@drover/shepherd/model/fault";
import { findOpa } from "@drover/shepherd/opa/binary";
import { buildBundle } from "@drover/shepherd/opa/bundle";
import { absentPolicy, loadPolicy, openPolicy } from "@drover/shepherd/opa/engine";
import { Sandbox, type SandboxLimits, standardLimits } from "@drover/shepherd/opa/sandbox";
import type { PolicyInput } from "@drover/shepherd/policy/input";
import type { PolicyAnswer, PolicyEngine } from "@drover/shepherd/ports/policy-engine";
import { afterEach, expect, test } from "@jest/globals";
import { changed, exampleInput, operatorFolder } from "./vectors.ts";

const folders: string[] = [];
const engines: PolicyEngine[] = [];

afterEach(async () => {
  for (const engine of engines.splice(0)) await engine.close();
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
});

/** A bundle folder of these files; data defaults to one live instance of the rule `own`. */
function folderOf(files: Readonly<Record<string, string>>): string {
  const folder = mkdtempSync(join(tmpdir(), "drover-bundle-"));
  folders.push(folder);
  const data =
    "drover:\n  constraints:\n    own: { i: { level: deny, params: {} } }\n  exemptions: []\n";
  for (const [path, text] of Object.entries({ "data.yaml": data, ...files })) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), text);
  }
  return folder;
}

/** A rule of a site's own with this text below its head. */
function ownRule(body: string): Readonly<Record<string, string>> {
  return {
    "rules/own.rego": `# METADATA
# title: Own
# description: A rule that a site wrote
# custom:
#   disclose: owner
#   level: deny
#   params: {type: object, additionalProperties: false}
package drover.rules.own

about := rego.metadata.chain()[1].annotations

${body}
`,
  };
}

async function engineOf(
  files: Readonly<Record<string, string>>,
  limits: SandboxLimits = standardLimits,
): Promise<PolicyEngine> {
  const bundle = await buildBundle({ owner: "site:test", folder: folderOf(files) });
  const engine = await loadPolicy(bundle, limits);
  engines.push(engine);
  return engine;
}

function summary({ effect, findings }: PolicyAnswer): object {
  return { effect, findings: findings.map(({ rule, code, ok }) => ({ rule, code, ok })) };
}

function request(reason: string): PolicyInput {
  return changed(exampleInput, { "/request/reason": reason });
}

const passing = `checks.i := {"ok": true, "msg": "fine", "params": {}}`;

/** Runs for long when the request says so; grows nothing. */
const looping = `checks.i := {"ok": count([1 | spin; some a in digits; some b in digits; some c in digits; a * b * c < 0]) == 0, "msg": "looped", "params": {}}

digits := numbers.range(1, 300)

default spin := false

spin if input.request.reason == "spin"`;

test("an owner's own rule is asked, and the answer names owner and digests", async () => {
  const answer = await (await engineOf(ownRule(passing))).evaluate("decision", exampleInput);
  expect(answer).toEqual({
    owner: "site:test",
    entrypoint: "decision",
    effect: "allow",
    findings: [
      {
        rule: "own",
        id: "i",
        level: "deny",
        ok: true,
        code: "policy.allowed",
        msg: "fine",
        params: {},
        disclose: "owner",
        owner: "site:test",
        fix: undefined,
      },
    ],
    obligations: [],
    limits: { maxDowntimeMs: undefined, maxMbps: undefined, ttlMs: undefined },
    policyDigest: expect.stringMatching(/^[0-9a-f]{64}$/),
    dataDigest: expect.stringMatching(/^[0-9a-f]{64}$/),
    durationMs: expect.any(Number),
  });
});

test("the same sources give the same digest, another rule another one", async () => {
  const digests = [];
  for (const body of [passing, passing, passing.replace("fine", "good")]) {
    const { policyDigest } = await buildBundle({ owner: "a", folder: folderOf(ownRule(body)) });
    digests.push(policyDigest);
  }
  expect(digests[0]).toBe(digests[1]);
  expect(digests[0]).not.toBe(digests[2]);
});

test("input that does not fit the contract is refused, not evaluated", async () => {
  const engine = await engineOf(ownRule(passing));
  const refused = await engine.evaluate("decision", {
    ...exampleInput,
    surprise: 1,
  } as PolicyInput);
  expect(summary(refused)).toEqual({
    effect: "deny",
    findings: [{ rule: "policy", code: "policy.input_invalid", ok: false }],
  });
  expect(refused.findings[0]?.msg).toBe("must not have additional properties (surprise)");
  const misplaced = await engine.evaluate("plan_check", exampleInput);
  expect(misplaced.findings[0]?.msg).toBe("point request does not belong to plan_check");
});

test("a policy that runs away is stopped, denied as policy.timeout, and the next question is answered", async () => {
  const engine = await engineOf(ownRule(looping), {
    ...standardLimits,
    budgetMs: 60,
    wallMs: 2_000,
  });
  const begunMs = performance.now();
  expect(summary(await engine.evaluate("decision", request("spin")))).toEqual({
    effect: "deny",
    findings: [{ rule: "policy", code: "policy.timeout", ok: false }],
  });
  expect(performance.now() - begunMs).toBeLessThan(5_000);
  expect((await engine.evaluate("decision", request("calm"))).effect).toBe("allow");
});

test("the same policy within its budget is answered: it is the limit that stops it", async () => {
  const engine = await engineOf(ownRule(looping.replaceAll("300", "60")), {
    ...standardLimits,
    budgetMs: 10_000,
    wallMs: 15_000,
  });
  expect((await engine.evaluate("decision", request("spin"))).effect).toBe("allow");
});

test("the wall limit holds even when the budget would not", async () => {
  const engine = await engineOf(ownRule(looping), {
    ...standardLimits,
    budgetMs: 60_000,
    wallMs: 100,
  });
  const answer = await engine.evaluate("decision", request("spin"));
  expect(answer.findings[0]?.code).toBe("policy.timeout");
});

test("a policy that takes memory without end traps at its limit, and the next question is answered", async () => {
  const greedy = `checks.i := {"ok": count(list) > 0, "msg": "took it", "params": {}}

default list := [1]

list := numbers.range(1, 3000000) if input.request.reason == "greed"`;
  const engine = await engineOf(ownRule(greedy), {
    ...standardLimits,
    budgetMs: 15_000,
    wallMs: 15_000,
    memoryPages: { initial: 16, maximum: 64 },
  });
  const answer = await engine.evaluate("decision", request("greed"));
  expect(summary(answer)).toEqual({
    effect: "deny",
    findings: [{ rule: "policy", code: "policy.trap", ok: false }],
  });
  expect((await engine.evaluate("decision", request("calm"))).effect).toBe("allow");
});

test("a policy that contradicts itself is denied with its place, and the next question is answered", async () => {
  const torn = `checks.i := {"ok": verdict, "msg": "torn", "params": {}}

verdict := true if input.request.kind == "resize"

verdict := false if input.request.reason == "both"

verdict := true if input.request.reason != "both"`;
  const engine = await engineOf(ownRule(torn));
  const answer = await engine.evaluate("decision", request("both"));
  expect(answer.effect).toBe("deny");
  expect(answer.findings[0]?.code).toBe("policy.trap");
  expect(answer.findings[0]?.msg).toMatch(/own\.rego:\d+:\d+: .*conflict/);
  expect((await engine.evaluate("decision", request("one"))).effect).toBe("allow");
});

test.each([
  ["a text for a verdict", `checks.i := {"ok": "true", "msg": "x", "params": {}}`],
  ["no value", `checks.j := {"ok": true, "msg": "x", "params": {}}`],
  [
    "an undefined sum",
    `checks.i := {"ok": input.request.lease_ms / 0 > 1, "msg": "x", "params": {}}`,
  ],
])("%s is undecided and denies", async (_, body) => {
  const engine = await engineOf(ownRule(body));
  expect(summary(await engine.evaluate("decision", exampleInput))).toEqual({
    effect: "deny",
    findings: [{ rule: "own", code: "policy.indeterminate", ok: false }],
  });
});

test("an answer of another shape is nonsense and denies", async () => {
  const engine = await engineOf(ownRule(`checks.i := {"ok": true, "msg": 5, "params": {}}`));
  const answer = await engine.evaluate("decision", exampleInput);
  expect(answer.findings.map(({ code }) => code)).toEqual(["policy.indeterminate"]);
  expect(answer.findings[0]?.msg).toContain("findings.0.msg");
});

test("obligations and limits of a rule come out", async () => {
  const engine = await engineOf(
    ownRule(
      `checks.i := {"ok": true, "msg": "fine", "params": {}, "limits": {"ttl_ms": 5000}, "obligations": [{"id": "tell", "params": {"whom": "sue"}}]}`,
    ),
  );
  const answer = await engine.evaluate("decision", exampleInput);
  expect(answer.obligations).toEqual([
    { id: "tell", params: { whom: "sue" }, owner: "site:test", rule: "own", instance: "i" },
  ]);
  expect(answer.limits.ttlMs).toBe(5_000);
});

test("more questions than may wait are denied at once, the others answered in turn", async () => {
  const engine = await engineOf(ownRule(passing), { ...standardLimits, queued: 3 });
  const answers = await Promise.all(
    Array.from({ length: 5 }, () => engine.evaluate("decision", exampleInput)),
  );
  expect(answers.map(({ effect, findings }) => [effect, findings[0]?.code])).toEqual([
    ["allow", "policy.allowed"],
    ["allow", "policy.allowed"],
    ["allow", "policy.allowed"],
    ["deny", "policy.overloaded"],
    ["deny", "policy.overloaded"],
  ]);
});

test("those who wait behind a trap and a timeout are answered by a warm worker", async () => {
  const torn = `checks.i := {"ok": verdict, "msg": "torn", "params": {}}

verdict := true if input.request.kind == "resize"

verdict := false if input.request.reason == "both"

${looping.split("\n").slice(2).join("\n")}

spun if count([1 | spin; some a in digits; some b in digits; some c in digits; a * b * c < 0]) > 0

verdict := true if spun`;
  const engine = await engineOf(ownRule(torn), { ...standardLimits, budgetMs: 60 });
  const asked = ["one", "both", "two", "spin", "three", "four", "five"];
  const answers = await Promise.all(
    asked.map((reason) => engine.evaluate("decision", request(reason))),
  );
  expect(answers.map(({ findings }) => findings[0]?.code)).toEqual([
    "policy.allowed",
    "policy.trap",
    "policy.allowed",
    "policy.timeout",
    "policy.allowed",
    "policy.allowed",
    "policy.allowed",
  ]);
});

test("a question that is no verdict gets the policy's own words, and one it does not know has none", async () => {
  const engine = await engineOf(ownRule(passing));
  expect(await engine.query("mask", {})).toMatchObject({ kind: expect.any(String) });
  await engine.close();
  expect(await engine.query("roles", {})).toEqual({
    kind: "undecided",
    code: "policy.trap",
    problem: "the engine is closed",
  });
});

test("a closed engine denies", async () => {
  const engine = await engineOf(ownRule(passing));
  await engine.close();
  expect((await engine.evaluate("decision", exampleInput)).effect).toBe("deny");
});

test("an owner without a policy denies everything and says why", async () => {
  const engine = absentPolicy("site:south", new Error("the folder is gone"));
  const answer = await engine.evaluate("decision", exampleInput);
  expect(answer.effect).toBe("deny");
  expect(answer.findings[0]).toMatchObject({
    code: "policy.absent",
    msg: "no policy of site:south is loaded: internal: the folder is gone",
  });
});

/** The problem that opening this bundle is refused with. */
async function refusalOf(files: Readonly<Record<string, string>>): Promise<string> {
  try {
    engines.push(await openPolicy({ owner: "site:test", folder: folderOf(files) }));
  } catch (error) {
    if (isFault(error)) return `${error.code}: ${error.details["problem"]}`;
    throw error;
  }
  return "accepted";
}

test.each([
  [
    "a syntax error",
    ownRule("checks.i := {"),
    /^policy\.source_invalid: .*\nrules\/own\.rego:13: rego_parse_error/s,
  ],
  [
    "an unknown field of the input",
    ownRule(`checks.i := {"ok": input.request.wishes, "msg": "x", "params": {}}`),
    /^policy\.source_invalid: [^\n]* rules\/own\.rego:12: rego_type_error: undefined ref: input\.request\.wishes/s,
  ],
  [
    "a clock",
    ownRule(`checks.i := {"ok": time.now_ns() > 0, "msg": "x", "params": {}}`),
    /^policy\.source_invalid: rules\/own\.rego:12: time\.now_ns is no built-in .* input\.now_ms/,
  ],
  [
    "sprintf",
    ownRule(`checks.i := {"ok": true, "msg": sprintf("%d", [1]), "params": {}}`),
    /^policy\.source_invalid: rules\/own\.rego:12: sprintf is no built-in .* template string/,
  ],
  [
    "the network",
    ownRule(`checks.i := {"ok": http.send({}).status == 200, "msg": "x", "params": {}}`),
    /^policy\.source_invalid: rules\/own\.rego:12: http\.send is no built-in/,
  ],
  [
    "an inline not over a dynamic path",
    ownRule(
      `checks.i := {"ok": true, "msg": "x", "params": {}} if {\n\tsome n in ["freeze"]\n\tnot data.drover.rules[n].checks\n}`,
    ),
    /^policy\.source_invalid: rules\/own\.rego:14: inline `not`/,
  ],
  [
    "a package that is ours",
    { "rules/own.rego": "package drover.rules.envelope\n\nchecks := {}\n" },
    /^policy\.source_invalid: rules\/own\.rego:1: drover\.rules\.envelope is a rule of drover's own/,
  ],
  [
    "the combination itself",
    { "rules/own.rego": 'package drover.main\n\neffect := "allow"\n' },
    /^policy\.source_invalid: rules\/own\.rego:1: an owner's rule is a package drover\.rules\.<name>, this is "drover\.main"/,
  ],
  [
    "a rule that is not there",
    {},
    /^policy\.data_invalid: data\.yaml:3: own: no such rule; there are adaptation_mode, affinity/,
  ],
  [
    "parameters that do not fit",
    {
      ...ownRule(passing),
      "data.yaml":
        "drover: {constraints: {own: {i: {level: deny, params: {x: 1}}}}, exemptions: []}",
    },
    /^policy\.data_invalid: data\.yaml:1: own\.i\.params: must not have additional properties \(x\)/,
  ],
  [
    "an unknown level",
    {
      ...ownRule(passing),
      "data.yaml": "drover: {constraints: {own: {i: {level: loud, params: {}}}}, exemptions: []}",
    },
    /^policy\.data_invalid: data\.yaml:1: drover\.constraints\.own\.i\.level: must be equal to one of/,
  ],
  [
    "a match that matches nothing",
    {
      ...ownRule(passing),
      "data.yaml":
        "drover: {constraints: {own: {i: {level: deny, params: {}, match: {kinds: []}}}}, exemptions: []}",
    },
    /^policy\.data_invalid: .*kinds: must not have fewer than 1 items/,
  ],
  [
    "an exemption without expiry",
    {
      ...ownRule(passing),
      "data.yaml":
        "drover: {constraints: {own: {i: {level: deny, params: {}}}}, exemptions: [{id: x, rule: own, instance: i, environments: [ring], approved_by: sam, ticket: T-1}]}",
    },
    /^policy\.data_invalid: .*exemption x has no expires_ms; add expires_ms: when it ends/,
  ],
  [
    "no constraints at all",
    { ...ownRule(passing), "data.yaml": "drover: {constraints: {}, exemptions: []}" },
    /^policy\.data_invalid: .*constraints: must not have fewer than 1 properties/,
  ],
  [
    "a key twice",
    { ...ownRule(passing), "data.yaml": "drover:\n  exemptions: []\n  exemptions: []\n" },
    /^policy\.data_invalid: .*data\.yaml:3: Map keys must be unique/,
  ],
])("refused where it enters: %s", async (_, files, problem) => {
  expect(await refusalOf(files)).toMatch(problem);
});

test("a folder without data is refused", async () => {
  const opening = openPolicy({ owner: "site:test", folder: "/nowhere" });
  await expect(opening).rejects.toMatchObject({ code: "policy.data_invalid" });
});

/** A module compiled past our checks. */
async function compiledPast(rego: string, entrypoint: string): Promise<Uint8Array<ArrayBuffer>> {
  const folder = folderOf({ "m.rego": rego });
  const { path } = await findOpa();
  execFileSync(path, ["build", "-t", "wasm", "-e", entrypoint, "-o", "b.tar.gz", "m.rego"], {
    cwd: folder,
  });
  execFileSync("tar", ["xzf", "b.tar.gz", "/policy.wasm"], { cwd: folder });
  return new Uint8Array(readFileSync(join(folder, "policy.wasm")));
}

test("a module that wants a clock of its host is refused when it is loaded", async () => {
  const wasm = await compiledPast(
    "package drover.main\n\nself := time.now_ns()\n",
    "drover/main/self",
  );
  const sandbox = new Sandbox({ wasm, data: {}, entrypoints: ["drover/main/self"] });
  expect(await sandbox.open()).toMatchObject({
    kind: "trap",
    problem: "built-ins are not offered: time.now_ns",
  });
  await sandbox.close();
});

test("a module without our entrypoints is refused when it is loaded", async () => {
  const wasm = await compiledPast("package drover.main\n\nself := 1\n", "drover/main/self");
  const bundle = await buildBundle({ owner: "operator", folder: operatorFolder });
  await expect(loadPolicy({ ...bundle, wasm })).rejects.toMatchObject({
    code: "policy.bundle_invalid",
    details: { problem: "entrypoint drover/main/decision is missing" },
  });
});

test("what is no module is refused when it is loaded", async () => {
  const bundle = await buildBundle({ owner: "operator", folder: operatorFolder });
  const wasm = new Uint8Array([1, 2, 3]);
  await expect(loadPolicy({ ...bundle, wasm })).rejects.toMatchObject({
    code: "policy.bundle_invalid",
  });
});
