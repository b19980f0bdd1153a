/** Where a machine's data volumes let it go, and what a plan says of them. */
import type { VolumeRecord } from "@drover/shepherd/model/objects";
import { applied } from "@drover/shepherd/planner/applied";
import { plan } from "@drover/shepherd/planner/plan";
import { expect, test } from "@jest/globals";
import { facts, host, machine, nowMs, request } from "./fleet.ts";

const at = (hostId: string) => ({ hostId, siteId: hostId.split("-")[0] ?? "" });
const hosts = [host("north-1", "north"), host("south-1", "south")];

function volume(name: string, more: { hostId?: string; siteId?: string; sizeGib?: number } = {}) {
  const { hostId = "north-1", siteId, sizeGib = 2 } = more;
  const record: VolumeRecord = {
    kind: "volume",
    id: name,
    key: `env-ring/${name}`,
    environmentId: "env-ring",
    spec: { environmentId: "env-ring", name, sizeGib, ...(siteId && { siteId }) },
    effective: { hostId, siteId: hostId === "" ? "" : at(hostId).siteId, sizeGib },
    version: 1,
    claimed: true,
    createdAtMs: nowMs,
  };
  return record;
}

/** It runs with `data`. */
const db = machine("db", at("north-1"), {
  spec: { disks: ["data"] },
  effective: { started: { disks: ["data"] } },
});
const toSouth = request("move", [{ machineId: db.id, siteId: "south" }]);

test("a machine's volumes go along, and lie where it is from then on", () => {
  const fleet = facts(hosts, [db], { volumes: [volume("data"), volume("other")] });
  const answer = plan(toSouth, fleet);
  if (answer.kind === "refused") throw new Error(answer.message);
  expect(answer.actions).toMatchObject([
    { kind: "move_machine", toHostId: "south-1", volumeIds: ["data"] },
  ]);
  const after = applied(fleet, toSouth, answer).volumes.map(({ id, effective }) => ({
    id,
    ...effective,
  }));
  expect(after).toEqual([
    { id: "data", hostId: "south-1", siteId: "south", sizeGib: 2 },
    { id: "other", hostId: "north-1", siteId: "north", sizeGib: 2 },
  ]);
});

test.each([
  ["its volume is declared for its site", volume("data", { siteId: "north" }), db, "without"],
  ["another tool made it", volume("data"), imported(), "without"],
  ["its volume needs more than the pool has", volume("data", { sizeGib: 60 }), db, "short of disk"],
])("it stays where %s", (_, data, one, why) => {
  const answer = plan(toSouth, facts(hosts, [one], { volumes: [data] }));
  expect(answer).toMatchObject({ kind: "refused", message: expect.stringContaining(why) });
});

test("a volume that it is only to be started with has to lie where it goes", () => {
  const spec = { ...db.spec, disks: ["data", "new"] };
  const update = request("update", [{ machineId: db.id, siteId: "south", restart: true }], {
    update: { baseline: spec.baseline, envelope: spec.envelope, spec },
  });
  const fleetWith = (hostId: string) =>
    facts(hosts, [db], { volumes: [volume("data"), volume("new", { hostId })] });
  expect(plan(update, fleetWith("north-1"))).toMatchObject({ kind: "refused" });
  expect(plan(update, fleetWith("south-1"))).toMatchObject({
    actions: [
      { kind: "move_machine", volumeIds: ["data"] },
      { kind: "restart_machine", hostId: "south-1", volumeIds: ["data", "new"] },
    ],
  });
});

function imported() {
  return { ...db, spec: { ...db.spec, origin: "import" as const } };
}
