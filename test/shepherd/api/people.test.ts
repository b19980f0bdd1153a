/**
 * People who decide, against a whole shepherd: votes by token, recalls by a site's owner, exemptions by two people, a
 * broken glass, and the questions that change nothing; each through the drover command, as people use it.
 */
import { generateKeyPairSync } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ShepherdClient } from "@drover/shepherd/api/client";
import type {
  ApprovalView,
  EnvironmentView,
  MachineView,
  Mutation,
  Status,
  TokenAnswer,
  TokenBody,
} from "@drover/shepherd/api/contract";
import type { AuditReport, ObligationView } from "@drover/shepherd/api/contract-people";
import { runCommand } from "@drover/shepherd/cli/main";
import { afterAll, beforeAll, describe, expect, jest, test } from "@jest/globals";
import {
  declareRing,
  machineBody,
  mutate,
  need,
  type Ring,
  type Running,
  run,
} from "./shepherd.ts";

const keys = mkdtempSync(join(tmpdir(), "drover-glass-"));
const { publicKey, privateKey } = generateKeyPairSync("ed25519");
const publicFile = join(keys, "public.pem");
const privateFile = join(keys, "private.pem");
writeFileSync(publicFile, publicKey.export({ type: "spki", format: "pem" }));
writeFileSync(privateFile, privateKey.export({ type: "pkcs8", format: "pem" }));

/** The shipped policy, but for two things: more than two machines want a person's yes, much CPU a look afterwards. */
const policy = join(keys, "operator");
mkdirSync(policy);
const shipped = readFileSync(
  join(import.meta.dirname, "../../../policies/data/operator/data.yaml"),
  "utf8",
);
const aftercare = `aftercare:
      much-cpu:
        level: deny
        params:
          { vcpus: 99, cpu_percent: 54, memory_mib: 99999, moves: false, notify: [sue], review: { within_ms: 3600000, otherwise: release } }
    `;
writeFileSync(
  join(policy, "data.yaml"),
  shipped
    .replace("growth_factor:", `${aftercare}growth_factor:`)
    .replace(
      /(environment_quota:\n\s+default:\n\s+level:) deny(\n\s+params:\n\s+max_machines:) 16/,
      "$1 approve$2 2",
    ),
);

// A loaded machine is no reason to fail: every wait below is for a state.
jest.setTimeout(120_000);

let running: Running;
let ring: Ring;
const tokens: Record<string, string> = {};
beforeAll(async () => {
  running = await run(
    `listen: 127.0.0.1:0
break_glass: { public_key_files: [${JSON.stringify(publicFile)}] }
policies: { operator: ${JSON.stringify(policy)} }`,
  );
  ring = await declareRing(running, 2);
  const people: readonly TokenBody[] = [
    { name: "otto", role: "operator" },
    { name: "ada", role: "approver" },
    { name: "ben", role: "approver" },
    { name: "otto-at-home", role: "approver", human: "otto" },
    { name: "sue", role: "security" },
    { name: "tom", role: "security" },
    { name: "sue-at-home", role: "approver", human: "sue" },
    { name: "sue-on-call", role: "security", human: "sue" },
    { name: "eve", role: "stack" },
    { name: "north-lab", role: "reader" },
  ];
  for (const body of people) {
    const { token } = await running.client.call<TokenAnswer>("POST", "/v1/tokens", { body });
    tokens[body.name] = token;
  }
}, 120_000);
afterAll(async () => {
  await running.end();
  rmSync(keys, { recursive: true });
});

interface Said {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}
/** The command as this person runs it; `local-root` is the unix socket. */
async function as(name: string, ...argv: string[]): Promise<Said> {
  let out = "";
  let err = "";
  const where =
    name === "local-root"
      ? ["--endpoint", running.endpoint]
      : ["--endpoint", need(running.shepherd.listening), "--token", need(tokens[name])];
  const code = await runCommand([...argv, ...where], {
    out: (text) => {
      out += text;
    },
    err: (text) => {
      err += text;
    },
  });
  return { code, out, err };
}
const json = async <T>(name: string, ...argv: string[]): Promise<T> =>
  JSON.parse((await as(name, ...argv, "--json")).out) as T;
