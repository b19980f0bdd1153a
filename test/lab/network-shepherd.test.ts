/**
 * Networks as their users meet them: a whole shepherd, real virtual machines at two sites, the API and the command. The
 * LAN is encrypted between the sites without anybody asking, has names and a gateway, and is entered by `drover forward`
 * and `drover ssh`; a connection survives a live move to the other site.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { ShepherdClient } from "@drover/shepherd/api/client";
import type { EventView, MachineView, Mutation, NetworkView } from "@drover/shepherd/api/contract";
import { readConfiguration } from "@drover/shepherd/configuration/configuration";
import { type GuestShell, openGuest } from "@drover/shepherd/lab/guest-shell";
import { down, type Lab, up } from "@drover/shepherd/lab/lab";
import { hostOf } from "@drover/shepherd/lab/layout";
import { run } from "@drover/shepherd/lab/process";
import { inNamespace } from "@drover/shepherd/lab/wires";
import { type Shepherd, startShepherd } from "@drover/shepherd/main";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { pino } from "pino";

const name = "jdoor";
const command = join(import.meta.dirname, "../../shepherd/cli/main.ts");
let lab: Lab;
let shepherd: Shepherd;
let client: ShepherdClient;
let endpoint = "";
let network: NetworkView;
const machines: MachineView[] = [];
const children: ChildProcess[] = [];

beforeAll(async () => {
  lab = await up({ name });
  const text = readFileSync(lab.configurationFile, "utf8");
  const configuration = readConfiguration(text, lab.configurationFile);
  shepherd = await startShepherd(configuration, pino({ level: "silent" }));
  endpoint = `unix:${configuration.socket}`;
  client = new ShepherdClient({ endpoint });
  await client.call("PUT", "/v1/environments/ring", {
    body: { class: "batch", sites: ["north", "south"] },
  });
  const image = await made<{ id: string }>("/v1/images/base", imageBody());
  network = await made<NetworkView>("/v1/environments/ring/networks/lan", {
    cidr: "10.42.0.0/24",
    gateway: { site: "north" },
  });
  for (const [index, site] of ["north", "south"].entries())
    machines.push(
      await made<MachineView>(`/v1/environments/ring/machines/rank-${index}`, {
        image_id: image.id,
        memory_mib: 192,
        site,
        adaptation: { mode: "auto", sites: ["north", "south"] },
        networks: [{ network_id: network.id }],
      }),
    );
}, 400_000);
afterAll(async () => {
  for (const child of children) child.kill();
  await shepherd?.stop();
  await down({ name });
}, 60_000);

test("the network was admitted with the MTU that is left between encrypted sites", () => {
  expect(network).toMatchObject({ mtu: 1370, gateway: { site: "north", nat: false } });
});

test("machines of both sites reach each other with full-size packets, and by name", async () => {
  await rank(1).read("true", { timeoutMs: 120_000 }); // it has booted
  expect((await rank(0).run("ping -c 3 -W 5 10.42.0.11")).code).toBe(0);
  expect((await rank(0).run("ping -c 3 -W 5 -s 1342 10.42.0.11")).code).toBe(0);
  expect((await rank(1).run("nslookup rank-0.ring.internal 10.42.0.254")).stdout).toContain(
    "10.42.0.10",
  );
}, 240_000);

test("between the sites only WireGuard passes", async () => {
  const south = hostOf(lab.layout, "south-1");
  const tcpdump = spawn(
    "nsenter",
    [...inNamespace(south.namespace).slice(1), ..."tcpdump -n -l -i uplink udp".split(" ")],
    { stdio: ["ignore", "pipe", "pipe"] },
  );
  children.push(tcpdump);
  let seen = "";
  tcpdump.stdout.on("data", (chunk: Buffer) => {
    seen += chunk.toString();
  });
  await once(tcpdump.stderr, "data");
  await rank(0).run("ping -c 5 -W 5 10.42.0.11");
  await pause(500);
  tcpdump.kill();
  expect(seen).toMatch(/\.51820 > \S+\.51820: UDP/);
  expect(seen).not.toContain(".4789:");
}, 60_000);

test("another network of the environment may not overlap; a larger packet than the path carries is refused", async () => {
  await expect(
    made("/v1/environments/ring/networks/second", { cidr: "10.42.0.128/25" }),
  ).rejects.toMatchObject({
    code: "network.cidr_overlaps",
  });
  await expect(
    made("/v1/environments/ring/networks/jumbo", { cidr: "10.43.0.0/24", mtu: 8000 }),
  ).rejects.toMatchObject({
    code: "network.path_mtu",
    problem: { details: { neededBytes: 8130, pathBytes: 1500, possibleMtu: 1370 } },
  });
}, 120_000);

test("drover ssh runs a command in the machine, with its output and exit code", async () => {
  expect(await login(0, "hostname; exit 7")).toEqual({ code: 7, said: "rank-0\n" });
}, 120_000);

test("a login and a forwarded connection survive a live move to the other site; who entered stands in the feed", async () => {
  await rank(1).read("rm -f /run/enough");
  const session = ssh(
    1,
    "n=0; while [ ! -e /run/enough ]; do n=$((n+1)); echo $n; sleep 0.2; done",
  );
  const counted = () => session.said().trim().split("\n").map(Number);
  await until(() => counted().length > 5);
  await rank(1).read("nc -l -p 9000 -e cat > /dev/null 2>&1 &");
  const forward = drover("forward", "ring/rank-1", "0:9000", "--once");
  let told = "";
  forward.stderr?.on("data", (chunk: Buffer) => {
    told += chunk.toString();
  });
  while (!told.includes("leads to")) {
    if (forward.exitCode !== null) throw new Error(told);
    await pause(50);
  }
  const socket = connect(Number(/127\.0\.0\.1:(\d+)/.exec(told)?.[1]), "127.0.0.1");
  await once(socket, "connect");
  expect(await echo(socket, "before the move")).toBe("before the move");
  const [, moving] = machines;
  const moved = await client.call<Mutation<MachineView>>("PATCH", `/v1/machines/${moving?.id}`, {
    body: { site: "north" },
  });
  if (moved.operation !== null) await client.waitForOperation(moved.operation.id);
  const now = await client.get<MachineView>(`/v1/machines/${moving?.id}`);
  expect(now.effective.site).toBe("north");
  expect(await echo(socket, "after the move")).toBe("after the move");
  const arrived = counted().length;
  await until(() => counted().length > arrived + 5);
  await rank(1).read("touch /run/enough");
  expect(await session.ended).toBe(0);
  const numbers = counted();
  expect(numbers).toEqual(numbers.map((_, index) => index + 1)); // none lost, none twice
  socket.destroy();
  expect((await rank(1).run("nslookup rank-0.ring.internal 10.42.0.254")).stdout).toContain(
    "10.42.0.10",
  );
  const events = await client.get<{ items: EventView[] }>("/v1/events", { query: { once: 1 } });
  expect(events.items.filter(({ kind }) => kind === "machine.entered").length).toBeGreaterThan(1);
}, 240_000);

test("when the environment is gone, the hosts hold nothing of ours", async () => {
  for (const machine of machines) {
    const gone = await client.call<Mutation<MachineView>>("DELETE", `/v1/machines/${machine.id}`);
    if (gone.operation !== null) await client.waitForOperation(gone.operation.id);
  }
  for (const id of ["north-1", "north-2", "south-1"]) {
    const { stdout } = await run([
      ...inNamespace(hostOf(lab.layout, id).namespace),
      "sh",
      "-c",
      "ip -br link; nft list tables; tc qdisc show",
    ]);
    expect(stdout).not.toMatch(/\bdv[a-z]|drover/);
  }
}, 240_000);

function rank(index: number): GuestShell {
  return openGuest(lab.layout, `drover-ring-rank-${index}`);
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
async function made<View>(path: string, body: object): Promise<View> {
  const answer = await client.call<Mutation<View>>("PUT", path, { body, waitMs: 120_000 });
  if (answer.operation !== null) {
    const ended = await client.waitForOperation(answer.operation.id);
    if (ended.state !== "succeeded") throw new Error(JSON.stringify(ended));
  }
  if (answer.object === null) throw new Error(`${path} made nothing`);
  return answer.object;
}
function drover(...argv: readonly string[]): ChildProcess {
  const child = spawn(process.execPath, [command, ...argv], {
    env: { ...process.env, DROVER_ENDPOINT: endpoint },
    stdio: ["ignore", "pipe", "pipe"],
  });
  children.push(child);
  return child;
}
/** One session of `drover ssh`, with host keys of this test alone. */
function ssh(index: number, text: string) {
  const options = {
    BatchMode: "yes",
    StrictHostKeyChecking: "accept-new",
    UserKnownHostsFile: join(lab.layout.stateDirectory, "known-hosts"),
    ConnectTimeout: "60",
  };
  const given = Object.entries(options).flatMap(([option, value]) => ["-o", `${option}=${value}`]);
  const child = drover("ssh", `ring/rank-${index}`, "--", ...given, text);
  let said = "";
  let complained = "";
  child.stdout?.on("data", (chunk: Buffer) => {
    said += chunk.toString();
  });
  child.stderr?.on("data", (chunk: Buffer) => {
    complained += chunk.toString();
  });
  const ended = once(child, "close").then(([code]: unknown[]) => {
    if (code === 255) throw new Error(complained);
    return code;
  });
  return { said: () => said, ended };
}
async function login(index: number, text: string) {
  const session = ssh(index, text);
  const code = await session.ended;
  return { code, said: session.said() };
}
async function until(isTrue: () => boolean): Promise<void> {
  while (!isTrue()) await pause(50);
}
async function echo(socket: Socket, text: string): Promise<string> {
  socket.write(text);
  let heard = "";
  while (heard.length < text.length) {
    const [chunk] = (await once(socket, "data")) as [Buffer];
    heard += chunk.toString();
  }
  return heard;
}
