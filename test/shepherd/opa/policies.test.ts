import { generateKeyPairSync } from "node:crypto";
import { once } from "node:events";
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { withEvidence } from "@drover/shepherd/evidence/evidence";
import type { Decision } from "@drover/shepherd/model/request";
import { packBundle } from "@drover/shepherd/opa/archive";
import { buildBundle } from "@drover/shepherd/opa/bundle";
import { openGenerations } from "@drover/shepherd/opa/generations";
import {
  openPolicies,
  type Policies,
  type PoliciesOptions,
  type PolicySource,
} from "@drover/shepherd/opa/policies";
import { combine } from "@drover/shepherd/policy/combine";
import type { PolicyInput } from "@drover/shepherd/policy/input";
import { inputFor } from "@drover/shepherd/policy/visible";
import type { Store } from "@drover/shepherd/ports/store";
import { createVirtualClock } from "@drover/shepherd/simulated/clock";
import { openSqliteStore } from "@drover/shepherd/store/sqlite";
import { afterEach, beforeEach, describe, expect, jest, test } from "@jest/globals";
import pino from "pino";
import { changed, exampleInput } from "./vectors.ts";

/** Compilers and workers on a busy machine. */
jest.setTimeout(180_000);

const owner = "site:north";
const { privateKey, publicKey } = generateKeyPairSync("ed25519");
const key = {
  id: "north-2026",
  algorithm: "EdDSA" as const,
  privateKey: String(privateKey.export({ type: "pkcs8", format: "pem" })),
};
const trusted = {
  id: key.id,
  algorithm: key.algorithm,
  publicKey: String(publicKey.export({ type: "spki", format: "pem" })),
};

let root: string;
let store: Store;
const clock = createVirtualClock(1_000_000);
const cleanups: (() => Promise<unknown> | void)[] = [];

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "drover-policies-"));
  store = withEvidence(openSqliteStore(":memory:"));
});
afterEach(async () => {
  for (const clean of cleanups.splice(0).toReversed()) await clean();
  await store.close();
  rmSync(root, { recursive: true });
});

/** A site's folder with one rule of its own: no request for this reason. */
function folderFor(word: string, rule = plainRule): string {
  const folder = mkdtempSync(join(root, "sources-"));
  mkdirSync(join(folder, "rules"));
  writeFileSync(join(folder, "rules/no_word.rego"), rule);
  writeFileSync(
    join(folder, "data.yaml"),
    `drover:\n  constraints:\n    no_word: { here: { level: deny, params: { word: ${word} } } }\n  exemptions: []\n`,
  );
  return folder;
}

const ruleHead = `# METADATA
# title: No word
# description: Requests for one reason are refused
# custom:
#   disclose: owner
#   level: deny
#   params: {type: object, additionalProperties: false, required: [word], properties: {word: {type: string}}}
package drover.rules.no_word

about := rego.metadata.chain()[1].annotations
`;
const plainRule = `${ruleHead}
checks[id] := {"ok": input.request.reason != constraint.params.word, "msg": $"not for {constraint.params.word}", "params": {}} if {
	some id, constraint in data.drover.constraints.no_word
}
`;

async function packed(word: string, rule?: string): Promise<Uint8Array> {
  return packBundle(await buildBundle({ owner, folder: folderFor(word, rule) }), key);
}

/** Where the owner publishes. */
async function publish(word: string, rule?: string): Promise<void> {
  mkdirSync(join(root, "published"), { recursive: true });
  writeFileSync(join(root, "published/bundle.tar.gz"), await packed(word, rule));
}

function bundleSource(more: Partial<PolicySource & { kind: "bundle" }> = {}): PolicySource {
  return {
    kind: "bundle",
    source: join(root, "published"),
    keys: [trusted],
    activation: "manual",
    pollMs: 5_000,
    ...more,
  };
}

