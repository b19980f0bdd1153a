/**
 * Moves as people ask for them, on real hosts and guests: everything in the way is told at once before a byte is copied; a
 * prediction is told before and stands beside the measurement; a deadline that cannot be kept is refused; a machine goes
 * to a host; a whole environment goes to the other site as one operation, and the connections between its machines hold.
 */

import { insideHost } from "@drover/shepherd/lab/host";
import { must } from "@drover/shepherd/lab/process";
import { readState } from "@drover/shepherd/lab/state";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { clockOffset } from "./guest-clock.ts";
import { type Ends, holdConnections } from "./held-connections.ts";
import { type MovingStage, openMovingStage } from "./moving-stage.ts";

const name = "jmoves";
const ranks = 4;
let stage: MovingStage;

beforeAll(async () => {
  stage = await openMovingStage({ name, ranks, memoryMib: 160 });
  for (const [left, right] of [
    [0, 2],
    [1, 3],
  ] as const) {
    const link = { machines: [`rank-${left}`, `rank-${right}`], rate_mbps: 50 };
    const answer = await stage.client.call<{ operation: { id: string } | null }>(
      "PUT",
      "/v1/environments/ring/links",
      { body: link, waitMs: 60_000 },
    );
    if (answer.operation !== null) await stage.client.waitForOperation(answer.operation.id);
  }
}, 400_000);

afterAll(() => stage?.end(), 60_000);

async function onHost(id: string, script: string): Promise<string> {
  const anchor = readState(stage.lab.layout.stateDirectory)?.hosts[id]?.anchor;
  if (anchor === undefined) throw new Error(`no host ${id}`);
  return must([...insideHost(anchor), "sh", "-c", script]);
}

/** Pool of a host as libvirt's own client lists it. */
async function volumes(host: string): Promise<string> {
  return (await stage.virsh(host, "vol-list", "drover")).stdout;
}

test("everything in the way is told at once, with its fix, and not a byte is copied", async () => {
  const before = await volumes("south-1");
  // Its firewall drops what moves come by, and somebody has a domain of that name.
  await onHost(
    "south-1",
    "nft add table inet guard; nft 'add chain inet guard in { type filter hook input priority 0; }'; nft add rule inet guard in tcp dport 49152-49215 drop",
  );
  const xml =
    "<domain type='qemu'><name>drover-ring-rank-0</name><memory unit='MiB'>32</memory><os><type>hvm</type></os></domain>";
  await onHost("south-1", `echo "${xml}" > /run/namesake.xml; virsh -q define /run/namesake.xml`);
  try {
    const dry = await stage.drover("move", "ring/rank-0", "--to", "south", "--dry-run");
    expect(dry.said).toContain("drover-ring-rank-0 already (name)");
    expect(dry.said).toContain("on TCP ports 49152 to 49215 (ports)");
    expect(dry.said).toContain("open TCP ports 49152 to 49215 of south-1");
    const real = await stage.drover("move", "ring/rank-0", "--to", "south");
    expect(real.said).toContain("2 in the way");
    expect(real.said).toContain("fix:   rank-0: open TCP ports");
    expect(real.code).toBe(5);
    expect(await volumes("south-1")).toBe(before);
    expect((await stage.places())[0]).toBe("north-1");
  } finally {
    await onHost("south-1", "virsh -q undefine drover-ring-rank-0; nft delete table inet guard");
  }
  const clean = await stage.drover("move", "ring/rank-0", "--to", "south", "--dry-run");
  expect(clean.said).not.toContain("stop:");
  expect(clean.said).toMatch(/predicted \S+ s \(\S+ s to \S+ s\), \d+ MiB copied \(\d+ to \d+\)/);
}, 120_000);

test("a machine that somebody paused stays where it is, and paused", async () => {
  expect((await stage.virsh("north-1", "suspend", "drover-ring-rank-0")).code).toBe(0);
  try {
    const asked = await stage.drover("move", "ring/rank-0", "--to", "south");
    process.stderr.write(asked.said);
    expect(asked.said).toContain("paused");
    expect(asked.code).not.toBe(0);
    expect((await stage.virsh("north-1", "domstate", "drover-ring-rank-0")).stdout).toContain(
      "paused",
    );
    expect((await stage.virsh("south-1", "list", "--all", "--name")).stdout).not.toContain(
      "rank-0",
    );
  } finally {
    await stage.virsh("north-1", "resume", "drover-ring-rank-0");
  }
}, 60_000);

test("a move that cannot have ended in time is refused with its reason, for people and guests alike", async () => {
  const asked = await stage.drover("move", "ring/rank-0", "--to", "south", "--by", "1s");
  expect(asked.code).toBe(3);
  expect(asked.said).toMatch(/It would take \S+ s, between \S+ s and \S+ s, and \S+ s are left/);
  const guest = await stage.rank(0).run("drover-guest move --to south --within 1s");
  expect(guest.code).toBe(3);
  expect(guest.stdout).toContain("It would take");
  expect((await stage.places())[0]).toBe("north-1");
}, 60_000);

