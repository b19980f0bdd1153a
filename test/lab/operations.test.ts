/**
 * Operations on real libvirtd, QEMU and Linux bridges, without policy or Terraform around them: create, resize, move
 * over sites, and the shepherd's death in every phase of a move. Claims about a guest are read inside it. Needs root.
 */
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { readConfiguration } from "@drover/shepherd/configuration/configuration";
import { type GuestShell, openGuest } from "@drover/shepherd/lab/guest-shell";
import { insideHost } from "@drover/shepherd/lab/host";
import { down, type Lab, up } from "@drover/shepherd/lab/lab";
import { must } from "@drover/shepherd/lab/process";
import { readState } from "@drover/shepherd/lab/state";
import type { MachineRecord } from "@drover/shepherd/model/objects";
import type { Operation, OperationKind, PlanAction, StepRecord } from "@drover/shepherd/model/plan";
import type { HostRecord } from "@drover/shepherd/model/site";
import { createMortalStore } from "@drover/shepherd/simulated/crash";
import { openSqliteStore } from "@drover/shepherd/store/sqlite";
import { createIds, systemClock } from "@drover/shepherd/system";
import { connectLibvirt } from "@drover/shepherd/worlds/libvirt";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { pino } from "pino";
import { admitOrder, cost } from "../shepherd/operations/order.ts";
import { type Inside, insideGuest, startChecker, wrongSince } from "./chaos/checker.ts";
import { atHost, startGuest } from "./hand-made-guest.ts";
import { declareRank, declareRing, operationsOn } from "./ring-records.ts";
import { problemsOf } from "./soundness.ts";

const name = "opers";
/** Virtual size of the lab's image. */
const diskBytes = 128 * 2 ** 20;
const clock = systemClock;
const ids = createIds(clock);
const log = pino({ level: "silent" });
const sizing = { vcpus: 1, cpuPercent: 80, memoryMib: 192 };
const environmentId = ids.next();
const networkId = ids.next();
const imageId = ids.next();
const store = openSqliteStore(":memory:");

let lab: Lab;
let configuration: ReturnType<typeof readConfiguration>;
let fleet: readonly HostRecord[];
const rank0 = ids.next();
const rank1 = ids.next();
/** For all that nobody dies in, and for looks from outside. */
let usual: ReturnType<typeof shepherd>;
let lookingOn: ReturnType<typeof connectLibvirt>;
let guest: GuestShell;
let peer: GuestShell;

beforeAll(async () => {
  lab = await up({ name });
  const text = readFileSync(lab.configurationFile, "utf8");
  configuration = readConfiguration(text, lab.configurationFile);
  fleet = configuration.sites.flatMap((site) => site.hosts);
  await declareRing(store, {
    environmentId,
    networkId,
    imageId,
    imageDirectory: lab.imageDirectory,
    diskBytes,
    nowMs: clock.nowMs(),
  });
  for (const [index, id] of [rank0, rank1].entries()) await declareMachine(id, index);
  usual = shepherd();
  lookingOn = connectLibvirt(configuration, { clock, log });
  guest = openGuest(lab.layout, "drover-ring-rank-0");
  peer = openGuest(lab.layout, "drover-ring-rank-1");
}, 240_000);

afterAll(async () => {
  await usual?.end();
  await lookingOn?.close();
  await store.close();
  await down({ name });
}, 60_000);

/** A shepherd's operations on connections of its own; with `afterWrites` it dies, connections and all. */
function shepherd(death?: { readonly afterStep?: (step: StepRecord) => boolean }) {
  const world = connectLibvirt(configuration, { clock, log });
  const died = Promise.withResolvers<void>();
  const onDeath = () => void world.close().then(died.resolve, died.resolve);
  const mortal = createMortalStore(store, { ...death, onDeath });
  const own = death === undefined ? store : mortal;
  const operations = operationsOn(world, { store: own, ids, fleet, epoch: store.epoch, log });
  const end = async () => {
    await operations.stop();
    await world.close();
  };
  return { operations, store: own, died: died.promise, die: mortal.die, end };
}

/** With the shepherd that nothing happens to. */
async function perform(kind: OperationKind, actions: readonly PlanAction[]): Promise<Operation> {
  const order = { kind, environmentId, actions };
  const { id } = await admitOrder({ ...usual, clock, ids }, order);
  usual.operations.kick();
  return await usual.operations.wait(id, 120_000);
}

/** What the hosts hold of ours beside what the journal says, asked anew. */
const litter = () => problemsOf({ hosts: lookingOn.hosts, store, fleet });