async function open(source: PolicySource, more: Partial<PoliciesOptions> = {}): Promise<Policies> {
  let lastId = 0;
  const policies = await openPolicies({
    sources: new Map([[owner, source]]),
    generations: openGenerations(join(root, "state")),
    limits: { replayLast: 100, maxFlips: 2 },
    store,
    clock,
    ids: { next: () => `trial-${(lastId += 1)}` },
    log: pino({ level: "silent" }),
    ...more,
  });
  cleanups.push(() => policies.stop());
  return policies;
}

function asking(reason: string): PolicyInput {
  return changed(exampleInput, { "/request/reason": reason });
}

async function effectNow(policies: Policies, reason: string): Promise<string | undefined> {
  return (await policies.engines.get(owner)?.evaluate("decision", asking(reason)))?.effect;
}

/** Asks the engine and journals what it said, as the gate does. */
async function decide(policies: Policies, reasons: readonly string[]): Promise<void> {
  for (const [index, reason] of reasons.entries()) {
    const input = asking(reason);
    const answer = await policies.engines.get(owner)?.evaluate("decision", inputFor(owner, input));
    if (answer === undefined) throw new Error("no engine");
    const verdict = combine([answer]);
    const decision: Decision = {
      id: `d-${clock.nowMs()}-${index}`,
      requestId: `r-${index}`,
      environmentId: "ring",
      point: "request",
      effect: verdict.effect,
      code: verdict.code,
      message: "",
      findings: verdict.findings,
      obligations: verdict.obligations,
      limits: verdict.limits,
      consents: verdict.consents,
      input,
      decidedAtMs: clock.nowMs(),
    };
    await store.transaction((journal) => journal.decisions.add(decision));
  }
}

const events = async (): Promise<readonly { kind: string; data: object }[]> =>
  (await store.read((journal) => journal.events.since(0, 1_000))).map(({ kind, data }) => ({
    kind,
    data,
  }));

