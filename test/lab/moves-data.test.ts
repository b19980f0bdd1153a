/**
 * What a move carries, on real libvirtd and QEMU: a large layer is frozen, shipped in ranges and joined again; a cancel
 * and a retry cost what they should; nothing readable is on the wire; a copy that cannot end is given up; the guest's
 * clock is right afterwards. What happens in a guest is read inside it. Needs root and tcpdump.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { readConfiguration } from "@drover/shepherd/configuration/configuration";
import { type GuestShell, openGuest } from "@drover/shepherd/lab/guest-shell";
import { down, type Lab, up } from "@drover/shepherd/lab/lab";
import { hostOf } from "@drover/shepherd/lab/layout";
import { inNamespace } from "@drover/shepherd/lab/wires";
import type { MachineRecord } from "@drover/shepherd/model/objects";
import type { Operation, OperationKind, PlanAction } from "@drover/shepherd/model/plan";
import type { Limits } from "@drover/shepherd/model/request";
import type { HostRecord } from "@drover/shepherd/model/site";
import { openSqliteStore } from "@drover/shepherd/store/sqlite";
import { systemClock as clock, createIds } from "@drover/shepherd/system";
import { connectLibvirt } from "@drover/shepherd/worlds/libvirt";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { pino } from "pino";
import { admitOrder, cost } from "../shepherd/operations/order.ts";
import { clockOffset } from "./guest-clock.ts";
import { atHost } from "./hand-made-guest.ts";
import { declareRank, declareRing, operationsOn } from "./ring-records.ts";

const name = "movd";
const mib = 2 ** 20;
const ids = createIds(clock);
const log = pino({ level: process.env["LOG"] ?? "silent" });
/** The copy's own threads live under the machine's cap too, beside a guest that may be busy. */
const sizing = { vcpus: 1, cpuPercent: 180, memoryMib: 192 };
const [environmentId, networkId, imageId, machineId] = [
  ids.next(),
  ids.next(),
  ids.next(),
  ids.next(),
];
const store = openSqliteStore(":memory:");
const domain = "drover-ring-rank-0";
const layer = `drover-${machineId}.qcow2`;
const patienceMs = 240_000;
/** Never in a program or a file of the lab: on the wire it can only come from this guest's memory or disk. */
const secret = `drover-secret-${ids.next()}`;

let lab: Lab;
let configuration: ReturnType<typeof readConfiguration>;
let fleet: readonly HostRecord[];
let guest: GuestShell;

beforeAll(async () => {
  lab = await up({ name });
  const text = readFileSync(lab.configurationFile, "utf8");
  configuration = readConfiguration(text, lab.configurationFile);
  fleet = configuration.sites.flatMap((site) => site.hosts);
  const { imageDirectory } = lab;
  const nowMs = clock.nowMs();
  const ring = { environmentId, networkId, imageId, imageDirectory, diskBytes: 128 * mib, nowMs };
  await declareRing(store, ring);
  await declareRank(store, { machineId, index: 0, environmentId, networkId, imageId, sizing });
  const created = await perform("create", [
    { kind: "create_machine", machineId, hostId: "north-1", siteId: "north", sizing, cost },
  ]);
  if (created.state !== "succeeded") throw new Error(JSON.stringify(created.fault));
  guest = openGuest(lab.layout, domain);
  await guest.read("echo up", { timeoutMs: 120_000 });
}, 300_000);

afterAll(async () => {
  const { hostId } = (await machine()).effective;
  await perform("destroy", [{ kind: "destroy_machine", machineId, hostId, cost }]);
  await store.close();
  await down({ name });
}, 120_000);

function shepherd(options: { readonly encrypt?: boolean } = {}) {
  const world = connectLibvirt(
    { ...configuration, encryptMoves: options.encrypt ?? true },
    { clock, log },
  );
  const operations = operationsOn(world, { store, ids, fleet, epoch: store.epoch, log });
  const end = async () => {
    await operations.stop();
    await world.close();
  };
  return { operations, store, hosts: world.hosts, end };
}