const machine = async (id: string): Promise<MachineRecord> => {
  const record = await store.read((journal) => journal.objects.get("machine", id));
  if (record === undefined) throw new Error(`no machine ${id}`);
  return record;
};
const siteOf = (hostId: string) => fleet.find((host) => host.id === hostId)?.siteId ?? "";
const create = (machineId: string, hostId: string): PlanAction => ({
  kind: "create_machine",
  machineId,
  hostId,
  siteId: siteOf(hostId),
  sizing,
  cost,
});
const move = (fromHostId: string, toHostId: string): PlanAction => ({
  kind: "move_machine",
  machineId: rank0,
  fromHostId,
  fromSiteId: siteOf(fromHostId),
  toHostId,
  toSiteId: siteOf(toHostId),
  cost,
});
interface Before {
  readonly checked: Inside;
  readonly data: string;
}
const data = () => guest.read("cat /run/sum; sha256sum /work/data");
const lookInside = async (): Promise<Before> => ({
  checked: await insideGuest(guest),
  data: await data(),
});
/** Same boot, no write lost or foreign, what had been written before as it was. */
async function expectUnnoticed(before: Before): Promise<void> {
  const now = await lookInside();
  expect(wrongSince(before.checked, now.checked)).toEqual([]);
  expect(now.data).toBe(before.data);
}
/** Each asks the other, at once; a frame may be lost where a machine has just come. */
const ping = (address: string) =>
  `for n in 1 2 3; do ping -c 1 -W 1 ${address} >/dev/null && exit 0; done; exit 1`;
const pingsPeer = async () => {
  // Asked first: it may still be booting.
  if ((await peer.read("echo up")) !== "up") return false;
  const both = await Promise.all([guest.run(ping("10.42.0.11")), peer.run(ping("10.42.0.10"))]);
  return both.every(({ code }) => code === 0);
};

test("creates two machines on two sites that reach each other", async () => {
  const first = await perform("create", [create(rank0, "north-1")]);
  expect(first.fault).toBeUndefined();
  const second = await perform("create", [create(rank1, "south-1")]);
  expect(second.fault).toBeUndefined();
  await guest.read(
    "head -c 3000000 /dev/urandom > /work/data; sync; sha256sum /work/data > /run/sum",
  );
  await startChecker(guest);
  // On a busy machine a guest answers the lab before it has its address.
  await guest.run(
    "for n in $(seq 40); do ping -c 1 -W 1 10.42.0.11 >/dev/null && exit 0; done; exit 1",
    { timeoutMs: 90_000 },
  );
  expect(await pingsPeer()).toBe(true);
  expect(await litter()).toEqual([]);
}, 240_000);

test("resizes live", async () => {
  const operation = await perform("adapt", [
    { kind: "set_memory", machineId: rank0, fromMib: 192, toMib: 256, cost },
    { kind: "set_cpu_percent", machineId: rank0, from: 80, to: 95, cost },
  ]);
  expect(operation).toMatchObject({ state: "succeeded" });
  expect((await machine(rank0)).effective).toMatchObject({ memoryMib: 256, cpuPercent: 95 });
}, 60_000);

test("moves a machine with its disk to another site; the guest does not notice", async () => {
  const before = await lookInside();
  const operation = await perform("adapt", [move("north-1", "north-2")]);
  expect(operation.fault).toBeUndefined();
  expect(operation.state).toBe("succeeded");
  expect(operation.measured?.downtimeMs).toBeGreaterThan(0);
  await expectUnnoticed(before);
  expect(guest.host()).toBe("north-2");
  expect(await pingsPeer()).toBe(true);
  expect(await litter()).toEqual([]);
}, 120_000);