const client = (name: string) =>
  new ShepherdClient({ endpoint: need(running.shepherd.listening), token: need(tokens[name]) });
const rank = async (index: number) =>
  await running.client.get<MachineView>(`/v1/machines/${need(ring.machines[index]).id}`);
async function mode(index: number, wanted: "auto" | "approve" | "advise"): Promise<void> {
  const { id } = need(ring.machines[index]);
  const { adaptation } = machineBody(ring);
  await mutate(running, "PATCH", `/v1/machines/${id}`, {
    adaptation: { ...need(adaptation), mode: wanted },
  });
}

describe("approvals", () => {
  test("an ask waits, is shown, approved by a named person, and done", async () => {
    await mode(0, "approve");
    const asked = await as(
      "otto",
      "resize",
      "ring/rank-0",
      "--cpu-percent",
      "40",
      "--reason",
      "big",
    );
    expect(asked.code).toBe(4);
    expect(asked.out).toMatch(/^pending: Waits for a named person/);
    const { items } = await client("ada").get<{ items: ApprovalView[] }>("/v1/approvals");
    const [waiting] = items;
    const id = need(waiting).request;
    expect(waiting).toMatchObject({ state: "pending", needs: 1, wanted_by: ["operator"] });
    expect((await as("ada", "approvals", "list")).out).toContain(id);
    expect((await as("ada", "approvals", "show", id)).out).toMatch(
      /plan: {2}CPU of rank-0 from 20 to 40 %/,
    );
    expect((await rank(0)).effective.cpu_percent).toBe(20);

    const approved = await as("ada", "approve", id, "--reason", "month end");
    expect(approved.code).toBe(0);
    expect((await rank(0)).effective.cpu_percent).toBe(40);
    const story = await as("otto", "explain", id);
    expect(story.out).toContain("Approval  approved: Approved by ada.");
    expect(story.out).toMatch(
      /rule +approve adaptation_mode\/approve .*adaptation_mode\.rego:\d+\)/,
    );
    await as("local-root", "release", "ring/rank-0");
  });

  test("who asked, the local root and an operator cannot approve; one no ends it", async () => {
    const asked = await json<{ request: string }>(
      "otto",
      "resize",
      "ring/rank-0",
      "--cpu-percent",
      "30",
    );
    for (const name of ["otto", "local-root", "eve"]) {
      const denied = await as(name, "approve", asked.request, "--reason", "me");
      expect([name, denied.code]).toEqual([name, name === "eve" ? 1 : 3]);
    }
    const again = await as("otto-at-home", "approve", asked.request, "--reason", "me again");
    expect(again.err).toContain("code:  approval.own_request");
    const no = await as("ben", "reject", asked.request, "--reason", "not now");
    expect([no.code, no.out]).toEqual([
      0,
      expect.stringMatching(/^rejected: rejected by ben: not now/),
    ]);
    expect((await as("ada", "approve", asked.request, "--reason", "late")).err).toContain(
      "code:  approval.ended",
    );
    expect((await rank(0)).effective.cpu_percent).toBe(20);
  });

  test("a declaration waits as the stack's call, attaches when repeated, and is there once approved", async () => {
    const path = "/v1/environments/ring/machines/rank-2";
    const body = machineBody(ring, { adaptation: null });
    const declare = () => running.client.call<Mutation<MachineView>>("PUT", path, { body });
    const first = await declare();
    expect(first).toMatchObject({ object: null, operation: null, approval: { state: "pending" } });
    const { request } = need(first.approval);
    expect((await declare()).approval?.request).toBe(request);
    const { items } = await running.client.get<{ items: MachineView[] }>("/v1/machines");
    expect(items.map(({ name }) => name)).not.toContain("rank-2");

    const approved = await as("ada", "approve", request, "--reason", "a third one is fine");
    expect([approved.code, approved.out]).toEqual([0, expect.stringContaining("done:  succeeded")]);
    const adopted = await declare();
    expect(adopted).toMatchObject({ object: { name: "rank-2" }, operation: null });
    // What was approved once is still above what the rule allows, and the audit goes on saying so.
    const audit = await as("otto", "audit");
    expect(audit.out).toMatch(/ring +approve +environment_quota\/default \(operator\)/);
    const { findings } = await json<AuditReport>("otto", "audit");
    expect(findings).toMatchObject([
      {
        environment: "ring",
        rule: "environment_quota",
        level: "approve",
        source: {
          file: expect.stringContaining("environment_quota.rego"),
          line: expect.any(Number),
        },
      },
    ]);
    const sarif = await as("otto", "audit", "--sarif");
    expect(JSON.parse(sarif.out)).toMatchObject({
      runs: [{ results: [{ ruleId: "environment_quota", level: "warning" }] }],
    });
    const { id } = need(adopted.object);
    await running.client.get(`/v1/machines/${id}`);
    await mutate(running, "DELETE", `/v1/machines/${id}`);
  });

  test("mode advise answers what it would do", async () => {
    await mode(0, "advise");
    const advised = await as("otto", "resize", "ring/rank-0", "--cpu-percent", "40");
    expect([advised.code, advised.out]).toEqual([
      3,
      expect.stringContaining(
        "Advice only, as the stack's mode says; it would be: 40 % of a core.",
      ),
    ]);
    expect((await rank(0)).effective.cpu_percent).toBe(20);
    await mode(0, "auto");
  });
});

