/**
 * Every method of the guest protocol from a real guest, once granted and once denied: `drover-guest` in a machine of a
 * group, a whole shepherd outside with the policies that ship, real libvirtd and QEMU. Needs root.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { ShepherdClient } from "@drover/shepherd/api/client";
import type {
  ForecastView,
  GroupView,
  LinkView,
  MachineView,
  Mutation,
} from "@drover/shepherd/api/contract";
import { loadConfiguration } from "@drover/shepherd/configuration/configuration";
import { type GuestShell, openGuest } from "@drover/shepherd/lab/guest-shell";
import { down, type Lab, up } from "@drover/shepherd/lab/lab";
import { startShepherd } from "@drover/shepherd/main";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { pino } from "pino";

const name = "gmeth";
let lab: Lab;
let shepherd: Awaited<ReturnType<typeof startShepherd>>;
let client: ShepherdClient;
let speaker: GuestShell;
let group: GroupView;

beforeAll(async () => {
  lab = await up({ name });
  const configuration = loadConfiguration(lab.configurationFile);
  shepherd = await startShepherd(configuration, pino({ level: "silent" }));
  client = new ShepherdClient({ endpoint: `unix:${configuration.socket}` });
  const file = (part: string) => join(lab.imageDirectory, part);
  const { sha256 } = JSON.parse(readFileSync(file("image.json"), "utf8")) as {
    sha256: { "base.qcow2": string };
  };
  await declare("/v1/environments/ring", {
    class: "batch",
    sites: ["north", "south"],
    adaptation: {
      sites: ["north", "south"],
      links: { max_added: 1, rate_mbps: { min: 1, max: 50 } },
    },
  });
  const { id: networkId } = await declare<{ id: string }>("/v1/environments/ring/networks/lan", {
    cidr: "10.42.0.0/24",
  });
  const { id: imageId } = await declare<{ id: string }>("/v1/images/base", {
    source: file("base.qcow2"),
    sha256: sha256["base.qcow2"],
    kernel: file("kernel"),
    initrd: file("initrd"),
    cmdline: "console=ttyS0 quiet",
  });
  group = await declare<GroupView>("/v1/environments/ring/groups/rank", {
    template: {
      image_id: imageId,
      vcpus: 1,
      cpu_percent: 40,
      memory_mib: 192,
      site: "north",
      networks: [{ network_id: networkId }],
      adaptation: { cpu_percent: { min: 20, max: 80 }, memory_mib: { min: 192, max: 256 } },
    },
    machine_count: 2,
    adaptation: { machine_count: { min: 2, max: 3 } },
    topology: "star",
    topology_rate_mbps: 20,
    speaker: 0,
  });
  speaker = openGuest(lab.layout, "drover-ring-rank-0");
  expect(await speaker.read("echo up")).toBe("up");
}, 400_000);

afterAll(async () => {
  await shepherd?.stop();
  await down({ name });
}, 120_000);

/** Puts, waits for the operation, and answers the object as it is then. */
async function declare<View>(path: string, body: unknown): Promise<View> {
  const { object, operation } = await client.call<Mutation<View>>("PUT", path, { body });
  if (operation !== null) {
    const ended = await client.waitForOperation(operation.id);
    expect(ended.fault).toBeNull();
  }
  if (object === null) throw new Error(`${path} answered nothing`);
  return object;
}

/** What the guest's own program printed, and how it exited. */
async function ask(words: string): Promise<{ code: number; result: Record<string, unknown> }> {
  const command = `drover-guest ${words} --wait 120 --json`;
  const { code, stdout } = await speaker.run(command, { timeoutMs: 150_000 });
  const line = stdout.split("\n").findLast((text) => text.startsWith("{"));
  if (line === undefined) throw new Error(`${command} ended with ${code}: ${stdout}`);
  const message = JSON.parse(line) as Record<string, unknown>;
  const final = message["params"] as { result?: unknown } | undefined;
  return {
    code,
    result: (final?.result ?? message["result"] ?? message) as Record<string, unknown>,
  };
}
const members = async () => {
  const { effective } = await client.get<GroupView>(`/v1/groups/${group.id}`);
  return effective.machines.map((member) => [member.name, member.state]);
};
const links = async () =>
  (await client.get<{ items: LinkView[] }>("/v1/links?environment=ring")).items.map((link) => [
    link.machines.join("--"),
    link.effective.rate_mbps,
  ]);

