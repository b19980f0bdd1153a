/**
 * The LAN's figures, each beside its rival in one run: throughput and latency of plain and encrypted VXLAN beside the bare
 * path and bare WireGuard, what a promised rate really carries, and how long a machine is not heard when it changes hosts,
 * among 2, 8 and 32 hosts, beside learning bridges that wait for an announcement. Real kernels, namespaces, no SSH. Needs
 * root. How long hosts take to become as wished: `node test/bench/run.ts host-network`.
 */
import { type ChildProcess, execFileSync } from "node:child_process";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import type { HostRecord, TunnelEnd } from "@drover/shepherd/model/site";
import { derive, type NetworkState } from "@drover/shepherd/network/derive";
import { tunnelName } from "@drover/shepherd/network/tunnels";
import type { HostNetwork } from "@drover/shepherd/ports/host-network";
import { createHostNetwork } from "@drover/shepherd/shell/host-network";
import {
  inNamespace,
  type NamespaceGuest,
  type NamespaceWorld,
  raiseNamespaces,
  startInNamespace,
  tryInNamespace,
} from "../lab/namespaces.ts";
import {
  hostRecord,
  linkRecord,
  machineRecord,
  networkRecord,
} from "../shepherd/network/records.ts";

const traffic = join(import.meta.dirname, "../lab/traffic.ts");
const sendMs = 3_000;
const pathRounds = 5;

const parts: Readonly<Record<string, () => Promise<void>>> = {
  paths,
  rates,
  async "cut-over"() {
    for (const count of [2, 8, 32]) await cutOver(count);
  },
};
/** Named parts alone, else all. */
const wanted = process.argv.slice(2).filter((name) => name in parts);
for (const name of wanted.length === 0 ? Object.keys(parts) : wanted) await parts[name]?.();

interface Lan {
  readonly world: NamespaceWorld;
  readonly networks: readonly HostNetwork[];
  readonly guests: readonly NamespaceGuest[];
  state: NetworkState;
  apply(): Promise<void>;
  down(): Promise<void>;
}

/** One machine a host; with `encrypted` every host is a site of its own. */
async function raise(options: {
  readonly hosts: number;
  readonly mtu: number;
  readonly encrypted: boolean;
  readonly prefix?: string;
  readonly rateMbps?: number;
  readonly machines?: number;
}): Promise<Lan> {
  const world = raiseNamespaces(options.hosts, options.prefix);
  const networks = world.hosts.map((host) => createHostNetwork(host.shell));
  const hosts = world.hosts.map(
    (host, index): HostRecord => ({
      ...hostRecord(host.id, host.address),
      siteId: options.encrypted ? `site-${index}` : "site",
      ...(options.encrypted ? { tunnel: { port: 51_820, clearSites: [] } } : {}),
    }),
  );
  const lan = {
    ...networkRecord("bench", "lan", 0xd00000),
    effective: { vni: 0xd00000, mtu: options.mtu },
  };
  const machines = world.hosts.slice(0, options.machines ?? options.hosts).map((host, index) =>
    machineRecord({
      environmentId: "bench",
      name: `m-${index}`,
      hostId: host.id,
      networkIds: [lan.id],
      address: `10.42.0.${10 + index}`,
    }),
  );
  const tunnelEnds: TunnelEnd[] = [];
  for (const [index, network] of options.encrypted ? networks.entries() : [])
    tunnelEnds.push({
      hostId: hosts[index]?.id ?? "",
      address: `100.127.0.${index + 1}`,
      generation: 0,
      keys: [
        {
          generation: 0,
          publicKey: await network.tunnelKey(tunnelName(hosts[index]?.id ?? "", 0)),
        },
      ],
    });
  const made: Lan = {
    world,
    networks,
    guests: [],
    state: {
      hosts,
      networks: [lan],
      machines,
      links:
        options.rateMbps === undefined
          ? []
          : [linkRecord("bench", ["m-0", "m-1"], options.rateMbps)],
      incoming: [],
      tunnelEnds,
    },
    async apply() {
      await Promise.all(
        networks.map((network, index) => network.apply(derive(hosts[index]?.id ?? "", made.state))),
      );
    },
    async down() {
      await Promise.all(
        networks.map((network, index) =>
          network.apply({ hostId: hosts[index]?.id ?? "", bridges: [] }),
        ),
      );
      world.down();
    },
  };
  await made.apply();
  const guests = machines.map((machine, index) => {
    const [nic] = machine.effective.nics;
    const host = world.hosts[index];
    if (nic === undefined || host === undefined) throw new Error("a machine without a place");
    const { tap, mac, address } = nic;
    return world.addGuest({ name: machine.spec.name, tap, mac, address, host, mtu: options.mtu });
  });
  await made.apply();
  return Object.assign(made, { guests });
}

