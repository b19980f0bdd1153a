/**
 * DHCP, names and the gateway of a LAN on real kernels: two hosts of two sites as namespaces with files of their own,
 * guests that ask like any Linux, somebody outside who answers. A guest moves and notices nothing. Needs root.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import type { MachineState, NetworkRecord } from "@drover/shepherd/model/objects";
import { derive, type NetworkState } from "@drover/shepherd/network/derive";
import { gatewayOf } from "@drover/shepherd/network/gateway";
import { deriveServices } from "@drover/shepherd/network/services";
import type { HostNetwork } from "@drover/shepherd/ports/host-network";
import { createHostNetwork } from "@drover/shepherd/shell/host-network";
import type { CommandResult, HostShell } from "@drover/shepherd/shell/shell";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { hostRecord, machineRecord, networkRecord } from "../shepherd/network/records.ts";
import {
  inNamespace,
  type NamespaceGuest,
  type NamespaceWorld,
  raiseNamespaces,
  startInNamespace,
  tryInNamespace,
} from "./namespaces.ts";

const mtu = 1450;
const names = ["north-1", "south-1"];
const lan: NetworkRecord = (() => {
  const record = networkRecord("ring", "lan", 0xd00000);
  return {
    ...record,
    spec: { ...record.spec, gateway: { siteId: "north", nat: true } },
    effective: {
      vni: 0xd00000,
      mtu,
      serviceAddress: "10.42.0.254",
      domain: "ring.internal",
      gatewayHostId: "north-1",
    },
  };
})();
const rank = (index: number, hostId: string, state: MachineState = "running") =>
  machineRecord({
    environmentId: "ring",
    name: `rank-${index}`,
    hostId,
    networkIds: [lan.id],
    address: `10.42.0.1${index}`,
    state,
  });

let world: NamespaceWorld;
let state: NetworkState;
/** Their own /run, as on machines of their own: where namespaces and configuration of services lie. */
const anchors: ChildProcess[] = [];
const shells = new Map<string, HostShell>();
const networks = new Map<string, HostNetwork>();
const guests = new Map<string, NamespaceGuest>();
let outside = "";

beforeAll(async () => {
  world = raiseNamespaces(3);
  for (const [index, id] of names.entries()) {
    const namespace = world.hosts[index]?.namespace ?? "";
    const anchor = spawn(
      "nsenter",
      [
        `--net=/run/netns/${namespace}`,
        "unshare",
        "-m",
        "sh",
        "-c",
        "mount --make-rprivate / && mount -t tmpfs tmpfs /run && mkdir /run/netns && echo ready && exec sleep 600",
      ],
      { stdio: ["ignore", "pipe", "inherit"] },
    );
    anchors.push(anchor);
    if (anchor.stdout !== null) await once(anchor.stdout, "data");
    const shell: HostShell = {
      hostId: id,
      run: (argv, options) => atHost(anchor, argv, options?.input),
      script: (text) => atHost(anchor, ["sh", "-s"], text),
    };
    shells.set(id, shell);
    networks.set(id, createHostNetwork(shell));
  }
  outside = world.hosts[2]?.address ?? "";
  state = {
    hosts: names.map((id, index) => hostRecord(id, world.hosts[index]?.address ?? "")),
    networks: [lan],
    machines: [rank(0, "north-1"), rank(1, "south-1"), rank(2, "south-1")],
    links: [],
    incoming: [],
  };
  await applyAll();
  for (const machine of state.machines) {
    const nic = machine.effective.nics[0];
    const host = world.hosts[names.indexOf(machine.effective.hostId)];
    if (nic === undefined || host === undefined) throw new Error("a machine without a place");
    const { tap, mac, address } = nic;
    const name = machine.spec.name;
    guests.set(name, world.addGuest({ name, tap, mac, address, host, mtu }));
  }
  await applyAll();
}, 60_000);
afterAll(async () => {
  await Promise.all(
    [...networks].map(([hostId, network]) => network.apply({ hostId, bridges: [] })),
  );
  for (const anchor of anchors) anchor.kill();
  world.down();
}, 60_000);

test("every host is as wished, and a second apply changes nothing", async () => {
  expect(await auditAll()).toEqual([]);
  expect(await applyAll()).toEqual([]);
});

