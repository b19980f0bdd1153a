import type { Finding } from "@drover/shepherd/model/request";
import { createAudit } from "@drover/shepherd/policy/audit";
import type { PolicyAnswer, PolicyEngine } from "@drover/shepherd/ports/policy-engine";
import { expect, test } from "@jest/globals";
import pino from "pino";
import { facts, host, machine } from "../planner/fleet.ts";
import { smallShepherd } from "./small-shepherd.ts";

const hosts = [host("north-1", "north"), host("south-1", "south")];
const rank = machine("rank-0", { hostId: "north-1", siteId: "north" });

const finding = (rule: string, ok: boolean, code = ok ? "policy.allowed" : "policy.denied") => ({
  rule,
  id: "one",
  level: "deny" as const,
  ok,
  code,
  msg: `${rule} says so`,
  params: {},
  owner: "",
  disclose: "owner" as const,
});

async function stage(says: () => readonly Finding[]) {
  const shepherd = await smallShepherd({ hosts, machines: [rank] });
  const asked: string[] = [];
  const engine = (owner: string): PolicyEngine => ({
    owner,
    query: async () => ({ kind: "undecided", code: "policy.absent", problem: "none" }),
    close: async () => undefined,
    async evaluate(entrypoint, input): Promise<PolicyAnswer> {
      asked.push(`${entrypoint} ${owner} ${input.point}`);
      return {
        owner,
        entrypoint,
        effect: "allow",
        findings: owner === "operator" ? says() : [],
        obligations: [],
        limits: {},
        policyDigest: "p",
        dataDigest: "d",
        durationMs: 0,
      };
    },
  });
  const audit = createAudit({
    store: shepherd.store,
    clock: shepherd.clock,
    log: pino({ level: "silent" }),
    sensed: { sites: () => facts(hosts, []).sites, observed: () => ({}), loads: () => ({}) },
    // The site of the machine has no policy here: that is a finding, not silence.
    engines: new Map(["operator", "owner:alice"].map((owner) => [owner, engine(owner)])),
  });
  const told = async () =>
    (await shepherd.store.read((journal) => journal.events.since(0, 1000)))
      .filter(({ kind }) => kind === "audit.finding")
      .map(({ data }) => `${String(data["owner"])} ${String(data["rule"])}`);
  return { ...shepherd, audit, asked, told };
}

test("asks every owner concerned about what stands, and tells what fails with its owner", async () => {
  const { audit, asked, clock } = await stage(() => [
    finding("quota", false),
    finding("envelope", true),
    finding("freeze", false, "policy.exempt"),
  ]);
  const report = await clock.until(audit.report());
  expect(asked).toEqual(["audit operator audit", "audit owner:alice audit"]);
  expect(report).toMatchObject({ environments: 1, checks: 4 });
  expect(
    report.findings.map(({ environment, finding: { owner, rule } }) => [environment, owner, rule]),
  ).toEqual([
    ["ring", "operator", "quota"],
    ["ring", "site:north", "policy"],
  ]);
});

test("by itself it tells of a finding when it appears, once, and again after it had gone", async () => {
  let fails = false;
  const { audit, clock, told } = await stage(() => [finding("quota", !fails)]);
  const missing = "site:north policy";
  audit.start();
  await clock.advance(60_000);
  expect(await told()).toEqual([missing]);
  fails = true;
  await clock.advance(3_600_000);
  expect(await told()).toEqual([missing, "operator quota"]);
  fails = false;
  await clock.advance(1_800_000);
  fails = true;
  await clock.advance(1_800_000);
  expect(await told()).toEqual([missing, "operator quota", "operator quota"]);
  audit.stop();
});