interface Way {
  readonly name: string;
  readonly from: string;
  readonly to: string;
  readonly address: string;
  /** Index of the way that it is compared with. */
  readonly rival?: number;
}

/** Two guests on the hosts' bare wire: bridges alone, and nothing of ours. */
function raiseCabled(): Omit<Way, "name"> & { down(): void } {
  const world = raiseNamespaces(2, "bare");
  const guests = world.hosts.map((host, index) => {
    const tap = `dvt00000000000${index}`;
    const address = `10.42.0.${10 + index}`;
    const mac = `52:54:00:00:00:0${index}`;
    inNamespace(host.namespace, "ip", "link", "add", "lan0", "type", "bridge");
    inNamespace(host.namespace, "ip", "link", "set", "lan0", "up");
    inNamespace(host.namespace, "ip", "link", "set", "up0", "master", "lan0");
    const made = world.addGuest({ name: `c-${index}`, tap, mac, address, host, mtu: 1500 });
    inNamespace(host.namespace, "ip", "link", "set", tap, "master", "lan0");
    return made;
  });
  const [one, other] = guests;
  if (one === undefined || other === undefined) throw new Error("no guests");
  return { from: one.namespace, to: other.namespace, address: "10.42.0.11", down: world.down };
}

/** The same guests on VXLAN made by hand: it learns, and has no filters; what is left of the difference is VXLAN itself. */
function raiseByHand(): Omit<Way, "name"> & { down(): void } {
  const world = raiseNamespaces(2, "hand");
  const guests = world.hosts.map((host, index) => {
    const tap = `dvt00000000000${index}`;
    const address = `10.42.0.${10 + index}`;
    const mac = `52:54:00:00:00:0${index}`;
    const remote = world.hosts[1 - index]?.address ?? "";
    const run = (text: string) => inNamespace(host.namespace, "ip", ...text.split(" "));
    run("link add lan0 type bridge");
    run(`link add vx type vxlan id 77 local ${host.address} remote ${remote} dstport 4789`);
    run("link set vx master lan0 up");
    run("link set lan0 up");
    const made = world.addGuest({ name: `v-${index}`, tap, mac, address, host, mtu: 1450 });
    run(`link set ${tap} master lan0`);
    return made;
  });
  const [one, other] = guests;
  if (one === undefined || other === undefined) throw new Error("no guests");
  return { from: one.namespace, to: other.namespace, address: "10.42.0.11", down: world.down };
}

/** In turns, the best of each: whatever else the machine does only takes away. */
async function paths(): Promise<void> {
  const plain = await raise({ hosts: 2, mtu: 1450, encrypted: false });
  // Devices in user space are known by name on the whole machine: other hosts than those of the first.
  const encrypted = await raise({ hosts: 2, mtu: 1370, encrypted: true, prefix: "far" });
  const [left, right] = plain.world.hosts;
  const [from, to] = encrypted.world.hosts;
  if (left === undefined || right === undefined || from === undefined || to === undefined)
    throw new Error("no hosts");
  const cabled = raiseCabled();
  const byHand = raiseByHand();
  const ways: readonly Way[] = [
    {
      name: "bare, host to host",
      from: left.namespace,
      to: right.namespace,
      address: right.address,
    },
    // Guests reach their host by a cable and a bridge, with VXLAN and without.
    { name: "bare, guest to guest (rival)", ...cabled },
    {
      name: "plain VXLAN, filters and all",
      from: guest(plain, 0),
      to: guest(plain, 1),
      address: "10.42.0.11",
      rival: 1,
    },
    {
      name: "bare WireGuard (rival)",
      from: from.namespace,
      to: to.namespace,
      address: "100.127.0.2",
    },
    {
      name: "VXLAN in WireGuard",
      from: guest(encrypted, 0),
      to: guest(encrypted, 1),
      address: "10.42.0.11",
      rival: 3,
    },
    { name: "VXLAN by hand, without filters", ...byHand, rival: 1 },
  ];
  const best = ways.map(() => ({ mbps: 0, pingMs: Number.POSITIVE_INFINITY }));
  for (let round = 0; round < pathRounds; round += 1) {
    for (const [index, way] of ways.entries()) {
      const seen = await path(way.from, way.to, way.address);
      const so = best[index];
      if (so === undefined) continue;
      so.mbps = Math.max(so.mbps, seen.mbps);
      so.pingMs = Math.min(so.pingMs, seen.pingMs);
    }
  }
  print(`path, best of ${pathRounds}`, "Mbit/s", "of its rival", "least ping ms");
  for (const [index, { name, rival }] of ways.entries()) {
    const { mbps, pingMs } = best[index] ?? { mbps: 0, pingMs: 0 };
    const beside = rival === undefined ? undefined : best[rival]?.mbps;
    print(name, mbps, beside === undefined ? "" : percent(mbps, beside), pingMs);
  }
  cabled.down();
  byHand.down();
  await plain.down();
  await encrypted.down();
}