test("what a rule wants looked at afterwards is listed, reviewed by another person, and explained", async () => {
  const asked = await json<{ decision: string }>(
    "otto",
    "resize",
    "ring/rank-1",
    "--cpu-percent",
    "55",
  );
  const listed = await as("otto", "obligations", "list");
  expect(listed.out).toMatch(/review +operator +ring: rank-1 +waiting/);
  expect((await as("otto", "status")).out).toContain("WAITING: 1 for review");
  const [owed] = await json<ObligationView[]>("otto", "obligations", "list");
  const { id } = need(owed);
  const review = ["obligations", "review", id, "--reason", "as agreed"];
  expect((await as("otto", ...review)).err).toContain("code:  access.denied");
  expect((await as("local-root", ...review)).err).toContain("code:  access.denied");
  expect((await as("otto-at-home", ...review)).err).toContain("code:  obligation.own_request");
  expect(await as("ada", ...review)).toMatchObject({
    code: 0,
    out: "kept: reviewed by ada: as agreed\n",
  });
  expect((await as("ben", ...review)).err).toContain("code:  obligation.ended");
  const story = await as("otto", "explain", asked.decision);
  expect(story.out).toContain("Owed      review (operator): kept: reviewed by ada: as agreed");
  expect(story.out).toContain("Owed      notify (operator): kept: sue was told");
  // Whose environment it is not, knows nothing of it.
  expect(await json<ObligationView[]>("eve", "obligations", "list", "--all")).toEqual([]);
  await as("local-root", "release", "ring/rank-1");
});

describe("questions", () => {
  test("what-if on what policy saw flips exactly the rule that minds", async () => {
    const denied = await json<{ decision: string }>(
      "otto",
      "resize",
      "ring/rank-1",
      "--cpu-percent",
      "6400",
    );
    const flipped = await as(
      "otto",
      "what-if",
      denied.decision,
      "--set",
      "environment.machines.rank-1.envelope.cpu_percent.max=9999",
      "--set",
      "environment.machines.rank-1.hour_low.cpu_percent=6400",
    );
    expect(flipped.out).toContain("flip:  envelope/stack-bounds (operator): deny -> ok");
    const nowhere = await as("otto", "what-if", denied.decision, "--set", "environment.colour=red");
    expect(nowhere.err).toContain("policy saw no colour there");
    const asked = await as("otto", "what-if", denied.decision, "--set", "cpu_percent=40");
    expect([asked.code, asked.out]).toEqual([0, expect.stringContaining("would be granted")]);
    expect((await rank(1)).effective.cpu_percent).toBe(20);
  });

  test("the decisions that were refused are listed with what was said", async () => {
    const listed = await as("otto", "decisions", "--refused", "--last", "100");
    expect([listed.code, listed.out]).toEqual([0, expect.stringMatching(/deny +envelope: 6400 %/)]);
    expect(listed.out).not.toContain("allow");
  });

  test("why-not says why, the nearest that passes, and where", async () => {
    const answer = await as("otto", "why-not", "ring/rank-1");
    expect(answer.code).toBe(3);
    expect(answer.out).toMatch(/why: {3}envelope \(operator\)/);
    expect(answer.out).toContain("nearest: cpu_percent 60 would be granted now");
    expect(answer.out).toMatch(/south +denied/);
    const fine = await as("otto", "why-not", "ring/rank-1", "--cpu-percent", "50");
    expect([fine.code, fine.out]).toEqual([0, expect.stringContaining("now:   granted")]);
    expect((await rank(1)).effective.cpu_percent).toBe(20);
  });

  test("the audit of what fits the policies is clean", async () => {
    const clean = await as("otto", "audit");
    expect([clean.code, clean.out]).toEqual([
      0,
      expect.stringMatching(/^ok: 1 environments, \d+ checks/),
    ]);
    const sarif = await as("otto", "audit", "--sarif");
    expect(JSON.parse(sarif.out)).toMatchObject({ version: "2.1.0", runs: [{ results: [] }] });
  });
});

