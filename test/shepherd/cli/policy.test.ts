/**
 * A security engineer's day, by the `drover` command alone: a repository, its tests, a bundle, a shepherd that runs it,
 * a change that is tried, stopped, overridden and rolled back.
 */
import { generateKeyPairSync } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { ActivationView, PolicyView, TrialView } from "@drover/shepherd/api/contract-policies";
import { runCommand } from "@drover/shepherd/cli/main";
import { afterAll, beforeAll, describe, expect, jest, test } from "@jest/globals";
import { declareRing, need, type Running, run } from "../api/shepherd.ts";

/** Compilers and workers on a busy machine. */
jest.setTimeout(180_000);

const folder = mkdtempSync(join(tmpdir(), "drover-policy-cli-"));
const project = join(folder, "north-policy");
const published = join(folder, "published");
afterAll(() => rmSync(folder, { recursive: true }));

async function drover(...argv: string[]): Promise<{ code: number; out: string; err: string }> {
  let [out, err] = ["", ""];
  const code = await runCommand(argv, {
    out: (text) => {
      out += text;
    },
    err: (text) => {
      err += text;
    },
  });
  return { code, out, err };
}

/** Replaces text of a file of the project; fails when it is not there. */
function edit(name: string, from: string, to: string): void {
  const text = readFileSync(join(project, name), "utf8");
  if (!text.includes(from)) throw new Error(`${name} does not say ${from}`);
  writeFileSync(join(project, name), text.replace(from, to));
}

async function publish(): Promise<{ code: number; out: string; err: string }> {
  const key = join(folder, "north.pem");
  return await drover(
    "policy",
    "publish",
    project,
    "--to",
    published,
    "--key",
    key,
    "--key-id",
    "north",
  );
}

beforeAll(async () => {
  const { privateKey, publicKey } = generateKeyPairSync("ed25519");
  writeFileSync(
    join(folder, "north.pem"),
    privateKey.export({ type: "pkcs8", format: "pem" }).toString(),
  );
  writeFileSync(
    join(folder, "north.pub"),
    publicKey.export({ type: "spki", format: "pem" }).toString(),
  );
});

describe("a repository of one's own", () => {
  test("is made once, passes its tests, and its bundle is published", async () => {
    const made = await drover("policy", "init", project, "--owner", "site:north", "--ci", "gitlab");
    expect(made).toMatchObject({ code: 0, err: "" });
    expect(made.out).toContain(".gitlab-ci.yml");
    expect((await drover("policy", "init", project, "--owner", "site:north")).code).toBe(1);

    const tested = await drover("policy", "test", project, "--json");
    expect(tested.code).toBe(0);
    const { checks } = JSON.parse(tested.out) as { checks: { check: string; ok: boolean }[] };
    expect(checks.map(({ check, ok }) => [check, ok])).toEqual([
      ["format", true],
      ["compile", true],
      ["load", true],
      ["tests", true],
      ["coverage", true],
      ["vectors", true],
    ]);
    expect(await publish()).toMatchObject({ code: 0, out: expect.stringContaining("is at") });
  });

  test.each<[string, string, string, string, RegExp]>([
    [
      "format",
      "rules/largest_machine.rego",
      "limit := constraint",
      "limit :=  constraint",
      /largest_machine\.rego: not formatted/,
    ],
    [
      "a field that does not exist",
      "rules/largest_machine.rego",
      "machine.proposed.memory_mib > limit",
      "machine.proposed.memory_mb > limit",
      /rules\/largest_machine\.rego:\d+: .*undefined ref/,
    ],
    [
      "a test that fails",
      "rules/largest_machine.rego",
      "machine.proposed.memory_mib > limit",
      "machine.proposed.memory_mib >= limit",
      /largest_machine_test\.rego:\d+: test_exactly_the_limit_is_allowed failed/,
    ],
    [
      "parameters that do not fit",
      "data.yaml",
      "max_memory_mib: 4096",
      "max_memory_mib: lots",
      /largest_machine\.four-gib\.params: max_memory_mib: must be integer/,
    ],
    [
      "a rule that contradicts itself",
      "rules/largest_machine.rego",
      "if count(larger) > 0",
      "if count(larger) >= 0",
      /rules\/largest_machine\.rego:\d+: largest_machine\/four-gib gives no verdict by itself: .* conflict; let one head/,
    ],
    [
      "a vector that does not hold",
      "tests/vectors.json",
      '"effect": "deny"',
      '"effect": "allow"',
      /beyond the limit is denied: effect: expected "allow", got "deny"/,
    ],
    [
      "a rule that contradicts itself on one of the vectors alone",
      "rules/largest_machine.rego",
      "if count(larger) == 0\n",
      "if count(larger) >= 0\n",
      /^rules\/largest_machine\.rego:\d+: .*must not produce multiple outputs/m,
    ],
    [
      "lines that no test reaches",
      "rules/largest_machine_test.rego",
      "test_beyond_the_limit",
      "todo_beyond_the_limit",
      /largest_machine\.rego:\d+: no test reaches this/,
    ],
  ])("is told of %s, with its place", async (_, name, from, to, told) => {
    const before = readFileSync(join(project, name), "utf8");
    edit(name, from, to);
    try {
      const { code, out } = await drover("policy", "test", project);
      expect(out).toMatch(told);
      expect(code).toBe(1);
    } finally {
      writeFileSync(join(project, name), before);
    }
  });
});

