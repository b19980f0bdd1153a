import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { DomainEvent, DomainSpec } from "@drover/shepherd/ports/host";
import { createVirtualClock, openScaledClock } from "@drover/shepherd/simulated/clock";
import { openGuestSockets } from "@drover/shepherd/simulated/guest-sockets";
import { createSeededIds } from "@drover/shepherd/simulated/ids";
import { createWorld, type World } from "@drover/shepherd/simulated/world";
import { afterAll, describe, expect, test } from "@jest/globals";

const folder = mkdtempSync(join(tmpdir(), "drover-world-"));
afterAll(() => rmSync(folder, { recursive: true }));

const gib = 2 ** 30;
const hosts = ["north-1", "south-1"].map((id) => ({
  id,
  cores: 4,
  memoryMib: 4096,
  poolBytes: 20 * gib,
}));
const spec: DomainSpec = {
  id: "machine-0",
  name: "drover-ring-rank-0",
  environmentId: "ring",
  owner: "alice",
  epoch: 1,
  vcpus: 1,
  vcpusMax: 2,
  cpuPercent: 50,
  memoryMib: 256,
  memoryMaxMib: 512,
  diskVolume: "disk",
  nics: [],
  channels: [],
};

/** A machine on north-1 whose disk is also prepared on south-1. */
async function withMachine(file?: string) {
  const clock = createVirtualClock();
  const world = createWorld({ clock, hosts, ...(file === undefined ? {} : { file }) });
  const connection = world.connect();
  const from = connection.hosts.get("north-1");
  const to = connection.hosts.get("south-1");
  for (const { volumes } of [from, to]) {
    const base = { name: "base", format: "qcow2", sizeBytes: 0, capacityBytes: gib } as const;
    const { Readable } = await import("node:stream");
    await clock.until(volumes.upload({ ...base, open: () => Readable.from([]) }));
    await clock.until(volumes.createOverlay({ name: "disk", backing: "base", capacityBytes: gib }));
  }
  await clock.until(from.startDomain(spec));
  return { clock, world, connection, from, to };
}
type Staged = Awaited<ReturnType<typeof withMachine>>;

async function prepared({ clock, from, to }: Staged) {
  const parameters = { machineId: spec.id, destinationAddress: "10.0.0.2", copyDisk: true };
  const source = await clock.until(from.migrateFrom(parameters));
  const destination = await clock.until(to.migrateTo(parameters));
  const ready = await clock.until(destination.prepare(await clock.until(source.begin())));
  return { source, destination, ready };
}
const statesOf = (world: World) =>
  Object.values(world.data.hosts).map((host) => host.domains[spec.id]?.state ?? "absent");

describe("a world that is kept in a file", () => {
  test.each([
    { when: "in the copy", performed: false, states: ["running", "absent"] },
    { when: "after the hand-over", performed: true, states: ["paused_migrating", "absent"] },
  ])("its process dies $when: libvirt's own ending", async ({ performed, states }) => {
    const file = join(folder, `world-${performed}.json`);
    const staged = await withMachine(file);
    const { source, ready } = await prepared(staged);
    const performing = source.perform(ready, () => undefined);
    if (performed) await staged.clock.until(performing);
    else await staged.clock.advance(300);
    const again = createWorld({ clock: createVirtualClock(), hosts, file });
    expect(statesOf(again)).toEqual(states);
    expect(again.insideGuest(spec.id)?.bootId).toBe(staged.world.insideGuest(spec.id)?.bootId);
    expect(again.violations).toEqual([]);
  });

  test("a scaled clock goes on where the one before was", () => {
    const originFile = join(folder, "clock");
    const first = openScaledClock({ scale: 1_000, originFile });
    const before = first.nowMs();
    expect(openScaledClock({ scale: 1_000, originFile }).nowMs()).toBeGreaterThanOrEqual(before);
  });
});

describe("the judge", () => {
  test("sees two writers", async () => {
    const staged = await withMachine();
    const { source, destination, ready } = await prepared(staged);
    const cookie = await staged.clock.until(source.perform(ready, () => undefined));
    await staged.clock.until(destination.finish({ cookie, cancelled: false }));
    await staged.clock.until(staged.from.resumeDomain(spec.id));
    expect(staged.world.violations).toEqual(["drover-ring-rank-0 runs on north-1 and south-1"]);
  });

  test("sees a disk taken from under a guest", async () => {
    const staged = await withMachine();
    await staged.clock.until(staged.from.volumes.remove("disk"));
    expect(staged.world.violations[0]).toContain("volume disk removed on north-1");
  });
});