describe("exemptions", () => {
  test("are proposed by security, put in force by somebody else, and end", async () => {
    const propose = [
      "exempt",
      "--rule",
      "envelope",
      "--instance",
      "stack-bounds",
      "--environment",
      "ring",
      "--until",
      "7d",
      "--ticket",
      "OPS-17",
      "--reason",
      "test",
    ];
    expect((await as("otto", ...propose)).code).toBe(3);
    const endless = propose.filter((word) => word !== "--until" && word !== "7d");
    expect(await as("sue", ...endless)).toMatchObject({
      code: 2,
      err: expect.stringContaining("an exemption needs --instance, --environment, --until"),
    });
    const { id } = await json<{ id: string }>("sue", ...propose);
    const beyond = ["resize", "ring/rank-1", "--cpu-percent", "70", "--dry-run"];
    expect((await as("otto", ...beyond)).code).toBe(3);
    expect((await as("sue", "exempt", "--approve", id)).err).toContain("exemption.own_proposal");
    // two tokens of one human are one person, whichever of them proposed
    const notHerself = async (token: string, proposal: string) =>
      expect((await as(token, "exempt", "--approve", proposal)).err).toContain(
        "exemption.own_proposal",
      );
    await notHerself("sue-at-home", id);
    await notHerself("sue-on-call", id);
    const other = await json<{ id: string }>("sue-on-call", ...propose);
    await notHerself("sue", other.id);
    await notHerself("sue-at-home", other.id);
    await as("sue", "exempt", "--end", other.id);
    expect((await as("otto", ...beyond)).code).toBe(3);
    expect((await as("tom", "exempt", "--approve", id)).out).toContain("in force");
    expect((await as("otto", ...beyond)).code).toBe(0);
    await as("sue", "exempt", "--end", id);
    expect((await as("otto", ...beyond)).code).toBe(3);
    expect((await as("sue", ...propose, "--owner", "site:north")).err).toContain(
      "exemption.not_owner",
    );
  });
});

describe("breaking the glass", () => {
  test("runs exactly the signed plan of a denied request, once policy said no", async () => {
    const denied = await json<{ request: string }>(
      "otto",
      "resize",
      "ring/rank-1",
      "--cpu-percent",
      "70",
    );
    const printed = await json<{ plan: { digest: string } }>(
      "otto",
      "break-glass",
      "plan",
      denied.request,
    );
    const glass = join(keys, "glass.json");
    const sign = async (digest: string) =>
      await runCommand(
        [
          "break-glass",
          "sign",
          "--key",
          privateFile,
          "--plan",
          digest,
          "--by",
          "ceo",
          "--reason",
          "fire",
          "--out",
          glass,
        ],
        { out: () => undefined, err: () => undefined },
      );
    await sign("0".repeat(64));
    expect((await as("otto", "break-glass", "use", denied.request, glass)).err).toContain(
      "code:  break_glass.plan_changed",
    );
    await sign(printed.plan.digest);
    expect((await as("ada", "break-glass", "use", denied.request, glass)).code).toBe(3);
    const used = await as("otto", "break-glass", "use", denied.request, glass);
    expect([used.code, used.out]).toEqual([
      0,
      expect.stringContaining("Glass broken by ceo: fire"),
    ]);
    expect((await rank(1)).effective.cpu_percent).toBe(70);
    // It was for one plan, which is done: the same document opens nothing more.
    expect((await as("otto", "break-glass", "use", denied.request, glass)).err).toContain(
      "its plan was run already",
    );
    const log = await as("otto", "log", "verify");
    expect(log.code).toBe(0);
    await as("local-root", "release", "ring/rank-1");
  });
});