test("scale: one more machine runs and is reached over the LAN; one too many is denied", async () => {
  const granted = await ask("scale --group rank --machines 3 --for 1h --reason 'phase 2'");
  expect(granted).toMatchObject({ code: 0, result: { granted: { machines: 3 } } });
  expect(await members()).toEqual([
    ["rank-0", "running"],
    ["rank-1", "running"],
    ["rank-2", "running"],
  ]);
  const { items } = await client.get<{ items: MachineView[] }>("/v1/machines?name=rank-2");
  const added = openGuest(lab.layout, "drover-ring-rank-2");
  expect(await added.read("echo up", { timeoutMs: 240_000 })).toBe("up");
  const address = items[0]?.networks[0]?.address;
  const pinged = await speaker.run(`ping -c 3 -W 2 ${address} > /dev/null`);
  expect(pinged.code).toBe(0);
  expect(await links()).toEqual([
    ["rank-0--rank-1", 20],
    ["rank-0--rank-2", 20],
  ]);
  const denied = await ask("scale --group rank --machines 4");
  expect(denied).toMatchObject({ code: 3, result: { code: "envelope.machine_count" } });
}, 300_000);

test("topology: a link more among its group, none beyond what the environment allows; the stack's stay", async () => {
  const granted = await ask("topology --group rank --link rank-1,rank-2=30");
  expect(granted).toMatchObject({ code: 0, result: { verdict: "granted" } });
  expect(await links()).toEqual([
    ["rank-0--rank-1", 20],
    ["rank-0--rank-2", 20],
    ["rank-1--rank-2", 30],
  ]);
  expect(await ask("topology --group rank --link rank-1,rank-2=60")).toMatchObject({
    code: 3,
    result: { code: "envelope.links" },
  });
}, 120_000);

test("rate: a link of its own within policy; one that is none of its links is refused", async () => {
  expect(await ask("rate --to rank-1 --rate-mbps 30")).toMatchObject({
    code: 0,
    result: { granted: { rate_mbps: 30 } },
  });
  expect((await ask("rate --to rank-1 --rate-mbps 100000")).code).toBe(3);
}, 120_000);

test("release gives the added machine and the raised rate back; who does not speak for the group may not", async () => {
  const other = openGuest(lab.layout, "drover-ring-rank-1");
  const refused = await other.run("drover-guest release --group rank --json 2>&1", {
    timeoutMs: 150_000,
  });
  expect(refused.code).not.toBe(0);
  expect(refused.stdout).toContain("only the group's declared speaker asks for the group");
  expect(await members()).toHaveLength(3);
  expect((await ask("release --group rank")).code).toBe(0);
  expect(await members()).toEqual([
    ["rank-0", "running"],
    ["rank-1", "running"],
  ]);
  expect(await links()).toEqual([["rank-0--rank-1", 20]]);
}, 300_000);

test("forecast is kept and shown; one beyond the envelope is denied", async () => {
  expect((await ask("forecast --phase solve --in 10m --memory-mib 256")).code).toBe(0);
  const { items } = await client.get<{ items: ForecastView[] }>("/v1/forecasts");
  expect(items).toMatchObject([{ phase: "solve", machines: ["rank-0"], memory_mib: 256 }]);
  expect((await ask("forecast --phase solve --in 10m --memory-mib 257")).code).toBe(3);
}, 60_000);

test("rate: its link with the whole network is its own too", async () => {
  const { id } = await declare<LinkView>("/v1/environments/ring/links", {
    machines: ["rank-0"],
    network: "lan",
    rate_mbps: 25,
  });
  expect(await ask("rate --network lan --rate-mbps 35")).toMatchObject({
    code: 0,
    result: { granted: { rate_mbps: 35 } },
  });
  expect((await ask("rate --network lan --rate-mbps 100000")).code).toBe(3);
  const gone = await client.call<Mutation<LinkView>>("DELETE", `/v1/links/${id}`);
  if (gone.operation !== null) await client.waitForOperation(gone.operation.id);
  expect((await links()).map(([ends]) => ends)).not.toContain("rank-0");
}, 120_000);

test("move crosses sites and back home by its lease; a site that is none of its own is denied", async () => {
  expect(await ask("move --to south --for 20s")).toMatchObject({
    code: 0,
    result: { granted: { site: "south" } },
  });
  expect((await ask("move --to nowhere")).code).not.toBe(0);
}, 240_000);

test("resize within the envelope is granted, beyond it denied", async () => {
  expect((await ask("resize --cpu-percent 60")).code).toBe(0);
  expect((await ask("resize --cpu-percent 6400")).code).toBe(3);
}, 120_000);
