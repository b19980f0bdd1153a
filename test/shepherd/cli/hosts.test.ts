/** What an operator types about hosts and stuck work, on a whole shepherd with simulated sites. */
import { runCommand } from "@drover/shepherd/cli/main";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { declareRing, type Running, run } from "../api/shepherd.ts";

let running: Running;
beforeAll(async () => {
  running = await run();
  await declareRing(running, 1);
}, 60_000);
afterAll(async () => await running.end());

async function drover(...argv: string[]): Promise<{ code: number; out: string }> {
  let out = "";
  const write = (text: string) => {
    out += text;
  };
  const code = await runCommand([...argv, "--endpoint", running.endpoint], {
    out: write,
    err: write,
  });
  return { code, out };
}
const machine = async () => {
  const { items } = await running.client.get<{
    items: { effective: { host: string; state: string } }[];
  }>("/v1/machines");
  return items[0]?.effective;
};
const hostState = async (id: string) => {
  const { items } = await running.client.get<{
    items: { hosts: { id: string; state: string }[] }[];
  }>("/v1/sites");
  return items.flatMap(({ hosts }) => hosts).find((host) => host.id === id)?.state;
};
async function until(isSo: () => Promise<boolean>): Promise<void> {
  while (!(await isSo())) await new Promise((resolve) => setTimeout(resolve, 100));
}

test("drain counts to zero, and lift gives the host back", async () => {
  const from = (await machine())?.host ?? "";
  expect(await drover("drain", from)).toMatchObject({ code: 2 });
  const drained = await drover("drain", from, "--reason", "new disks", "--watch");
  expect(drained).toMatchObject({ code: 0, out: expect.stringContaining(`${from} is empty`) });
  expect((await machine())?.host).not.toBe(from);
  expect((await drover("host", "list")).out).toMatch(/draining .* local-root +new disks/);
  expect(await drover("drain", from, "--lift")).toMatchObject({ code: 0 });
  expect((await drover("host", "list")).out).toBe("nothing is said of any host\n");
}, 60_000);

test("a host is dead when it does not answer and a person says so; it comes back clean", async () => {
  const host = (await machine())?.host ?? "";
  const word = ["--reason", "burnt", "--fenced-by", "power off"];
  expect(await drover("host", "confirm-dead", host)).toMatchObject({ code: 2 });
  expect(await drover("host", "confirm-dead", host, ...word)).toMatchObject({
    code: 1,
    out: expect.stringContaining("host.answers"),
  });
  running.world.setReachable(host, false);
  await until(async () => (await hostState(host)) === "degraded");
  expect(await drover("host", "confirm-dead", host, ...word)).toMatchObject({ code: 0 });
  expect((await machine())?.state).toBe("failed");
  expect(await drover("host", "return", host)).toMatchObject({ code: 1 });
  running.world.setReachable(host, true);
  await until(async () => (await drover("host", "return", host)).code === 0);
  await until(async () => (await machine())?.state === "running");
}, 60_000);

test("differences and litter are listed; only --remove removes", async () => {
  const name = "drover-11111111-1111-4111-8111-111111111111.qcow2";
  const volumes = running.world.data.hosts["south-1"]?.volumes;
  if (volumes === undefined) throw new Error("no south-1");
  volumes[name] = { name, capacityBytes: 1, allocatedBytes: 1, backing: undefined, content: "" };
  expect((await drover("differences")).out).toContain("litter");
  expect((await drover("janitor")).out).toContain("no record claims it");
  expect(volumes[name]).toBeDefined();
  const removed = await drover("janitor", "--remove");
  expect(removed).toMatchObject({ code: 0, out: expect.stringContaining("succeeded: operation") });
  expect(volumes[name]).toBeUndefined();
}, 60_000);

test("one operation tells what was predicted, what it took, and what recovery would do", async () => {
  const { items } = await running.client.get<{ items: { id: string; kind: string }[] }>(
    "/v1/operations",
  );
  const moved = items.find(({ kind }) => kind === "adapt");
  const { code, out } = await drover("operation", moved?.id ?? "");
  expect(code).toBe(0);
  expect(out).toMatch(/^adapt .*: succeeded, 100 % after/);
  expect(out).toContain("predicted  ");
  expect(out).toContain("measured   ");
  expect(out).toContain("recovery   none: it has ended");
  expect(await drover("stuck")).toEqual({ code: 0, out: "nothing is stuck\n" });
  expect(await drover("operations")).toEqual({ code: 0, out: "nothing runs\n" });
  expect((await drover("operations", "--all")).out).toContain("repair");
}, 60_000);
