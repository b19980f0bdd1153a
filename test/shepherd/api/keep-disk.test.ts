/**
 * Destroying compute needs no policy; deleting disks does. An operator whose policy denies every destroy cannot keep an
 * owner from giving a machine up, as long as its disk stays; the disk is a volume that another machine can take.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Explanation, MachineView, VolumeView } from "@drover/shepherd/api/contract";
import { runCommand } from "@drover/shepherd/cli/main";
import { afterAll, beforeAll, expect, jest, test } from "@jest/globals";
import {
  declareRing,
  machineBody,
  mutate,
  need,
  type Ring,
  type Running,
  run,
} from "./shepherd.ts";

// A loaded machine is no reason to fail.
jest.setTimeout(120_000);

const folder = mkdtempSync(join(tmpdir(), "drover-keep-disk-"));
const rule = `# METADATA
# title: Nothing is deleted
# description: Whatever would be destroyed stays.
# custom:
#   disclose: owner
#   level: deny
#   params: {type: object, additionalProperties: false}
package drover.rules.nothing_deleted

about := rego.metadata.chain()[1].annotations

checks[id] := {"ok": input.request.kind != "destroy", "msg": "nothing is deleted here", "params": {}} if {
	some id, _ in data.drover.constraints.nothing_deleted
}
`;
let running: Running;
let ring: Ring;
beforeAll(async () => {
  mkdirSync(join(folder, "rules"));
  writeFileSync(join(folder, "rules/nothing_deleted.rego"), rule);
  writeFileSync(
    join(folder, "data.yaml"),
    "drover: { constraints: { nothing_deleted: { i: { level: deny, params: {} } } }, exemptions: [] }",
  );
  running = await run(`policies: { operator: ${JSON.stringify(folder)} }`);
  ring = await declareRing(running, 1);
}, 120_000);
afterAll(async () => {
  await running.end();
  rmSync(folder, { recursive: true });
});

async function drover(...argv: string[]): Promise<{ code: number; out: string }> {
  let out = "";
  const tell = (text: string) => {
    out += text;
  };
  const code = await runCommand([...argv, "--endpoint", running.endpoint], {
    out: tell,
    err: tell,
  });
  return { code, out };
}
const volumes = async () =>
  (await running.client.get<{ items: VolumeView[] }>("/v1/volumes")).items;
const volumesOf = (hostId: string) =>
  Object.keys(need(running.world.data.hosts[hostId]).volumes).toSorted();

test("a destroy that deletes the disk is policy's to deny", async () => {
  expect(await drover("destroy", "ring/rank-0")).toMatchObject({
    code: 3,
    out: expect.stringContaining("nothing is deleted here"),
  });
});

test("one that keeps it is nobody's to deny; disk and base stay where they are", async () => {
  const { id, effective } = need(ring.machines[0]);
  const host = need(effective.host);
  const before = volumesOf(host);
  const done = await drover("destroy", "ring/rank-0", "--keep-disk");
  expect(done).toMatchObject({ code: 0, out: expect.stringContaining("its disk is a volume") });

  const { items } = await running.client.get<{ items: MachineView[] }>("/v1/machines");
  expect(items).toEqual([]);
  expect(Object.keys(need(running.world.data.hosts[host]).domains)).toEqual([]);
  expect(volumesOf(host)).toEqual(before);
  expect(await volumes()).toMatchObject([
    { id, name: "rank-0-disk", effective: { host, machine: null } },
  ]);
  const { items: decisions } = await running.client.get<{ items: { id: string }[] }>(
    "/v1/decisions",
  );
  const whys = await Promise.all(
    decisions.map((one) => running.client.get<Explanation>(`/v1/decisions/${one.id}/explanation`)),
  );
  // the newest may be of the repair that follows a host's first answer
  const why = need(whys.find(({ operation }) => operation?.kind === "destroy"));
  expect(why.decision).toMatchObject({
    effect: "allow",
    message: "Destroying compute needs no consent; its disks are kept as volumes.",
    consents: [],
  });
  expect(why.operation).toMatchObject({ kind: "destroy", state: "succeeded" });
});

test("the image that it is a layer on cannot be deleted meanwhile", async () => {
  await expect(running.client.call("DELETE", `/v1/images/${ring.image.id}`)).rejects.toMatchObject({
    code: "object.in_use",
  });
});

test("another machine takes it, on the host where it lies", async () => {
  const [kept] = await volumes();
  const path = "/v1/environments/ring/machines/rescue";
  const body = machineBody(ring, { disks: [{ volume_id: need(kept).id }] });
  const { object } = await mutate<MachineView>(running, "PUT", path, body);
  const rescue = await running.client.get<MachineView>(`/v1/machines/${need(object).id}`);
  expect(rescue.effective.host).toBe(need(kept).effective.host);
  expect(await volumes()).toMatchObject([{ effective: { machine: "rescue" } }]);
  expect((await drover("destroy", "ring/rescue", "--keep-disk")).code).toBe(0);
  expect((await volumes()).map(({ name }) => name).toSorted()).toEqual([
    "rank-0-disk",
    "rescue-disk",
  ]);
});

test("deleting the disk is policy's to deny", async () => {
  for (const { id } of await volumes()) {
    await expect(running.client.call("DELETE", `/v1/volumes/${id}`)).rejects.toMatchObject({
      code: "policy.denied",
    });
  }
  expect(running.world.violations).toEqual([]);
});
