/**
 * A whole shepherd without its API, on simulated hosts: journal, sensing, policy, gate, operations, leases and guest
 * channels, joined as main.ts joins them. Guests are spoken to over their ports, as programs inside would.
 */
import { Readable } from "node:stream";
import { createGuestChannels, type GuestChannels } from "@drover/shepherd/intake/guest-channels";
import type { LinkRecord, MachineRecord, MachineSpec } from "@drover/shepherd/model/objects";
import type { Request } from "@drover/shepherd/model/request";
import type { Site } from "@drover/shepherd/model/site";
import { macAddress, tapName } from "@drover/shepherd/network/names";
import { withGraves } from "@drover/shepherd/operations/graves";
import { type HostMarks, openHostMarks } from "@drover/shepherd/operations/host-marks";
import { createOperations, type Operations } from "@drover/shepherd/operations/operations";
import { ceilingOf } from "@drover/shepherd/planner/target";
import { createDrains, type Drains } from "@drover/shepherd/policy/drains";
import { createGate, type Gate, type GateAnswer } from "@drover/shepherd/policy/gate";
import { createJanitor, type Janitor } from "@drover/shepherd/policy/janitor";
import { createLeases, type Leases } from "@drover/shepherd/policy/leases";
import { createObligationKeeper } from "@drover/shepherd/policy/obligation-keeper";
import { createRepairs, type Repairs } from "@drover/shepherd/policy/repairs";
import type { Clock } from "@drover/shepherd/ports/clock";
import type { PolicyEngine } from "@drover/shepherd/ports/policy-engine";
import type { Store } from "@drover/shepherd/ports/store";
import { createObserver, type Observer } from "@drover/shepherd/sensing/observer";
import { createSeededIds } from "@drover/shepherd/simulated/ids";
import type { Speeds } from "@drover/shepherd/simulated/machinery";
import { createWorld, type World } from "@drover/shepherd/simulated/world";
import { openSqliteStore, type SqliteStore } from "@drover/shepherd/store/sqlite";
import pino from "pino";

export interface Message {
  readonly id?: string | null;
  readonly method?: string;
  readonly result?: Readonly<Record<string, unknown>>;
  readonly error?: { readonly code: number; readonly data?: Readonly<Record<string, unknown>> };
  readonly params?: Readonly<Record<string, unknown>>;
}
export interface Guest {
  readonly messages: Message[];
  send(bytes: string | Uint8Array): void;
  /** Sends a request and resolves with its response. */
  call(method: string, params?: unknown, id?: string): Promise<Message>;
  /** Sends a request and resolves with how it ended, whether that takes a `pending` or not. */
  ask(
    method: string,
    params?: unknown,
    id?: string,
  ): Promise<Readonly<Record<string, unknown>> | undefined>;
  /** Resolves with the first message, past or coming, that fits. */
  next(fits: (message: Message) => boolean): Promise<Message>;
}
export interface Shepherd {
  readonly store: SqliteStore;
  readonly world: World;
  readonly observer: Observer;
  readonly operations: Operations;
  readonly gate: Gate;
  readonly leases: Leases;
  readonly channels: GuestChannels;
  readonly repairs: Repairs;
  readonly marks: HostMarks;
  readonly drains: Drains;
  readonly janitor: Janitor;
  /** Writes the records, submits their creation and waits for its end. */
  create(machines: readonly (Partial<MachineSpec> & { name: string })[]): Promise<GateAnswer[]>;
  /** Resolves when all machines run and their channels are open. */
  settled(): Promise<void>;
  submit(request: Partial<Request>): Promise<GateAnswer>;
  machine(name: string): Promise<MachineRecord>;
  guest(name: string): Promise<Guest>;
  stop(): Promise<void>;
  /** Lets go of everything without a word, as a killed process does; world and journal stay for the next one. */
  die(): Promise<void>;
}

const mib = 2 ** 20;
const gib = 2 ** 30;
export const environmentId = "env-ring";

export function siteOf(
  id: string,
  hosts: Readonly<Record<string, { cpuPercent: number; memoryMib: number }>>,
): Site {
  return {
    id,
    owner: `${id}-owner`,
    policy: "",
    hosts: Object.entries(hosts).map(([hostId, lend], n) => ({
      id: hostId,
      siteId: id,
      pool: "drover",
      migrationAddress: `10.${id === "north" ? 1 : 2}.0.${n + 1}`,
      lend: { ...lend, diskGib: 20 },
    })),
  };
}

