/** Every alert is made to fire once, on simulated hosts in virtual time, and has its runbook. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { createMetrics } from "@drover/shepherd/api/metrics";
import type { PolicyEngine } from "@drover/shepherd/ports/policy-engine";
import { createVirtualClock, type VirtualClock } from "@drover/shepherd/simulated/clock";
import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import { parse } from "yaml";
import { type Shepherd, siteOf, startShepherd } from "./shepherd.ts";

interface Rule {
  readonly alert: string;
  readonly expr: string;
  readonly for: string;
  readonly annotations: { readonly runbook: string };
}
const repository = join(import.meta.dirname, "../..");
const file = join(repository, "docs/runbooks/alerts.yaml");
const { groups } = parse(readFileSync(file, "utf8")) as { groups: { rules: Rule[] }[] };
const rules = groups.flatMap((group) => group.rules);

let clock: VirtualClock;
let shepherd: Shepherd;
let metrics: ReturnType<typeof createMetrics>;

const yes: PolicyEngine = {
  owner: "operator",
  evaluate: async (entrypoint) => ({
    owner: "operator",
    entrypoint,
    effect: "allow",
    findings: [],
    obligations: [],
    limits: {},
    policyDigest: "p",
    dataDigest: "d",
    durationMs: 0,
  }),
  query: async () => ({ kind: "undecided", code: "policy.absent", problem: "" }),
  close: async () => undefined,
};

beforeEach(async () => {
  clock = createVirtualClock();
  const owners = ["operator", "owner:*", "site:north", "site:south"];
  shepherd = await clock.until(
    startShepherd({
      clock,
      engines: new Map(owners.map((owner) => [owner, { ...yes, owner }])),
      sites: [
        siteOf("north", { "north-1": { cpuPercent: 200, memoryMib: 1024 } }),
        siteOf("south", { "south-1": { cpuPercent: 400, memoryMib: 4096 } }),
      ],
      care: true,
    }),
  );
  const { store, observer, marks, drains, janitor, operations } = shepherd;
  metrics = createMetrics({
    store,
    clock,
    sensing: observer,
    hostCare: { marks, drains, janitor, kick: () => operations.kick() },
  });
  await clock.until(shepherd.create([{ name: "rank-0" }]));
  await clock.advance(5_000);
});
afterEach(async () => {
  await clock.until(Promise.race([shepherd.die(), clock.sleep(60_000)]));
  await shepherd.store.close();
});

/** As Prometheus would see it: any sample of that name and labels for which the comparison holds. */
async function fires({ expr }: Rule): Promise<boolean> {
  const match = /^(\w+)(?:\{(\w+)="([^"]*)"\})? > (\d+)$/.exec(expr);
  if (match === null) throw new Error(`${expr} is more than this test can read`);
  const [, name = "", label, value, bound] = match;
  const text = await clock.until(metrics.text());
  return text.split("\n").some((line) => {
    const sample = /^(\w+)(?:\{([^}]*)\})? (\S+)$/.exec(line);
    if (sample === null || sample[1] !== name) return false;
    if (label !== undefined && !(sample[2] ?? "").includes(`${label}="${value}"`)) return false;
    return Number(sample[3]) > Number(bound);
  });
}

const machineId = async () => (await shepherd.machine("rank-0")).id;
const host = (id: string) => {
  const found = shepherd.world.data.hosts[id];
  if (found === undefined) throw new Error(`no host ${id}`);
  return found;
};
const sweep = () => clock.until(shepherd.janitor.sweep());
const submit = (request: Parameters<Shepherd["submit"]>[0]) =>
  clock.until(
    shepherd.submit({
      subject: { type: "operator", name: "olga", roles: ["operator"] },
      ...request,
    }),
  );