test.each(["rank-0", "rank-1"])(
  "%s gets its lease, router, names and MTU by DHCP",
  async (name) => {
    expect(await leaseOf(name)).toEqual({
      ip: `10.42.0.1${name.at(-1)}`,
      mask: "24",
      router: "10.42.0.1",
      dns: "10.42.0.254",
      domain: "ring.internal",
      mtu: String(mtu),
      serverid: "10.42.0.254",
    });
  },
);

test("names of the whole environment are known everywhere; others are not asked for outside", async () => {
  expect(await lookUp("rank-0", "rank-1.ring.internal")).toBe("10.42.0.11");
  expect(await lookUp("rank-1", "rank-0.ring.internal")).toBe("10.42.0.10");
  expect(await lookUp("rank-1", "rank-9.ring.internal")).toBeUndefined();
});

test("a new machine's name and lease are there with the next apply; nobody's program was started anew", async () => {
  const before = pidOfServices("south-1");
  const machines = state.machines;
  state = { ...state, machines: [...machines, rank(3, "north-2", "stopped")] };
  await applyAll();
  expect(await lookUp("rank-1", "rank-3.ring.internal")).toBe("10.42.0.13");
  expect(await pidOfServices("south-1")).toBe(await before);
  state = { ...state, machines };
  await applyAll();
  expect(await auditAll()).toEqual([]);
});

test("through the gateway a machine reaches the outside from either site, under the host's address", async () => {
  for (const name of ["rank-0", "rank-1"]) {
    inNamespace(guestOf(name).namespace, "ip", "route", "replace", "default", "via", "10.42.0.1");
    expect(await pings(name, outside)).toBe(true);
  }
});

test("the gateway leads to no host of the fleet, and nothing leads in", async () => {
  for (const host of state.hosts) expect(await pings("rank-1", host.migrationAddress)).toBe(false);
  const { wayOut } = gatewayOf(lan) ?? {};
  expect(await pings("rank-1", wayOut?.hostAddress ?? "")).toBe(false);
  const strange = world.hosts[2]?.namespace ?? "";
  const north = world.hosts[0]?.address ?? "";
  inNamespace(strange, "ip", "route", "add", "10.42.0.0/24", "via", north);
  inNamespace(strange, "ip", "route", "add", "100.126.0.0/16", "via", north);
  expect(
    (await tryInNamespace(strange, ["ping", "-c", "2", "-W", "1", wayOut?.insideAddress ?? ""]))
      .exitCode,
  ).toBe(1);
});

test("a connection through the gateway survives a move to the other site; DHCP and names answer as before", async () => {
  const guest = guestOf("rank-1");
  const [to, from] = world.hosts;
  if (to === undefined || from === undefined) throw new Error("no hosts");
  const script = join(import.meta.dirname, "traffic.ts");
  const receiver = startInNamespace(
    world.hosts[2]?.namespace ?? "",
    process.execPath,
    script,
    "receive",
    "5020",
  );
  let text = "";
  receiver.stdout?.on("data", (chunk: Buffer) => {
    text += chunk.toString();
  });
  while (!text.includes("ready")) await pause(50);
  const sender = tryInNamespace(guest.namespace, [
    process.execPath,
    script,
    "send",
    outside,
    "5020",
    "6000",
  ]);
  await pause(1_500);
  state = { ...state, incoming: [{ machineId: "machine-ring-rank-1", hostId: "north-1" }] };
  await applyAll();
  world.prepareMove(guest, to, mtu);
  await applyAll();
  world.switchOver(guest);
  state = {
    ...state,
    incoming: [],
    machines: state.machines.map((one) => (one.spec.name === "rank-1" ? rank(1, "north-1") : one)),
  };
  await applyAll();
  world.finishMove(guest, from);
  expect(await sender).toMatchObject({ exitCode: 0, stderr: "" });
  while (!text.includes("mbps")) await pause(50);
  receiver.kill();
  expect((JSON.parse(text.split("\n")[1] ?? "{}") as { bytes: number }).bytes).toBeGreaterThan(
    1_000_000,
  );
  expect(await lookUp("rank-1", "rank-2.ring.internal")).toBe("10.42.0.12");
  expect(await leaseOf("rank-1")).toMatchObject({ ip: "10.42.0.11", serverid: "10.42.0.254" });
  expect(await auditAll()).toEqual([]);
}, 60_000);

