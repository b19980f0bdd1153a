/** Machines that other tools made: listed, taken over as they run, changed live from then on. Simulated hosts. */
import type { ForeignMachineView, HostView, MachineView } from "@drover/shepherd/api/contract";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { declareRing, mutate, type Running, run } from "./shepherd.ts";

const id = "0b0e6a52-0000-4000-8000-00000000f001";
let running: Running;

beforeAll(async () => {
  running = await run();
  await declareRing(running, 1);
  running.world.startForeign("north-2", {
    id,
    name: "old-db",
    vcpus: 2,
    memoryMib: 128,
    cpuPercent: 50,
  });
}, 120_000);
afterAll(async () => {
  expect(running.world.violations).toEqual([]);
  await running.end();
});

const shown = async () => await running.client.get<MachineView>(`/v1/machines/${id}`);
const foreign = async () =>
  (await running.client.get<{ items: ForeignMachineView[] }>("/v1/foreign-machines?site=north"))
    .items;
const take = async (name: string) => {
  const answer = await running.client.call<{ operation: { id: string } | null }>(
    "POST",
    `/v1/foreign-machines/${id}/import`,
    { body: { environment: "ring", name } },
  );
  if (answer.operation !== null) await running.client.waitForOperation(answer.operation.id);
};
const bootId = () => running.world.data.hosts["north-2"]?.domains[id]?.bootId;

test("what is not ours is listed with its host, and counts there as used", async () => {
  expect(await foreign()).toMatchObject([
    { id, name: "old-db", host: "north-2", vcpus: 2, cpu_percent: 50, memory_mib: 128 },
  ]);
  const host = await running.client.get<HostView>("/v1/hosts/north-2");
  expect(host.foreign).toMatchObject({ count: 1, memory_mib: 128 });
});

test("it is taken over as it runs: same boot, its sizes its baseline, no drift; twice is once", async () => {
  const boot = bootId();
  await take("db");
  expect(await shown()).toMatchObject({
    name: "db",
    origin: "import",
    vcpus: 2,
    cpu_percent: 50,
    memory_mib: 128,
    drift: [],
    restart_needed: [],
    effective: { state: "running", host: "north-2", site: "north" },
  });
  expect(bootId()).toBe(boot);
  expect(await foreign()).toEqual([]);
  await take("db");
  await expect(take("other")).rejects.toMatchObject({ code: "conflict.exists" });
}, 60_000);

test("from then on it is changed live; what would need a new start is refused, and it stays where it is", async () => {
  const boot = bootId();
  await mutate(running, "PATCH", `/v1/machines/${id}`, { cpu_percent: 40 });
  expect((await shown()).effective.cpu_percent).toBe(40);
  await expect(
    mutate(running, "PATCH", `/v1/machines/${id}`, { memory_mib: 256, allow_restart: true }),
  ).rejects.toMatchObject({ code: "machine.restart_needed" });
  await expect(
    mutate(running, "PATCH", `/v1/machines/${id}`, { site: "south" }),
  ).rejects.toMatchObject({ code: "placement.no_host_fits" });
  expect(bootId()).toBe(boot);
}, 60_000);

test("it is destroyed like any other", async () => {
  await mutate(running, "DELETE", `/v1/machines/${id}`);
  expect(bootId()).toBeUndefined();
  expect(await foreign()).toEqual([]);
}, 60_000);