test("domain events tell of life, and of the balloon when it has settled", async () => {
  const staged = await withMachine();
  const events: DomainEvent[] = [];
  const end = staged.from.watch({
    onEvent: (event) => events.push(event),
    onLost: () => undefined,
    onRestored: () => undefined,
  });
  await staged.clock.until(staged.from.setMemory(spec.id, 512));
  expect(events).toEqual([]);
  await staged.clock.advance(10_000);
  end();
  await staged.clock.until(staged.from.stopDomain(spec.id, { graceMs: 0 }));
  expect(events).toEqual([{ kind: "balloon", machineId: spec.id, memoryMib: 512 }]);
});

test("equal seeds give equal ids, and ids sort as they were given", () => {
  const clock = createVirtualClock();
  const ids = createSeededIds({ clock, seed: 3 });
  const again = createSeededIds({ clock, seed: 3 });
  const given = Array.from({ length: 50 }, () => ids.next());
  expect(Array.from({ length: 50 }, () => again.next())).toEqual(given);
  expect(given.toSorted()).toEqual(given);
  expect(
    given.every((id) =>
      /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/.test(id),
    ),
  ).toBe(true);
});

describe("guest sockets", () => {
  const directory = join(folder, "guests");
  const open = async (name: string): Promise<Socket> => {
    const socket = connect(join(directory, `${name}.sock`));
    await once(socket, "connect");
    return socket;
  };
  const ask = async (command: object): Promise<unknown> => {
    const socket = await open("control");
    const lines = createInterface({ input: socket });
    const line = once(lines, "line");
    socket.write(`${JSON.stringify(command)}\n`);
    const [answer] = (await line) as [string];
    socket.destroy();
    return JSON.parse(answer);
  };

  test("join another process to a guest's channel, over a move too", async () => {
    const staged = await withMachine();
    const close = openGuestSockets(staged.world, directory);
    try {
      const guest = await open("drover-ring-rank-0");
      // Written before the shepherd has opened its end: it waits, as in Linux.
      guest.write("hello\n");
      const first = await staged.clock.until(staged.from.openChannel(spec.id, "dev.drover.0"));
      const ended = once(first, "end");
      expect(String((await once(first, "data"))[0])).toBe("hello\n");
      first.write("welcome\n");
      expect(String((await once(guest, "data"))[0])).toBe("welcome\n");

      const { source, destination, ready } = await prepared(staged);
      const cookie = await staged.clock.until(source.perform(ready, () => undefined));
      await staged.clock.until(destination.finish({ cookie, cancelled: false }));
      await staged.clock.until(source.confirm({ cookie, cancelled: false }));
      await ended;
      const second = await staged.clock.until(staged.to.openChannel(spec.id, "dev.drover.0"));
      guest.write("still here\n");
      expect(String((await once(second, "data"))[0])).toBe("still here\n");

      // The port opens exclusively.
      const rival = await open("drover-ring-rank-0");
      await once(rival, "close");
      guest.destroy();
    } finally {
      close();
    }
  });

  test("show what a witness sees and do what happens behind the shepherd's back", async () => {
    const staged = await withMachine();
    const close = openGuestSockets(staged.world, directory);
    try {
      const name = "drover-ring-rank-0";
      expect(await ask({ method: "guest", name })).toMatchObject({
        result: { hostId: "north-1", memoryMib: 256, cpuPercent: 50 },
      });
      await ask({ method: "set_memory", host: "north-1", name, memory_mib: 300 });
      await staged.clock.advance(5_000);
      expect(await ask({ method: "guest", name })).toMatchObject({ result: { memoryMib: 300 } });
      expect(
        await ask({
          method: "start_foreign",
          host: "north-1",
          id: "f",
          name: "foreign",
          vcpus: 1,
          memory_mib: 64,
        }),
      ).toEqual({ result: null });
      expect(await ask({ method: "hosts" })).toMatchObject({
        result: [{ id: "north-1", domains: [{ name }, { name: "foreign" }] }, { id: "south-1" }],
      });
      expect(await ask({ method: "guest", name: "nobody" })).toEqual({ error: "no domain nobody" });
      expect(await ask({ method: "no such" })).toEqual({ error: "no method no such" });
    } finally {
      close();
    }
  });
});
