/** What policies demand with a yes is really done on the hosts, and what is missed is told or given back. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Event } from "@drover/shepherd/model/event";
import type { OwedObligation } from "@drover/shepherd/model/obligation";
import { openPolicy } from "@drover/shepherd/opa/engine";
import { libraryFolder } from "@drover/shepherd/opa/sources";
import { review } from "@drover/shepherd/policy/obligations";
import type { PolicyEngine } from "@drover/shepherd/ports/policy-engine";
import { createScaledClock } from "@drover/shepherd/simulated/clock";
import { afterAll, afterEach, beforeAll, expect, test } from "@jest/globals";
import { type Shepherd, siteOf, startShepherd } from "./shepherd.ts";

const folder = mkdtempSync(join(tmpdir(), "drover-obligations-"));
const scale = 20;
const opened: PolicyEngine[] = [];
let others: ReadonlyMap<string, PolicyEngine>;
beforeAll(async () => {
  const open = (owner: string, name: string) =>
    openPolicy({ owner, folder: join(libraryFolder, "data", name) });
  others = new Map([
    ["owner:*", await open("owner:*", "owner")],
    ["site:north", await open("site:north", "site-north")],
  ]);
  opened.push(...others.values());
}, 120_000);
afterAll(async () => {
  for (const engine of opened) await engine.close();
  rmSync(folder, { recursive: true });
});

let shepherd: Shepherd;
let engines: ReadonlyMap<string, PolicyEngine>;
afterEach(async () => {
  expect(shepherd.world.violations).toEqual([]);
  await shepherd.stop();
});

const within = (seconds: number, otherwise: "tell" | "release") => ({
  within_ms: seconds * 1000,
  otherwise,
});

/** rank-0 of 256 MiB under an operator who wants this for every growth. */
async function ring(
  aftercare: Readonly<Record<string, unknown>>,
  balloonMibPerS = 512,
): Promise<void> {
  const bundle = join(folder, `operator-${opened.length}`);
  mkdirSync(bundle);
  const params = { vcpus: 0, cpu_percent: 0, memory_mib: 0, moves: true, notify: [], ...aftercare };
  const constraints = {
    aftercare: { growth: { level: "deny", match: { subjects: ["guest"] }, params } },
  };
  writeFileSync(
    join(bundle, "data.yaml"),
    JSON.stringify({ drover: { constraints, exemptions: [] } }),
  );
  const operator = await openPolicy({ owner: "operator", folder: bundle });
  opened.push(operator);
  engines = new Map([...others, ["operator", operator]]);
  shepherd = await startShepherd({
    clock: createScaledClock({ scale, originMs: Date.now() }),
    engines,
    sites: [siteOf("north", { "north-1": { cpuPercent: 200, memoryMib: 4096 } })],
    speeds: { balloonMibPerS },
    care: true,
  });
  await shepherd.create([{ name: "rank-0" }]);
  await shepherd.settled();
}

const grow = async (memoryMib: number): Promise<void> => {
  const guest = await shepherd.guest("rank-0");
  const answer = await guest.ask("resize", { memory_mib: memoryMib });
  expect(answer?.["verdict"]).toBe("granted");
};
const giveBack = async (): Promise<void> => {
  const answer = await (await shepherd.guest("rank-0")).ask("release", {}, "give-back");
  expect(answer?.["verdict"]).toBe("granted");
};
const owed = (): Promise<readonly OwedObligation[]> =>
  shepherd.store.read((journal) => journal.obligations.list({}));
const events = (kind: Event["kind"]): Promise<readonly Event[]> =>
  shepherd.store.read(async (journal) =>
    (await journal.events.since(0, 10_000)).filter((event) => event.kind === kind),
  );
