/** Whose yes counts for whom: owners name their approvers, and people count, not tokens. */
import type { Approval, Vote } from "@drover/shepherd/model/consent";
import type { Finding } from "@drover/shepherd/model/request";
import { isMet, saidYes, wantedOf } from "@drover/shepherd/policy/approvers";
import type { GateAnswer } from "@drover/shepherd/policy/gate";
import { describe, expect, test } from "@jest/globals";
import { host, machine, request } from "../planner/fleet.ts";
import { type Says, type SmallShepherd, smallShepherd } from "./small-shepherd.ts";

const finding = (owner: string, params: Readonly<Record<string, unknown>>): Finding => ({
  rule: "approval_threshold",
  id: "i",
  level: "approve",
  ok: false,
  code: "policy.denied",
  msg: "ask first",
  params,
  owner,
  disclose: "owner",
});
const yes = (by: string, human?: string): Vote => ({
  by,
  ...(human === undefined ? {} : { human }),
  verdict: "approve",
  reason: "fine",
  atMs: 1,
});

describe("what findings want", () => {
  test("the most of each owner, its approvers, and nothing of what passed or is exempt", () => {
    expect(
      wantedOf([
        finding("operator", { approvals: 2 }),
        finding("operator", { approvals: 1 }),
        finding("site:north", { approvers: ["ned", "ada"] }),
        { ...finding("site:south", { approvals: 5 }), ok: true },
        { ...finding("owner:alice", {}), code: "policy.exempt" },
      ]),
    ).toEqual({
      needs: 2,
      by: ["operator", "site:north"],
      demands: [
        { owner: "operator", needs: 2 },
        { owner: "site:north", needs: 1, approvers: ["ada", "ned"] },
      ],
    });
  });

  test.each([
    ["text", "ada"],
    ["nothing", null],
    ["an empty list", []],
    ["numbers", [1, 2]],
  ])("a list that cannot be read names nobody: %s", (_, approvers) => {
    const { demands } = wantedOf([finding("operator", { approvers })]);
    expect(isMet(demands, [yes("ada"), yes("ben"), yes("1")])).toBe(false);
  });
});

test.each<[string, readonly Vote[], boolean]>([
  ["nobody", [], false],
  ["somebody that no owner names", [yes("eve")], false],
  ["one of the operator's", [yes("ada")], false],
  ["one of each", [yes("ada"), yes("ned")], true],
  ["one whom both name", [yes("tom")], true],
  ["a token of one whom both name", [yes("tom-laptop", "tom")], true],
  ["a token with the name of another human", [yes("tom", "eve")], false],
  ["a no of one whom both name", [{ ...yes("tom"), verdict: "reject" }], false],
])("two owners with approvers of their own, and the yes of %s", (_, votes, met) => {
  const { demands } = wantedOf([
    finding("operator", { approvers: ["ada", "tom"] }),
    finding("site:north", { approvers: ["ned", "tom"] }),
  ]);
  expect(isMet(demands, votes)).toBe(met);
});

test("two tokens of one human are one person", () => {
  const { demands } = wantedOf([finding("operator", { approvals: 2 })]);
  const twice = [yes("ada-work", "ada"), yes("ada-home", "ada")];
  expect(isMet(demands, twice)).toBe(false);
  expect(demands.map((demand) => saidYes(demand, twice))).toEqual([["ada"]]);
  expect(isMet(demands, [...twice, yes("ben")])).toBe(true);
});

describe("at the gate", () => {
  const rank = machine("rank-0", { hostId: "north-1", siteId: "north" });
  const wants =
    (params: Readonly<Record<string, unknown>>): Says =>
    () => ({ findings: [{ level: "approve", msg: "ask first", params }] });
  let count = 0;
  async function waiting(
    policies: Readonly<Record<string, Says>>,
    human?: string,
  ): Promise<{
    readonly shepherd: SmallShepherd;
    readonly id: string;
    readonly answer: GateAnswer;
  }> {
    const hosts = [host("north-1", "north")];
    const shepherd = await smallShepherd({ hosts, machines: [rank], policies });
    const id = `asked-${(count += 1)}`;
    const subject = { type: "operator" as const, name: "otto", roles: ["operator"] };
    const asked = request("resize", [{ machineId: rank.id, memoryMib: 320 }], {
      id,
      idempotencyKey: id,
      subject: human === undefined ? subject : { ...subject, human },
    });
    const answer = await shepherd.clock.until(shepherd.gate.submit(asked));
    return { shepherd, id, answer };
  }
  const vote = (
    { shepherd, id }: { shepherd: SmallShepherd; id: string },
    by: string,
    human?: string,
  ) =>
    shepherd.clock.until(
      shepherd.gate.vote(id, {
        by,
        ...(human === undefined ? {} : { human }),
        verdict: "approve",
        reason: "fine",
      }),
    ) as Promise<Approval>;

  test("each owner's own people must have said yes; another's counts for nobody", async () => {
    const at = await waiting({
      operator: wants({ approvers: ["ada"] }),
      "site:north": wants({ approvers: ["ned"] }),
    });
    expect(at.answer.approval).toMatchObject({ needs: 1, wantedBy: ["operator", "site:north"] });
    await expect(vote(at, "eve")).rejects.toMatchObject({ code: "approval.not_counted" });
    expect(await vote(at, "ada")).toMatchObject({ state: "pending" });
    expect(at.shepherd.admitted).toEqual([]);
    expect(await vote(at, "ned")).toMatchObject({ state: "approved" });
    expect(at.shepherd.admitted).toHaveLength(1);
    const events = await at.shepherd.store.read((journal) => journal.events.since(0, 1000));
    const voted = events.filter(({ kind }) => kind === "approval.voted");
    expect(voted.map(({ data }) => [data["by"], data["countsFor"]])).toEqual([
      ["ada", ["operator"]],
      ["ned", ["site:north"]],
    ]);
  });

  test("the second token of one who voted is the same person", async () => {
    const at = await waiting({ operator: wants({ approvals: 2 }) });
    await vote(at, "ada-work", "ada");
    await expect(vote(at, "ada-home", "ada")).rejects.toMatchObject({ code: "approval.voted" });
    expect(await vote(at, "ben")).toMatchObject({ state: "approved" });
  });

  test("nor does a second token of the asker make another person", async () => {
    const at = await waiting({ operator: wants({}) }, "ada");
    await expect(vote(at, "ada-approver", "ada")).rejects.toMatchObject({
      code: "approval.own_request",
    });
    expect(await vote(at, "ben")).toMatchObject({ state: "approved" });
  });
});
