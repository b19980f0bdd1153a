/** Dry decisions on the changes of one Terraform run, and what a machine's declaration says beyond its sizes. */
import { once } from "node:events";
import { type IncomingMessage, request } from "node:http";
import type { MachineView, PlanCheckAnswer, VolumeView } from "@drover/shepherd/api/contract";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import {
  declareRing,
  machineBody,
  mutate,
  need,
  type Ring,
  type Running,
  run,
} from "./shepherd.ts";

let running: Running;
let ring: Ring;

beforeAll(async () => {
  running = await run();
  ring = await declareRing(running, 2);
}, 120_000);
afterAll(async () => {
  expect(running.world.violations).toEqual([]);
  await running.end();
});

const check = async (body: Record<string, unknown>) =>
  await running.client.call<PlanCheckAnswer>("POST", "/v1/plan-checks", { body });
const shown = async (name: string) => {
  const { items } = await running.client.get<{ items: MachineView[] }>(
    `/v1/machines?environment=ring&name=${name}`,
  );
  return need(items[0]);
};

test("changes of one run are summed: the one that no host can hold any more is denied, and nothing happens", async () => {
  const big = machineBody(ring, {
    memory_mib: 512,
    adaptation: { memory_mib: { min: 512, max: 512 } },
  });
  const verdicts: string[] = [];
  // Two ranks of 256 MiB run at north, which lends 1,024 and 896.
  for (const name of ["a", "b", "c", "d"]) {
    const answer = await check({
      run: "sum",
      kind: "machine",
      verb: "create",
      environment: "ring",
      name,
      body: { ...big, site: "north" },
    });
    verdicts.push(`${name} ${answer.verdict} ${answer.code}`);
  }
  expect(verdicts.slice(0, 2)).toEqual(["a granted granted", "b granted granted"]);
  expect(verdicts).toContainEqual(expect.stringContaining("denied placement.no_host_fits"));
  const again = { run: "another", kind: "machine", verb: "create", environment: "ring", name: "d" };
  expect((await check({ ...again, body: { ...big, site: "north" } })).verdict).toBe("granted");
  const { items } = await running.client.get<{ items: MachineView[] }>("/v1/machines");
  expect(items).toHaveLength(2);
});

test("a denial names the attribute and the nearest that would pass", async () => {
  const machine = need(ring.machines[0]);
  const answer = await check({
    run: "one",
    kind: "machine",
    verb: "update",
    id: machine.id,
    body: { cpu_percent: 6000, adaptation: { cpu_percent: { min: 10, max: 6000 } } },
  });
  expect(answer).toMatchObject({ verdict: "denied" });
  expect(answer.findings).toContainEqual(
    expect.objectContaining({ severity: "error", attribute: "cpu_percent" }),
  );
});

test("what apply would refuse is refused at plan, on its attribute", async () => {
  const { id } = need(ring.machines[0]);
  const update = { run: "refused", kind: "machine", verb: "update", id };
  expect(await check({ ...update, body: { memory_mib: 9_999 } })).toMatchObject({
    verdict: "denied",
    findings: [{ severity: "error", attribute: "memory_mib" }],
  });
  expect(await check({ ...update, body: { user_data: "#cloud-config" } })).toMatchObject({
    verdict: "denied",
    code: "machine.restart_needed",
    findings: [{ attribute: "user_data" }],
  });
  expect(
    await check({ ...update, body: { user_data: "#cloud-config", allow_restart: true } }),
  ).toMatchObject({
    verdict: "granted",
    ways: [
      { attribute: "user_data", way: "restart" },
      { attribute: "allow_restart", way: "live" },
    ],
  });
});

