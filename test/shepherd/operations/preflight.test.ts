import { Fault } from "@drover/shepherd/model/fault";
import { blockersOfMoves } from "@drover/shepherd/operations/preflight";
import { expect, test } from "@jest/globals";
import { createAction, createFleet, type Fleet, moveAction } from "./fleet.ts";

const gib = 2 ** 30;
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

test("volumes are counted and looked for: a full pool, a lost file, one detached and one attached by hand", async () => {
  const fleet = await createFleet({ speeds: { bootWritesBytes: 1.5 * gib } });
  const shepherd = fleet.start();
  const volumeIds = ["data", "more"];
  for (const volumeId of volumeIds) await fleet.addVolume(volumeId, "north-1", 2);
  const id = await fleet.create(shepherd, "rank-0", "north-1", volumeIds);
  const { "north-1": from, "south-1": to } = fleet.world.data.hosts;
  const domain = from?.domains[id];
  if (domain?.spec === undefined || from === undefined || to === undefined) throw new Error("gone");
  const problems = async () => {
    const move = moveAction(id, "north-1", "south-1", volumeIds);
    const { fault } = await fleet.perform(shepherd, "adapt", [move]);
    return (fault?.details as { problems?: string } | undefined)?.problems;
  };

  const filler = "drover-filler.qcow2";
  to.volumes[filler] = {
    name: filler,
    capacityBytes: 16 * gib,
    allocatedBytes: 16 * gib,
    backing: undefined,
    content: "",
  };
  expect(await problems()).toBe(
    "rank-0: 4096 MiB of disk are free at south-1, it takes 4608 MiB (space)",
  );
  delete to.volumes[filler];

  const { spec } = domain;
  domain.spec = { ...spec, dataVolumes: ["drover-data.qcow2", "drover-strange.qcow2"] };
  expect(await problems()).toBe(
    "rank-0: its volume drover-more.qcow2 is not attached to it any more (disks); " +
      "rank-0: its disk drover-strange.qcow2 is none of its volumes: it would not go along (disks)",
  );
  domain.spec = spec;

  const file = from.volumes["drover-more.qcow2"];
  if (file === undefined) throw new Error("it was created");
  delete from.volumes[file.name];
  expect(await problems()).toBe(
    "rank-0: its disk drover-more.qcow2 is not in the pool of north-1 (disks)",
  );
  from.volumes[file.name] = file;
  expect(await problems()).toBeUndefined();
  expect(fleet.world.insideGuest(id)?.hostId).toBe("south-1");
});

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

test("certificates that are not ours are told for each end, once for all moves", async () => {
  const { fleet, shepherd, ids } = await fleetWith(["rank-0", "rank-1"]);
  const asked: string[] = [];
  const world = {
    hosts: shepherd.connection.hosts,
    fleet: fleet.hosts,
    clock: fleet.clock,
    store: fleet.store,
    migrationTls: {
      async look(hostId: string) {
        asked.push(hostId);
        if (hostId !== "south-1") return;
        throw new Fault("tls.foreign_certificates", { host: hostId, folder: "/etc/pki/qemu" });
      },
    },
  };
  const moves = ids
    .map((id) => moveAction(id, "north-1", "south-1"))
    .filter((action) => action.kind === "move_machine");
  const blockers = blockersOfMoves(world, moves, ({ machineId }) => machineId);
  await fleet.clock.advance(60_000);
  expect(await blockers).toEqual(
    ids.map((id) => ({
      machineId: id,
      machine: id,
      check: "certificates",
      problem:
        "/etc/pki/qemu on south-1 holds certificates that are not the shepherd's: they are not touched",
      fix: expect.stringContaining("migrate_tls_x509_cert_dir"),
    })),
  );
  expect(asked.toSorted()).toEqual(["north-1", "south-1"]);
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
