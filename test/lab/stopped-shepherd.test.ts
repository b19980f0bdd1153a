/**
 * SIGSTOP of a whole shepherd, on real hosts: it stands still in the middle of a move, a second one takes over from its
 * backup, and when the first wakes up, every host refuses it. The machine runs once, where the second says, and its disk
 * is whole. What the second does is followed from the call of its API to the call of libvirt. Needs root.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ShepherdClient } from "@drover/shepherd/api/client";
import type {
  MachineView,
  Mutation,
  OperationView,
  RequestAnswer,
  Status,
} from "@drover/shepherd/api/contract";
import { readConfiguration } from "@drover/shepherd/configuration/configuration";
import { type GuestShell, openGuest } from "@drover/shepherd/lab/guest-shell";
import { down, type Lab, up } from "@drover/shepherd/lab/lab";
import { must } from "@drover/shepherd/lab/process";
import { systemClock } from "@drover/shepherd/system";
import { connectLibvirt } from "@drover/shepherd/worlds/libvirt";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import Database from "better-sqlite3";
import { pino } from "pino";
import { type Collector, openCollector } from "../simulation/collector.ts";
import { insideGuest, startChecker, wrongSince } from "./chaos/checker.ts";

const name = "oldsh";
const command = join(import.meta.dirname, "../../shepherd/cli/main.ts");
const folder = mkdtempSync(join(tmpdir(), "drover-stopped-"));

interface Process {
  readonly child: ChildProcess;
  readonly client: ShepherdClient;
  said(): string;
}
let lab: Lab;
let guest: GuestShell;
let collector: Collector;
const started: ChildProcess[] = [];

beforeAll(async () => {
  collector = await openCollector();
  lab = await up({ name });
  guest = openGuest(lab.layout, "drover-ring-rank-0");
}, 240_000);
afterAll(async () => {
  for (const child of started) {
    child.kill("SIGCONT");
    child.kill("SIGKILL");
  }
  await collector.close();
  await down({ name });
  rmSync(folder, { recursive: true, force: true });
}, 120_000);

/** The lab's own drover.yaml, with a state directory and a socket of this shepherd's, and what else it is to have. */
function configure(who: string, more = ""): string {
  const text = readFileSync(lab.configurationFile, "utf8")
    .replace(/^state_dir: .*$/m, `state_dir: ${join(folder, who)}`)
    .replace(/^socket: .*$/m, `socket: ${join(folder, who)}.sock`);
  const file = join(folder, `${who}.yaml`);
  writeFileSync(file, `${text}\n${more}`);
  return file;
}

/** As a process of its own; resolves when it listens. */
async function start(who: string): Promise<Process> {
  const child = spawn(
    process.execPath,
    [command, "shepherd", "--config", join(folder, `${who}.yaml`)],
    {
      stdio: ["ignore", "ignore", "pipe"],
    },
  );
  started.push(child);
  let said = "";
  await new Promise<void>((resolve, reject) => {
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      said += text;
      if (said.includes('"msg":"listening"')) resolve();
    });
    child.once("exit", (code) => reject(new Error(`it ended with ${code}: ${said}`)));
  });
  const endpoint = `unix:${join(folder, who)}.sock`;
  return { child, client: new ShepherdClient({ endpoint }), said: () => said };
}

async function made<View>(client: ShepherdClient, path: string, body: object): Promise<View> {
  const answer = await client.call<Mutation<View>>("PUT", path, { body, waitMs: 120_000 });
  if (answer.operation !== null) {
    const ended = await client.waitForOperation(answer.operation.id);
    if (ended.state !== "succeeded") throw new Error(JSON.stringify(ended));
  }
  if (answer.object === null) throw new Error(`${path} made nothing`);
  return answer.object;
}

/** Asks until it is so; the suite's own limit ends it. */
async function until<T>(what: () => Promise<T | undefined> | T | undefined): Promise<T> {
  for (;;) {
    const found = await what();
    if (found !== undefined) return found;
    await systemClock.sleep(20);
  }
}