test("a guest asks for its own move, in time; its clock loses the stop and no more, and is set from inside; predicted stands beside measured", async () => {
  const boot = await stage.rank(0).read("cat /proc/sys/kernel/random/boot_id");
  const before = await setClock();
  const guest = await stage.rank(0).run("drover-guest move --to south --within 10m --wait 120", {
    timeoutMs: 180_000,
  });
  expect(guest.stdout).toMatch(/^granted|^pending/);
  const [asked] = await operations();
  const ended = await stage.client.waitForOperation(asked?.id ?? "");
  expect([ended.state, ended.fault?.message]).toEqual(["succeeded", undefined]);
  expect((await stage.places())[0]).toBe("south-1");
  const after = await clockOffset(stage.rank(0));
  expect(await stage.rank(0).read("cat /proc/sys/kernel/random/boot_id")).toBe(boot);
  const [operation] = await operations();
  const stopMs = ended.measured?.downtime_ms ?? 0;
  const lostMs = { least: before.least - after.most, most: before.most - after.least };
  process.stderr.write(
    `  clock lost ${lostMs.least} to ${lostMs.most} ms, stopped for ${stopMs} ms\n`,
  );
  expect(lostMs.least).toBeLessThan(stopMs + 100);
  await setClock();
  const told = await stage.drover("operation", operation?.id ?? "");
  expect(told.said).toMatch(/predicted {2}\S+ s \(.*\), \d+ MiB copied \(.*\), \d+ ms down \(/);
  expect(told.said).toMatch(/measured {3}\S+ s, \S+ MiB copied, \d+ ms down/);
  expect(told.said).toMatch(/within the band|outside the band/);
}, 240_000);

test("a move to a host goes to that host", async () => {
  const moved = await stage.drover("move", "ring/rank-0", "--to", "north-2");
  expect(moved.said).toContain("granted");
  expect(moved.code).toBe(0);
  expect((await stage.places())[0]).toBe("north-2");
}, 240_000);

test("a whole environment moves as one operation, those that talk most beside each other; no guest boots, no connection breaks", async () => {
  const boots = await Promise.all(all((rank) => rank.read("cat /proc/sys/kernel/random/boot_id")));
  const talkers = all((guest) => guest).map((guest, index) => ({
    guest,
    address: stage.machines[index]?.networks[0]?.address ?? "",
  }));
  const connections = await holdConnections(talkers);
  const held = await connections.look();
  for (const { pids, sockets } of held) expect([pids.length, sockets.length]).toEqual([2, 2]);
  const asked = await stage.drover("move", "ring", "--to", "south", "--by", "30m");
  expect(asked.said).toContain("granted");
  expect(asked.code).toBe(0);
  expect(await stage.places()).toEqual(["south-1", "south-1", "south-1", "south-1"]);
  const [operation] = await operations();
  const { plan, text } = await stage.explain(operation?.id ?? "");
  const waves = new Map(
    plan?.actions.flatMap((action) =>
      action.kind === "move_machine" ? [[action.machine_id, action.wave] as const] : [],
    ),
  );
  const waveOf = (index: number) => waves.get(stage.machines[index]?.id ?? "") ?? -1;
  // Two at once, or one by one where the line is slow for what they write: a linked pair goes before the other pair.
  const [one, other] = [
    [waveOf(0), waveOf(2)],
    [waveOf(1), waveOf(3)],
  ] as const;
  expect(Math.min(...one, ...other)).toBe(0);
  expect(Math.max(...one) < Math.min(...other) || Math.max(...other) < Math.min(...one)).toBe(true);
  expect(text).toMatch(/rank-0: wave \d, predicted/);
  expect(text).toMatch(/rank-0: measured/);
  expect(
    await Promise.all(all((rank) => rank.read("cat /proc/sys/kernel/random/boot_id"))),
  ).toEqual(boots);
  // The very programs and sockets from before the move, all of what was said in its order, and they talk on.
  const after = await connections.untilHeardAnew();
  expect(after.map(whose)).toEqual(held.map(whose));
  const silences = after.map(({ longestSilenceMs }) => longestSilenceMs);
  process.stderr.write(
    `  longest silences over the environment's move: ${silences.join(", ")} ms\n`,
  );
  await connections.end();
}, 600_000);

test("after that, predictions rest on what was measured, the guests' own writing included", async () => {
  const { plan } = await stage.client.call<{
    plan: { actions: { basis?: { samples: number; dirty_mib_per_s: number } }[] } | null;
  }>("POST", "/v1/requests", {
    body: { method: "move", environment: "ring", params: { site: "north" } },
    query: { dry_run: 1 },
  });
  for (const { basis } of plan?.actions ?? []) {
    expect(basis?.samples).toBeGreaterThanOrEqual(5);
  }
  expect(plan?.actions.length).toBe(ranks);
}, 60_000);

/** By the guest's own program and without an agent; seen from outside it is right afterwards. */
async function setClock() {
  const said = await stage.rank(0).run("drover-guest clock", { timeoutMs: 120_000 });
  process.stderr.write(`  ${said.stdout}\n`);
  expect([said.code, said.stdout]).toEqual([
    0,
    expect.stringMatching(/^clock: was off by .*, now by /),
  ]);
  const offset = await clockOffset(stage.rank(0));
  // What is certain of it.
  expect(offset.least).toBeLessThan(100);
  expect(offset.most).toBeGreaterThan(-100);
  return offset;
}

function whose({ pids, sockets, wrong }: Ends): object {
  return { pids, sockets, wrong };
}

function all<T>(work: (rank: ReturnType<MovingStage["rank"]>) => T): readonly T[] {
  return Array.from({ length: ranks }, (_, index) => work(stage.rank(index)));
}

/** What was asked for, the newest first; repairs begin by themselves and are none. */
async function operations() {
  const { items } = await stage.client.get<{ items: { id: string; kind: string }[] }>(
    "/v1/operations",
    { query: { environment: "ring", limit: 20 } },
  );
  return items.filter(({ kind }) => kind === "adapt").toReversed();
}