describe("a site's recalled consent", () => {
  test("moves its machines out, lets nothing come, and is lifted by the owner", async () => {
    const before = await rank(0);
    expect(before.effective.site).toBe("north");
    const foreign = await as(
      "eve",
      "recall",
      "ring",
      "--site",
      "north",
      "--by",
      "1h",
      "--reason",
      "x",
    );
    expect(foreign.err).toContain("code:  recall.not_owner");
    const recalled = await as(
      "north-lab",
      "recall",
      "ring/rank-0",
      "--site",
      "north",
      "--by",
      "1h",
      "--reason",
      "power work",
    );
    expect([recalled.code, recalled.out]).toEqual([
      0,
      expect.stringContaining("moving out: rank-0"),
    ]);
    while ((await rank(0)).effective.site !== "south") {
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    expect((await rank(0)).effective.site).toBe("south");
    const back = await as("otto", "move", "ring/rank-0", "--to", "north");
    expect(back.out).toContain("denied: Site north has recalled its consent: power work");
    const [recall] = await json<{ id: string }[]>("north-lab", "recall", "--list");
    expect((await as("north-lab", "recall", "--lift", need(recall).id)).code).toBe(0);
    expect((await as("otto", "move", "ring/rank-0", "--to", "north")).code).toBe(0);
  });
});

describe("a stack's token", () => {
  test("reads its own environments and nothing of others", async () => {
    const eve = client("eve");
    await eve.call("PUT", "/v1/environments/own", { body: { class: "batch", sites: ["north"] } });
    const { items } = await eve.get<{ items: EnvironmentView[] }>("/v1/environments");
    expect(items.map(({ name }) => name)).toEqual(["own"]);
    const status = await eve.get<Status>("/v1/status");
    expect(status.environments.map(({ name }) => name)).toEqual(["own"]);
    expect((await eve.get<{ items: unknown[] }>("/v1/machines")).items).toEqual([]);
    expect((await eve.get<{ items: unknown[] }>("/v1/decisions")).items).toEqual([]);
    expect((await eve.get<{ items: unknown[] }>("/v1/adaptations")).items).toEqual([]);
    const events = await eve.get<{ items: { environment_id?: string }[] }>("/v1/events", {
      query: { once: 1, since: 0 },
    });
    expect(new Set(events.items.map((one) => one.environment_id))).toEqual(
      new Set([need(items[0]).id]),
    );
    // What comes later too, whoever commits it.
    const heard: string[] = [];
    const stop = new AbortController();
    const listening = (async () => {
      for await (const event of eve.events({ sinceSeq: 0, signal: stop.signal })) {
        heard.push(String(event.environment_id));
        if (heard.length === 2) return;
      }
    })();
    await as("otto", "resize", "ring/rank-1", "--cpu-percent", "30");
    await eve.call("PATCH", `/v1/environments/${need(items[0]).id}`, { body: { class: "quiet" } });
    await listening;
    stop.abort();
    expect(new Set(heard)).toEqual(new Set([need(items[0]).id]));
    await expect(eve.get(`/v1/machines/${need(ring.machines[0]).id}`)).rejects.toMatchObject({
      code: "object.unknown",
    });
    const others = await running.client.get<{ items: { id: string }[] }>("/v1/decisions", {
      query: { environment: "ring", limit: 1 },
    });
    const foreign = await as(
      "eve",
      "what-if",
      need(others.items[0]).id,
      "--set",
      "hold.active=true",
    );
    expect(foreign.err).toContain("code:  access.not_owner");
    await expect(client("ada").get<Status>("/v1/status")).resolves.toMatchObject({
      environments: [{ name: "own" }, { name: "ring" }],
    });
  });
});