/** Hosts on which the machine's domain runs, by libvirt's own word. */
async function runsAt(machineId: string): Promise<readonly string[]> {
  const configuration = readConfiguration(
    readFileSync(lab.configurationFile, "utf8"),
    lab.configurationFile,
  );
  const world = connectLibvirt(configuration, {
    clock: systemClock,
    log: pino({ level: "silent" }),
  });
  try {
    const at: string[] = [];
    for (const { id } of configuration.sites.flatMap(({ hosts }) => hosts)) {
      const domain = await world.hosts.get(id).findDomain(machineId);
      if (domain?.state === "running") at.push(id);
    }
    return at;
  } finally {
    await world.close();
  }
}

/**
 * Orders moves to and fro until one could be stopped in its copy: its journal says `running`, its connections are open.
 * A quick machine may have ended one before the signal came.
 */
async function stopInTheCopy({ child, client }: Process): Promise<string> {
  for (const site of ["south", "north", "south", "north", "south", "north"]) {
    const { operation } = await client.call<RequestAnswer>("POST", "/v1/requests", {
      body: { method: "move", environment: "ring", machine: "rank-0", params: { site } },
    });
    const id = need(operation);
    const isCopying = await until(async () => {
      const { state, progress } = await client.get<OperationView>(`/v1/operations/${id}`);
      if (state !== "pending" && state !== "running") return { is: false };
      return /copying/.test(progress.message) ? { is: true } : undefined;
    });
    if (!isCopying.is) continue;
    child.kill("SIGSTOP");
    if (journaledState(id) === "running") return id;
    child.kill("SIGCONT");
    await client.waitForOperation(id);
  }
  throw new Error("every move was over before it could be stopped");
}

/** Read beside the shepherd that stands still. */
function journaledState(operationId: string): unknown {
  const journal = new Database(join(folder, "old", "journal.sqlite"), { readonly: true });
  try {
    const row = journal.prepare("select state from operations where id = ?").get(operationId);
    return (row as { readonly state: unknown } | undefined)?.state;
  } finally {
    journal.close();
  }
}

function need<T>(value: T | null | undefined): T {
  if (value === null || value === undefined) throw new Error("it is not there");
  return value;
}

/** One trace from the call of the API to libvirt's own, with the ids that lead to the journal. */
async function expectFollowed(operationId: string): Promise<void> {
  const { received, spans, wayTo } = collector;
  const operation = await received(() =>
    spans.find(({ words }) => words["drover.operation"] === operationId && "drover.state" in words),
  );
  const { traceId } = operation;
  const root = await received(() => collector.named("PATCH /v1/machines/:id", traceId));
  const call = await received(() =>
    collector.named("libvirt remote.domainSetMemoryFlags", traceId),
  );
  expect(wayTo(call)).toEqual([
    root.name,
    "gate",
    "operation update",
    "step rank-0: memory 224 MiB",
    "host.setMemory",
    "libvirt remote.domainSetMemoryFlags",
  ]);
  const gate = await received(() => collector.named("gate", traceId));
  expect(gate.words).toMatchObject({
    "drover.operation": operationId,
    "drover.request": operation.words["drover.request"],
    "drover.decision": expect.stringMatching(/^[0-9a-f-]{36}$/),
    "drover.effect": "allow",
  });
  const tree = spans.filter((span) => span.traceId === traceId);
  const owners = tree.flatMap(({ name: is, words }) =>
    is === "policy" ? [String(words["drover.owner"])] : [],
  );
  expect(owners).toEqual(
    expect.arrayContaining(["operator", "owner:local-root", expect.stringMatching(/^site:/)]),
  );
  expect(wayTo(need(collector.named("plan", traceId)))).toEqual([
    root.name,
    "gate",
    "judge",
    "plan",
  ]);
  // Nothing of it hangs in the air, once all has come.
  await received(() => {
    const ofIt = spans.filter((span) => span.traceId === traceId);
    const known = new Set(ofIt.map(({ spanId }) => spanId));
    return ofIt.every((one) => one === root || known.has(one.parentSpanId ?? ""))
      ? root
      : undefined;
  });
}

