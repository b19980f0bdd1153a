/** What a guest hears while people decide: that it waits, and how it ended; who they are stays outside. */
import { join } from "node:path";
import { openPolicy } from "@drover/shepherd/opa/engine";
import { libraryFolder } from "@drover/shepherd/opa/sources";
import type { PolicyEngine } from "@drover/shepherd/ports/policy-engine";
import { createScaledClock } from "@drover/shepherd/simulated/clock";
import { afterAll, afterEach, beforeAll, expect, test } from "@jest/globals";
import { type Guest, type Shepherd, siteOf, startShepherd } from "./shepherd.ts";

const folders = {
  operator: "operator",
  "owner:*": "owner",
  "site:north": "site-north",
  "site:south": "site-south",
};
const engines = new Map<string, PolicyEngine>();
beforeAll(async () => {
  for (const [owner, folder] of Object.entries(folders)) {
    const source = { owner, folder: join(libraryFolder, "data", folder) };
    engines.set(owner, await openPolicy(source));
  }
}, 120_000);
afterAll(async () => {
  for (const engine of engines.values()) await engine.close();
});

let shepherd: Shepherd;
afterEach(async () => {
  expect(shepherd.world.violations).toEqual([]);
  await shepherd.stop();
});

async function ring(mode: "approve" | "advise"): Promise<Guest> {
  shepherd = await startShepherd({
    // A guest is told `waiting` after two seconds: they are real ones here, so that a busy machine answers within them.
    clock: createScaledClock({ scale: 1, originMs: Date.now() }),
    speeds: { callMs: 0, startMs: 5, stopMs: 5, balloonMibPerS: 1e6 },
    engines,
    sites: [siteOf("north", { "north-1": { cpuPercent: 200, memoryMib: 1024 } })],
  });
  const range = { min: 10, max: 180 };
  const envelope = { mode, cpuPercent: range, memoryMib: { min: 192, max: 1024 } };
  await shepherd.create([{ name: "rank-0", envelope }]);
  await shepherd.settled();
  return await shepherd.guest("rank-0");
}
const waiting = async (): Promise<string> => {
  const [approval] = await shepherd.store.read((journal) =>
    journal.approvals.list({ states: ["pending"] }),
  );
  if (approval === undefined) throw new Error("nothing waits");
  return approval.requestId;
};
const final = (guest: Guest, id: string) =>
  guest.next(({ params }) => params?.["id"] === id && params["final"] === true);

test("an ask waits, says so, and is granted once a named person approved it", async () => {
  const guest = await ring("approve");
  const first = await guest.call("resize", { cpu_percent: 60 }, "7");
  expect(first.result).toMatchObject({
    verdict: "pending",
    code: "policy.approval_needed",
    message: "a named person must approve it",
  });
  expect((await guest.call("resize", { cpu_percent: 60 }, "7")).result).toEqual(first.result);
  await shepherd.gate.vote(await waiting(), { by: "ada", verdict: "approve", reason: "agreed" });
  const ended = await final(guest, "7");
  expect(ended.params?.["result"]).toMatchObject({
    verdict: "granted",
    granted: { cpu_percent: 60 },
  });
  expect((await shepherd.machine("rank-0")).effective.cpuPercent).toBe(60);
  // The same id again has the same answer; nobody is asked again.
  expect((await guest.ask("resize", { cpu_percent: 60 }, "7"))?.["verdict"]).toBe("granted");
  expect(JSON.stringify(guest.messages)).not.toMatch(/\bada\b/);
});

test("a no reaches it, without the name or the reason of who said it", async () => {
  const guest = await ring("approve");
  await guest.call("resize", { cpu_percent: 60 }, "8");
  await shepherd.gate.vote(await waiting(), {
    by: "ada",
    verdict: "reject",
    reason: "the quarter is over",
  });
  expect((await final(guest, "8")).params?.["result"]).toMatchObject({
    verdict: "denied",
    code: "approval.rejected",
    message: "a named person said no",
  });
  const told = JSON.stringify(guest.messages);
  expect(told).not.toMatch(/\bada\b/);
  expect(told).not.toContain("quarter");
  expect((await shepherd.machine("rank-0")).effective.cpuPercent).toBe(20);
});

test("giving back waits for nobody", async () => {
  const guest = await ring("approve");
  expect((await guest.ask("release"))?.["verdict"]).toBe("granted");
});

test("mode advise is told as a no that changes nothing", async () => {
  const guest = await ring("advise");
  expect(await guest.ask("resize", { cpu_percent: 60 })).toMatchObject({
    verdict: "denied",
    code: "policy.advised",
  });
  expect((await shepherd.machine("rank-0")).effective.cpuPercent).toBe(20);
});
