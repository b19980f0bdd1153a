/**
 * The host network under real machines: libvirt's taps, QEMU's frames, real sshd between. What is claimed about a guest
 * is measured inside the guest. Two environments with the same addresses; one machine moves across sites.
 */
import { createReadStream, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { readConfiguration } from "@drover/shepherd/configuration/configuration";
import { labChannel, openGuest } from "@drover/shepherd/lab/guest-shell";
import { down, type Lab, up } from "@drover/shepherd/lab/lab";
import { createLibvirtHost } from "@drover/shepherd/libvirt/host";
import { sshDialer } from "@drover/shepherd/libvirt/rpc/transports/ssh";
import type { MachineRecord, NetworkRecord } from "@drover/shepherd/model/objects";
import { derive, type NetworkState } from "@drover/shepherd/network/derive";
import { bridgeName } from "@drover/shepherd/network/names";
import { tunnelName } from "@drover/shepherd/network/tunnels";
import type { Clock } from "@drover/shepherd/ports/clock";
import type { Host } from "@drover/shepherd/ports/host";
import type { HostNetwork } from "@drover/shepherd/ports/host-network";
import { createHostNetwork } from "@drover/shepherd/shell/host-network";
import { createSshShell, type SshShell } from "@drover/shepherd/shell/ssh";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import {
  linkRecord,
  machineRecord,
  networkLinkRecord,
  networkRecord,
} from "../shepherd/network/records.ts";

const labName = "netw";
const clock: Clock = {
  nowMs: () => Date.now(),
  sleep: (ms, signal) => sleep(ms, undefined, signal === undefined ? {} : { signal }),
  at: (atMs, work) => {
    const timer = setTimeout(work, atMs - Date.now());
    return () => clearTimeout(timer);
  },
};
const mib = 1024 * 1024;
const diskBytes = 128 * mib;
/** The best of a few tries comes near to what is promised; emulated machines on a busy computer may miss it once. */
const leastRatio = 0.9;
/** What is left of 1500 bytes between sites that are met encrypted. */
const mtu = 1370;
const lan = (environmentId: string, vni: number): NetworkRecord => ({
  ...networkRecord(environmentId, "lan", vni),
  effective: { vni, mtu, serviceAddress: "10.42.0.254", domain: `${environmentId}.internal` },
});
const lans = [lan("ring", 0xd00000), lan("neighbour", 0xd00001)] as const;

function machine(
  environmentId: "ring" | "neighbour",
  index: number,
  hostId: string,
): MachineRecord {
  const record = machineRecord({
    environmentId,
    name: `rank-${index}`,
    hostId,
    networkIds: [environmentId === "ring" ? lans[0].id : lans[1].id],
    address: `10.42.0.1${index}`,
  });
  const tail = environmentId === "ring" ? `a00${index}` : `b00${index}`;
  return { ...record, id: `0192f000-2222-7222-8333-00000000${tail}` };
}

let lab: Lab;
let state: NetworkState;
const shells = new Map<string, SshShell>();
const hosts = new Map<string, Host>();
const networks = new Map<string, HostNetwork>();

beforeAll(async () => {
  lab = await up({ name: labName });
  const configuration = readConfiguration(
    readFileSync(lab.configurationFile, "utf8"),
    lab.configurationFile,
  );
  for (const host of configuration.sites.flatMap((site) => site.hosts)) {
    if (host.ssh === undefined) throw new Error(`no way to ${host.id}`);
    const target = { ...host.ssh, privateKey: readFileSync(host.ssh.keyFile), jump: undefined };
    const shell = createSshShell({ hostId: host.id, target });
    shells.set(host.id, shell);
    networks.set(host.id, createHostNetwork(shell));
    hosts.set(
      host.id,
      createLibvirtHost({ id: host.id, dial: sshDialer(shell), pool: host.pool, clock }),
    );
  }
  state = {
    hosts: configuration.sites.flatMap((site) => site.hosts),
    networks: lans,
    machines: [
      machine("ring", 0, "north-1"),
      machine("ring", 1, "north-2"),
      machine("ring", 2, "south-1"),
      machine("neighbour", 0, "north-1"),
      machine("neighbour", 1, "north-2"),
    ],
    links: [
      linkRecord("ring", ["rank-0", "rank-1"], 40),
      linkRecord("ring", ["rank-0", "rank-2"], 15),
      // What its link with rank-0 does not name.
      networkLinkRecord("ring", { machine: "rank-1", network: "lan" }, 12),
    ],
    incoming: [],
    tunnelEnds: await Promise.all(
      [...networks].map(async ([hostId, network], index) => ({
        hostId,
        address: `100.127.0.${index + 1}`,
        generation: 0,
        keys: [{ generation: 0, publicKey: await network.tunnelKey(tunnelName(hostId, 0)) }],
      })),
    ),
  };
  await Promise.all([...hosts.values()].map(placeImage));
  await applyAll();
  for (const record of state.machines) await start(record);
  // The taps came with the machines.
  await applyAll();
  await Promise.all(
    state.machines.map((record) =>
      guest(record).read("(stream serve 5001 > /dev/null 2>&1 &)", { timeoutMs: 240_000 }),
    ),
  );
}, 400_000);

afterAll(async () => {
  for (const host of hosts.values()) await host.close();
  for (const shell of shells.values()) await shell.close();
  await down({ name: labName });
}, 60_000);

test("with machines running, every host is as wished", async () => {
  expect(await auditAll()).toEqual([]);
  expect(await applyAll()).toEqual([]);
});

test("all pairs of an environment reach each other; nobody of the neighbour answers", async () => {
  const ring = state.machines.slice(0, 3);
  for (const from of ring) {
    for (const to of ring) {
      if (from !== to) expect(await answers(from, addressOf(to))).toBe(true);
    }
  }
  const [alone, other] = state.machines.slice(3);
  expect(await answers(alone, addressOf(other))).toBe(true);
  // Only the ring has a .12.
  expect(await answers(alone, "10.42.0.12")).toBe(false);
  // Both have a .11: each hears its own, by its MAC.
  expect(await guest(alone).read("ip neigh show 10.42.0.11")).toContain(
    other?.effective.nics[0]?.mac,
  );
  expect(await guest(ring[0]).read("ip neigh show 10.42.0.11")).toContain(
    ring[1]?.effective.nics[0]?.mac,
  );
}, 60_000);

test.each([
  [0, 1, 40],
  [1, 0, 40],
  [0, 2, 15],
  [2, 0, 15],
] as const)(
  "rank-%i to rank-%i is promised and held at %i Mbit/s, measured in the guests",
  async (from, to, rateMbps) => {
    const ratio = await bestRatio(from, to, rateMbps);
    expect(ratio).toBeGreaterThan(leastRatio);
    expect(ratio).toBeLessThan(1.05);
  },
  90_000,
);

test.each([
  [1, 2],
  [2, 1],
] as const)(
  "rank-%i to rank-%i, which only rank-1's link with the network names, is held to its 12 Mbit/s",
  async (from, to) => {
    const ratio = await bestRatio(from, to, 12);
    // How near it is reached is shown where no machine is emulated: a guest's clock is slow on a busy computer.
    expect(ratio).toBeGreaterThan(0.1);
    expect(ratio).toBeLessThan(1.15);
  },
  90_000,
);

test("DHCP gives every machine its journaled address, MTU and the environment's names; each environment its own", async () => {
  for (const [record, domain] of [
    [state.machines[1], "ring.internal"],
    [state.machines[2], "ring.internal"],
    [state.machines[4], "neighbour.internal"],
  ] as const) {
    expect(await leaseOf(record)).toEqual({
      ip: addressOf(record),
      mask: "24",
      dns: "10.42.0.254",
      domain,
      mtu: String(mtu),
      serverid: "10.42.0.254",
    });
  }
  const [rank0, , rank2, alone] = state.machines;
  expect(await lookUp(rank0, "rank-2.ring.internal")).toBe(addressOf(rank2));
  // The same name in the other environment is another machine, and the ring's are unknown there.
  expect(await lookUp(alone, "rank-1.neighbour.internal")).toBe("10.42.0.11");
  expect(await lookUp(alone, "rank-2.ring.internal")).toBeUndefined();
}, 90_000);

test("a rate changes live", async () => {
  const before = state;
  state = {
    ...state,
    links: [linkRecord("ring", ["rank-0", "rank-1"], 20), ...state.links.slice(1)],
  };
  const startMs = performance.now();
  await applyAll();
  report(`rate changed on all hosts in ${(performance.now() - startMs).toFixed(0)} ms`);
  const ratio = await bestRatio(0, 1, 20);
  state = before;
  await applyAll();
  expect(ratio).toBeGreaterThan(leastRatio);
  expect(ratio).toBeLessThan(1.05);
}, 60_000);

test("a guest that takes another address or MAC is not heard", async () => {
  const [liar, , victim] = state.machines;
  await guest(liar).read("ip addr add 10.42.0.77/24 dev eth0");
  expect(await answers(liar, addressOf(victim), "-I 10.42.0.77")).toBe(false);
  await guest(liar).read("ip addr del 10.42.0.77/24 dev eth0");
  expect(await answers(liar, addressOf(victim))).toBe(true);
  const mac = liar?.effective.nics[0]?.mac;
  await guest(liar).read(
    "ip link set eth0 down; ip link set eth0 address 52:54:00:99:99:99; ip link set eth0 up",
  );
  expect(await answers(liar, addressOf(victim))).toBe(false);
  await guest(liar).read(
    `ip link set eth0 down; ip link set eth0 address ${mac}; ip link set eth0 up`,
  );
  expect(await answers(liar, addressOf(victim))).toBe(true);
}, 60_000);

test("a machine that attacks its LAN is not heard, and its floods are cut: before, during and after a move of its own", async () => {
  const [, victim, liar] = state.machines;
  const attacks = attacksOf(liar, victim);
  const names = Object.keys(attacks);
  const flood = `01005e0000fb${bare(macOf(liar))}${ipHeader(addressOf(liar), "224.0.0.251")}`;
  // Each phase marks its frames with numbers of its own, so that silence is not for want of attacks.
  const scriptOf = (phase: number) =>
    [
      ...names.map((name, index) => marked(attacks[name] ?? "", (phase << 6) + index)),
      `${marked(flood, (phase << 6) + floodIndex)} 1500`,
    ]
      .map((frame) => `frame send eth0 ${frame} 2>/dev/null`)
      .join("\n");
  // Its card takes all multicasts, as one that has joined the group does.
  await guest(victim).read("ifconfig eth0 allmulti");
  await guest(victim).read(`frame watch eth0 900000 ${marker} > /run/heard 2>&1 &`);
  for (const phase of phases.keys()) {
    await guest(liar).read(`cat > /run/attack-${phase} <<'END'\n${scriptOf(phase)}\nEND`);
  }
  const startMs = performance.now();
  await guest(liar).read("sh /run/attack-0 > /dev/null; true", { timeoutMs: 60_000 });
  await guest(liar).read(
    "rm -f /run/peace; (while [ ! -e /run/peace ]; do sh /run/attack-1; done; touch /run/quiet) > /dev/null 2>&1 &",
  );
  await move(liar, "south-1", "north-2");
  await guest(liar).read("touch /run/peace");
  await eventually(() => guest(liar).run("ls /run"), /quiet/);
  await guest(liar).read("sh /run/attack-2 > /dev/null; true", { timeoutMs: 60_000 });
  const seconds = (performance.now() - startMs) / 1000;
  // Now at the victim's host; then back, so that the tests that follow find it where it was.
  state = {
    ...state,
    machines: state.machines.map((each) =>
      each.id === liar?.id ? machine("ring", 2, "north-2") : each,
    ),
  };
  await move(state.machines[2], "north-2", "south-1");
  await guest(victim).read("killall -TERM frame");
  const heard = await eventually(() => guest(victim).run("cat /run/heard"), /end/);
  const counts = new Map(
    heard.split("\n").flatMap((line) => {
      const [number, count] = line.split(":").map(Number);
      if (number === undefined || count === undefined) return [];
      const what = (number & 63) === floodIndex ? "a flood" : (names[number & 63] ?? "?");
      return [[`${phases[number >> 6]}: ${what}`, count] as const];
    }),
  );
  report(
    `heard of ${names.length} kinds of frames in ${seconds.toFixed(0)} s: ${JSON.stringify([...counts])}`,
  );
  const honest = ["an honest packet", "an honest ARP answer", "a flood"];
  expect([...counts.keys()].toSorted()).toEqual(
    phases.flatMap((phase) => honest.map((what) => `${phase}: ${what}`)).toSorted(),
  );
  const floods = phases.reduce((sum, phase) => sum + (counts.get(`${phase}: a flood`) ?? 0), 0);
  // A thousand at once at each of the two hosts, and a thousand a second.
  expect(floods).toBeLessThanOrEqual(2_000 + 1_000 * (seconds + 1));
}, 400_000);

test("a flood of broadcasts is cut at 1,000 a second", async () => {
  const [liar, victim] = state.machines;
  const flood = marked(
    `ffffffffffff${bare(macOf(liar))}${ipHeader(addressOf(liar), "10.42.0.255")}`,
    0,
  );
  await guest(victim).read(`frame watch eth0 600000 ${marker} > /run/heard 2>&1 &`);
  const startMs = performance.now();
  await guest(liar).read(`frame send eth0 ${flood} 20000`, { timeoutMs: 60_000 });
  const seconds = (performance.now() - startMs) / 1000;
  await sleep(1_000); // what is on its way
  await guest(victim).read("killall -TERM frame");
  const heard = await eventually(() => guest(victim).run("cat /run/heard"), /end/);
  const count = Number(/0:(\d+)/.exec(heard)?.[1]);
  report(`flood: 20,000 frames in ${seconds.toFixed(1)} s, ${count} heard`);
  expect(count).toBeGreaterThan(0);
  expect(count).toBeLessThanOrEqual(1_000 + 1_000 * (seconds + 1));
}, 120_000);

test("a live move across sites: peers reach the machine at the same address, its connection lives, the rate follows", async () => {
  const [, , moving] = state.machines;
  if (moving === undefined) throw new Error("no machine moves");
  const [source, destination] = [hostAt("south-1"), hostAt("north-2")];
  await overlay(destination, moving);

  state = { ...state, incoming: [{ machineId: moving.id, hostId: destination.id }] };
  await applyAll();
  const address = addressOf(moving);
  await guest(state.machines[0]).read(`(stream send ${address} 5001 25 > /run/sent 2>&1 &)`);
  await guest(state.machines[1]).read(`(pinger ${address} 600 50 > /run/pinged 2>&1 &)`);
  await sleep(1_000);

  const parameters = {
    machineId: moving.id,
    destinationAddress:
      state.hosts.find((host) => host.id === destination.id)?.migrationAddress ?? "",
    copyDisk: true,
  };
  const from = await source.migrateFrom(parameters);
  const to = await destination.migrateTo(parameters);
  const prepared = await to.prepare(await from.begin());
  // The tap is there now, blocked: nothing of it is left to do at the cut-over.
  await networkAt(destination.id).apply(derive(destination.id, state));
  expect(await auditAll()).toEqual([]);
  let downtimeMs: number | undefined;
  const performed = await from.perform(prepared, (seen) => {
    downtimeMs = seen.downtimeMs ?? downtimeMs;
  });
  const finished = await to.finish({ cookie: performed, cancelled: false });
  const flipFromMs = performance.now();
  const moved = machine("ring", 2, destination.id);
  state = {
    ...state,
    incoming: [],
    machines: state.machines.map((each) => (each.id === moved.id ? moved : each)),
  };
  await applyAll();
  const flipMs = performance.now() - flipFromMs;
  await from.confirm({ cookie: finished.cookie, cancelled: false });
  await from.close();
  await to.close();

  const pinged = await eventually(
    () => guest(state.machines[1]).run("cat /run/pinged"),
    /received/,
  );
  const sent = await eventually(() => guest(state.machines[0]).run("cat /run/sent"), /\d/);
  report(
    `move: downtime by QEMU ${downtimeMs} ms, flip on 3 hosts ${flipMs.toFixed(0)} ms, peer (sent, received, lost, longest silence ms, mean ms): ${pinged}, TCP over it: ${sent} of 15 Mbit/s`,
  );
  const [probes = 0, heard = 0] = pinged.split(" ").map(Number);
  // How many are lost and how long it took are rows of a benchmark; that the machine stayed reachable is not.
  expect(heard / probes).toBeGreaterThan(0.8);
  expect(Number(sent)).toBeGreaterThan(5);
  expect(await auditAll()).toEqual([]);
  expect((await shells.get("south-1")?.run(["ip", "-br", "link"]))?.stdout).not.toMatch(/^dv/m);
  expect(await bestRatio(0, 2, 15)).toBeGreaterThan(leastRatio);
}, 180_000);

test("when the machines are gone, the hosts hold nothing of ours", async () => {
  for (const record of state.machines) {
    await hostAt(record.effective.hostId).stopDomain(record.id, { graceMs: 1_000 });
  }
  state = { ...state, machines: [], links: [] };
  await applyAll();
  for (const shell of shells.values()) {
    const left = await shell.script(
      "ip -br link; nft list tables; tc qdisc show; ip neigh show nud permanent",
    );
    expect(left.stdout).not.toMatch(/\bdv[btxi]|drover/);
  }
}, 60_000);

/** What udhcpc is told, without changing the guest. */
async function leaseOf(record: MachineRecord | undefined): Promise<Record<string, string>> {
  const tell = "for key in ip mask dns domain mtu serverid; do eval echo $key=\\$$key; done";
  const said = await guest(record).read(
    `printf '#!/bin/sh\\n[ "$1" = bound ] || exit 0\\n${tell}\\n' > /run/tell; chmod +x /run/tell; udhcpc -i eth0 -n -q -t 5 -O mtu -s /run/tell 2>/dev/null`,
    { timeoutMs: 60_000 },
  );
  return Object.fromEntries(
    said
      .split("\n")
      .flatMap((line) => (line.includes("=") ? [line.split("=") as [string, string]] : [])),
  );
}
async function lookUp(
  record: MachineRecord | undefined,
  name: string,
): Promise<string | undefined> {
  const { stdout } = await guest(record).run(`nslookup ${name} 10.42.0.254`);
  return /Name:[^\n]*\nAddress[^:]*: *([\d.]+)/.exec(stdout)?.[1];
}

/** A live move as operations do it; `state` is as before when it ends. */
async function move(record: MachineRecord | undefined, from: string, to: string): Promise<void> {
  if (record === undefined) throw new Error("no machine moves");
  const index = Number(record.spec.name.at(-1));
  await overlay(hostAt(to), record);
  state = { ...state, incoming: [{ machineId: record.id, hostId: to }] };
  await applyAll();
  const parameters = {
    machineId: record.id,
    destinationAddress: state.hosts.find((host) => host.id === to)?.migrationAddress ?? "",
    copyDisk: true,
  };
  const source = await hostAt(from).migrateFrom(parameters);
  const destination = await hostAt(to).migrateTo(parameters);
  const prepared = await destination.prepare(await source.begin());
  await networkAt(to).apply(derive(to, state));
  const performed = await source.perform(prepared, () => undefined);
  const finished = await destination.finish({ cookie: performed, cancelled: false });
  state = {
    ...state,
    incoming: [],
    machines: state.machines.map((each) =>
      each.id === record.id ? machine("ring", index, to) : each,
    ),
  };
  await applyAll();
  await source.confirm({ cookie: finished.cookie, cancelled: false });
  await source.close();
  await destination.close();
  await hostAt(from).volumes.remove(`drover-${record.id}.qcow2`);
}

const phases = ["before", "during", "after"] as const;
/** The number of flood frames among those of a phase, above all kinds of attacks. */
const floodIndex = 63;
const marker = "d0d0beef";
/** Padded, and with the marker and a number at its end. */
function marked(frame: string, index: number): string {
  return `${frame.replaceAll(" ", "").padEnd(180, "0")}${marker}${index.toString(16).padStart(2, "0")}`;
}
function bare(mac: string): string {
  return mac.replaceAll(":", "");
}
function macOf(record: MachineRecord | undefined): string {
  return record?.effective.nics[0]?.mac ?? "";
}
function hexOf(address: string): string {
  return address
    .split(".")
    .map((part) => Number(part).toString(16).padStart(2, "0"))
    .join("");
}
/** Type, IPv4 header with its checksum, UDP of what is left of the frame; nothing is behind it but the marker. */
function ipHeader(from: string, to: string, ports = "00450045"): string {
  const header = Buffer.from(`450000510001000040110000${hexOf(from)}${hexOf(to)}`, "hex");
  let sum = 0;
  for (let at = 0; at < header.length; at += 2) sum += header.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  header.writeUInt16BE(~sum & 0xffff, 10);
  return `0800${header.toString("hex")}${ports}003d0000`;
}

/** By what each is; the first two are honest. */
function attacksOf(
  liar: MachineRecord | undefined,
  victim: MachineRecord | undefined,
): Readonly<Record<string, string>> {
  const [own, there] = [bare(macOf(liar)), bare(macOf(victim))];
  const [ownIp, victimIp] = [addressOf(liar), addressOf(victim)];
  const [otherMac, otherIp] = ["525400999999", "10.42.0.10"];
  const everybody = "ffffffffffff";
  const arp = (mac: string, address: string, operation: "01" | "02") =>
    `0806000108000604 00${operation}${mac}${hexOf(address)}${there}${hexOf(victimIp)}`;
  const advertisement = `86dd6000000000183aff${"fe80".padEnd(32, "0")}${"ff02".padEnd(31, "0")}18800`;
  return {
    "an honest packet": `${there}${own}${ipHeader(ownIp, victimIp)}`,
    "an honest ARP answer": `${there}${own}${arp(own, ownIp, "02")}`,
    "another address": `${there}${own}${ipHeader(otherIp, victimIp)}`,
    "another MAC": `${there}${otherMac}${ipHeader(ownIp, victimIp)}`,
    "ARP for another's address": `${there}${own}${arp(own, otherIp, "02")}`,
    "ARP with another's MAC inside": `${there}${own}${arp(otherMac, ownIp, "02")}`,
    "ARP for another to everybody": `${everybody}${own}${arp(own, otherIp, "01")}`,
    "ARP for the services' address": `${there}${own}${arp(own, "10.42.0.254", "02")}`,
    "an IPv6 neighbour advertisement": `333300000001${own}${advertisement}`,
    "a DHCP offer": `${there}${own}${ipHeader(ownIp, victimIp, "00430044")}`,
    "a VLAN tag": `${there}${own}81000005${ipHeader(ownIp, victimIp)}`,
    "two VLAN tags": `${there}${own}88a8000581000006${ipHeader(ownIp, victimIp)}`,
    RARP: `${everybody}${own}8035${arp(own, ownIp, "01").slice(4)}`,
    LLDP: `0180c200000e${own}88cc`,
    "an unknown protocol": `${there}${own}88b5`,
    "a frame above the MTU": `${there}${own}${ipHeader(ownIp, victimIp)}${"00".repeat(1_500)}`,
  };
}

function hostAt(id: string): Host {
  const host = hosts.get(id);
  if (host === undefined) throw new Error(`no host ${id}`);
  return host;
}
function networkAt(id: string): HostNetwork {
  const network = networks.get(id);
  if (network === undefined) throw new Error(`no network of ${id}`);
  return network;
}
function domainOf(record: MachineRecord | undefined): string {
  return `drover-${record?.spec.environmentId}-${record?.spec.name}`;
}
function guest(record: MachineRecord | undefined) {
  return openGuest(lab.layout, domainOf(record));
}
function addressOf(record: MachineRecord | undefined): string {
  return record?.effective.nics[0]?.address ?? "";
}
async function answers(
  from: MachineRecord | undefined,
  address: string,
  options = "",
): Promise<boolean> {
  return (await guest(from).run(`ping -c 2 -W 2 ${options} ${address}`)).code === 0;
}
async function applyAll(): Promise<readonly unknown[]> {
  const ids = [...networks.keys()];
  return (await Promise.all(ids.map((id) => networkAt(id).apply(derive(id, state))))).flat();
}
async function auditAll(): Promise<readonly unknown[]> {
  const ids = [...networks.keys()];
  return (await Promise.all(ids.map((id) => networkAt(id).audit(derive(id, state))))).flat();
}
function report(line: string): void {
  process.stdout.write(`${line}\n`);
}
async function eventually(
  look: () => Promise<{ stdout: string }>,
  pattern: RegExp,
): Promise<string> {
  for (let attempt = 0; ; attempt += 1) {
    const { stdout } = await look();
    if (pattern.test(stdout) || attempt === 60) return stdout.trim();
    await sleep(500);
  }
}

async function placeImage(host: Host): Promise<void> {
  for (const [file, name, format] of [
    ["base.qcow2", "drover-base.qcow2", "qcow2"],
    ["kernel", "drover-kernel", "raw"],
    ["initrd", "drover-initrd", "raw"],
  ] as const) {
    const path = join(lab.imageDirectory, file);
    const sizeBytes = statSync(path).size;
    const capacityBytes = format === "qcow2" ? diskBytes : sizeBytes;
    await host.volumes.upload({
      name,
      format,
      sizeBytes,
      capacityBytes,
      open: () => createReadStream(path),
    });
  }
}
async function overlay(host: Host, record: MachineRecord): Promise<void> {
  const name = `drover-${record.id}.qcow2`;
  await host.volumes.createOverlay({
    name,
    backing: "drover-base.qcow2",
    capacityBytes: diskBytes,
  });
}
async function start(record: MachineRecord): Promise<void> {
  const host = hostAt(record.effective.hostId);
  await overlay(host, record);
  await host.startDomain({
    id: record.id,
    name: domainOf(record),
    environmentId: record.spec.environmentId,
    owner: "alice",
    epoch: 1,
    vcpus: 1,
    vcpusMax: 1,
    cpuPercent: 100,
    memoryMib: 160,
    memoryMaxMib: 160,
    boot: {
      kernelVolume: "drover-kernel",
      initrdVolume: "drover-initrd",
      cmdline: `console=ttyS0 quiet drover.name=${record.spec.name} drover.ip=${addressOf(record)}/24`,
    },
    diskVolume: `drover-${record.id}.qcow2`,
    nics: record.effective.nics.map((nic) => ({
      mac: nic.mac,
      bridge: bridgeName(nic.networkId),
      tap: nic.tap,
      mtu,
    })),
    channels: [labChannel],
  });
}

/** More than promised counts at once; less is tried again, because emulated machines on a busy computer may lack the CPU. */
async function bestRatio(from: number, to: number, rateMbps: number): Promise<number> {
  for (let attempt = 1; ; attempt += 1) {
    const receiver = state.machines[to];
    const sent = await guest(state.machines[from]).read(
      `stream send ${addressOf(receiver)} 5001 5`,
    );
    report(`rank-${from} -> rank-${to}: ${sent} of ${rateMbps} Mbit/s`);
    const ratio = Number(sent) / rateMbps;
    if (ratio > 0.95 || attempt === 3) return ratio;
  }
}
