import type { Approval } from "@drover/shepherd/model/consent";
import { Fault } from "@drover/shepherd/model/fault";
import type { Request } from "@drover/shepherd/model/request";
import { ApprovalDesk } from "@drover/shepherd/policy/approval-desk";
import { approvalMs } from "@drover/shepherd/policy/approvals";
import type { GateAnswer } from "@drover/shepherd/policy/gate";
import { describe, expect, test } from "@jest/globals";
import { host, machine, request } from "../planner/fleet.ts";
import { type Says, type SmallShepherd, smallShepherd } from "./small-shepherd.ts";

const hosts = [
  host("north-1", "north"),
  host("north-2", "north"),
  host("south-1", "south", { memoryMib: 4096 }),
];
const rank = machine("rank-0", { hostId: "north-1", siteId: "north" });
const wantsPeople =
  (approvals = 1): Says =>
  () => ({ findings: [{ level: "approve", msg: "ask first", params: { approvals } }] });

let count = 0;
function ask(kind: Request["kind"], more: Partial<Request> = {}): Request {
  count += 1;
  return request(kind, [{ machineId: rank.id, memoryMib: 320 }], {
    id: `request-${count}`,
    idempotencyKey: `key-${count}`,
    subject: { type: "operator", name: "otto", roles: ["operator"] },
    ...more,
  });
}
async function submit(shepherd: SmallShepherd, asked: Request): Promise<GateAnswer> {
  return await shepherd.clock.until(shepherd.gate.submit(asked));
}
async function yes(shepherd: SmallShepherd, requestId: string, by: string): Promise<Approval> {
  return await shepherd.clock.until(
    shepherd.gate.vote(requestId, { by, verdict: "approve", reason: "fine" }),
  );
}
async function small(policies: Readonly<Record<string, Says>>): Promise<SmallShepherd> {
  return await smallShepherd({ hosts, machines: [rank], policies });
}
const kindsOf = async (shepherd: SmallShepherd) =>
  (await shepherd.store.read((journal) => journal.events.since(0, 1000))).map(({ kind }) => kind);