async function perform(
  kind: OperationKind,
  actions: readonly PlanAction[],
  options: {
    readonly encrypt?: boolean;
    /** What the decision says; nothing when absent. */
    readonly limits?: Limits;
    readonly meanwhile?: (id: string, running: ReturnType<typeof shepherd>) => Promise<void>;
  } = {},
): Promise<Operation> {
  const running = shepherd(options);
  try {
    const decisionId = options.limits === undefined ? undefined : await decide(options.limits);
    const order = { kind, environmentId, actions, decisionId };
    const { id } = await admitOrder({ ...running, clock, ids }, order);
    running.operations.kick();
    await options.meanwhile?.(id, running);
    return await running.operations.wait(id, patienceMs);
  } finally {
    await running.end();
  }
}

async function machine(): Promise<MachineRecord> {
  const record = await store.read((journal) => journal.objects.get("machine", machineId));
  if (record === undefined) throw new Error("the machine is gone from the journal");
  return record;
}
const siteOf = (hostId: string) => fleet.find((host) => host.id === hostId)?.siteId ?? "";

async function moveTo(
  toHostId: string,
  options: Parameters<typeof perform>[2] = {},
): Promise<Operation> {
  const { hostId } = (await machine()).effective;
  const action: PlanAction = {
    kind: "move_machine",
    machineId,
    fromHostId: hostId,
    fromSiteId: siteOf(hostId),
    toHostId,
    toSiteId: siteOf(toHostId),
    cost,
  };
  return perform("adapt", [action], options);
}

async function outcomeOf(operation: Operation, step: string): Promise<Record<string, unknown>> {
  const steps = await store.read((journal) => journal.steps.ofOperation(operation.id));
  return (steps.find(({ name: each }) => each.includes(step))?.outcome ?? {}) as Record<
    string,
    unknown
  >;
}

/** Waits until the operation says something; false when it ended before. */
async function says(id: string, words: string): Promise<boolean> {
  for (;;) {
    const operation = await store.read((journal) => journal.operations.get(id));
    if (operation?.progress.message.includes(words)) return true;
    if (operation?.endedAtMs !== undefined) return false;
    await clock.sleep(5);
  }
}

const inside = () =>
  guest.read(
    "cat /proc/sys/kernel/random/boot_id; sync; echo 3 >/proc/sys/vm/drop_caches; md5sum /work/data",
    { timeoutMs: 120_000 },
  );
const virsh = async (hostId: string, ...command: string[]) =>
  (await atHost(name, hostId, ["virsh", "-q", ...command])).trim();
const volumesOf = async (hostId: string) => {
  const running = shepherd();
  try {
    const { volumes } = running.hosts.get(hostId);
    const names = (await volumes.list()).map((volume) => volume.name);
    return {
      whole: names.filter((each) => each.includes(machineId)),
      partial: (await volumes.listPartial()).map((volume) => volume.name),
    };
  } finally {
    await running.end();
  }
};

/** Whether the secret passes the source's uplink meanwhile. */
async function seenOnTheWire(hostId: string, during: () => Promise<void>): Promise<boolean> {
  const uplink = hostOf(lab.layout, hostId);
  const tcpdump = spawn(
    "nsenter",
    [
      ...inNamespace(uplink.namespace).slice(1),
      ..."tcpdump -n -U -s 0 -w - -i uplink tcp portrange 49152-49215".split(" "),
    ],
    { stdio: ["ignore", "pipe", "pipe"] },
  );
  const wanted = Buffer.from(secret);
  let seen = false;
  let bytes = 0;
  let rest = Buffer.alloc(0);
  tcpdump.stdout.on("data", (chunk: Buffer) => {
    const text = Buffer.concat([rest, chunk]);
    seen ||= text.includes(wanted);
    rest = text.subarray(Math.max(0, text.length - wanted.length));
    bytes += chunk.length;
  });
  await once(tcpdump.stderr, "data");
  await during();
  await clock.sleep(300);
  tcpdump.kill("SIGINT");
  await once(tcpdump, "close");
  // A capture that caught nothing proves nothing.
  expect(bytes).toBeGreaterThan(mib);
  return seen;
}

