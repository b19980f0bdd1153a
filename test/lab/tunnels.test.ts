/**
 * The mesh between sites on real kernels: two sites of namespaces, the operations' own way to keys (asked of the host,
 * journaled, told to the others), captures on the wire between them. Needs root, WireGuard (or wireguard-go) and tcpdump.
 */
import { spawn } from "node:child_process";
import { setTimeout as pause } from "node:timers/promises";
import type { HostRecord } from "@drover/shepherd/model/site";
import { derive, type NetworkState } from "@drover/shepherd/network/derive";
import { keyFile, tunnelName } from "@drover/shepherd/network/tunnels";
import { createExclusives } from "@drover/shepherd/operations/exclusives";
import type { NetworkReach } from "@drover/shepherd/operations/network-state";
import { createPaths } from "@drover/shepherd/operations/paths";
import type { OperationWorld } from "@drover/shepherd/operations/step";
import { rotateTunnels, settleTunnels } from "@drover/shepherd/operations/tunnels";
import type { HostNetwork } from "@drover/shepherd/ports/host-network";
import type { Store } from "@drover/shepherd/ports/store";
import { createHostNetwork } from "@drover/shepherd/shell/host-network";
import { openSqliteStore } from "@drover/shepherd/store/sqlite";
import { systemClock } from "@drover/shepherd/system";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { hostRecord, machineRecord, networkRecord } from "../shepherd/network/records.ts";
import {
  inNamespace,
  type NamespaceGuest,
  type NamespaceHost,
  type NamespaceWorld,
  raiseNamespaces,
  tryInNamespace,
} from "./namespaces.ts";

const mtu = 1370;
const port = 51_820;
const lan = {
  ...networkRecord("ring", "lan", 0xd00000),
  effective: { vni: 0xd00000, mtu },
};
const names = ["north-1", "north-2", "south-1"];
/** What no stranger may read on the wire. */
const secret = "the-ring-secret!";

let world: NamespaceWorld;
let store: Store;
let fleet: readonly HostRecord[];
let reach: NetworkReach;
const networks = new Map<string, HostNetwork>();
const guests = new Map<string, NamespaceGuest>();
const machines = names.map((_, index) =>
  machineRecord({
    environmentId: "ring",
    name: `rank-${index}`,
    hostId: names[index] ?? "",
    networkIds: [lan.id],
    address: `10.42.0.1${index}`,
  }),
);

beforeAll(async () => {
  // The fourth belongs to nobody.
  world = raiseNamespaces(4);
  fleet = world.hosts.slice(0, 3).map((host, index) => ({
    ...hostRecord(names[index] ?? "", host.address),
    tunnel: { port, clearSites: [] },
  }));
  for (const [index, host] of world.hosts.slice(0, 3).entries())
    networks.set(
      names[index] ?? "",
      createHostNetwork({ ...host.shell, hostId: names[index] ?? "" }),
    );
  store = openSqliteStore(":memory:");
  const operationWorld = {
    store,
    fleet,
    clock: systemClock,
    hosts: { network: networkAt },
    log: { info() {}, warn() {}, error() {} },
  } as unknown as OperationWorld;
  reach = {
    world: operationWorld,
    exclusives: createExclusives(),
    read: (work) => store.read(work),
  };
  await store.transaction(async (journal) => {
    await journal.objects.put({ ...lan, version: 1 });
    for (const machine of machines) await journal.objects.put({ ...machine, version: 1 });
  });
  expect(await settleTunnels(reach, names)).toBe(true);
  await applyAll();
  for (const [index, machine] of machines.entries()) {
    const nic = machine.effective.nics[0];
    const host = world.hosts[index];
    if (nic === undefined || host === undefined) throw new Error("a machine without a place");
    const { tap, mac, address } = nic;
    const name = machine.spec.name;
    guests.set(name, world.addGuest({ name, tap, mac, address, host, mtu }));
  }
  await applyAll();
}, 60_000);
afterAll(async () => {
  // Devices in user space are processes: they end with their device.
  await Promise.all(
    [...networks].map(([hostId, network]) => network.apply({ hostId, bridges: [] })),
  );
  world.down();
  await store.close();
}, 60_000);

test("every host is as wished, and a second apply changes nothing", async () => {
  expect(await auditAll()).toEqual([]);
  expect(await settleTunnels(reach, names)).toBe(false);
});

test("machines of two sites reach each other with full-size frames", async () => {
  expect(await pings("rank-0", "10.42.0.12")).toBe(true);
  expect(await pings("rank-0", "10.42.0.12", ["-M", "do", "-s", String(mtu - 28)])).toBe(true);
  expect(await pings("rank-0", "10.42.0.11")).toBe(true);
});