describe("the shepherd dies in a move", () => {
  /** Dies where `death` says, is followed by another, and what then holds is looked at on both hosts and in the guest. */
  async function dieAndRecover(
    death: { readonly afterStep?: (step: StepRecord) => boolean },
    whileRunning: (mortal: ReturnType<typeof shepherd>) => Promise<void> = async () => undefined,
  ): Promise<Operation> {
    const before = await lookInside();
    const { hostId } = (await machine(rank0)).effective;
    const target = hostId === "north-1" ? "north-2" : "north-1";
    const mortal = shepherd(death);
    const order = { kind: "adapt" as const, environmentId, actions: [move(hostId, target)] };
    const { id } = await admitOrder({ ...mortal, clock, ids }, order);
    mortal.operations.kick();
    await whileRunning(mortal);
    await mortal.died;

    const next = shepherd();
    try {
      await next.operations.recover();
      const operation = await next.operations.wait(id, 120_000);
      expect(operation).toMatchObject({ state: "succeeded" });
    } finally {
      await next.end();
    }
    expect((await machine(rank0)).effective).toMatchObject({ state: "running", hostId: target });
    await expectUnnoticed(before);
    expect(guest.host()).toBe(target);
    expect(await pingsPeer()).toBe(true);
    expect(await litter()).toEqual([]);
    const ended = await store.read((journal) => journal.operations.get(id));
    if (ended === undefined) throw new Error("the operation is gone");
    return ended;
  }
  const inPhase = (phase: string) => (step: StepRecord) =>
    (step.outcome as { phase?: string } | undefined)?.phase === phase && step.state === "doing";

  test.each([
    ["begun", "before the destination listens"],
    ["prepared", "before the copy"],
    ["handed_over", "in the bad window: nobody runs it"],
    ["switched", "before forwarding was switched and the source told"],
  ])(
    "when it is %s, %s: it runs once, where it should, with its disk",
    async (phase) => {
      await dieAndRecover({ afterStep: inPhase(phase) });
    },
    180_000,
  );

  test("in the middle of the copy: both hosts roll back, the next shepherd copies again", async () => {
    await dieAndRecover({}, async ({ store: own, die }) => {
      for (;;) {
        const events = await own.read((journal) => journal.events.since(0, 100_000));
        const last = events.findLast((event) => event.kind === "operation.progress");
        if (String(last?.data["message"]).includes("copying")) break;
        await clock.sleep(20);
      }
      die();
    });
  }, 180_000);
});

describe("a full pool", () => {
  /** A file system of that size stands where the host's pool was, for as long as `work` takes. */
  async function withSmallPool(
    hostId: string,
    sizeBytes: number,
    work: () => Promise<void>,
  ): Promise<void> {
    const anchor = readState(lab.layout.stateDirectory)?.hosts[hostId]?.anchor;
    if (anchor === undefined) throw new Error(`no host ${hostId}`);
    const folder = "/var/lib/libvirt/images";
    const inside = insideHost(anchor);
    await must([...inside, "mount", "-t", "tmpfs", "-o", `size=${sizeBytes}`, "small", folder]);
    try {
      await work();
      const left = await must([
        ...inside,
        "find",
        folder,
        "-name",
        "drover-*",
        "-newer",
        "/proc/1",
      ]);
      expect(left.split("\n").filter((file) => file.includes(rank0))).toEqual([]);
    } finally {
      await must([...inside, "umount", folder]);
    }
  }
  const freeHost = async () =>
    (await machine(rank0)).effective.hostId === "north-1" ? "north-2" : "north-1";
  const partsBytes = () =>
    ["base.qcow2", "kernel", "initrd"].reduce(
      (total, part) => total + statSync(join(lab.imageDirectory, part)).size,
      0,
    );
  /** The move ended without having happened: same boot, same disk, same neighbours, nothing left over. */
  async function expectUntouched(before: Before, home: string): Promise<void> {
    expect((await machine(rank0)).effective).toMatchObject({ state: "running", hostId: home });
    await expectUnnoticed(before);
    expect(guest.host()).toBe(home);
    expect(await pingsPeer()).toBe(true);
  }

  test("a move whose image has no room at the destination ends with a clear fault", async () => {
    const before = await lookInside();
    const { hostId: home } = (await machine(rank0)).effective;
    const target = await freeHost();
    await withSmallPool(target, 1024 * 1024, async () => {
      const operation = await perform("adapt", [move(home, target)]);
      expect(operation).toMatchObject({
        state: "failed",
        fault: { code: "pool.full", details: { volume: expect.stringContaining("drover-") } },
      });
      await expectUntouched(before, home);
    });
    expect(await litter()).toEqual([]);
  }, 180_000);

  test("a move whose disk outgrows the destination in the copy leaves the machine where it was", async () => {
    await guest.read("dd if=/dev/urandom of=/work/more bs=1M count=24 2>/dev/null; sync; echo ok");
    const before = await lookInside();
    const { hostId: home } = (await machine(rank0)).effective;
    const target = await freeHost();
    await withSmallPool(target, partsBytes() + 8 * 2 ** 20, async () => {
      const operation = await perform("adapt", [move(home, target)]);
      expect(operation.state).toBe("failed");
      expect(operation.fault?.message).toMatch(/no room|space|disk|pool/i);
      await expectUntouched(before, home);
    });
    expect(await litter()).toEqual([]);
    await guest.read("rm /work/more; sync; echo ok");
  }, 180_000);

  test("a machine that has no room for its image is not created, and leaves nothing", async () => {
    const target = await freeHost();
    const late = ids.next();
    await declareMachine(late, 2);
    await withSmallPool(target, 1024 * 1024, async () => {
      const operation = await perform("create", [create(late, target)]);
      expect(operation).toMatchObject({ state: "failed", fault: { code: "pool.full" } });
      expect((await machine(late)).effective).toMatchObject({ state: "failed", hostId: "" });
    });
    await store.transaction((journal) => journal.objects.remove("machine", late));
    expect(await litter()).toEqual([]);
  }, 120_000);
});

