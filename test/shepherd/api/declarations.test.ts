/** What a stack does, against a whole shepherd on simulated sites: declare, take over, change, drift, destroy. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { MachineView, Mutation, RequestAnswer, Status } from "@drover/shepherd/api/contract";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import {
  declareRing,
  imageBody,
  machineBody,
  mutate,
  need,
  type Ring,
  type Running,
  run,
} from "./shepherd.ts";

let running: Running;
beforeEach(async () => {
  running = await run();
});
afterEach(async () => {
  await running.end();
});

const machine = (id: string) => running.client.get<MachineView>(`/v1/machines/${id}`);
async function resize(ring: Ring, params: object, name = "rank-0"): Promise<RequestAnswer> {
  const answer = await running.client.call<RequestAnswer>("POST", "/v1/requests", {
    body: { method: "resize", environment: ring.environment.name, machine: name, params },
    query: { wait_ms: 10_000 },
  });
  return answer;
}

test("a declared machine runs, has its address, and is no drift", async () => {
  const ring = await declareRing(running, 2);
  const [first, second] = ring.machines;
  expect(first).toMatchObject({
    environment: "ring",
    name: "rank-0",
    group: "rank",
    speaker: true,
    class: "batch",
    networks: [{ network_id: ring.network.id, address: "10.42.0.10" }],
    ceiling: { vcpus: 2, memory_mib: 512 },
    effective: { vcpus: 1, cpu_percent: 20, memory_mib: 256, site: "north", state: "running" },
    drift: [],
  });
  expect(second?.networks[0]?.address).toBe("10.42.0.11");
  expect(running.world.insideGuest(need(first).id)).toMatchObject({ memoryMib: 256, vcpus: 1 });
  const status = await running.client.get<Status>("/v1/status");
  expect(status.environments.map(({ name, machines }) => [name, machines.length])).toEqual([
    ["ring", 2],
  ]);
});

test("PUT adopts what nobody has claimed; what is claimed is told with its import id", async () => {
  const ring = await declareRing(running, 1);
  const path = "/v1/environments/ring/machines/rank-9";
  const created = await mutate<MachineView>(running, "PUT", path, machineBody(ring));
  const again = await mutate<MachineView>(running, "PUT", path, machineBody(ring));
  expect([again.object?.id, again.operation]).toEqual([created.object?.id, null]);
  await machine(need(created.object).id); // presents the id: claimed
  await expect(mutate(running, "PUT", path, machineBody(ring))).rejects.toMatchObject({
    code: "conflict.exists",
    problem: { hint: expect.stringContaining("terraform import drover_machine.NAME ring/rank-9") },
  });
});

test("PUT during the creation joins its operation, however often and whenever it comes", async () => {
  const ring = await declareRing(running, 1);
  const put = (environment: string, key: string) =>
    running.client.call<Mutation<MachineView>>(
      "PUT",
      `/v1/environments/${environment}/machines/rank-9`,
      { body: machineBody(ring), idempotencyKey: key },
    );
  const answers = await Promise.all([
    put("ring", "one"),
    put("ring", "one"),
    put(ring.environment.id, "two"),
  ]);
  const operations = new Set(answers.map(({ operation }) => operation?.id));
  expect([operations.size, operations.has(undefined)]).toEqual([1, false]);
});

test("a change of a baseline is applied live, from what was planned", async () => {
  const { machines } = await declareRing(running, 1);
  const { id } = need(machines[0]);
  await mutate(running, "PATCH", `/v1/machines/${id}`, {
    memory_mib: 320,
    planned_from: { memory_mib: 256 },
    planned_effective: { memory_mib: 320 },
  });
  expect(await machine(id)).toMatchObject({
    memory_mib: 320,
    effective: { memory_mib: 320 },
    drift: [],
  });
  expect(running.world.insideGuest(id)?.memoryMib).toBe(320);
});

test("an edit of the site moves it live: same boot, same address", async () => {
  const { machines } = await declareRing(running, 1);
  const before = need(machines[0]);
  const bootId = running.world.insideGuest(before.id)?.bootId;
  await mutate(running, "PATCH", `/v1/machines/${before.id}`, { site: "south" });
  const after = await machine(before.id);
  expect(after).toMatchObject({ site: "south", effective: { site: "south", host: "south-1" } });
  expect(after.networks).toEqual(before.networks);
  expect(running.world.insideGuest(before.id)?.bootId).toBe(bootId);
});

test("a plan made from another state changes nothing", async () => {
  const { machines } = await declareRing(running, 1);
  const { id } = need(machines[0]);
  await expect(
    mutate(running, "PATCH", `/v1/machines/${id}`, {
      memory_mib: 400,
      planned_from: { memory_mib: 300 },
      planned_effective: { memory_mib: 400 },
    }),
  ).rejects.toMatchObject({
    code: "plan.stale",
    problem: { details: { attribute: "memory_mib", planned: 300, now: 256 } },
  });
  expect(await machine(id)).toMatchObject({ memory_mib: 256, effective: { memory_mib: 256 } });
});

test("a machine starts at the host that it names, and another name is a live move", async () => {
  const ring = await declareRing(running, 1);
  const path = "/v1/environments/ring/machines/rank-8";
  const { object } = await mutate<MachineView>(
    running,
    "PUT",
    path,
    machineBody(ring, { host: "north-2", site: "north" }),
  );
  const { id, host, effective } = await machine(need(object).id);
  expect([host, effective.host]).toEqual(["north-2", "north-2"]);
  const bootId = running.world.insideGuest(id)?.bootId;
  const patch = (body: object) => mutate(running, "PATCH", `/v1/machines/${id}`, body);
  expect((await patch({ host: "north-1" })).operation?.state).toBe("succeeded");
  expect(await machine(id)).toMatchObject({
    host: "north-1",
    effective: { host: "north-1", site: "north" },
    drift: [],
  });
  // Both at once, to another site.
  expect((await patch({ site: "south", host: "south-1" })).operation?.state).toBe("succeeded");
  expect(await machine(id)).toMatchObject({ effective: { host: "south-1", site: "south" } });
  await patch({ host: null });
  expect(await machine(id)).toMatchObject({ host: null, effective: { host: "south-1" } });
  expect(running.world.insideGuest(id)?.bootId).toBe(bootId);
  for (const [body, problem] of [
    [{ host: "north-1" }, /host north-1 is at site north; site south has south-1/],
    [{ host: "nowhere" }, /there is no host nowhere; site south has south-1/],
    [{ host: "" }, /host/],
  ] as const)
    await expect(patch(body)).rejects.toMatchObject({
      code: "request.invalid",
      message: expect.stringMatching(problem),
    });
});

test("a weight is in force at its start and changed live; what somebody else gave it is drift", async () => {
  const ring = await declareRing(running, 1);
  const path = "/v1/environments/ring/machines/rank-9";
  const { object } = await mutate<MachineView>(
    running,
    "PUT",
    path,
    machineBody(ring, { cpu_weight: 300 }),
  );
  const { id, effective } = await machine(need(object).id);
  const host = running.world.connect().hosts.get(effective.host);
  const live = async () => (await host.findDomain(id))?.cpuWeight;
  expect([await live(), effective.cpu_weight]).toEqual([300, 300]);
  const bootId = running.world.insideGuest(id)?.bootId;
  const changed = await mutate(running, "PATCH", `/v1/machines/${id}`, { cpu_weight: 50 });
  expect(changed.operation?.state).toBe("succeeded");
  expect(await live()).toBe(50);
  expect(await machine(id)).toMatchObject({ cpu_weight: 50, effective: { cpu_weight: 50 } });
  await host.setCpuWeight(id, 9_000);
  await eventually(async () =>
    expect(await machine(id)).toMatchObject({
      cpu_weight: 50,
      effective: { cpu_weight: 9_000 },
      drift: [{ attribute: "cpu_weight", expected: 50, actual: 9_000 }],
    }),
  );
  await mutate(running, "PATCH", `/v1/machines/${id}`, { cpu_weight: 50 });
  expect(await machine(id)).toMatchObject({ effective: { cpu_weight: 50 }, drift: [] });
  // Null takes the word back.
  await mutate(running, "PATCH", `/v1/machines/${id}`, { cpu_weight: null });
  expect([await live(), (await machine(id)).cpu_weight]).toEqual([100, 100]);
  expect(running.world.insideGuest(id)?.bootId).toBe(bootId);
  await expect(
    mutate(running, "PATCH", `/v1/machines/${id}`, { cpu_weight: 10_001 }),
  ).rejects.toMatchObject({ code: "request.invalid" });
});

test("a foreign change is drift at once, and an apply puts it back", async () => {
  const ring = await declareRing(running, 1);
  // Booted with exactly its baseline: nothing is settling that could explain another value.
  const { object } = await mutate<MachineView>(
    running,
    "PUT",
    "/v1/environments/ring/machines/rank-9",
    machineBody(ring, { adaptation: { mode: "auto" } }),
  );
  const { id, effective } = await machine(need(object).id);
  running.world.setMemoryBehind(effective.host, id, 200);
  await eventually(async () =>
    expect(await machine(id)).toMatchObject({
      memory_mib: 256,
      effective: { memory_mib: 200 },
      drift: [{ attribute: "memory_mib", expected: 256, actual: 200 }],
    }),
  );
  await mutate(running, "PATCH", `/v1/machines/${id}`, {
    memory_mib: 256,
    planned_from: { memory_mib: 200 },
    planned_effective: { memory_mib: 256 },
  });
  expect(await machine(id)).toMatchObject({ effective: { memory_mib: 256 }, drift: [] });
  expect(running.world.insideGuest(id)?.memoryMib).toBe(256);
});

test("memory that its guest holds is not said to be given back: an apply fails, and the next one plans the rest", async () => {
  const { machines } = await declareRing(running, 1);
  const { id, effective } = need(machines[0]);
  const apply = (memoryMib: number, from: number) =>
    mutate(running, "PATCH", `/v1/machines/${id}`, {
      memory_mib: memoryMib,
      planned_from: { memory_mib: from },
      planned_effective: { memory_mib: memoryMib },
    });
  await apply(384, 256);
  await eventually(async () => expect((await machine(id)).guest_seen?.memory_mib).toBe(384));
  running.world.holdMemory(effective.host, id, 300);
  await expect(apply(256, 384)).rejects.toThrow(/partial.*was to have 256 MiB and has 316 MiB/);
  // Explained by no adaptation: what a plan compares with the stack's word is what there is.
  expect(await machine(id)).toMatchObject({
    memory_mib: 256,
    effective: { memory_mib: 316, adaptation_id: null },
    drift: [],
  });
  running.world.holdMemory(effective.host, id, 0);
  await apply(256, 316);
  expect(await machine(id)).toMatchObject({ effective: { memory_mib: 256 }, drift: [] });
});

test("an approved change is no drift, stands beside the stack, and a successor starts from it", async () => {
  const ring = await declareRing(running, 1);
  const before = need(ring.machines[0]);
  const answer = await resize(ring, { cpu_percent: 60, memory_mib: 320, lease_s: 3600 });
  expect(answer).toMatchObject({ verdict: "granted", code: "granted" });
  const adapted = await machine(before.id);
  expect(adapted).toMatchObject({
    cpu_percent: 20,
    effective: { cpu_percent: 60, memory_mib: 320, adaptation_id: expect.any(String) },
    drift: [],
  });
  const rows = () =>
    JSON.parse(readFileSync(join(running.folder, "stack/adaptations.json"), "utf8"));
  const row = {
    environment: "ring",
    machine: "rank-0",
    vcpus: 1,
    cpu_percent: 60,
    memory_mib: 320,
    site: "north",
    adaptation_id: adapted.effective.adaptation_id,
    lease_until_ms: adapted.effective.lease_until_ms,
    decision: answer.decision,
  };
  await eventually(() => expect(rows()).toEqual([row]));

  await mutate(running, "DELETE", `/v1/machines/${before.id}`);
  await expect(machine(before.id)).rejects.toMatchObject({ code: "object.unknown", status: 404 });
  await eventually(() => expect(rows()).toEqual([row])); // what was granted outlives the machine
  const start = {
    vcpus: row.vcpus,
    cpu_percent: row.cpu_percent,
    memory_mib: row.memory_mib,
    site: row.site,
    adaptation_id: need(row.adaptation_id),
  };
  const path = "/v1/environments/ring/machines/rank-0";
  const { object } = await mutate<MachineView>(
    running,
    "PUT",
    path,
    machineBody(ring, {
      start_from: start,
      networks: [{ network_id: ring.network.id, address: "10.42.0.10" }],
    }),
  );
  expect(await machine(need(object).id)).toMatchObject({
    cpu_percent: 20,
    effective: { cpu_percent: 60, memory_mib: 320, adaptation_id: start.adaptation_id },
    drift: [],
  });
  expect(running.world.insideGuest(need(object).id)?.memoryMib).toBe(320);
});

test("start_from that nobody granted is ignored: the machine starts at its baseline", async () => {
  const ring = await declareRing(running, 1);
  const { object } = await mutate<MachineView>(
    running,
    "PUT",
    "/v1/environments/ring/machines/rank-9",
    machineBody(ring, {
      start_from: {
        vcpus: 2,
        cpu_percent: 60,
        memory_mib: 512,
        site: "north",
        adaptation_id: "made-up",
      },
    }),
  );
  expect(await machine(need(object).id)).toMatchObject({
    effective: { vcpus: 1, cpu_percent: 20, memory_mib: 256, adaptation_id: null },
  });
});

test("a denied creation leaves no record and no address behind", async () => {
  const ring = await declareRing(running, 1);
  const path = "/v1/environments/ring/machines/rank-9";
  const body = machineBody(ring, { memory_mib: 3_000_000, adaptation: { mode: "auto" } });
  await expect(mutate(running, "PUT", path, body)).rejects.toMatchObject({
    problem: { decision: expect.any(String) },
  });
  const { items } = await running.client.get<{ items: MachineView[] }>("/v1/machines", {
    query: { environment: "ring" },
  });
  expect(items.map(({ name }) => name)).toEqual(["rank-0"]);
  const { object } = await mutate<MachineView>(running, "PUT", path, machineBody(ring));
  expect(object?.networks[0]?.address).toBe("10.42.0.11");
});

test("an ask beyond the envelope is denied with the rule and the nearest that would pass", async () => {
  const ring = await declareRing(running, 1);
  const answer = await resize(ring, { cpu_percent: 6400 });
  expect(answer).toMatchObject({ verdict: "denied", operation: null, code: "policy.denied" });
  expect(answer.findings.find(({ rule, ok }) => rule === "envelope" && !ok)?.fix).toEqual({
    cpu_percent: 60,
  });
});

test("dry_run decides and plans, and nothing changes", async () => {
  const ring = await declareRing(running, 1);
  const answer = await running.client.call<RequestAnswer>("POST", "/v1/requests", {
    body: { method: "resize", environment: "ring", machine: "rank-0", params: { cpu_percent: 40 } },
    query: { dry_run: 1 },
  });
  expect(answer).toMatchObject({ verdict: "granted", operation: null });
  expect(answer.plan?.actions.map(({ kind }) => kind)).toEqual(["set_cpu_percent"]);
  expect(await machine(need(ring.machines[0]).id)).toMatchObject({
    effective: { cpu_percent: 20 },
  });
});

test("what is used cannot be deleted; in the right order everything goes", async () => {
  const ring = await declareRing(running, 2);
  for (const path of [
    `/v1/environments/${ring.environment.id}`,
    `/v1/networks/${ring.network.id}`,
    `/v1/images/${ring.image.id}`,
  ]) {
    await expect(mutate(running, "DELETE", path)).rejects.toMatchObject({ code: "object.in_use" });
  }
  for (const { id } of ring.links) await mutate(running, "DELETE", `/v1/links/${id}`);
  for (const { id } of ring.machines) await mutate(running, "DELETE", `/v1/machines/${id}`);
  await mutate(running, "DELETE", `/v1/networks/${ring.network.id}`);
  await mutate(running, "DELETE", `/v1/images/${ring.image.id}`);
  await mutate(running, "DELETE", `/v1/environments/${ring.environment.id}`);
  for (const host of Object.values(running.world.data.hosts)) {
    expect([Object.keys(host.domains), Object.keys(host.volumes)]).toEqual([[], []]);
  }
});

test("an address used twice, an unknown image, a wrong digest: each told by name", async () => {
  const ring = await declareRing(running, 1);
  const put = (body: object) =>
    mutate(running, "PUT", "/v1/environments/ring/machines/rank-9", body);
  const address = [{ network_id: ring.network.id, address: "10.42.0.10" }];
  await expect(put(machineBody(ring, { networks: address }))).rejects.toMatchObject({
    code: "network.address_in_use",
    problem: { title: expect.stringContaining("ring/rank-0") },
  });
  await expect(put({ ...machineBody(ring), image_id: "none" })).rejects.toMatchObject({
    code: "object.unknown",
  });
  await expect(put({ ...machineBody(ring), memory_gib: 4 })).rejects.toMatchObject({
    code: "request.invalid",
    problem: { title: "body: unknown field memory_gib" },
  });
  await expect(
    mutate(running, "PUT", "/v1/images/other", { ...imageBody(running), sha256: "0".repeat(64) }),
  ).rejects.toMatchObject({ code: "image.digest_mismatch" });
});

test("a restart finds everything again and nothing is drift", async () => {
  const ring = await declareRing(running, 1);
  const before = await machine(need(ring.machines[0]).id);
  running = await running.restart();
  expect(await machine(before.id)).toEqual(before);
});

/** Until it holds; the observer looks every two seconds. */
async function eventually(check: () => void | Promise<void>): Promise<void> {
  const endMs = performance.now() + 5_000;
  for (;;) {
    try {
      await check();
      return;
    } catch (error) {
      if (performance.now() > endMs) throw error;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}