describe("a published bundle", () => {
  test("is in force from the first start on, and found again after a restart without its source", async () => {
    await publish("mining");
    const policies = await open(bundleSource());
    expect(await effectNow(policies, "mining")).toBe("deny");
    expect(await effectNow(policies, "science")).toBe("allow");
    const { active } = await policies.state(owner);
    expect(active).toMatchObject({ n: 1, by: "start" });

    rmSync(join(root, "published"), { recursive: true });
    const again = await open(bundleSource());
    expect(await effectNow(again, "mining")).toBe("deny");
  });

  test("waits for somebody to activate it, is told with every step, and the answers change with it", async () => {
    await publish("mining");
    const policies = await open(bundleSource());
    policies.start();
    await publish("gambling");
    await later(async () => (await policies.state(owner)).staged !== undefined);
    expect(await effectNow(policies, "gambling")).toBe("allow");

    const report = await policies.activate(owner, { by: "sue" });
    expect(report.steps.map(({ step }) => step)).toEqual([
      "signature",
      "sources",
      "load",
      "vectors",
      "replay",
    ]);
    expect(await effectNow(policies, "gambling")).toBe("deny");
    expect(await effectNow(policies, "mining")).toBe("allow");
    expect((await policies.state(owner)).staged).toBeUndefined();
    const told = (await events()).filter(({ kind }) => kind === "policy.activated");
    expect(told.map(({ data }) => data)).toMatchObject([
      { owner, by: "start", generation: 1 },
      { owner, by: "sue", generation: 2, overridden: false },
    ]);
  });

  test("is activated by itself when its owner said so, and what was rolled back stays out", async () => {
    await publish("mining");
    const policies = await open(bundleSource({ activation: "automatic" }));
    policies.start();
    await publish("gambling");
    await later(async () => (await policies.state(owner)).active?.n === 2);
    await policies.rollback(owner, { by: "sue", reason: "it hurt" });
    expect(await effectNow(policies, "gambling")).toBe("allow");
    // the source still has it; a restart must not bring it back either
    const again = await open(bundleSource({ activation: "automatic" }));
    again.start();
    await later(async () => (await again.state(owner)).staged !== undefined);
    expect(await effectNow(again, "gambling")).toBe("allow");
    expect((await again.state(owner)).active).toMatchObject({
      n: 3,
      reason: "back to generation 1: it hurt",
    });
  });

  test("comes over HTTP, asked with the ETag of what is known", async () => {
    const asked: (string | undefined)[] = [];
    let body = await packed("mining");
    let etag = '"1"';
    const server: Server = createServer((request, response) => {
      asked.push(request.headers["if-none-match"]);
      if (request.headers.authorization !== "Bearer sesame") response.writeHead(401).end();
      else if (request.headers["if-none-match"] === etag) response.writeHead(304).end();
      else response.writeHead(200, { etag }).end(body);
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    cleanups.push(() => new Promise((resolve) => server.close(resolve)));
    writeFileSync(join(root, "token"), "sesame\n");
    const { port } = server.address() as AddressInfo;
    const source = bundleSource({
      source: `http://127.0.0.1:${port}/north.tar.gz`,
      activation: "automatic",
      tokenFile: join(root, "token"),
    });
    const policies = await open(source);
    policies.start();
    await until(() => asked.length === 2);
    body = await packed("gambling");
    etag = '"2"';
    await later(async () => (await policies.state(owner)).active?.n === 2);
    expect(asked.slice(0, 3)).toEqual([undefined, '"1"', '"1"']);
    expect(await effectNow(policies, "gambling")).toBe("deny");
  });

  test.each<[string, () => Promise<Uint8Array>, string, RegExp]>([
    [
      "unsigned",
      async () => packBundle(await buildBundle({ owner, folder: folderFor("x") })),
      "policy.signature_invalid",
      /not signed/,
    ],
    [
      "of another owner",
      async () => packBundle(await buildBundle({ owner: "operator", folder: folderFor("x") }), key),
      "policy.bundle_invalid",
      /built for operator/,
    ],
    ["no bundle", async () => new Uint8Array([1, 2, 3]), "policy.bundle_invalid", /not a bundle/],
    [
      "looping",
      () =>
        packed(
          "x",
          `${ruleHead}
digits := numbers.range(1, 400)

checks[id] := {"ok": count([1 | some a in digits; some b in digits; some c in digits; a * b * c < 0]) == 0, "msg": "", "params": {}} if {
	some id, _ in data.drover.constraints.no_word
}
`,
        ),
      "policy.undecided",
      /rules\/no_word\.rego:14: no_word\/here gives no verdict by itself: (no answer after|opa_malloc: failed).*; go through what the input lists/,
    ],
    [
      "taking memory without end",
      () =>
        packed(
          "x",
          `${ruleHead}
checks[id] := {"ok": count(numbers.range(1, 9000000)) > 0, "msg": "", "params": {}} if {
	some id, _ in data.drover.constraints.no_word
}
`,
        ),
      "policy.undecided",
      /rules\/no_word\.rego:12: no_word\/here gives no verdict by itself: opa_malloc: failed; go through what the input lists/,
    ],
    [
      "contradicting itself",
      () =>
        packed(
          "x",
          `${ruleHead}
torn := true if input.request.kind == "resize"

torn := false if input.now_ms > 0

checks[id] := {"ok": torn, "msg": "", "params": {}} if {
	some id, _ in data.drover.constraints.no_word
}
`,
        ),
      "policy.undecided",
      /rules\/no_word\.rego:16: no_word\/here gives no verdict by itself: .*no_word\.rego:14:1: var assignment conflict; let one head/,
    ],
  ])(
    "that is %s is refused, told with what is wrong, and the policy in force stays",
    async (_, make, code, said) => {
      await publish("mining");
      const policies = await open(bundleSource());
      writeFileSync(join(root, "published/bundle.tar.gz"), await make());
      await expect(policies.activate(owner, { by: "sue" })).rejects.toMatchObject({
        code,
        details: { problem: expect.stringMatching(said) },
      });
      expect(await effectNow(policies, "mining")).toBe("deny");
      expect(await effectNow(policies, "science")).toBe("allow");
      const { active, problem } = await policies.state(owner);
      expect(active?.n).toBe(1);
      expect(problem?.code).toBe(code);
      expect((await events()).at(-1)).toMatchObject({
        kind: "policy.refused",
        data: { owner, code },
      });
    },
  );

  test("whose vectors do not hold any more is refused", async () => {
    await publish("mining");
    const policies = await open(bundleSource());
    const built = await buildBundle({ owner, folder: folderFor("gambling") });
    const vector = { name: "v", entrypoint: "decision" as const, set: {}, answer: { effect: "x" } };
    const vectors = { example: exampleInput, vectors: [vector] };
    writeFileSync(join(root, "published/bundle.tar.gz"), packBundle({ ...built, vectors }, key));
    await expect(policies.activate(owner, { by: "sue" })).rejects.toMatchObject({
      code: "policy.vectors_failed",
      details: { failed: 1, vectors: 1 },
    });
  });

  test("on our own disk is checked again when it is loaded", async () => {
    await publish("mining");
    await (await open(bundleSource())).stop();
    const kept = join(root, "state/owners", encodeURIComponent(owner));
    const built = await buildBundle({ owner, folder: folderFor("nothing") });
    writeFileSync(join(kept, "bundle-1.tar.gz"), packBundle(built));
    const policies = await open(bundleSource());
    expect(await effectNow(policies, "science")).toBe("deny");
    expect((await policies.state(owner)).problem?.code).toBe("policy.signature_invalid");
  });

  test("denies as stale when its source has not been heard of for too long", async () => {
    await publish("mining");
    const policies = await open(bundleSource({ maxStaleMs: 60_000 }));
    policies.start();
    rmSync(join(root, "published"), { recursive: true });
    for (let second = 0; second <= 60; second += 5) await clock.advance(5_000);
    const answer = await policies.engines.get(owner)?.evaluate("decision", asking("science"));
    expect(answer).toMatchObject({ effect: "deny", findings: [{ code: "policy.stale" }] });
    await publish("mining");
    await later(async () => (await effectNow(policies, "science")) === "allow");

    // a restart is no word of the source
    await policies.stop();
    rmSync(join(root, "published"), { recursive: true });
    await clock.advance(61_000);
    const again = await open(bundleSource({ maxStaleMs: 60_000 }));
    const late = await again.engines.get(owner)?.evaluate("decision", asking("science"));
    expect(late?.findings[0]?.code).toBe("policy.stale");
  });
});

describe("history", () => {
  const reasons = ["mining", "science", "science", "science", "gambling"];

  test("more flips than the limit stop an activation; a named person passes it, and that is told", async () => {
    await publish("mining");
    const policies = await open(bundleSource());
    await decide(policies, reasons);
    await publish("science");
    await expect(policies.activate(owner, { by: "sue" })).rejects.toMatchObject({
      code: "policy.flips",
      details: {
        flips: 4,
        replayed: 5,
        limit: 2,
        by_rule: [{ name: "no_word", to_deny: 3, to_allow: 1, to_approve: 0 }],
        by_environment: [{ name: "ring", to_deny: 3, to_allow: 1, to_approve: 0 }],
        by_subject: [{ to_deny: 3, to_allow: 1, to_approve: 0 }],
      },
    });
    expect(await effectNow(policies, "science")).toBe("allow");
    const report = await policies.activate(owner, {
      by: "sue",
      override: { by: "sue", reason: "science is over" },
    });
    expect(report.overridden).toBe(true);
    expect(await effectNow(policies, "science")).toBe("deny");
    expect((await events()).at(-1)).toMatchObject({
      kind: "policy.activated",
      data: { by: "sue", reason: "science is over", overridden: true, flips: 4 },
    });
  });

  test("a candidate is tried without a signature, tells whom it would hit, and changes nothing", async () => {
    await publish("mining");
    const policies = await open(bundleSource());
    await decide(policies, reasons);
    const before = await events();
    const candidate = packBundle(await buildBundle({ owner, folder: folderFor("science") }));
    const trial = await policies.trials.start({
      owner,
      packed: candidate,
      by: "sue",
      range: {},
    });
    await until(() => policies.trials.get(trial?.id ?? "")?.state !== "running");
    const done = policies.trials.get(trial?.id ?? "");
    expect(done).toMatchObject({
      state: "done",
      recorded: 5,
      progress: { read: 5, replayed: 5, flips: 4 },
      report: { flips: 4, outcomes: 4, unfit: 0, undecided: 0 },
    });
    expect(
      done?.report?.examples.map(({ before: was, after, rules }) => ({ was, after, rules })),
    ).toEqual([
      { was: "allow", after: "deny", rules: ["no_word/here"] },
      { was: "allow", after: "deny", rules: ["no_word/here"] },
      { was: "allow", after: "deny", rules: ["no_word/here"] },
      { was: "deny", after: "allow", rules: ["no_word/here"] },
    ]);
    expect(await events()).toEqual(before);
    expect(await effectNow(policies, "science")).toBe("allow");
  });

  test("a shadow overhears live requests and is never heard", async () => {
    await publish("mining");
    const policies = await open(bundleSource());
    const candidate = packBundle(await buildBundle({ owner, folder: folderFor("science") }));
    await policies.shadow(owner, { packed: candidate, by: "sue", untilMs: clock.nowMs() + 60_000 });
    expect(await effectNow(policies, "science")).toBe("allow");
    expect(await effectNow(policies, "gambling")).toBe("allow");
    await until(async () => (await policies.state(owner)).shadow?.report.replayed === 2);
    expect((await policies.state(owner)).shadow?.report).toMatchObject({ flips: 1 });
    await policies.endShadow(owner);
    expect((await policies.state(owner)).shadow).toBeUndefined();
  });

  test("every recorded answer is repeated exactly, also by policies that are long gone", async () => {
    await publish("mining");
    const policies = await open(bundleSource({}), { limits: { replayLast: 0, maxFlips: 0 } });
    for (const word of ["gambling", "science", "art", "sports"]) {
      await decide(policies, [...reasons, word]);
      await publish(word);
      await policies.activate(owner, { by: "sue" });
      await clock.advance(1);
    }
    expect((await policies.state(owner)).generations.map(({ n }) => n)).toEqual([5, 4, 3]);
    expect(await policies.verifyReplay({})).toEqual({
      replayed: 24,
      differing: [],
      missing: 0,
      unanswered: 0,
      unfit: 0,
      unfit_by: [],
    });

    // and it would notice: one answer is not what the policy gives
    const [newest] = await store.read((journal) => journal.decisions.page({ limit: 1 }));
    const forged = { ...newest?.decision, id: "forged" } as Decision;
    await store.transaction((journal) =>
      journal.decisions.add({
        ...forged,
        consents: forged.consents.map((consent) => ({ ...consent, effect: "deny" as const })),
      }),
    );
    expect(await policies.verifyReplay({})).toMatchObject({
      replayed: 25,
      differing: [{ decision: "forged", owner }],
    });
    rmSync(join(root, "state/decided"), { recursive: true });
    expect((await policies.verifyReplay({})).missing).toBe(25);
  });

  test("questions of an older contract are counted with their reason, never as flips", async () => {
    await publish("mining");
    const policies = await open(bundleSource());
    await decide(policies, reasons);
    const [newest] = await store.read((journal) => journal.decisions.page({ limit: 1 }));
    const recorded = newest?.decision as Decision;
    const input = recorded.input as PolicyInput;
    const { exemptions: _, ...young } = input;
    const { owner: __, ...narrower } = input;
    const [consent] = recorded.consents;
    const older: Record<string, Partial<Decision>> = {
      "contract 0": { input: { ...input, contract: 0 } },
      "no exemptions yet": { input: young },
      "no owner yet": { input: narrower },
      "nothing recorded": { input: undefined },
      "a decision by code": { input: {}, consents: [] },
      "no policy was loaded": { consents: consent ? [{ ...consent, policyDigest: "" }] : [] },
    };
    await store.transaction(async (journal) => {
      for (const [id, change] of Object.entries(older))
        await journal.decisions.add({ ...recorded, ...change, id });
    });
    const candidate = packBundle(await buildBundle({ owner, folder: folderFor("science") }));
    const trial = await policies.trials.start({ owner, packed: candidate, by: "sue", range: {} });
    await until(() => policies.trials.get(trial?.id ?? "")?.state !== "running");
    const unfit_by = [
      { why: "an older shape, without exemptions", count: 1 },
      { why: "it is of contract 0, this is contract 1", count: 1 },
      { why: "must have required properties owner (owner)", count: 1 },
      { why: "no input is recorded", count: 1 },
    ];
    const asked = reasons.length + 1;
    expect(policies.trials.get(trial?.id ?? "")?.report).toMatchObject({
      replayed: asked,
      unfit: 4,
      unfit_by,
    });
    expect(await policies.verifyReplay({})).toMatchObject({
      replayed: reasons.length,
      differing: [],
      missing: 0,
      unanswered: 1,
      unfit: 4,
      unfit_by,
    });
  });
});

describe("a folder of the machine's own", () => {
  test("is loaded as it stands; when it is broken, the last good one stays in force over a restart", async () => {
    const folder = folderFor("mining");
    await (await open({ kind: "folder", folder })).stop();
    copyFileSync(join(folder, "data.yaml"), join(root, "good.yaml"));
    writeFileSync(join(folder, "data.yaml"), "drover: {}\n");
    const policies = await open({ kind: "folder", folder });
    expect(await effectNow(policies, "mining")).toBe("deny");
    expect(await effectNow(policies, "science")).toBe("allow");
    expect((await policies.state(owner)).problem?.code).toBe("policy.data_invalid");
    const good = readFileSync(join(root, "good.yaml"), "utf8");
    writeFileSync(join(folder, "data.yaml"), good.replace("mining", "art"));
    await policies.activate(owner, { by: "sue" });
    expect(await effectNow(policies, "art")).toBe("deny");
  });

  test("keeps three generations and goes back to one that is kept", async () => {
    const folder = folderFor("w1");
    const policies = await open({ kind: "folder", folder });
    for (const word of ["w2", "w3", "w4"]) {
      copyFileSync(join(folderFor(word), "data.yaml"), join(folder, "data.yaml"));
      await policies.activate(owner, { by: "sue" });
    }
    await expect(
      policies.rollback(owner, { by: "sue", reason: "x", generation: 1 }),
    ).rejects.toMatchObject({ code: "policy.no_generation" });
    await policies.rollback(owner, { by: "sue", reason: "x", generation: 2 });
    expect(await effectNow(policies, "w2")).toBe("deny");
    const files = readdirSync(join(root, "state/owners", encodeURIComponent(owner)));
    expect(files.filter((name) => name.startsWith("bundle-"))).toHaveLength(3);
    await expect(policies.activate("operator", { by: "sue" })).rejects.toMatchObject({
      code: "object.unknown",
    });
  });

  test("may come and go while the shepherd runs; one that cannot be loaded does not come", async () => {
    const policies = await open({ kind: "folder", folder: folderFor("mining") });
    const newcomer = "site:west";
    const { engines } = policies;
    await policies.add(newcomer, folderFor("art"));
    const effect = async (): Promise<string | undefined> =>
      (await engines.get(newcomer)?.evaluate("decision", asking("art")))?.effect;
    expect([await effect(), await effectNow(policies, "art")]).toEqual(["deny", "allow"]);
    await expect(policies.add(newcomer, folderFor("art"))).rejects.toMatchObject({
      code: "conflict.exists",
    });
    await policies.remove(newcomer);
    expect([engines.has(newcomer), engines.has(owner)]).toEqual([false, true]);
    const broken = folderFor("art");
    writeFileSync(join(broken, "data.yaml"), "drover: {}\n");
    await expect(policies.add(newcomer, broken)).rejects.toMatchObject({
      code: "policy.data_invalid",
    });
    await expect(policies.state(newcomer)).rejects.toMatchObject({ code: "object.unknown" });
  });
});

/** Lets polls come due until it holds: one may be under way when the clock moves, and sleeps only then. */
async function later(holds: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await holds())) {
    await clock.advance(5_000);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Work of its own goes on: waits for what it leaves. */
async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await holds())) await new Promise((resolve) => setTimeout(resolve, 5));
}
