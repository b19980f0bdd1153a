/**
 * The lab's WAN, seen from real hosts: delay, rate, loss and cuts hold between sites, change while everything runs, and
 * touch neither a site's own traffic nor the shepherd's way to its hosts. Says which of the two drivers ran.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { describeWans, labWan } from "@drover/shepherd/lab/commands";
import { down, type Lab, up } from "@drover/shepherd/lab/lab";
import { hostOf } from "@drover/shepherd/lab/layout";
import { must, run } from "@drover/shepherd/lab/process";
import { parseWan } from "@drover/shepherd/lab/wan";
import { inNamespace } from "@drover/shepherd/lab/wires";
import { afterAll, beforeAll, expect, test } from "@jest/globals";

const name = "jwan";
let lab: Lab;

beforeAll(async () => {
  lab = await up({ name, wan: [parseWan("north:south=50ms,100mbit")] });
  process.stdout.write(`${describeWans(await labWan({ name, action: "show", paths: [] }))}\n`);
}, 180_000);
afterAll(async () => {
  await down({ name });
}, 60_000);

const change = (action: "set" | "cut" | "mend", path: string) =>
  labWan({ name, action, paths: [path] });

test("a round trip between sites takes what was asked; inside a site it does not", async () => {
  // The least of several: a busy machine adds, it never takes away.
  expect(await leastRoundTripMs("north-1", "south-1")).toBeGreaterThanOrEqual(50);
  expect(await leastRoundTripMs("north-1", "south-1")).toBeLessThan(65);
  expect(await leastRoundTripMs("north-1", "north-2")).toBeLessThan(25);
}, 60_000);

test("the rate holds in both directions, for what TCP carries", async () => {
  for (const [from, to] of [
    ["north-1", "south-1"],
    ["south-1", "north-2"],
  ] as const) {
    const mbps = await throughputMbps(from, to);
    process.stdout.write(`${from} -> ${to}: ${mbps.toFixed(1)} of 100 Mbit/s on the wire\n`);
    expect(mbps).toBeLessThan(100);
    expect(mbps).toBeGreaterThan(60);
  }
}, 90_000);

test("a cut lets nothing through and tells nobody, the shepherd's way stays; mending mends", async () => {
  await change("cut", "north:south");
  expect(await answers("north-2", "south-1")).toBe(false);
  expect(await answers("north-1", "north-2")).toBe(true);
  expect((await run(["ping", "-c", "2", "-W", "1", address("south-1")])).code).toBe(0);
  const wan = await change("mend", "north:south");
  expect(wan?.paths).toEqual([parseWan("north:south=50ms,100mbit")]);
  expect(await answers("north-2", "south-1")).toBe(true);
}, 60_000);

test("loss is lost, and goes again", async () => {
  await change("set", "north:south=2ms,30%");
  const said = await ping("north-1", "south-1", ["-c", "100", "-i", "0.01", "-W", "1"]);
  const received = Number(/(\d+) received/.exec(said)?.[1]);
  // Both ways: 49 of 100 arrive on average; three deviations are 15.
  expect(received).toBeGreaterThan(25);
  expect(received).toBeLessThan(75);
  await change("set", "north:south=2ms");
  expect(await ping("north-1", "south-1", ["-c", "20", "-i", "0.05", "-W", "2"])).toContain(
    "20 received",
  );
}, 60_000);

test("a pair there is not is refused", async () => {
  await expect(change("cut", "north:west")).rejects.toMatchObject({ code: "lab.wan_invalid" });
});

function address(hostId: string): string {
  return hostOf(lab.layout, hostId).address;
}
function inHost(hostId: string): readonly string[] {
  return inNamespace(hostOf(lab.layout, hostId).namespace);
}
async function ping(from: string, to: string, options: readonly string[]): Promise<string> {
  return (await run([...inHost(from), "ping", "-q", ...options, address(to)])).stdout;
}
async function answers(from: string, to: string): Promise<boolean> {
  return / [1-9]\d* received/.test(await ping(from, to, ["-c", "3", "-W", "2"]));
}
async function leastRoundTripMs(from: string, to: string): Promise<number> {
  const said = await must([...inHost(from), "ping", "-q", "-c", "10", "-i", "0.1", address(to)]);
  return Number(/= ([\d.]+)\//.exec(said)?.[1]);
}
async function throughputMbps(from: string, to: string): Promise<number> {
  const script = join(import.meta.dirname, "traffic.ts");
  const receiverArguments = [...inHost(to).slice(1), process.execPath, script, "receive", "5010"];
  const receiver = spawn("nsenter", receiverArguments, { stdio: ["ignore", "pipe", "inherit"] });
  try {
    let text = "";
    receiver.stdout.on("data", (chunk: Buffer) => {
      text += chunk.toString();
    });
    while (!text.includes("ready")) await once(receiver.stdout, "data");
    await must([...inHost(from), process.execPath, script, "send", address(to), "5010", "6000"]);
    while (!text.includes("mbps")) await once(receiver.stdout, "data");
    return (JSON.parse(text.split("\n")[1] ?? "{}") as { mbps: number }).mbps;
  } finally {
    receiver.kill();
  }
}
