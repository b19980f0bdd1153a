/**
 * Cards and disks of a machine that runs, changed through the API, and seen from inside its guest: a card that is plugged
 * in has its address and its network, one that is taken away is gone, a volume is larger at once, and goes along, with
 * what is on it, when the machine moves; the guest never restarts.
 */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { ShepherdClient } from "@drover/shepherd/api/client";
import type {
  MachineView,
  Mutation,
  RequestAnswer,
  VolumeView,
} from "@drover/shepherd/api/contract";
import { readConfiguration } from "@drover/shepherd/configuration/configuration";
import { openGuest } from "@drover/shepherd/lab/guest-shell";
import { down, type Lab, up } from "@drover/shepherd/lab/lab";
import { type Shepherd, startShepherd } from "@drover/shepherd/main";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { pino } from "pino";
import { atHost } from "./hand-made-guest.ts";

const name = "jdev";
let lab: Lab;
let shepherd: Shepherd;
let client: ShepherdClient;
let lan: { readonly id: string };
let side: { readonly id: string };
let data: { readonly id: string };
let id = "";
let bootId = "";

beforeAll(async () => {
  lab = await up({ name });
  const text = readFileSync(lab.configurationFile, "utf8");
  const configuration = readConfiguration(text, lab.configurationFile);
  shepherd = await startShepherd(configuration, pino({ level: "silent" }));
  client = new ShepherdClient({ endpoint: `unix:${configuration.socket}` });
  await send("PUT", "/v1/environments/dev", { class: "batch", sites: ["north", "south"] });
  const image = await send<{ id: string }>("PUT", "/v1/images/base", imageBody());
  const inside = "/v1/environments/dev";
  lan = await send("PUT", `${inside}/networks/lan`, { cidr: "10.42.0.0/24" });
  side = await send("PUT", `${inside}/networks/side`, { cidr: "10.43.0.0/24" });
  data = await send("PUT", `${inside}/volumes/data`, { size_gib: 1 });
  const machine = await send<MachineView>("PUT", `${inside}/machines/m`, {
    image_id: image.id,
    memory_mib: 192,
    ceiling: { vcpus: 2, memory_mib: 384 },
    networks: [{ network_id: lan.id }],
    disks: [{ volume_id: data.id }],
    site: "north",
    user_data: "#cloud-config",
    adaptation: { sites: ["north", "south"] },
  });
  id = machine.id;
  bootId = await guest().read("cat /proc/sys/kernel/random/boot_id", { timeoutMs: 180_000 });
}, 400_000);
afterAll(async () => {
  await shepherd?.stop();
  await down({ name });
}, 60_000);

test("a card is plugged in: the guest sees it, asks for its address and reaches the network", async () => {
  const view = await recard([{ network_id: lan.id }, { network_id: side.id }]);
  const [first, second] = view.networks;
  expect(first?.address).toBe("10.42.0.10");
  expect(await virshMacs()).toEqual(view.networks.map(({ mac }) => mac));
  const device = await deviceOf(second?.mac ?? "");
  expect(await addressBy(device)).toBe(`${second?.address}/24`);
  expect((await guest().run(`ping -c 2 -W 5 -I ${device} 10.43.0.254`)).code).toBe(0);
  expect(await virshMacs("--inactive")).toEqual(await virshMacs());
}, 180_000);

test("another address is another card, and one that is not named any more is gone from guest and host", async () => {
  const before = await client.get<MachineView>(`/v1/machines/${id}`);
  const view = await recard([{ network_id: side.id, address: "10.43.0.77" }]);
  expect(view.networks).toEqual([expect.objectContaining({ address: "10.43.0.77" })]);
  const [card] = view.networks;
  expect(await macsInside()).toEqual([card?.mac]);
  expect(await virshMacs()).toEqual([card?.mac]);
  expect(before.networks.map(({ mac }) => mac)).not.toContain(card?.mac);
  expect(await addressBy(await deviceOf(card?.mac ?? ""))).toBe("10.43.0.77/24");
  expect((await guest().run("ping -c 2 -W 5 10.43.0.254")).code).toBe(0);
  // The network that it has left is carried nowhere any more.
  const bridges = await onHost("ip -br link show type bridge");
  expect(bridges.trim().split("\n")).toHaveLength(1);
}, 180_000);