test("a replacement is judged as if the old one were gone; an unknown environment is the run's own", async () => {
  const create = { run: "replace", kind: "machine", verb: "create" };
  const answer = await check({
    ...create,
    environment: "ring",
    name: "rank-0",
    body: machineBody(ring),
  });
  expect(answer).toMatchObject({ verdict: "granted", findings: [] });
  expect(await check({ ...create, run: "new", name: "x", body: {} })).toMatchObject({
    verdict: "unknown",
  });
  const body = { class: "batch", sites: ["north"] };
  await check({ run: "new", kind: "environment", verb: "create", name: "fresh", body });
  expect(await check({ ...create, run: "new", name: "x", body: {} })).toMatchObject({
    verdict: "granted",
  });
});

test("machines inherit what their environment says of adaptation; a pinned attribute stays", async () => {
  await mutate(running, "PATCH", "/v1/environments/ring", {
    adaptation: { memory_mib: { min: 128, max: 320 }, mode: "auto" },
  });
  const { adaptation: _own, ...plain } = machineBody(ring, { memory_mib: 256 });
  await mutate(running, "PUT", "/v1/environments/ring/machines/heir", plain);
  expect(await shown("heir")).toMatchObject({
    declared_adaptation: null,
    adaptation: { mode: "auto", memory_mib: { min: 128, max: 320 } },
    ceiling: { memory_mib: 320 },
  });
  await mutate(running, "PATCH", "/v1/environments/ring", {
    adaptation: { memory_mib: { min: 128, max: 512 } },
  });
  expect(await shown("heir")).toMatchObject({
    adaptation: { memory_mib: { max: 512 } },
    restart_needed: ["ceiling"],
  });
  const heir = await shown("heir");
  await mutate(running, "PATCH", `/v1/machines/${heir.id}`, {
    adaptation: { pinned_attributes: ["memory_mib"] },
  });
  const { adaptation } = await shown("heir");
  expect(adaptation.memory_mib).toBeUndefined();
}, 60_000);

test("a ceiling that is raised needs a restart, which the stack must allow", async () => {
  const heir = await shown("heir");
  const path = `/v1/machines/${heir.id}`;
  const raise = { ceiling: { vcpus: 4, memory_mib: 512 } };
  await expect(mutate(running, "PATCH", path, raise)).rejects.toMatchObject({
    code: "machine.restart_needed",
  });
  const bootOf = () => running.world.data.hosts;
  const before = JSON.stringify(bootOf());
  await mutate(running, "PATCH", path, { ...raise, allow_restart: true });
  expect(await shown("heir")).toMatchObject({
    ceiling: { vcpus: 4, memory_mib: 512 },
    restart_needed: [],
    effective: { state: "running", memory_mib: 256 },
  });
  expect(JSON.stringify(bootOf())).not.toBe(before);
}, 60_000);

test("a protected machine is not destroyed, and says why", async () => {
  const heir = await shown("heir");
  const path = `/v1/machines/${heir.id}`;
  await mutate(running, "PATCH", path, { deletion_protection: true });
  await expect(mutate(running, "DELETE", path)).rejects.toMatchObject({ code: "object.protected" });
  expect(await check({ run: "kept", kind: "machine", verb: "delete", id: heir.id })).toMatchObject({
    verdict: "denied",
    code: "object.protected",
  });
  await mutate(running, "PATCH", path, { deletion_protection: false });
  await mutate(running, "DELETE", path);
}, 60_000);

test("XML patches are refused where the site does not allow them, and always for the host's things", async () => {
  const body = (path: string) => machineBody(ring, { raw_xml_patch: [{ path, value: "2" }] });
  const put = (path: string) =>
    mutate(running, "PUT", "/v1/environments/ring/machines/patched", body(path));
  await expect(put("cpu/topology@sockets")).rejects.toMatchObject({
    code: "xml_patch.refused",
    problem: { title: expect.stringContaining("allows no XML patches") },
  });
  await expect(put("devices/disk/source@file")).rejects.toMatchObject({
    problem: { title: expect.stringContaining("<disk> is always refused") },
  });
  await expect(put("qemu:commandline/qemu:arg@value")).rejects.toMatchObject({
    problem: { title: expect.stringContaining("namespaces") },
  });
});