test("on the wire between sites nothing of it can be read; inside a site it can", async () => {
  const between = await captured("south-1", () => says("rank-0", "10.42.0.12"));
  expect(between).toContain(`.${port}: UDP`);
  expect(between).not.toContain(secret);
  expect(between).not.toContain(".4789: ");
  const inside = await captured("north-2", () => says("rank-0", "10.42.0.11"));
  expect(inside).toContain(secret);
});

test("private keys lie in memory, for root alone, and are no part of the journal", async () => {
  const device = tunnelName("north-1", 0);
  const file = keyFile(device);
  const key = inNamespace(hostAt("north-1").namespace, "cat", file).trim();
  expect(inNamespace(hostAt("north-1").namespace, "stat", "-c", "%a %u", file).trim()).toBe(
    "600 0",
  );
  const ends = await store.read((journal) => journal.tunnelEnds.list());
  const events = await store.read((journal) => journal.events.since(0, 100));
  expect(JSON.stringify([ends, events])).not.toContain(key);
  expect(ends.map((end) => end.keys.length)).toEqual([1, 1, 1]);
});

test("a key file that others may read is a fault that names it", async () => {
  const { namespace } = hostAt("north-1");
  const device = tunnelName("north-1", 0);
  inNamespace(namespace, "chmod", "644", keyFile(device));
  try {
    await expect(networkAt("north-1").tunnelKey(device)).rejects.toMatchObject({
      code: "network.key_exposed",
      details: { file: keyFile(device), mode: "644" },
    });
  } finally {
    inNamespace(namespace, "chmod", "600", keyFile(device));
  }
});

test("when a tunnel is removed by hand, nothing goes out in the clear; the audit says it, apply mends it", async () => {
  const { namespace } = hostAt("north-1");
  inNamespace(namespace, "ip", "link", "delete", tunnelName("north-1", 0));
  // Even a default route to whoever listens lays nothing bare.
  inNamespace(namespace, "ip", "route", "add", "default", "via", hostAt("south-1").address);
  try {
    const seen = await captured("south-1", () => says("rank-0", "10.42.0.12"));
    expect(seen).not.toContain(secret);
  } finally {
    inNamespace(namespace, "ip", "route", "delete", "default");
  }
  expect((await auditAll()).map((each) => each.problem)).toContain("missing");
  await applyAll();
  expect(await auditAll()).toEqual([]);
  expect(await pings("rank-0", "10.42.0.12")).toBe(true);
}, 60_000);

test("VXLAN that somebody sends to a host from outside the mesh reaches no LAN", async () => {
  const drops = () => {
    const text = inNamespace(
      hostAt("north-1").namespace,
      "nft",
      "list",
      "chain",
      "ip",
      "drover",
      "arrive",
    );
    return Number(/counter packets (\d+)/.exec(text)?.[1]);
  };
  const before = drops();
  // A frame in a packet with the right network identifier.
  const frame = `08000000${"d0000000"}`;
  await tryInNamespace(world.hosts[3]?.namespace ?? "", [
    process.execPath,
    "-e",
    `const s=require("dgram").createSocket("udp4");s.send(Buffer.from("${frame}"+"00".repeat(60),"hex"),4789,"${hostAt("north-1").address}",()=>s.close())`,
  ]);
  await pause(200);
  expect(drops()).toBe(before + 1);
});

test("keys are rotated while packets flow, and none is lost", async () => {
  const before = await store.read((journal) => journal.tunnelEnds.list());
  const prober = tryInNamespace(guestOf("rank-0").namespace, [
    "ping",
    "-q",
    "-i",
    "0.01",
    "-w",
    "12",
    "-W",
    "2",
    "10.42.0.12",
  ]);
  await pause(1_000);
  const { generation, hostIds } = await rotateTunnels(reach);
  expect({ generation, hostIds }).toEqual({ generation: 1, hostIds: names });
  const { stdout } = await prober;
  const [, sent, received] = /(\d+) packets transmitted, (\d+) received/.exec(stdout) ?? [];
  process.stdout.write(`rotation under ping: ${received} of ${sent} answered\n`);
  expect(received).toBe(sent);
  const after = await store.read((journal) => journal.tunnelEnds.list());
  expect(after.map((end) => end.keys.map((key) => key.generation))).toEqual([[1], [1], [1]]);
  expect(after.map((end) => end.address)).toEqual(before.map((end) => end.address));
  for (const [index, end] of after.entries())
    expect(end.keys[0]?.publicKey).not.toBe(before[index]?.keys[0]?.publicKey);
  expect(await auditAll()).toEqual([]);
  // The old key is gone from the host with its device.
  const { exitCode } = await tryInNamespace(hostAt("north-1").namespace, [
    "test",
    "-e",
    keyFile(tunnelName("north-1", 0)),
  ]);
  expect(exitCode).toBe(1);
}, 60_000);