test("what a guest has in memory and on disk does not pass the wire in the clear, unless somebody says so", async () => {
  await guest.read(
    `i=0; while [ $i -lt 2000 ]; do echo "${secret} $i"; i=$((i+1)); done >/run/secret
cp /run/secret /work/secret; sync; echo ok`,
  );
  let operation: Operation | undefined;
  const encrypted = await seenOnTheWire("north-1", async () => {
    operation = await moveTo("north-2");
  });
  expect(operation?.fault).toBeUndefined();
  expect(encrypted).toBe(false);
  expect(operation && (await outcomeOf(operation, "copy and switch"))).toMatchObject({
    encrypted: true,
  });
  // The witness is no blind one.
  const clear = await seenOnTheWire("north-2", async () => {
    operation = await moveTo("north-1", { encrypt: false });
  });
  expect(operation?.fault).toBeUndefined();
  expect(clear).toBe(true);
  await guest.read("rm /run/secret /work/secret; echo ok");
}, 300_000);

test("a guest that writes faster than the line carries is given up, with the numbers, and goes on", async () => {
  const before = await guest.read("cat /proc/sys/kernel/random/boot_id");
  const home = (await machine()).effective.hostId;
  const target = home === "north-1" ? "north-2" : "north-1";
  // A round of what it writes takes seconds over 32 Mbit/s, and nothing that would help is allowed.
  const arena = "i=0; while [ $i -lt 6 ]; do cat /bin/busybox; i=$((i+1)); done >/run/busy/a";
  const write = "while :; do dd if=/run/busy/a of=/run/busy/b bs=64k conv=notrunc; done";
  await guest.read(
    `mkdir -p /run/busy; mount -t tmpfs tmpfs /run/busy; ${arena}; cp /run/busy/a /run/busy/b; ( ${write} ) >/dev/null 2>&1 & echo $! >/run/busy.pid; echo ok`,
    { timeoutMs: 120_000 },
  );
  try {
    const operation = await moveTo(target, {
      limits: { maxMbps: 32, forbidRungs: ["downtime", "throttle"] },
    });
    process.stderr.write(`  ${operation.fault?.message}\n`);
    expect(operation).toMatchObject({
      state: "failed",
      fault: { code: "migration.hopeless", details: { tried: [] } },
    });
    expect(guest.host()).toBe(home);
    expect(await guest.read("cat /proc/sys/kernel/random/boot_id")).toBe(before);
    expect(await virsh(target, "list", "--all", "--name")).not.toContain(domain);
  } finally {
    await guest.read("kill $(cat /run/busy.pid); killall dd; sleep 1; umount /run/busy; echo ok");
  }
}, 400_000);

test("a large layer is frozen, shipped without its zeros, and joined where the machine is then", async () => {
  // No two ranges of it are alike: each part is shifted by the names of those before it.
  const grow = "cat /bin/busybox /bin/busybox /bin/busybox /bin/busybox >/run/chunk";
  await guest.read(
    `${grow}; n=0; : >/work/data; while [ $(stat -c %s /work/data) -lt ${72 * mib} ]; do n=$((n+1)); echo "part $n"; cat /run/chunk; done >>/work/data; rm /run/chunk; sync; echo ok`,
    { timeoutMs: 180_000 },
  );
  const before = await inside();
  const clockBefore = await clockOffset(guest);
  const operation = await moveTo("north-2");
  expect(operation.fault).toBeUndefined();
  const clockAfter = await clockOffset(guest);
  expect(await outcomeOf(operation, "freeze")).toMatchObject({ way: "layered" });
  const shipped = await outcomeOf(operation, "disk on");
  expect(shipped["sentBytes"]).toBeGreaterThan(70 * mib);
  expect(shipped["sentBytes"]).toBeLessThan(110 * mib);
  // Only the fresh overlay went with the memory.
  const copied = await outcomeOf(operation, "copy and switch");
  expect(copied["diskBytes"]).toBeLessThan(20 * mib);
  expect(await inside()).toBe(before);
  expect(guest.host()).toBe("north-2");
  const disks = await virsh("north-2", "domblklist", domain);
  expect(disks).toContain(`/${layer}`);
  expect(disks).not.toContain(".top.");
  expect(await virsh("north-2", "dumpxml", "--inactive", domain)).not.toContain(".top.");
  expect(await volumesOf("north-2")).toEqual({ whole: [layer], partial: [] });
  expect(await volumesOf("north-1")).toEqual({ whole: [], partial: [] });
  // Its clock lost no more than the time in which it stood still. What is certain: the nearest that the two can be.
  const downtimeMs = operation.measured?.downtimeMs ?? 0;
  const { least, most } = clockAfter;
  const lostMs = Math.max(0, clockBefore.least - most, least - clockBefore.most);
  process.stderr.write(`  clock lost at least ${lostMs} ms; it stood still for ${downtimeMs} ms\n`);
  expect(Number.isFinite(lostMs)).toBe(true);
  expect(lostMs).toBeLessThan(100 + downtimeMs);
}, 300_000);