test("memory that the guest holds stays with it: what was reached is in force, and the rest comes when it lets go", async () => {
  const ask = (memoryMib: number) =>
    ended("PATCH", `/v1/machines/${id}`, {
      memory_mib: memoryMib,
      // As Terraform's apply promises it, also where the stack's word has not changed since.
      planned_effective: { memory_mib: memoryMib },
    });
  const view = () => client.get<MachineView>(`/v1/machines/${id}`);
  const inGuestMib = async () =>
    Number(await guest().read("awk '/MemTotal/ {print $2}' /proc/meminfo")) / 1024;
  const seenMib = async () => (await view()).guest_seen?.memory_mib;
  const smallMib = await inGuestMib();
  expect((await ask(320))?.state).toBe("succeeded");
  await seenBy(seenMib, 320);
  // Memory of a file system in memory cannot be reclaimed.
  await guest().read(
    "mkdir -p /run/held && mount -t tmpfs -o size=400m none /run/held && dd if=/dev/zero of=/run/held/a bs=1M count=180 2>/dev/null && echo ok",
    { timeoutMs: 120_000 },
  );
  const usableMib = async () =>
    Number(/^usable (\d+)$/m.exec(await onHost("virsh dommemstat drover-dev-m"))?.[1]) / 1024;
  await seenBy(async () => (await usableMib()) < 140, true);
  const held = await ask(192);
  expect(held).toMatchObject({ state: "partial", fault: { code: "machine.memory_held" } });
  const { effective } = await view();
  const reachedMib = effective.memory_mib;
  expect(reachedMib).toBeGreaterThan(192);
  expect(reachedMib).toBeLessThan(320);
  expect(held?.fault?.message).toMatch(
    new RegExp(
      `^m was to have 192 MiB and has ${reachedMib} MiB: its guest holds \\d+ MiB in use$`,
    ),
  );
  // The host, the guest and the shepherd say the same, and it lives.
  await seenBy(seenMib, reachedMib);
  expect(await onHost("virsh dommemstat drover-dev-m")).toMatch(
    new RegExp(`^actual ${reachedMib * 1024}$`, "m"),
  );
  expect(Math.round((await inGuestMib()) - smallMib)).toBe(reachedMib - 192);
  expect((await view()).drift).toEqual([]);
  await guest().read("rm /run/held/a; umount /run/held; echo ok");
  expect((await ask(192))?.state).toBe("succeeded");
  await seenBy(seenMib, 192);
  expect(await view()).toMatchObject({ effective: { memory_mib: 192, adaptation_id: null } });
  expect(Math.round(await inGuestMib())).toBe(Math.round(smallMib));
  expect(await guest().read("cat /proc/sys/kernel/random/boot_id")).toBe(bootId);
}, 300_000);

test("a volume grows under its guest, which sees it at once", async () => {
  const gib = async () => Number(await guest().read("cat /sys/block/vdb/size")) / 2 ** 21;
  expect(await gib()).toBe(1);
  await send("PATCH", `/v1/volumes/${data.id}`, { size_gib: 2 });
  expect(await gib()).toBe(2);
  await expect(send("PATCH", `/v1/volumes/${data.id}`, { size_gib: 1 })).rejects.toMatchObject({
    code: "object.immutable",
  });
  expect(await guest().read("cat /proc/sys/kernel/random/boot_id")).toBe(bootId);
}, 120_000);

test("a card that virsh unplugs is drift, and an update plugs that same card in again", async () => {
  const before = await client.get<MachineView>(`/v1/machines/${id}`);
  const [card] = before.networks;
  await onHost(`virsh detach-interface drover-dev-m bridge --mac ${card?.mac} --live`);
  const drifted = await until(
    () => client.get<MachineView>(`/v1/machines/${id}`),
    ({ drift }) => drift.length > 0,
  );
  expect(drifted.drift).toEqual([
    { attribute: "networks", expected: card?.address, actual: "none" },
  ]);
  const view = await recard([{ network_id: side.id, address: card?.address }]);
  expect(view).toMatchObject({ networks: [card], drift: [] });
  expect(await virshMacs()).toEqual([card?.mac]);
}, 120_000);