export async function startShepherd(options: {
  readonly clock: Clock;
  readonly sites: readonly Site[];
  readonly engines: ReadonlyMap<string, PolicyEngine>;
  readonly class?: string;
  readonly speeds?: Partial<Speeds>;
  /** In memory when none is given. */
  readonly store?: SqliteStore;
  /** An earlier shepherd's world and its journal: this one comes after it. */
  readonly after?: Shepherd;
  /** Also repairs, drains and the janitor, as main.ts has them; tests of a single room do without. */
  readonly care?: true;
  /** Takes its hosts, as main.ts does: an older one is refused by them. */
  readonly claims?: true;
  /** How many shepherds there were; makes their ids differ. */
  readonly seed?: number;
}): Promise<Shepherd> {
  const { clock, sites, engines } = options;
  const fleet = sites.flatMap(({ hosts }) => hosts);
  const world =
    options.after?.world ??
    createWorld({
      clock,
      speeds: options.speeds ?? {},
      hosts: fleet.map(({ id }) => ({ id, cores: 8, memoryMib: 16_384, poolBytes: 40 * gib })),
    });
  const store = options.store ?? options.after?.store ?? openSqliteStore(":memory:");
  const ids = createSeededIds({
    clock,
    seed: options.seed ?? (options.after === undefined ? 7 : 8),
  });
  const log = pino({ level: process.env["LOG"] ?? "silent" });
  if (options.after === undefined) await declare(store, clock.nowMs(), options.class ?? "batch");
  const { epoch, lineage } = store;
  const connection = world.connect(
    options.claims === true ? { epoch, lineage, holder: `shepherd ${options.seed}` } : undefined,
  );
  const { hosts } = connection;
  let marked: HostMarks | undefined;
  const observer = createObserver({
    hosts,
    sites,
    clock,
    store,
    log,
    markOf: (hostId) => marked?.markOf(hostId),
  });
  const marks = await openHostMarks({
    store,
    clock,
    hostIds: fleet.map(({ id }) => id),
    answers: observer.answers,
  });
  marked = marks;
  const operations = createOperations({
    store,
    hosts: withGraves(hosts, marks.isDead),
    clock,
    ids,
    fleet,
    images: { sizeBytes: async () => 65_536, open: () => Readable.from([Buffer.alloc(65_536)]) },
    epoch: store.epoch,
    log,
    answers: (hostId) => marks.isDead(hostId) || observer.answers(hostId),
  });
  const gate = await createGate({ store, clock, ids, log, sensed: observer, operations, engines });
  const leases = createLeases({ store, gate, operations, clock, ids, log });
  const channels = createGuestChannels({ store, hosts, gate, operations, clock, ids, log });
  const repairs = createRepairs({
    store,
    gate,
    operations,
    clock,
    ids,
    log,
    onHostBack: () => leases.retryNow(),
  });
  const drains = createDrains({ store, marks, gate, operations, clock, ids, log });
  const janitor = createJanitor({
    store,
    hosts,
    fleet,
    marks,
    answers: observer.answers,
    operations,
    repair: () => repairs.repairSoon(),
    clock,
    ids,
    log,
  });
  const obligations = createObligationKeeper({ store, sensed: observer, clock, log });
  const care = options.care === true ? [repairs, drains, janitor, obligations] : [];
  observer.start();
  await observer.refresh();
  await operations.recover();
  leases.start();
  for (const part of care) part.start();
  channels.start();

  let created = (await store.read((journal) => journal.objects.list("machine"))).length;
  const submit = (request: Partial<Request>) =>
    gate.submit({
      id: ids.next(),
      kind: "resize",
      environmentId,
      subject: { type: "stack", name: "local-root", roles: ["local-root"] },
      machines: [],
      links: [],
      reason: "",
      idempotencyKey: ids.next(),
      receivedAtMs: clock.nowMs(),
      ...request,
    });
  const machine = async (name: string) => {
    const found = await store.read((journal) =>
      journal.objects.findByKey("machine", `${environmentId}/${name}`),
    );
    if (found === undefined) throw new Error(`no machine ${name}`);
    return found;
  };
  return {
    store,
    world,
    observer,
    operations,
    gate,
    leases,
    channels,
    repairs,
    marks,
    drains,
    janitor,
    submit,
    machine,
    async create(machines) {
      const records = machines.map((spec) => recordOf(spec, (created += 1), clock.nowMs()));
      await store.transaction(async (journal) => {
        for (const record of records) await journal.objects.put(record);
      });
      const answers = await Promise.all(
        records.map(({ id }) => submit({ kind: "create", machines: [{ machineId: id }] })),
      );
      for (const { operation } of answers) {
        if (operation !== undefined) await operations.wait(operation.id, 600_000);
      }
      return answers;
    },
    async settled() {
      for (;;) {
        const machines = await store.read((journal) => journal.objects.list("machine"));
        const open = new Set(channels.open());
        const placed = machines.filter(({ effective }) => effective.hostId !== "");
        if (placed.every(({ id, effective }) => effective.state === "running" && open.has(id)))
          return;
        await clock.sleep(100);
      }
    },
    async guest(name) {
      const { id } = await machine(name);
      const port = world.guestPort(id);
      if (port === undefined) throw new Error(`${name} runs nowhere`);
      return speakTo(port.guest);
    },
    async stop() {
      leases.stop();
      for (const part of care) part.stop();
      await channels.stop();
      observer.stop();
      await operations.stop();
      await store.close();
    },
    async die() {
      connection.cut();
      for (const part of care) part.stop();
      leases.stop();
      observer.stop();
      await Promise.all([channels.stop(), operations.stop()]);
    },
  };
}