describe("a request that policy wants approved", () => {
  test("waits with its plan, changes nothing and names who wants it", async () => {
    const shepherd = await small({ operator: wantsPeople(), "site:north": wantsPeople(2) });
    const answer = await submit(shepherd, ask("resize"));
    expect(answer).toMatchObject({
      decision: {
        effect: "approve",
        code: "policy.approval_needed",
        message: "A named person must approve this: test: ask first",
      },
      operation: undefined,
      approval: { state: "pending", needs: 2, wantedBy: ["operator", "site:north"], votes: [] },
    });
    expect(answer.plan?.actions).toMatchObject([{ kind: "set_memory", toMib: 320 }]);
    expect(answer.approval?.planDigest).toBe(answer.plan?.digest);
    expect(shepherd.admitted).toEqual([]);
    expect((await shepherd.machine(rank.id))?.version).toBe(1);
  });

  test("is carried out, by exactly the plan that was read, once enough people said yes", async () => {
    const shepherd = await small({ operator: wantsPeople(2) });
    const { plan, decision } = await submit(shepherd, ask("resize", { id: "two" }));
    expect(await yes(shepherd, "two", "ada")).toMatchObject({ state: "pending" });
    expect(shepherd.admitted).toEqual([]);
    const ended = await yes(shepherd, "two", "ben");
    expect(ended).toMatchObject({ state: "approved", outcome: "Approved by ada, ben." });
    expect(shepherd.admitted.map(({ grant }) => grant.planDigest)).toEqual([plan?.digest]);
    await shepherd.clock.advance(10);
    expect((await shepherd.machine(rank.id))?.effective.memoryMib).toBe(320);
    const after = await shepherd.store.read((journal) => journal.decisions.ofRequest("two"));
    expect(after.at(-1)).toMatchObject({
      effect: "allow",
      approvedBy: [{ by: "ada" }, { by: "ben" }],
    });
    expect(after.some(({ id }) => id === decision.id)).toBe(true);
    expect(await kindsOf(shepherd)).toEqual(
      expect.arrayContaining(["approval.asked", "approval.voted", "approval.ended"]),
    );
  });

  test("asked again, by key or by the same words, is the same one", async () => {
    const shepherd = await small({ operator: wantsPeople() });
    const asked = ask("resize", { id: "first" });
    await submit(shepherd, asked);
    const byKey = await submit(shepherd, { ...asked, id: "by-key" });
    const byWords = await submit(shepherd, ask("resize"));
    expect([byKey, byWords].map(({ approval }) => approval?.requestId)).toEqual(["first", "first"]);
    expect((await shepherd.count()).requests).toBe(1);
    await yes(shepherd, "first", "ada");
    expect((await submit(shepherd, { ...asked, id: "later" })).operation).toBeDefined();
    expect(shepherd.admitted).toHaveLength(1);
  });

  test("is over with one no", async () => {
    const shepherd = await small({ operator: wantsPeople(2) });
    await submit(shepherd, ask("resize", { id: "no" }));
    await yes(shepherd, "no", "ada");
    const rejected = await shepherd.gate.vote("no", {
      by: "ben",
      verdict: "reject",
      reason: "not tonight",
    });
    expect(rejected).toMatchObject({ state: "rejected", outcome: "rejected by ben: not tonight" });
    await expect(yes(shepherd, "no", "cem")).rejects.toMatchObject({ code: "approval.ended" });
    expect(shepherd.admitted).toEqual([]);
  });

  test("is over after a day", async () => {
    const shepherd = await small({ operator: wantsPeople() });
    await submit(shepherd, ask("resize", { id: "late" }));
    expect(await shepherd.gate.settleApprovals()).toBe(shepherd.clock.nowMs() + approvalMs);
    await shepherd.clock.advance(approvalMs);
    await expect(yes(shepherd, "late", "ada")).rejects.toMatchObject({ code: "approval.ended" });
    expect(await shepherd.gate.settleApprovals()).toBeUndefined();
    const ended = await shepherd.store.read((journal) => journal.approvals.get("late"));
    expect(ended).toMatchObject({ state: "expired", outcome: "nobody decided within 24 h" });
  });

  test("that the asker took back, or asked for otherwise, is withdrawn", async () => {
    const shepherd = await small({ operator: wantsPeople() });
    const stack = { type: "stack", name: "alice", roles: ["stack"] } as const;
    await submit(shepherd, ask("resize", { id: "mine" }));
    await expect(shepherd.gate.withdraw("mine", "eve")).rejects.toMatchObject({
      code: "approval.not_yours",
    });
    expect(await shepherd.gate.withdraw("mine", "otto")).toMatchObject({ state: "withdrawn" });
    await submit(shepherd, ask("update", { id: "old", subject: stack }));
    await submit(
      shepherd,
      ask("update", {
        id: "new",
        subject: stack,
        machines: [{ machineId: rank.id, memoryMib: 300 }],
      }),
    );
    const pending = await shepherd.store.read((journal) =>
      journal.approvals.list({ states: ["pending"] }),
    );
    expect(pending.map(({ requestId }) => requestId)).toEqual(["new"]);
  });

  test("goes on after a kill between the last vote and its decision", async () => {
    const shepherd = await small({ operator: wantsPeople() });
    await submit(shepherd, ask("resize", { id: "killed" }));
    await shepherd.store.transaction(async (journal) => {
      const approval = await journal.approvals.get("killed");
      if (approval === undefined) throw new Error("no approval");
      const vote = { by: "ada", verdict: "approve", reason: "fine", atMs: 1 } as const;
      await journal.approvals.put({ ...approval, votes: [vote] });
    });
    await shepherd.clock.until(shepherd.gate.settleApprovals());
    expect(shepherd.admitted).toHaveLength(1);
  });
});

describe("a vote", () => {
  test.each([
    ["of the asker", "otto", undefined, "approval.own_request"],
    ["for another plan", "ada", "0".repeat(64), "approval.plan_changed"],
  ])("%s does not count", async (_, by, planDigest, code) => {
    const shepherd = await small({ operator: wantsPeople() });
    await submit(shepherd, ask("resize", { id: "vote" }));
    await expect(
      shepherd.gate.vote("vote", { by, verdict: "approve", reason: "", planDigest }),
    ).rejects.toMatchObject({ code });
    expect(shepherd.admitted).toEqual([]);
  });

  test("of the same person twice is one vote", async () => {
    const shepherd = await small({ operator: wantsPeople(2) });
    await submit(shepherd, ask("resize", { id: "twice" }));
    await yes(shepherd, "twice", "ada");
    await expect(yes(shepherd, "twice", "ada")).rejects.toMatchObject({ code: "approval.voted" });
    expect(shepherd.admitted).toEqual([]);
  });

  test("is void when the world has changed so that another plan is made", async () => {
    const shepherd = await small({ operator: wantsPeople() });
    const before = await submit(
      shepherd,
      ask("resize", { id: "moved", machines: [{ machineId: rank.id, memoryMib: 900 }] }),
    );
    // Its host is full by now: what was a resize in place would be a move.
    shepherd.hosts[0] = host("north-1", "north", { memoryMib: 300 });
    await expect(yes(shepherd, "moved", "ada")).rejects.toMatchObject({
      code: "approval.plan_changed",
    });
    const now = await shepherd.store.read((journal) => journal.approvals.get("moved"));
    expect(now).toMatchObject({ state: "pending", votes: [] });
    expect(now?.planDigest).not.toBe(before.plan?.digest);
    expect(shepherd.admitted).toEqual([]);
    await yes(shepherd, "moved", "ada");
    expect(shepherd.admitted.map(({ grant }) => grant.planDigest)).toEqual([now?.planDigest]);
  });

  test("does not help against a policy that denies by now", async () => {
    let denies = false;
    const shepherd = await small({
      operator: () => ({ findings: [{ level: denies ? "deny" : "approve", msg: "changed" }] }),
    });
    await submit(shepherd, ask("resize", { id: "denied" }));
    denies = true;
    expect(await yes(shepherd, "denied", "ada")).toMatchObject({
      state: "denied",
      outcome: "approved, but denied by now: test: changed",
    });
    expect(shepherd.admitted).toEqual([]);
  });

  test("does not help a declaration that was written anew meanwhile", async () => {
    const shepherd = await small({ operator: wantsPeople() });
    await submit(shepherd, ask("resize", { id: "old-words" }));
    await shepherd.store.transaction(async (journal) => {
      const now = await journal.objects.get("machine", rank.id);
      if (now === undefined) throw new Error("no machine");
      const spec = { ...now.spec, class: "sensitive" };
      await journal.objects.put({ ...now, spec, version: now.version + 1 });
    });
    expect(await yes(shepherd, "old-words", "ada")).toMatchObject({
      state: "denied",
      outcome: "what it is about was declared anew meanwhile; ask again",
    });
    expect(shepherd.admitted).toEqual([]);
  });
});