test("a weight shares a full host, and a vCPU that is given back computes no more: seen from inside", async () => {
  const { image_id } = await client.get<MachineView>(`/v1/machines/${id}`);
  const size = { vcpus: 2, cpu_percent: 200 };
  const begin = (machine: string, cpu_weight: number | null) =>
    send<MachineView>("PUT", `/v1/environments/dev/machines/${machine}`, {
      ...size,
      cpu_weight,
      image_id,
      memory_mib: 128,
      networks: [{ network_id: lan.id }],
      site: "south",
    });
  const [heavy] = await Promise.all([begin("heavy", 500), begin("light", null)]);
  const path = `/v1/machines/${heavy.id}`;
  const view = () => client.get<MachineView>(path);
  const inHeavy = openGuest(lab.layout, "drover-dev-heavy");
  const inLight = openGuest(lab.layout, "drover-dev-light");
  const boot = () => inHeavy.read("cat /proc/sys/kernel/random/boot_id", { timeoutMs: 180_000 });
  const booted = await boot();
  await inLight.read("true", { timeoutMs: 180_000 });
  /** Both compute on all of their processors at once: how many times as fast as light heavy was. */
  const timesAsFast = async () => {
    const rounds = await Promise.all(
      [inHeavy, inLight].map((who) =>
        who.read("speed 6000 >/run/s & speed 6000; wait; cat /run/s", { timeoutMs: 90_000 }),
      ),
    );
    const [heavily = 0, lightly = 0] = rounds.map((text) =>
      text
        .trim()
        .split("\n")
        .reduce((sum, line) => sum + Number(line), 0),
    );
    return heavily / lightly;
  };
  // Five times by their weights; whatever else runs here takes from both.
  expect(await timesAsFast()).toBeGreaterThan(2);
  await send("PATCH", path, { cpu_weight: null });
  expect(await timesAsFast()).toBeLessThan(2);

  await send("PATCH", path, { vcpus: 1 });
  expect(await view()).toMatchObject({ effective: { vcpus: 1, cpu_percent: 200 }, drift: [] });
  // Without KVM it stays with its guest, and both sides say so; but it has no more than one could use.
  await seenBy(async () => (await view()).guest_seen?.vcpus, 2);
  expect(await inHeavy.read("nproc")).toBe("2");
  const atSouth = (command: string) => atHost(name, "south-1", ["sh", "-c", command]);
  const usedMs = async () =>
    Number(
      /cpu.time=(\d+)/.exec(await atSouth("virsh domstats --cpu-total drover-dev-heavy"))?.[1],
    ) / 1e6;
  const startedAtMs = performance.now();
  const before = await usedMs();
  await inHeavy.read("speed 3000 >/dev/null & speed 3000; wait", { timeoutMs: 60_000 });
  const used = (await usedMs()) - before;
  expect(used / (performance.now() - startedAtMs)).toBeLessThan(1.2);
  const quota = () => atSouth("virsh schedinfo drover-dev-heavy | grep global_quota");
  expect(await quota()).toMatch(/: 20000$/m);
  await send("PATCH", path, { vcpus: 2 });
  expect(await view()).toMatchObject({ effective: size, drift: [] });
  expect(await quota()).toMatch(/: 40000$/m);
  expect(await boot()).toBe(booted);
}, 400_000);

test("a machine's volume, cards and seed go with it, within its site and to another: both disks are what its guest wrote", async () => {
  const [card] = (await client.get<MachineView>(`/v1/machines/${id}`)).networks;
  const { networks } = await recard([
    { network_id: card?.network_id, address: card?.address },
    { network_id: card?.network_id === lan.id ? side.id : lan.id },
  ]);
  const macs = networks.map(({ mac }) => mac);
  expect(macs).toHaveLength(2);
  // Past the guest's cache: what is read back later comes from the disks of the host that it is on.
  await guest().read(
    "dd if=/dev/urandom of=/dev/vdb bs=1M count=24 seek=100 conv=fsync 2>/dev/null; dd if=/dev/urandom of=/work/mine bs=1M count=4 conv=fsync 2>/dev/null",
    { timeoutMs: 120_000 },
  );
  const sums = () =>
    guest().read(
      "echo 3 >/proc/sys/vm/drop_caches; dd if=/dev/vdb bs=1M count=24 skip=100 2>/dev/null | sha256sum; sha256sum </work/mine",
      { timeoutMs: 120_000 },
    );
  const written = await sums();
  const file = `drover-${data.id}.qcow2`;
  for (const [to, site] of [
    [{ host: "north-2" }, "north"],
    [{ site: "south" }, "south"],
  ] as const) {
    const from = (await client.get<MachineView>(`/v1/machines/${id}`)).effective.host;
    const answer = await client.call<RequestAnswer>("POST", "/v1/requests", {
      body: { method: "move", environment: "dev", machine: "m", params: to },
      query: { wait_ms: 120_000 },
      waitMs: 130_000,
    });
    expect(answer).toMatchObject({ verdict: "granted", operation: expect.any(String) });
    const operation = await client.waitForOperation(answer.operation ?? "");
    expect(operation).toMatchObject({ state: "succeeded", fault: null });
    const { host } = (await client.get<MachineView>(`/v1/machines/${id}`)).effective;
    const { effective } = await client.get<VolumeView>(`/v1/volumes/${data.id}`);
    expect(effective).toEqual({ site, host, machine: "m" });
    expect(await sums()).toBe(written);
    const volumesAt = (at: string) => atHost(name, at, ["virsh", "vol-list", "--pool", "drover"]);
    expect(await volumesAt(host)).toContain(file);
    expect(await volumesAt(from)).not.toContain(file);
    const cards = await atHost(name, host, ["virsh", "domiflist", "drover-dev-m"]);
    for (const mac of macs) expect(cards).toContain(mac);
    expect((await macsInside()).toSorted()).toEqual(macs.toSorted());
    // Its seed is a cdrom: libvirt copies no medium, so it is there because it was put there.
    const disks = await atHost(name, host, ["virsh", "domblklist", "drover-dev-m"]);
    const seed = /sda +(\S+)/.exec(disks)?.[1] ?? "";
    expect(await volumesAt(host)).toContain(seed);
  }
  expect(await guest().read("cat /proc/sys/kernel/random/boot_id")).toBe(bootId);
}, 400_000);