test("what fails its tests is not published", async () => {
  edit("rules/largest_machine_test.rego", "check.ok == false", "check.ok == true");
  expect(await publish()).toMatchObject({
    code: 1,
    err: expect.stringContaining("policy.test_failed"),
  });
  edit("rules/largest_machine_test.rego", "check.ok == true", "check.ok == false");
});

describe("with a shepherd that runs it", () => {
  let running: Running;
  let security: string[];

  beforeAll(async () => {
    running = await run(`listen: "127.0.0.1:0"
policies:
  max_flips: 0
  bundles:
    "site:north":
      source: ${published}
      keys: [{ id: north, algorithm: EdDSA, file: ${join(folder, "north.pub")} }]`);
    await declareRing(running, 2);
    for (const [size, name] of [
      [320, "rank-0"],
      [300, "rank-1"],
    ]) {
      const asked = await drover(
        "resize",
        `ring/${name}`,
        "--memory-mib",
        String(size),
        "--endpoint",
        running.endpoint,
      );
      expect(asked).toMatchObject({ code: 0 });
    }
    const made = await drover(
      "token",
      "create",
      "--name",
      "sue",
      "--role",
      "security",
      "--json",
      "--endpoint",
      running.endpoint,
    );
    const { token } = JSON.parse(made.out) as { token: string };
    security = ["--endpoint", need(running.shepherd.listening), "--token", token];
  });
  afterAll(async () => running.end());

  const local = (): string[] => ["--endpoint", running.endpoint];
  const statusOfNorth = async (): Promise<PolicyView> => {
    const { out } = await drover("policy", "list", "--json", ...local());
    const views = JSON.parse(out) as PolicyView[];
    return need(views.find(({ owner }) => owner === "site:north"));
  };

  test("it is in force from the start, beside the folders of the others", async () => {
    const { code, out } = await drover("policy", "list", ...local());
    expect(code).toBe(0);
    expect(out).toMatch(/operator +[0-9a-f]{12}/);
    expect(await statusOfNorth()).toMatchObject({
      activation: "manual",
      active: { n: 1, by: "start" },
      problem: null,
    });
    const rules = await drover("policy", "catalogue", "site:north", ...local());
    expect(rules.out).toMatch(/largest_machine +Largest machine +owner +four-gib: audit/);
  });

  test("a change is tried on what was decided, and tells whom it would have hit", async () => {
    edit("data.yaml", "level: audit", "level: deny");
    edit("data.yaml", "max_memory_mib: 4096", "max_memory_mib: 310");
    const { code, out, err } = await drover("policy", "try", project, ...local());
    expect(err).toMatch(/^\d+ of at most \d+ decisions, \d+ flips, \d+\/s$/m);
    expect(out).toMatch(/flip/);
    expect(out).toMatch(/largest_machine +\d+ +0 +0/);
    expect(out).toMatch(/operator local-root +allow > deny +rank-0 would/);
    expect(code).toBe(0);
    const limited = await drover(
      "policy",
      "try",
      project,
      "--max-flips",
      "0",
      "--json",
      ...security,
    );
    expect(limited.code).toBe(3);
    const { report } = JSON.parse(limited.out) as TrialView;
    // the request and the plan of one resize
    expect(report).toMatchObject({ flips: 2, outcomes: 2, unfit: 0, undecided: 0 });
    expect((await statusOfNorth()).active?.n).toBe(1);
  });

  test("a shadow hears live requests and changes nothing", async () => {
    expect((await drover("policy", "try", project, "--shadow", "1h", ...local())).code).toBe(0);
    const asked = await drover("resize", "ring/rank-1", "--memory-mib", "330", ...local());
    expect(asked.code).toBe(0);
    while (((await statusOfNorth()).shadow?.report.replayed ?? 0) < 2)
      await new Promise((resolve) => setTimeout(resolve, 20));
    const ended = await drover("policy", "try", project, "--end-shadow", ...local());
    expect(ended.out).toMatch(/2 of 2 decisions would flip/);
  });

  test("the flip limit stops it; only a named person passes it, and it is in the log", async () => {
    expect((await publish()).code).toBe(0);
    const stopped = await drover("policy", "activate", "site:north", ...security);
    expect(stopped.code).toBe(3);
    expect(stopped.err).toContain("policy.flips");
    expect(stopped.out).toMatch(/largest_machine +\d+ +0 +0/);

    const reason = "310 MiB is what the site has";
    const unnamed = await drover(
      "policy",
      "activate",
      "site:north",
      "--override",
      reason,
      ...local(),
    );
    expect(unnamed).toMatchObject({
      code: 3,
      err: expect.stringContaining("policy.override_unnamed"),
    });

    const passed = await drover(
      "policy",
      "activate",
      "site:north",
      "--override",
      reason,
      "--json",
      ...security,
    );
    expect(passed.code).toBe(0);
    expect(JSON.parse(passed.out) as ActivationView).toMatchObject({
      overridden: true,
      generation: { n: 2, by: "sue", reason },
    });
    const denied = await drover("resize", "ring/rank-0", "--memory-mib", "340", ...local());
    expect(denied).toMatchObject({ code: 3, out: expect.stringContaining("memory_mib = 310") });
  });

  test("rolled back, the old answers come again; every recorded answer can be repeated", async () => {
    const back = await drover(
      "policy",
      "rollback",
      "site:north",
      "--reason",
      "too tight",
      ...local(),
    );
    expect(back).toMatchObject({ code: 0, out: expect.stringContaining("generation 3") });
    const asked = await drover("resize", "ring/rank-0", "--memory-mib", "340", ...local());
    expect(asked.code).toBe(0);
    const replayed = await drover("policy", "replay", ...local());
    expect(replayed.out).toMatch(/^\d+ answers repeated, 0 differ, 0 by/);
    expect(replayed.code).toBe(0);
  });

  test("a stack sees its own owner's policy and no other", async () => {
    const made = await drover(
      "token",
      "create",
      "--name",
      "alice",
      "--role",
      "stack",
      "--json",
      ...local(),
    );
    const { token } = JSON.parse(made.out) as { token: string };
    const as = ["--endpoint", need(running.shepherd.listening), "--token", token];
    expect(await drover("policy", "list", "--json", ...as)).toMatchObject({ out: "[]\n" });
    const asked = await drover("policy", "catalogue", "operator", ...as);
    expect(asked).toMatchObject({ code: 1, err: expect.stringContaining("object.unknown") });
    expect((await drover("policy", "replay", ...as)).err).toContain("access.denied");
  });

  test.each([
    ["a reader", "reader", 3],
    ["an operator", "operator", 3],
  ])("%s may not roll out", async (_, role, exit) => {
    const made = await drover(
      "token",
      "create",
      "--name",
      `t-${role}`,
      "--role",
      role,
      "--json",
      ...local(),
    );
    const { token } = JSON.parse(made.out) as { token: string };
    const as = ["--endpoint", need(running.shepherd.listening), "--token", token];
    const asked = await drover("policy", "rollback", "site:north", "--reason", "x", ...as);
    expect(asked).toMatchObject({ code: exit, err: expect.stringContaining("access.denied") });
  });
});