test("takes over a machine that another tool made, as it runs, and changes it live from then on", async () => {
  await startGuest(name, "north-2", { name: "old-db", address: "10.99.0.2" });
  const [line] = (await atHost(name, "north-2", ["virsh", "domuuid", "old-db"])).trim().split("\n");
  const id = line ?? "";
  const old = openGuest(lab.layout, "old-db");
  const boot = await old.read("cat /proc/sys/kernel/random/boot_id");
  const effective = { ...sizing, siteId: "", hostId: "", state: "creating" as const, nics: [] };
  await store.transaction((journal) =>
    journal.objects.put({
      kind: "machine",
      id,
      key: `${environmentId}/db`,
      environmentId,
      spec: {
        environmentId,
        name: "db",
        speaker: false,
        imageId: "",
        baseline: { ...sizing, siteId: "north" },
        envelope: { mode: "auto" },
        networks: [],
        origin: "import",
        importedFrom: "north-2",
      },
      effective: { ...effective, ceiling: { vcpus: 1, memoryMib: 192 } },
      version: 1,
      claimed: true,
      createdAtMs: clock.nowMs(),
    }),
  );
  const take: PlanAction = {
    kind: "create_machine",
    machineId: id,
    hostId: "north-2",
    siteId: "north",
    sizing: { vcpus: 1, cpuPercent: 100, memoryMib: 192 },
    adopt: true,
    cost,
  };
  // What libvirt would forget when it stops is not taken over: the answer says what to do about it.
  const refused = await perform("create", [take]);
  expect(refused).toMatchObject({ state: "failed", fault: { code: "import.refused" } });
  await atHost(name, "north-2", [
    "sh",
    "-c",
    "virsh dumpxml old-db > /run/old-db.live.xml && virsh define /run/old-db.live.xml",
  ]);
  const taken = await perform("create", [take]);
  expect(taken.fault).toBeUndefined();
  expect((await machine(id)).effective).toMatchObject({
    state: "running",
    hostId: "north-2",
    ceiling: { vcpus: 2, memoryMib: 384 },
  });
  const resized = await perform("adapt", [
    { kind: "set_memory", machineId: id, fromMib: 192, toMib: 256, cost },
    { kind: "set_cpu_percent", machineId: id, from: 100, to: 60, cost },
  ]);
  expect(resized).toMatchObject({ state: "succeeded" });
  expect(await old.read("cat /proc/sys/kernel/random/boot_id")).toBe(boot);
  const xml = await atHost(name, "north-2", ["virsh", "dumpxml", "old-db"]);
  expect(xml).toMatch(new RegExp(`<drover:machine [^>]*environment=['"]${environmentId}['"]`));
  const gone = await perform("destroy", [
    { kind: "destroy_machine", machineId: id, hostId: "north-2", cost },
  ]);
  expect(gone).toMatchObject({ state: "succeeded" });
  expect(await atHost(name, "north-2", ["virsh", "list", "--all", "--name"])).not.toContain(
    "old-db",
  );
}, 180_000);

test("destroys both and leaves nothing of ours on any host", async () => {
  for (const machineId of [rank0, rank1]) {
    const { hostId } = (await machine(machineId)).effective;
    const operation = await perform("destroy", [
      { kind: "destroy_machine", machineId, hostId, cost },
    ]);
    expect(operation).toMatchObject({ state: "succeeded" });
  }
  expect(await store.read((journal) => journal.objects.list("machine"))).toEqual([]);
  expect(await litter()).toEqual([]);
  for (const { id } of fleet) {
    const volumes = await lookingOn.hosts.get(id).volumes.list();
    expect(volumes.filter(({ name: is }) => is.startsWith("drover-"))).toEqual([]);
  }
}, 120_000);

const declareMachine = (machineId: string, index: number) =>
  declareRank(store, { machineId, index, environmentId, networkId, imageId, sizing });