test("a shepherd that is stopped in a move and wakes up is refused by every host", async () => {
  const [oldFile, newFile] = [
    configure("old"),
    configure("new", `tracing: { url: "${collector.url}" }\n`),
  ];
  const old = await start("old");
  await old.client.call("PUT", "/v1/environments/ring", {
    body: { class: "batch", sites: ["north", "south"] },
  });
  const file = (part: string) => join(lab.imageDirectory, part);
  const { sha256 } = JSON.parse(readFileSync(file("image.json"), "utf8")) as {
    sha256: { "base.qcow2": string };
  };
  const image = await made<{ id: string }>(old.client, "/v1/images/base", {
    source: file("base.qcow2"),
    sha256: sha256["base.qcow2"],
    kernel: file("kernel"),
    initrd: file("initrd"),
    cmdline: "console=ttyS0 quiet",
  });
  const network = await made<{ id: string }>(old.client, "/v1/environments/ring/networks/lan", {
    cidr: "10.42.0.0/24",
  });
  const machine = await made<MachineView>(old.client, "/v1/environments/ring/machines/rank-0", {
    image_id: image.id,
    cpu_percent: 90,
    memory_mib: 192,
    site: "north",
    adaptation: { mode: "auto", sites: ["north", "south"], memory_mib: { min: 192, max: 256 } },
    networks: [{ network_id: network.id }],
  });
  await startChecker(guest);
  const before = await insideGuest(guest);

  const moving = await stopInTheCopy(old);

  // A person brings the backup to another machine, and starts there.
  await must([process.execPath, command, "backup", join(folder, "backup"), "--config", oldFile]);
  await must([process.execPath, command, "restore", join(folder, "backup"), "--config", newFile]);
  const young = await start("new");
  const ended = await young.client.waitForOperation(moving);
  expect(["succeeded", "failed", "partial"]).toContain(ended.state);
  const view = () => young.client.get<MachineView>(`/v1/machines/${machine.id}`);
  const at = (await view()).effective.host;
  expect(await runsAt(machine.id)).toEqual([at]);
  expect(wrongSince(before, await insideGuest(guest))).toEqual([]);

  // The old one goes on where it stood, and gets nowhere.
  old.child.kill("SIGCONT");
  await until(async () => {
    const { sites } = await old.client.get<Status>("/v1/status");
    const hosts = sites.flatMap((site) => site.hosts);
    return hosts.every(({ state }) => state === "degraded") || undefined;
  });
  // First it finds its connections ended; when it makes new ones, each host itself says no.
  await until(async () => {
    await old.client.get("/v1/differences");
    return /newer shepherd/.test(old.said()) || undefined;
  });
  // To it the move is still under way, and it can do nothing about it.
  const stranded = await old.client.get<OperationView>(`/v1/operations/${moving}`);
  expect(["running", "undoing"]).toContain(stranded.state);

  // The young one does what it is told, and the machine never noticed who asked.
  const grown = await young.client.call<Mutation<MachineView>>(
    "PATCH",
    `/v1/machines/${machine.id}`,
    {
      body: { memory_mib: 224 },
      waitMs: 60_000,
    },
  );
  const { id: growing } = need(grown.operation);
  expect(await young.client.waitForOperation(growing)).toMatchObject({ state: "succeeded" });
  await expectFollowed(growing);
  expect((await view()).effective).toMatchObject({ memory_mib: 224, host: at });
  expect(await runsAt(machine.id)).toEqual([at]);
  expect(wrongSince(before, await insideGuest(guest))).toEqual([]);
}, 600_000);