export function speakTo(port: NodeJS.ReadWriteStream): Guest {
  const messages: Message[] = [];
  const waiting = new Set<{ fits: (message: Message) => boolean; resolve: (m: Message) => void }>();
  let rest = "";
  port.on("data", (chunk: Buffer) => {
    const lines = (rest + chunk.toString()).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      const message = JSON.parse(line) as Message;
      messages.push(message);
      for (const one of waiting) {
        if (!one.fits(message)) continue;
        waiting.delete(one);
        one.resolve(message);
      }
    }
  });
  let calls = 0;
  const guest: Guest = {
    async ask(method, params = {}, id = `ask-${(calls += 1)}`) {
      const { result } = await guest.call(method, params, id);
      if (result?.["verdict"] !== "pending") return result;
      const final = await guest.next(
        ({ params: told }) => told?.["id"] === id && told["final"] === true,
      );
      return final.params?.["result"] as Readonly<Record<string, unknown>>;
    },
    messages,
    send: (bytes) => void port.write(bytes),
    next: (fits) =>
      new Promise((resolve) => {
        const known = messages.find(fits);
        if (known !== undefined) resolve(known);
        else waiting.add({ fits, resolve });
      }),
    call(method, params = {}, id = `call-${(calls += 1)}`) {
      // Only answers that come after this line.
      const seen = messages.length;
      const answer = guest.next(
        (message) => message.id === id && messages.indexOf(message) >= seen,
      );
      guest.send(`${JSON.stringify({ jsonrpc: "2.0", id, method, params })}\n`);
      return answer;
    },
  };
  return guest;
}

async function declare(store: Store, nowMs: number, environmentClass: string): Promise<void> {
  const common = { version: 1, claimed: true, createdAtMs: nowMs };
  await store.transaction(async (journal) => {
    await journal.objects.put({
      ...common,
      kind: "environment",
      id: environmentId,
      key: "ring",
      environmentId: undefined,
      spec: { name: "ring", owner: "alice", class: environmentClass, sites: ["north", "south"] },
      effective: {},
    });
    await journal.objects.put({
      ...common,
      kind: "network",
      id: "lan",
      key: `${environmentId}/lan`,
      environmentId,
      spec: { environmentId, name: "lan", cidr: "10.42.0.0/24" },
      effective: { vni: 1001, mtu: 1450 },
    });
    await journal.objects.put({
      ...common,
      kind: "image",
      id: "image",
      key: "base",
      environmentId: undefined,
      spec: { name: "base", source: "/base", sha256: "aa", kernel: "/k", initrd: "/i" },
      effective: {
        sizeBytes: 65_536,
        virtualBytes: 256 * mib,
        kernelSha256: "bb",
        initrdSha256: "cc",
      },
    });
  });
}

function recordOf(
  of: Partial<MachineSpec> & { name: string },
  n: number,
  nowMs: number,
): MachineRecord {
  const id = `00000000-0000-4000-8000-${String(n).padStart(12, "0")}`;
  const spec: MachineSpec = {
    environmentId,
    speaker: false,
    imageId: "image",
    baseline: { vcpus: 1, cpuPercent: 20, memoryMib: 256, siteId: "north" },
    envelope: {
      mode: "auto",
      vcpus: { min: 1, max: 2 },
      cpuPercent: { min: 10, max: 60 },
      memoryMib: { min: 192, max: 1024 },
      sites: ["north", "south"],
    },
    networks: [{ networkId: "lan" }],
    ...of,
  };
  const { vcpus, cpuPercent, memoryMib } = spec.baseline;
  return {
    kind: "machine",
    id,
    key: `${environmentId}/${spec.name}`,
    environmentId,
    spec,
    effective: {
      vcpus,
      cpuPercent,
      memoryMib,
      siteId: "",
      hostId: "",
      state: "creating",
      ceiling: ceilingOf(spec),
      nics: [
        {
          networkId: "lan",
          address: `10.42.0.${n + 9}`,
          prefixLength: 24,
          mac: macAddress(id, 0),
          tap: tapName(id, 0),
        },
      ],
    },
    version: 1,
    claimed: true,
    createdAtMs: nowMs,
  };
}

export function linkRecord(left: string, right: string, rateMbps: number): LinkRecord {
  return {
    kind: "link",
    id: `link-${left}-${right}`,
    key: `${environmentId}/${left}--${right}`,
    environmentId,
    spec: { environmentId, machines: [left, right], rateMbps },
    effective: { rateMbps },
    version: 1,
    claimed: true,
    createdAtMs: 1,
  };
}