async function rates(): Promise<void> {
  print("promised Mbit/s", "carried", "of the promise");
  for (const rateMbps of [10, 50, 200, 500]) {
    const lan = await raise({ hosts: 2, mtu: 1450, encrypted: false, rateMbps });
    const carried = await throughput(guest(lan, 0), guest(lan, 1), "10.42.0.11");
    print(rateMbps, carried, percent(carried, rateMbps));
    await lan.down();
  }
  for (const rateMbps of [20, 50, 200]) await queues(rateMbps);
}

/** What a small packet waits behind a link that is full, by the link's latency class. */
async function queues(rateMbps: number): Promise<void> {
  const lan = await raise({ hosts: 2, mtu: 1450, encrypted: false, rateMbps });
  for (const latency of [undefined, "low"] as const) {
    const links = lan.state.links.map((link) => ({
      ...link,
      spec: { ...link.spec, ...(latency === undefined ? {} : { latency }) },
    }));
    lan.state = { ...lan.state, links };
    await lan.apply();
    const full = throughput(guest(lan, 0), guest(lan, 1), "10.42.0.11");
    await pause(1_000);
    const argv = ["ping", "-q", "-i", "0.02", "-c", "75", "10.42.0.11"];
    const { stdout } = await tryInNamespace(guest(lan, 0), argv);
    const meanMs = Number(/= [\d.]+\/([\d.]+)\//.exec(stdout)?.[1]);
    const carried = percent(await full, rateMbps);
    print(
      `latency ${latency ?? "normal"}, ${rateMbps} Mbit/s full`,
      carried,
      `mean ping ${meanMs} ms`,
    );
  }
  await lan.down();
}

/** The machine m-1 changes from the second host to the first, while the last host's machine probes it every 2 ms. */
async function cutOver(count: number): Promise<void> {
  const lan = await raise({ hosts: count, mtu: 1450, encrypted: false });
  const probed = lan.guests[1];
  const [to, from] = lan.world.hosts;
  const moving = lan.state.machines[1];
  if (probed === undefined || to === undefined || from === undefined || moving === undefined)
    throw new Error("no machine moves");
  const gapMs = await silence(
    guest(lan, count - 1 === 1 ? 0 : count - 1),
    "10.42.0.11",
    async () => {
      lan.state = { ...lan.state, incoming: [{ machineId: moving.id, hostId: to.id }] };
      await lan.apply();
      lan.world.prepareMove(probed, to, 1450);
      await lan.apply();
      const machines = lan.state.machines.map((machine) =>
        machine.id === moving.id
          ? { ...machine, effective: { ...machine.effective, hostId: to.id } }
          : machine,
      );
      const after = { ...lan.state, machines, incoming: [] };
      const armed = await Promise.all(
        lan.networks.map((network, index) =>
          network.arm(derive(lan.state.hosts[index]?.id ?? "", after), moving.effective.nics),
        ),
      );
      lan.world.switchOver(probed);
      const startMs = performance.now();
      for (const change of armed) change?.fire();
      lan.state = after;
      await lan.apply();
      return performance.now() - startMs;
    },
  );
  await lan.down();
  const rival = await learning(count);
  print(
    `cut-over, ${count} hosts`,
    `longest silence ${gapMs.silenceMs.toFixed(0)} ms (all hosts told and asked again in ${gapMs.workMs.toFixed(0)} ms)`,
    `learning + announcement after the switch ${rival.toFixed(0)} ms`,
  );
}

/** The rival: VXLAN and bridges that learn; the machine announces itself when it is plugged in, as QEMU does. */
async function learning(count: number): Promise<number> {
  const world = raiseNamespaces(count);
  try {
    for (const host of world.hosts) {
      const flood = world.hosts
        .filter((other) => other.id !== host.id)
        .map((other) => `fdb append 00:00:00:00:00:00 dev vx dst ${other.address}`);
      const lines = [
        "link add name lan0 type bridge",
        `link add vx type vxlan id 77 local ${host.address} dstport 4789`,
        "link set dev vx master lan0 up",
        "link set dev lan0 up",
      ];
      const run = (program: string, batch: readonly string[]) =>
        execFileSync("nsenter", [`--net=/run/netns/${host.namespace}`, program, "-batch", "-"], {
          input: `${batch.join("\n")}\n`,
        });
      run("ip", lines);
      run("bridge", flood);
    }
    const plug = (index: number) => {
      const host = world.hosts[index];
      if (host === undefined) throw new Error("no host");
      const tap = `dvt00000000000${index % 10}`;
      const made = world.addGuest({
        name: `r-${index}`,
        tap,
        mac: `52:54:00:00:00:0${index % 10}`,
        address: `10.42.0.${10 + index}`,
        host,
        mtu: 1450,
      });
      inNamespace(host.namespace, "ip", "link", "set", tap, "master", "lan0");
      return made;
    };
    const prober = plug(0);
    const probed = plug(1);
    const to = world.hosts[count === 2 ? 0 : 2];
    if (to === undefined) throw new Error("no host");
    const { silenceMs } = await silence(prober.namespace, "10.42.0.11", async () => {
      world.prepareMove(probed, to, 1450);
      inNamespace(to.namespace, "ip", "link", "set", probed.tap, "master", "lan0");
      world.switchOver(probed);
      inNamespace(
        probed.namespace,
        "busybox",
        "arping",
        "-U",
        "-c",
        "1",
        "-I",
        "eth0",
        "10.42.0.11",
      );
      return 0;
    });
    return silenceMs;
  } finally {
    world.down();
  }
}

async function silence(
  namespace: string,
  address: string,
  work: () => Promise<number>,
): Promise<{ readonly silenceMs: number; readonly workMs: number }> {
  const prober = startInNamespace(namespace, "ping", "-D", "-i", "0.002", address);
  let stdout = "";
  prober.stdout?.on("data", (chunk: Buffer) => {
    stdout += chunk.toString();
  });
  const ended = new Promise((resolve) => prober.on("close", resolve));
  await pause(1_000);
  const workMs = await work();
  await pause(1_500); // whoever learns, learns within it
  prober.kill("SIGINT");
  await ended;
  const arrivals = [...stdout.matchAll(/^\[([\d.]+)\].*bytes from/gm)].map((match) =>
    Number(match[1]),
  );
  const gaps = arrivals.slice(1).map((at, index) => (at - (arrivals[index] ?? at)) * 1000);
  return { silenceMs: Math.max(...gaps), workMs };
}

async function path(from: string, to: string, address: string) {
  const pinged = await tryInNamespace(from, ["ping", "-q", "-c", "200", "-i", "0.005", address]);
  const pingMs = Number(/= ([\d.]+)\//.exec(pinged.stdout)?.[1]);
  return { mbps: await throughput(from, to, address), pingMs };
}

async function throughput(from: string, to: string, address: string): Promise<number> {
  const receiver: ChildProcess = startInNamespace(to, process.execPath, traffic, "receive", "5030");
  let text = "";
  receiver.stdout?.on("data", (chunk: Buffer) => {
    text += chunk.toString();
  });
  while (!text.includes("ready")) await pause(20);
  await tryInNamespace(from, [process.execPath, traffic, "send", address, "5030", String(sendMs)]);
  while (!text.includes("mbps")) await pause(20);
  receiver.kill();
  return (JSON.parse(text.split("\n")[1] ?? "{}") as { mbps: number }).mbps;
}

function guest(lan: Lan, index: number): string {
  const found = lan.guests[index];
  if (found === undefined) throw new Error("no such guest");
  return found.namespace;
}
function percent(value: number, of: number): string {
  return `${((100 * value) / of).toFixed(1)} %`;
}
function print(...cells: readonly (string | number)[]): void {
  const texts = cells.map((cell) =>
    typeof cell === "number" ? cell.toFixed(cell < 10 ? 3 : 1) : cell,
  );
  process.stdout.write(`${texts.join(" | ")}\n`);
}