test("a volume outlives its machine, brings the next one to its host, and goes where that one goes", async () => {
  const { object } = await mutate<VolumeView>(
    running,
    "PUT",
    "/v1/environments/ring/volumes/data",
    { size_gib: 1 },
  );
  const volume = need(object);
  const disks = [{ volume_id: volume.id }];
  const body = machineBody(ring, { disks });
  const path = `/v1/volumes/${volume.id}`;
  await mutate(running, "PUT", "/v1/environments/ring/machines/db", body);
  const placed = await running.client.get<VolumeView>(path);
  expect(placed.effective).toMatchObject({ site: "north", machine: "db" });
  await expect(
    mutate(running, "PUT", "/v1/environments/ring/machines/db2", body),
  ).rejects.toMatchObject({ code: "volume.taken" });
  await expect(mutate(running, "DELETE", path)).rejects.toMatchObject({ code: "object.in_use" });
  await mutate(running, "DELETE", `/v1/machines/${(await shown("db")).id}`);
  await mutate(running, "PUT", "/v1/environments/ring/machines/db2", body);
  const db2 = await shown("db2");
  expect(db2.effective.host).toBe(placed.effective.host);
  // An edit of its site is a live move.
  await mutate(running, "PATCH", `/v1/machines/${db2.id}`, { site: "south" });
  const moved = await running.client.get<VolumeView>(path);
  expect(moved.effective).toEqual({
    site: "south",
    host: (await shown("db2")).effective.host,
    machine: "db2",
  });
  const homes = Object.values(running.world.data.hosts).filter(
    ({ volumes }) => volumes[`drover-${volume.id}.qcow2`] !== undefined,
  );
  expect(homes.map(({ id }) => id)).toEqual([moved.effective.host]);
  await mutate(running, "DELETE", `/v1/machines/${(await shown("db2")).id}`);
  await mutate(running, "DELETE", path);
  await expect(running.client.get(path)).rejects.toMatchObject({ code: "object.unknown" });
}, 60_000);

test("another state that names itself is told who manages a machine", async () => {
  const { id } = need(ring.machines[1]);
  const call = (manager: string) => patchAs(manager, `/v1/machines/${id}`, { speaker: false });
  expect(await call("team-a")).toMatchObject({ object: { managed_by: "team-a" } });
  expect(await call("team-b")).toMatchObject({
    code: "conflict.managed",
    title: expect.stringContaining("team-a"),
  });
});

/** A state that says its name; the client of the provider does not need to. */
async function patchAs(manager: string, path: string, body: unknown): Promise<unknown> {
  const call = request({
    socketPath: running.endpoint.replace("unix:", ""),
    path,
    method: "PATCH",
    headers: { "content-type": "application/json", "drover-manager": manager },
  });
  call.end(JSON.stringify(body));
  const [answer] = (await once(call, "response")) as [IncomingMessage];
  let text = "";
  for await (const chunk of answer) text += String(chunk);
  return JSON.parse(text);
}

test("an address that a plan names is given to nobody else, whatever is created first", async () => {
  // Its network is not known yet: only the address is told.
  const named = {
    run: "named",
    kind: "machine",
    verb: "create",
    environment: "ring",
    name: "named",
  };
  await check({ ...named, body: { vcpus: 1 }, addresses: ["10.42.0.12"] });
  const put = async (name: string, address?: string) => {
    const networks = [
      { network_id: ring.network.id, ...(address === undefined ? {} : { address }) },
    ];
    const body = machineBody(ring, { networks, site: "south" });
    await mutate(running, "PUT", `/v1/environments/ring/machines/${name}`, body);
    return (await shown(name)).networks[0]?.address;
  };
  expect(await put("early")).toBe("10.42.0.13");
  expect(await put("named", "10.42.0.12")).toBe("10.42.0.12");
  expect(await put("late")).toBe("10.42.0.14");
});