test("a volume that no machine has grows too, and its next machine finds it", async () => {
  await send("DELETE", `/v1/machines/${id}`);
  await send("PATCH", `/v1/volumes/${data.id}`, { size_gib: 3 });
  const info = await atHost(name, "south-1", [
    "sh",
    "-c",
    `qemu-img info $(virsh vol-path --pool drover drover-${data.id}.qcow2)`,
  ]);
  expect(info).toMatch(/virtual size: 3 GiB/);
}, 120_000);

/** Looks until it is so, and gives what was seen last. */
async function until<T>(look: () => Promise<T>, isSo: (seen: T) => boolean): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    const seen = await look();
    if (isSo(seen) || attempt >= 300) return seen;
    await sleep(200);
  }
}
function guest() {
  return openGuest(lab.layout, "drover-dev-m");
}
type Method = "PUT" | "PATCH" | "DELETE";
async function call<View>(method: Method, path: string, body?: object) {
  return await client.call<Mutation<View>>(method, path, {
    ...(body === undefined ? {} : { body }),
    waitMs: 120_000,
  });
}
/** How a change ended; undefined: there was nothing to do. */
async function ended(method: Method, path: string, body: object) {
  const { operation } = await call(method, path, body);
  return operation === null ? undefined : await client.waitForOperation(operation.id);
}
async function send<View>(method: Method, path: string, body?: object) {
  const answer = await call<View>(method, path, body);
  if (answer.operation !== null) {
    const operation = await client.waitForOperation(answer.operation.id);
    if (operation.state !== "succeeded") throw new Error(JSON.stringify(operation));
  }
  return answer.object as View;
}
/** Looks until it is so. */
async function seenBy<T>(look: () => Promise<T>, wanted: T): Promise<void> {
  let seen = await look();
  for (const untilMs = Date.now() + 60_000; seen !== wanted && Date.now() < untilMs; ) {
    await sleep(200);
    seen = await look();
  }
  expect(seen).toBe(wanted);
}
async function recard(networks: readonly object[]): Promise<MachineView> {
  await send("PATCH", `/v1/machines/${id}`, { networks });
  const view = await client.get<MachineView>(`/v1/machines/${id}`);
  expect(await guest().read("cat /proc/sys/kernel/random/boot_id")).toBe(bootId);
  return view;
}
async function macsInside(): Promise<readonly string[]> {
  return (await guest().read("cat /sys/class/net/eth*/address")).trim().split("\n");
}
/** The guest's kernel may need a moment to name a card that was just plugged in. */
async function deviceOf(mac: string): Promise<string> {
  return await guest().read(
    `while ! grep -l ${mac} /sys/class/net/*/address; do sleep 0.2; done | cut -d/ -f5`,
    { timeoutMs: 60_000 },
  );
}
async function addressBy(device: string): Promise<string> {
  return await guest().read(
    `ip link set ${device} up && udhcpc -i ${device} -s /etc/udhcpc -n -q -t 20 >/dev/null 2>&1; ip -o -4 address show dev ${device} | awk '{print $4}'`,
    { timeoutMs: 90_000 },
  );
}
function onHost(text: string): Promise<string> {
  return atHost(name, "north-1", ["sh", "-c", text]);
}
async function virshMacs(option = ""): Promise<readonly string[]> {
  const said = await onHost(`virsh domiflist drover-dev-m ${option}`);
  return [...said.matchAll(/([0-9a-f]{2}:){5}[0-9a-f]{2}/g)].map(([mac]) => mac);
}
function imageBody() {
  const file = (what: string) => join(lab.imageDirectory, what);
  return {
    source: file("base.qcow2"),
    sha256: createHash("sha256")
      .update(readFileSync(file("base.qcow2")))
      .digest("hex"),
    kernel: file("kernel"),
    initrd: file("initrd"),
    cmdline: "console=ttyS0 quiet",
  };
}
