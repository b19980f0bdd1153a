/** A guest is asked to power off for as long as its machine says, by destroys and by restarts; only then it is cut off. */
import type { PlanAction } from "@drover/shepherd/model/plan";
import { plan } from "@drover/shepherd/planner/plan";
import { afterEach, beforeEach, expect, jest, test } from "@jest/globals";
import { facts, host, machine, request } from "../planner/fleet.ts";
import { cost, createFleet, type Fleet } from "./fleet.ts";

let fleet: Fleet;
beforeEach(async () => {
  fleet = await createFleet();
});
afterEach(() => fleet.store.close());

/** How long each guest that the action stops may take, as its host is told. */
async function graces(
  kind: "destroy" | "update",
  action: (machineId: string) => PlanAction,
): Promise<readonly number[]> {
  const shepherd = fleet.start();
  const machineId = await fleet.create(shepherd, "rank-0", "north-1");
  const { hosts } = shepherd.connection;
  const get = hosts.get.bind(hosts);
  const told: number[] = [];
  jest.spyOn(hosts, "get").mockImplementation((hostId) => {
    const real = get(hostId);
    return {
      ...real,
      stopDomain: (id, how) => {
        told.push(how.graceMs);
        return real.stopDomain(id, how);
      },
    };
  });
  const { state } = await fleet.perform(shepherd, kind, [action(machineId)]);
  expect(state).toBe("succeeded");
  return told;
}

const destroy = (machineId: string) =>
  ({ kind: "destroy_machine", machineId, hostId: "north-1", cost }) as const;
const restart = (machineId: string) =>
  ({ kind: "restart_machine", machineId, hostId: "north-1", cost }) as const;

test.each<[string, "destroy" | "update", (machineId: string) => PlanAction, number]>([
  ["a destroy without a word of it", "destroy", destroy, 20_000],
  ["a destroy", "destroy", (id) => ({ ...destroy(id), stopTimeoutMs: 7_000 }), 7_000],
  ["a destroy at once", "destroy", (id) => ({ ...destroy(id), stopTimeoutMs: 0 }), 0],
  ["a restart", "update", (id) => ({ ...restart(id), stopTimeoutMs: 7_000 }), 7_000],
])("%s gives the guest its time", async (_, kind, action, graceMs) => {
  expect(await graces(kind, action)).toEqual([graceMs]);
});

test("a plan takes the time from the machine's own word", () => {
  const at = { hostId: "north-1", siteId: "north" };
  const patient = machine("rank-0", at, { spec: { stopTimeoutMs: 7_000 } });
  const answer = plan(
    request("destroy", [{ machineId: patient.id }]),
    facts([host("north-1", "north")], [patient]),
  );
  if (answer.kind === "refused") throw new Error(answer.message);
  expect(answer.actions).toMatchObject([{ kind: "destroy_machine", stopTimeoutMs: 7_000 }]);
});