/** How to bring each about. */
const causes: Record<string, () => Promise<void>> = {
  async DroverOperationStuck() {
    const id = await machineId();
    await submit({ kind: "move", machines: [{ machineId: id, siteId: "south" }] });
    await clock.advance(500);
    shepherd.world.powerCycle("north-1");
    await clock.advance(30_000);
  },
  async DroverHostSilent() {
    shepherd.world.setReachable("north-1", false);
    await clock.advance(90_000);
  },
  async DroverFactsStale() {
    shepherd.world.setReachable("north-1", false);
    await clock.advance(130_000);
  },
  async DroverMachineUnknown() {
    const id = await machineId();
    await submit({ kind: "move", machines: [{ machineId: id, siteId: "south" }] });
    await clock.advance(500);
    shepherd.world.setReachable("north-1", false);
    shepherd.world.setReachable("south-1", false);
    await clock.advance(60_000);
  },
  async DroverMachineLost() {
    delete host("north-1").domains[await machineId()];
    await sweep();
  },
  async DroverMachineDouble() {
    const id = await machineId();
    const original = host("north-1").domains[id];
    if (original !== undefined) host("south-1").domains[id] = { ...original };
    await sweep();
  },
  async DroverForeignChange() {
    shepherd.world.powerCycle("north-1");
    await sweep();
  },
  async DroverLitter() {
    const name = "drover-11111111-1111-4111-8111-111111111111.qcow2";
    host("south-1").volumes[name] = {
      name,
      capacityBytes: 1,
      allocatedBytes: 1,
      backing: undefined,
      content: "",
    };
    await sweep();
  },
  async DroverOperationOld() {
    shepherd.world.setReachable("north-1", false);
    await submit({
      kind: "destroy",
      subject: { type: "stack", name: "alice", roles: ["stack"] },
      machines: [{ machineId: await machineId() }],
    });
    await clock.advance(2_000_000);
  },
  async DroverQueueLong() {
    const south = { vcpus: 1, cpuPercent: 5, memoryMib: 32, siteId: "south" };
    const many = Array.from({ length: 70 }, (_, n) => ({ name: `many-${n}`, baseline: south }));
    void shepherd.create(many).catch(() => undefined);
    await clock.advance(1_000);
  },
  async DroverDrainBlocked() {
    shepherd.world.startForeign("south-1", { id: "f", name: "f", vcpus: 1, memoryMib: 4_000 });
    await clock.advance(5_000);
    await clock.until(shepherd.marks.drain({ hostId: "north-1", by: "olga", reason: "test" }));
    await clock.advance(5_000);
  },
  async DroverHoldOld() {
    const sinceMs = clock.nowMs() - 90_000_000;
    await shepherd.store.transaction((journal) =>
      journal.holds.put({ scope: "everything", by: "olga", reason: "x", sinceMs }),
    );
  },
  async DroverLeaseOverdue() {
    await submit({
      kind: "resize",
      machines: [{ machineId: await machineId(), memoryMib: 320 }],
      leaseMs: 60_000,
    });
    await clock.advance(5_000);
    shepherd.world.setReachable("north-1", false);
    await clock.advance(1_200_000);
  },
  async DroverRecallOverdue() {
    await shepherd.store.transaction((journal) =>
      journal.recalls.put({
        id: "recall",
        siteId: "north",
        environmentId: "env-ring",
        by: "ned",
        reason: "power work",
        sinceMs: 1,
        deadlineMs: 2,
        overdueSinceMs: 3,
      }),
    );
  },
  async DroverDeadHostAnswers() {
    shepherd.world.setReachable("north-1", false);
    await clock.advance(10_000);
    await clock.until(
      shepherd.marks.confirmDead({ hostId: "north-1", by: "olga", reason: "x", fencedBy: "y" }),
    );
    shepherd.world.setReachable("north-1", true);
    await clock.advance(10_000);
  },
};

test("every rule has a cause here, a runbook there, and no page is without a rule", () => {
  expect(Object.keys(causes).toSorted()).toEqual(rules.map((rule) => rule.alert).toSorted());
  for (const { annotations } of rules) {
    expect(existsSync(join(repository, annotations.runbook))).toBe(true);
  }
  const pages = readdirSync(join(repository, "docs/runbooks")).filter(
    (name) => name.endsWith(".md") && name !== "README.md",
  );
  expect(pages.map((name) => `docs/runbooks/${name}`).toSorted()).toEqual(
    rules.map((rule) => rule.annotations.runbook).toSorted(),
  );
});

describe("an alert is silent while all is well, and fires when it should", () => {
  test.each(rules)("$alert", async (rule) => {
    await sweep();
    expect(await fires(rule)).toBe(false);
    await causes[rule.alert]?.();
    expect(await fires(rule)).toBe(true);
  });
});