test("a host that lost its key makes a new one, and the others learn it", async () => {
  const device = tunnelName("south-1", 1);
  inNamespace(hostAt("south-1").namespace, "rm", keyFile(device));
  inNamespace(hostAt("south-1").namespace, "ip", "link", "delete", device);
  const fresh = { ...reach, world: { ...reach.world, hosts: { ...reach.world.hosts } } };
  expect(await settleTunnels(fresh, ["south-1"])).toBe(true);
  await applyAll();
  expect(await pings("rank-0", "10.42.0.12")).toBe(true);
}, 60_000);

test("a host that carries no network for a while keeps its key, and is met again with it", async () => {
  const state = await stateNow();
  await networkAt("south-1").apply({ hostId: "south-1", bridges: [] });
  await networkAt("south-1").apply(derive("south-1", state));
  expect(await auditAll()).toEqual([]);
}, 60_000);

test("a path is measured: a smaller one is refused with its number, and what would fit", async () => {
  const paths = () => createPaths({ hosts: reach.world.hosts, fleet, clock: systemClock });
  const ask = { network: "ring/lan", siteIds: ["north", "south"] };
  expect(await paths().admit(ask)).toEqual({ mtu: 1370 });
  expect(await paths().admit({ ...ask, siteIds: ["north"] })).toEqual({ mtu: 1450 });
  // A path that drops large packets and tells nobody.
  const { namespace } = hostAt("south-1");
  inNamespace(namespace, "nft", "add table ip narrow");
  inNamespace(namespace, "nft", "add chain ip narrow in { type filter hook input priority 0; }");
  inNamespace(namespace, "nft", "add rule ip narrow in meta length > 1400 drop");
  try {
    await expect(paths().admit(ask)).rejects.toMatchObject({
      code: "network.path_mtu",
      details: { neededBytes: 1500, pathBytes: 1400, possibleMtu: 1270 },
    });
    expect(await paths().admit({ ...ask, mtu: 1270 })).toEqual({ mtu: 1270 });
    inNamespace(namespace, "nft", "add rule ip narrow in ip protocol icmp drop");
    await expect(paths().admit(ask)).rejects.toMatchObject({ code: "network.path_unproven" });
  } finally {
    inNamespace(namespace, "nft", "delete table ip narrow");
  }
}, 120_000);

function hostAt(id: string): NamespaceHost {
  const host = world.hosts[names.indexOf(id)];
  if (host === undefined) throw new Error(`no host ${id}`);
  return host;
}
function networkAt(id: string): HostNetwork {
  const network = networks.get(id);
  if (network === undefined) throw new Error(`no network of ${id}`);
  return network;
}
function guestOf(name: string): NamespaceGuest {
  const guest = guests.get(name);
  if (guest === undefined) throw new Error(`no guest ${name}`);
  return guest;
}
async function stateNow(): Promise<NetworkState> {
  const tunnelEnds = await store.read((journal) => journal.tunnelEnds.list());
  return { hosts: fleet, networks: [lan], machines, links: [], incoming: [], tunnelEnds };
}
async function applyAll() {
  const state = await stateNow();
  return (await Promise.all(names.map((id) => networkAt(id).apply(derive(id, state))))).flat();
}
async function auditAll() {
  const state = await stateNow();
  return (await Promise.all(names.map((id) => networkAt(id).audit(derive(id, state))))).flat();
}
async function pings(from: string, to: string, options: readonly string[] = []): Promise<boolean> {
  const argv = ["ping", "-c", "3", "-i", "0.2", "-W", "2", ...options, to];
  return (await tryInNamespace(guestOf(from).namespace, argv)).exitCode === 0;
}
/** The secret as the filling of pings. */
async function says(from: string, to: string): Promise<void> {
  const pattern = Buffer.from(secret).toString("hex").slice(0, 32);
  await pings(from, to, ["-p", pattern]);
}
/** Everything that passes a host's uplink meanwhile, as text. */
async function captured(hostId: string, during: () => Promise<void>): Promise<string> {
  const tcpdump = spawn(
    "nsenter",
    [
      `--net=/run/netns/${hostAt(hostId).namespace}`,
      "tcpdump",
      "-n",
      "-l",
      "-A",
      "-s",
      "0",
      "-i",
      "up0",
    ],
    { stdio: ["ignore", "pipe", "pipe"] },
  );
  let text = "";
  let said = "";
  tcpdump.stdout.on("data", (chunk: Buffer) => {
    text += chunk.toString("latin1");
  });
  const listening = new Promise<void>((resolve) => {
    tcpdump.stderr.on("data", (chunk: Buffer) => {
      said += chunk.toString();
      if (said.includes("listening on")) resolve();
    });
  });
  await listening;
  try {
    await during();
    await pause(300);
  } finally {
    tcpdump.kill("SIGINT");
  }
  await new Promise((resolve) => tcpdump.once("close", resolve));
  return text;
}
