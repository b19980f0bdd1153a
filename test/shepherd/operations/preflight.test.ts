import { expect, test } from "@jest/globals";
import { createAction, createFleet, type Fleet, moveAction } from "./fleet.ts";

type HostData = Fleet["world"]["data"]["hosts"][string];

/** What is wrong with the destination (or the source), and what pre-flight is to say of it: check and a word of the fix. */
const wrongs: readonly {
  readonly check: string;
  readonly host?: "north-1";
  readonly fix: string;
  readonly make: (host: HostData, world: Fleet["world"]) => void;
}[] = [
  { check: "version", fix: "bring", make: (host) => void (host.hypervisorVersion = 7_000_000) },
  { check: "machine_type", fix: "type", make: (host) => void (host.machineTypes = ["pc-i440fx"]) },
  {
    check: "cpu",
    fix: "start the machine anew",
    make: (host) => void (host.cpuFeatures = ["aes"]),
  },
  { check: "pool", fix: "start the pool", make: (host) => void (host.poolInactive = true) },
  { check: "addresses", fix: "migration_address", make: (host) => void (host.lacksAddress = true) },
  { check: "ports", fix: "wait", make: (host) => void (host.migrationPortsTaken = 63) },
  { check: "clock", fix: "NTP", make: (host) => void (host.clockOffsetMs = 90_000) },
  {
    check: "ports",
    host: "north-1",
    fix: "open",
    make: (host) => void (host.movesFiltered = true),
  },
  { check: "mtu", host: "north-1", fix: "raise", make: (host) => void (host.pathMtu = 1_400) },
];

async function fleetWith(names: readonly string[]) {
  const fleet = await createFleet();
  const shepherd = fleet.start();
  const ids = [];
  for (const name of names) ids.push(await fleet.create(shepherd, name, "north-1"));
  return { fleet, shepherd, ids };
}

function blockersIn(operation: { readonly fault?: { readonly details: object } | undefined }) {
  const { blockers } = (operation.fault?.details ?? {}) as {
    blockers?: readonly { machine: string; check: string; fix: string }[];
  };
  return blockers ?? [];
}

test.each(wrongs)(
  "a move is not begun for its $check ($fix), and says how to mend it",
  async (wrong) => {
    const { fleet, shepherd, ids } = await fleetWith(["rank-0"]);
    const host = fleet.world.data.hosts[wrong.host ?? "south-1"];
    if (host === undefined) throw new Error("no host");
    wrong.make(host, fleet.world);
    const moves = ids.map((id) => moveAction(id, "north-1", "south-1"));
    const operation = await fleet.perform(shepherd, "adapt", moves);
    expect(operation.state).toBe("failed");
    expect(operation.fault?.code).toBe("migration.blocked");
    expect(blockersIn(operation)).toEqual([
      expect.objectContaining({ machine: "rank-0", check: wrong.check }),
    ]);
    expect(blockersIn(operation)[0]?.fix).toContain(wrong.fix);
    expect(fleet.world.data.hosts["south-1"]?.volumes).toEqual({});
  },
);

test("all that is wrong is told at once, in one order, and not a byte is copied", async () => {
  const { fleet, shepherd, ids } = await fleetWith(["rank-0"]);
  for (const { host = "south-1", make } of wrongs) {
    const data = fleet.world.data.hosts[host];
    if (data !== undefined) make(data, fleet.world);
  }
  const operation = await fleet.perform(
    shepherd,
    "adapt",
    ids.map((id) => moveAction(id, "north-1", "south-1")),
  );
  expect(blockersIn(operation).map(({ check }) => check)).toEqual([
    "version",
    "machine_type",
    "cpu",
    "pool",
    "addresses",
    "ports",
    "ports",
    "mtu",
    "clock",
  ]);
  expect(fleet.world.data.hosts["south-1"]?.volumes).toEqual({});
  expect(operation.measured?.bytes).toBe(0);
});

test("what fits alone but not together is told before the first of them is copied", async () => {
  const { fleet, shepherd, ids } = await fleetWith(["rank-0", "rank-1"]);
  const host = fleet.world.data.hosts["south-1"];
  if (host === undefined) throw new Error("no host");
  Object.assign(host, { memoryMib: 400, poolBytes: 20 * 2 ** 20 });
  const operation = await fleet.perform(
    shepherd,
    "adapt",
    ids.map((id, wave) => ({ ...moveAction(id, "north-1", "south-1"), wave })),
  );
  expect(operation.state).toBe("failed");
  expect(blockersIn(operation).map(({ check }) => check)).toEqual(["space", "memory"]);
  expect(host.volumes).toEqual({});
});

test("a host that does not answer is one blocker, not one a check", async () => {
  const { fleet, shepherd, ids } = await fleetWith(["rank-0"]);
  const host = fleet.world.data.hosts["south-1"];
  if (host === undefined) throw new Error("no host");
  host.reachable = false;
  const operation = await fleet.perform(
    shepherd,
    "adapt",
    ids.map((id) => moveAction(id, "north-1", "south-1")),
  );
  expect(blockersIn(operation).map(({ check }) => check)).toEqual(["destination"]);
});

test("a machine starts with the processor that all hosts of its sites have, so that it can go to the weakest", async () => {
  const fleet = await createFleet();
  const shepherd = fleet.start();
  const south = fleet.world.data.hosts["south-1"];
  if (south === undefined) throw new Error("no host");
  south.cpuFeatures = ["aes", "avx"];
  const wide = { mode: "auto" as const, sites: ["north", "south"] };
  const free = await fleet.addMachine("free", { envelope: wide });
  const bound = await fleet.addMachine("bound", { envelope: { mode: "auto" } });
  for (const id of [free, bound]) {
    await fleet.perform(shepherd, "create", [createAction(id, "north-1")]);
  }
  const domains = fleet.world.data.hosts["north-1"]?.domains ?? {};
  expect(domains[free]?.spec?.cpu).toBe("aes avx");
  expect(domains[bound]?.spec?.cpu).toBe("aes avx sse4.2");
  const over = async (id: string) =>
    fleet.perform(shepherd, "adapt", [moveAction(id, "north-1", "south-1")]);
  expect((await over(free)).state).toBe("succeeded");
  expect(blockersIn(await over(bound)).map(({ check }) => check)).toEqual(["cpu"]);
});