/** Waits for a state of the world; the test's own limit ends it. */
async function until<T>(look: () => Promise<T | undefined | false>): Promise<T> {
  for (;;) {
    const found = await look();
    if (found !== undefined && found !== false) return found;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
/** The only demand, once it is over. */
const ended = (): Promise<OwedObligation> =>
  until(async () => {
    const [one, ...more] = await owed();
    expect(more).toEqual([]);
    return one !== undefined && one.state !== "waiting" && one;
  });
const memoryOf = async (): Promise<number> =>
  (await shepherd.machine("rank-0")).effective.memoryMib;

test("notify: whoever is named is told with the grant, with what the rule found", async () => {
  await ring({ notify: ["sue", "ned"] });
  await grow(320);
  const told = await events("obligation.told");
  expect(new Set(told.map(({ data }) => data["to"]))).toEqual(new Set(["ned", "sue"]));
  expect(told).toHaveLength(2);
  expect(told[0]).toMatchObject({
    environmentId: "env-ring",
    data: { message: "rank-0 would have 320 MiB, more than 0 MiB" },
  });
  const granted = await events("grant.issued");
  const started = (await events("operation.started")).at(-1);
  expect(told[0]?.seq).toBeGreaterThan(granted.at(-1)?.seq ?? Infinity);
  expect(told.at(-1)?.seq).toBeLessThan(started?.seq ?? 0);
  expect((await owed()).map(({ state }) => state)).toEqual(["kept", "kept"]);
}, 120_000);

test("nothing is owed for giving back", async () => {
  await ring({ notify: ["sue"] });
  await grow(320);
  await giveBack();
  expect(await events("obligation.told")).toHaveLength(1);
}, 120_000);

test("verify: it is kept once the host says that the guest has it", async () => {
  await ring({ verify: within(600, "release") });
  await grow(320);
  expect(await ended()).toMatchObject({
    state: "kept",
    demand: { id: "verify", owner: "operator", rule: "aftercare", instance: "growth" },
  });
  expect(await memoryOf()).toBe(320);
}, 120_000);

test("verify: a balloon that does not get there in time is given back", async () => {
  await ring({ verify: within(20, "release") }, 1);
  await grow(512);
  const missed = await ended();
  expect(missed).toMatchObject({ state: "missed" });
  expect(missed.outcome).toMatch(/^rank-0: memory_mib is \d+; given back$/);
  await until(async () => (await memoryOf()) === 256);
  expect(await events("obligation.ended")).toHaveLength(1);
  // It ends with its operation, which follows the balloon all the way down.
  await until(async () => (await events("adaptation.ended")).length > 0);
}, 120_000);

test("verify: told only, it stays", async () => {
  await ring({ verify: within(10, "tell") }, 1);
  await grow(512);
  expect(await ended()).toMatchObject({ state: "missed" });
  const [told] = await events("obligation.ended");
  expect(told?.data).toMatchObject({ state: "missed", released: false });
  expect(await memoryOf()).toBe(512);
}, 120_000);

test("review: another person's word keeps it; who asked has none", async () => {
  await ring({ review: within(3600, "release") });
  await grow(320);
  const one = await until(async () => (await owed()).find(({ dueAtMs }) => dueAtMs !== undefined));
  const word = (by: string) =>
    shepherd.store.transaction((journal) =>
      review(journal, one.id, { by, reason: "as agreed", atMs: one.owedAtMs + 1000 }),
    );
  await expect(word("rank-0")).rejects.toMatchObject({ code: "obligation.own_request" });
  expect(await word("ada")).toMatchObject({ state: "kept", outcome: "reviewed by ada: as agreed" });
  await expect(word("bob")).rejects.toMatchObject({ code: "obligation.ended" });
  expect(await memoryOf()).toBe(320);
}, 120_000);

test("review: what nobody looked at is given back, also when the shepherd was killed meanwhile", async () => {
  await ring({ review: within(30, "release") });
  await grow(320);
  const before = shepherd;
  await before.die();
  shepherd = await startShepherd({
    clock: before.world.clock,
    engines,
    sites: [siteOf("north", { "north-1": { cpuPercent: 200, memoryMib: 4096 } })],
    after: before,
    care: true,
  });
  expect(await ended()).toMatchObject({
    state: "missed",
    outcome: "nobody reviewed it in time; given back",
  });
  await until(async () => (await memoryOf()) === 256);
}, 120_000);

test("what was released before is nobody's business any more", async () => {
  await ring({ review: within(3600, "tell") });
  await grow(320);
  await giveBack();
  expect(await ended()).toMatchObject({
    state: "void",
    outcome: "something else was granted since",
  });
}, 120_000);