describe("mode advise", () => {
  test("changes nothing and says what it would be", async () => {
    const shepherd = await small({
      operator: () => ({
        findings: [{ rule: "adaptation_mode", params: { mode: "advise" }, msg: "advice only" }],
      }),
    });
    const answer = await submit(shepherd, ask("resize"));
    expect(answer).toMatchObject({
      decision: {
        effect: "deny",
        code: "policy.advised",
        message: "Advice only, as the stack's mode says; it would be: 320 MiB.",
      },
      operation: undefined,
    });
    expect(answer.plan?.actions).toHaveLength(1);
    expect(shepherd.admitted).toEqual([]);
  });
});

describe("a declaration that waits", () => {
  const stack = { type: "stack", name: "alice", roles: ["stack"] } as const;
  const created = (id: string, name: string, more: Partial<Request> = {}): Request => {
    const spec = { ...rank.spec, name };
    return ask("create", {
      subject: stack,
      machines: [{ machineId: id, vcpus: 1, cpuPercent: 20, memoryMib: 256, siteId: "north" }],
      declares: { machines: [{ id, spec }] },
      ...more,
    });
  };
  const another = async (shepherd: SmallShepherd, name: string) => {
    await shepherd.store.transaction((journal) =>
      journal.objects.put({
        ...machine(name, { hostId: "north-2", siteId: "north" }),
        id: `taken-${name}`,
        version: 1,
      }),
    );
  };

  test("is found again whatever id the machine would get", async () => {
    const shepherd = await small({ operator: wantsPeople() });
    const one = await submit(shepherd, created("id-a", "rank-9", { id: "wait" }));
    const two = await submit(shepherd, created("id-b", "rank-9"));
    expect([one.approval?.requestId, two.approval?.requestId]).toEqual(["wait", "wait"]);
    const other = await submit(shepherd, created("id-c", "rank-8"));
    expect(other.approval?.requestId).not.toBe("wait");
  });

  test("is over when somebody else has taken its name before the vote", async () => {
    const shepherd = await small({ operator: wantsPeople() });
    await submit(shepherd, created("id-a", "rank-9", { id: "late" }));
    await another(shepherd, "rank-9");
    const ended = await yes(shepherd, "late", "ada");
    expect(ended.state).toBe("denied");
    expect(shepherd.admitted).toEqual([]);
  });

  test.each([
    ["that no later try would mend ends it", "conflict.exists", "denied"],
    ["that passes leaves it to be tried again", "gate.busy", "pending"],
  ] as const)("a fault %s", async (_, code, state) => {
    const shepherd = await small({ operator: wantsPeople() });
    await submit(shepherd, ask("resize", { id: "fault" }));
    const { store, clock } = shepherd;
    const desk = new ApprovalDesk({
      store,
      clock,
      decideAgain: async () => {
        throw new Fault(code, { kind: "machine", key: "rank-9", existingId: "x", waiting: 1 });
      },
    });
    await desk
      .vote("fault", { by: "ada", verdict: "approve", reason: "fine" })
      .catch((error: unknown) => expect(error).toMatchObject({ code: "gate.busy" }));
    const now = await store.read((journal) => journal.approvals.get("fault"));
    expect(now).toMatchObject({ state, votes: [{ by: "ada" }] });
  });
});