test("cancelled while its layer is shipped, and while it is copied: at once, the guest never stopped; the retry sends a tenth", async () => {
  // Slow enough to be met in the middle.
  const limits = { maxMbps: 64 };
  const before = await inside();
  await guest.read("touch /run/ticker.reset; echo ok");
  const cancelled = async (words: string) => {
    let tookMs = 0;
    const operation = await moveTo("north-1", {
      limits,
      async meanwhile(id, running) {
        expect(await says(id, words)).toBe(true);
        const askedAtMs = performance.now();
        await running.operations.cancel(id);
        await running.operations.wait(id, patienceMs);
        tookMs = performance.now() - askedAtMs;
      },
    });
    expect(operation.state).toBe("cancelled");
    process.stderr.write(`  cancelled while "${words}": over after ${Math.round(tookMs)} ms\n`);
    expect(guest.host()).toBe("north-2");
    expect(await virsh("north-2", "domblklist", domain)).not.toContain(".top.");
    // Clean for whoever looks; what was sent is kept for the retry.
    expect(await virsh("north-1", "list", "--all", "--name")).not.toContain(domain);
    expect(await volumesOf("north-1")).toEqual({ whole: [], partial: [layer] });
    expect(await volumesOf("north-2")).toEqual({ whole: [layer], partial: [] });
    return operation;
  };
  await cancelled("shipping the disk layer");
  const second = await cancelled(": copying ");
  const sent = (await outcomeOf(second, "disk on"))["sentBytes"];
  expect(await inside()).toBe(before);
  const [, longestStopMs] = (await guest.read("sleep 3; cat /run/ticker")).split(" ").map(Number);
  process.stderr.write(`  longest stop of the guest over both: ${longestStopMs} ms\n`);

  const retried = await moveTo("north-1");
  expect(retried.fault).toBeUndefined();
  const outcome = await outcomeOf(retried, "disk on");
  process.stderr.write(
    `  sent ${Number(sent) / mib} MiB before the second cancel, ${Number(outcome["sentBytes"]) / mib} MiB by the retry\n`,
  );
  expect(Number(outcome["sentBytes"])).toBeLessThanOrEqual(0.1 * Number(outcome["fileBytes"]));
  expect(await inside()).toBe(before);
  expect(await volumesOf("north-1")).toEqual({ whole: [layer], partial: [] });
}, 400_000);

/** A decision with such limits, as the gate journals one. */
async function decide(limits: Limits): Promise<string> {
  const id = ids.next();
  await store.transaction((journal) =>
    journal.decisions.add({
      id,
      requestId: ids.next(),
      environmentId,
      point: "plan",
      effect: "allow",
      code: "granted",
      message: "",
      findings: [],
      obligations: [],
      limits,
      consents: [],
      input: {},
      decidedAtMs: clock.nowMs(),
    }),
  );
  return id;
}