test.each([
  ["the services' program was ended", "kill $(cat /run/drover-lan/dvn*/pid)"],
  ["the services' namespace was removed", "ip netns delete $(basename /run/drover-lan/dvn*)"],
  ["the gateway's namespace was removed", "ip netns delete $(basename /run/drover-lan/dvr*)"],
  ["the gateway's filter was removed", "nft delete table ip drover_out"],
])("%s: the audit says it, apply mends it", async (_what, command) => {
  await shells.get("north-1")?.script(command);
  await pause(200);
  expect((await auditAll()).length).toBeGreaterThan(0);
  await applyAll();
  expect(await auditAll()).toEqual([]);
  expect(await lookUp("rank-0", "rank-1.ring.internal")).toBe("10.42.0.11");
  expect(await pings("rank-0", outside)).toBe(true);
});

test("when nothing is wished any more, no namespace, program, file or table is left", async () => {
  await Promise.all(
    [...networks].map(([hostId, network]) => network.apply({ hostId, bridges: [] })),
  );
  for (const shell of shells.values()) {
    const { stdout } = await shell.script(
      "ip netns list; ls /run/drover-lan 2>/dev/null; nft list tables; ip -br link | grep '^dv[^t]'",
    );
    expect(stdout.trim()).toBe("");
  }
});

function atHost(
  anchor: ChildProcess,
  argv: readonly string[],
  input: string | undefined,
): Promise<CommandResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(
      "nsenter",
      ["--target", String(anchorPid(anchor)), "--net", "--mount", "--", ...argv],
      {
        stdio: ["pipe", "pipe", "pipe"],
      },
    );
    let stdout = "";
    let stderr = "";
    child.stdout.on("data", (chunk: Buffer) => {
      stdout += chunk.toString();
    });
    child.stderr.on("data", (chunk: Buffer) => {
      stderr += chunk.toString();
    });
    child.on("error", reject);
    child.on("close", (exitCode) => resolve({ exitCode: exitCode ?? 128, stdout, stderr }));
    child.stdin.on("error", () => child.stdin.destroy());
    child.stdin.end(input ?? "");
  });
}
/** nsenter and unshare become what they run. */
function anchorPid(anchor: ChildProcess): number {
  if (anchor.pid === undefined) throw new Error("a host has no anchor");
  return anchor.pid;
}
async function pidOfServices(hostId: string): Promise<string> {
  const services = deriveServices(lan, []);
  const shell = shells.get(hostId);
  return (await shell?.run(["cat", `/run/drover-lan/${services?.namespace}/pid`]))?.stdout ?? "";
}
function guestOf(name: string): NamespaceGuest {
  const guest = guests.get(name);
  if (guest === undefined) throw new Error(`no guest ${name}`);
  return guest;
}
async function pings(from: string, to: string): Promise<boolean> {
  const argv = ["ping", "-c", "2", "-i", "0.2", "-W", "1", to];
  return (await tryInNamespace(guestOf(from).namespace, argv)).exitCode === 0;
}
async function leaseOf(name: string): Promise<Record<string, string>> {
  const keys = ["ip", "mask", "router", "dns", "domain", "mtu", "serverid"];
  const tell = keys.map((key) => `echo ${key}=$${key}`).join("; ");
  const { stdout } = await tryInNamespace(guestOf(name).namespace, [
    "sh",
    "-c",
    `f=$(mktemp); printf '#!/bin/sh\\n[ "$1" = bound ] || exit 0\\n%s\\n' '${tell}' >$f; chmod +x $f; busybox udhcpc -i eth0 -n -q -t 5 -O mtu -s $f 2>/dev/null; rm $f`,
  ]);
  const lines = stdout.split("\n").filter((line) => line.includes("="));
  return Object.fromEntries(lines.map((line) => line.split("=") as [string, string]));
}
async function lookUp(name: string, what: string): Promise<string | undefined> {
  const { stdout } = await tryInNamespace(guestOf(name).namespace, [
    "busybox",
    "nslookup",
    what,
    "10.42.0.254",
  ]);
  return /Name:[^\n]*\nAddress[^:]*: *([\d.]+)/.exec(stdout)?.[1];
}
async function applyAll() {
  return (
    await Promise.all([...networks].map(([id, network]) => network.apply(derive(id, state))))
  ).flat();
}
async function auditAll() {
  return (
    await Promise.all([...networks].map(([id, network]) => network.audit(derive(id, state))))
  ).flat();
}
