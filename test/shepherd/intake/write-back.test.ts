/** adaptations.json: whole or as before, one sorted line a machine, following the journal, committed when asked. */
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  adaptationsFile,
  createWriteBack,
  renderAdaptations,
  type WriteBack,
  writeAdaptations,
} from "@drover/shepherd/intake/write-back";
import type { EnvironmentRecord, MachineRecord } from "@drover/shepherd/model/objects";
import type { Adaptation } from "@drover/shepherd/model/request";
import { openSqliteStore, type SqliteStore } from "@drover/shepherd/store/sqlite";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { pino } from "pino";
import { readAdaptations } from "../../../stacks/constructs/adaptations.ts";

let directory = "";
let store: SqliteStore;
let writeBack: WriteBack | undefined;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "drover-stack-"));
  store = openSqliteStore(":memory:");
});
afterEach(async () => {
  await writeBack?.stop();
  writeBack = undefined;
  await store.close();
  rmSync(directory, { recursive: true });
});

const file = () => readFileSync(join(directory, adaptationsFile), "utf8");
const row = (machine: string) => ({
  environment: "ring",
  machine,
  vcpus: 2,
  cpu_percent: 60,
  memory_mib: 320,
  site: "south",
  adaptation_id: `a-${machine}`,
  lease_until_ms: null,
  decision: "d-1",
});

test("one line a machine, nothing is an empty list", () => {
  expect(renderAdaptations([])).toBe("[]\n");
  const text = renderAdaptations([row("rank-0"), row("rank-1")]);
  expect(text.split("\n")).toHaveLength(5);
  expect(JSON.parse(text)).toEqual([row("rank-0"), row("rank-1")]);
});

test("the stack's constructs read what is written", async () => {
  await writeAdaptations(directory, [row("rank-0")]);
  expect(readAdaptations(join(directory, adaptationsFile))).toEqual([row("rank-0")]);
});

test("the same content is not written again, and no other file is left", async () => {
  expect(await writeAdaptations(directory, [row("rank-0")])).toBe(true);
  expect(await writeAdaptations(directory, [row("rank-0")])).toBe(false);
  expect(readdirSync(directory)).toEqual([adaptationsFile]);
});

test("it follows what is journaled, from before its start and after", async () => {
  await grant("rank-1");
  await start();
  expect(machines()).toEqual(["rank-1"]);
  await grant("rank-0");
  await eventually(() => expect(machines()).toEqual(["rank-0", "rank-1"]));
  await store.transaction(async (journal) => {
    await journal.adaptations.remove("a-rank-1");
    await journal.events.append({ kind: "adaptation.ended", atMs: 2, data: {} });
  });
  await eventually(() => expect(machines()).toEqual(["rank-0"]));
});

test("adaptations of other environments stay out", async () => {
  await grant("rank-0");
  await grant("rank-0", "neighbour");
  await start();
  expect(JSON.parse(file())).toMatchObject([{ environment: "ring", machine: "rank-0" }]);
});

test("a directory that is gone stops nobody; when it is back the next change is written", async () => {
  rmSync(directory, { recursive: true });
  await grant("rank-0");
  await start();
  mkdirSync(directory);
  await grant("rank-1");
  await eventually(() => expect(machines()).toEqual(["rank-0", "rank-1"]));
});

test("with git_commit only our file is committed, whatever else is staged", async () => {
  const git = (...args: string[]) =>
    execFileSync("git", ["-C", directory, ...args], { encoding: "utf8" });
  git("init", "--quiet");
  git("config", "user.name", "stack");
  git("config", "user.email", "stack@example.com");
  writeFileSync(join(directory, "main.tf"), "# mine\n");
  git("add", "main.tf");
  await grant("rank-0");
  await start(true);
  expect(git("log", "--format=%s")).toBe("Record 1 approved adaptation\n");
  expect(git("show", "--name-only", "--format=")).toBe(`${adaptationsFile}\n`);
  expect(git("status", "--porcelain")).toBe("A  main.tf\n");
});

test("a commit that the user's hook refuses leaves the file written", async () => {
  execFileSync("git", ["-C", directory, "init", "--quiet"]);
  const hook = join(directory, ".git/hooks/pre-commit");
  writeFileSync(hook, "#!/bin/sh\nexit 1\n");
  chmodSync(hook, 0o755);
  await grant("rank-0");
  await start(true);
  expect(machines()).toEqual(["rank-0"]);
});

function machines(): string[] {
  return (JSON.parse(file()) as { machine: string }[]).map(({ machine }) => machine);
}

async function start(gitCommit = false): Promise<void> {
  writeBack = createWriteBack({
    store,
    stacks: [{ environment: "ring", directory, gitCommit }],
    log: pino({ level: "silent" }),
  });
  await writeBack.start();
}

/** A machine of the environment with an adaptation in force. */
async function grant(name: string, environment = "ring"): Promise<void> {
  const environmentRecord: EnvironmentRecord = {
    kind: "environment",
    id: `e-${environment}`,
    key: environment,
    environmentId: undefined,
    spec: { name: environment, owner: "alice", class: "batch", sites: ["north"] },
    effective: {},
    version: 1,
    claimed: true,
    createdAtMs: 1,
  };
  const baseline = { vcpus: 1, cpuPercent: 20, memoryMib: 256, siteId: "north" };
  const machine: MachineRecord = {
    kind: "machine",
    id: `m-${environment}-${name}`,
    key: `e-${environment}/${name}`,
    environmentId: `e-${environment}`,
    spec: {
      environmentId: `e-${environment}`,
      name,
      speaker: false,
      imageId: "i",
      baseline,
      envelope: { mode: "auto" },
      networks: [],
    },
    effective: {
      vcpus: 1,
      cpuPercent: 60,
      memoryMib: 256,
      siteId: "north",
      hostId: "north-1",
      state: "running",
      ceiling: { vcpus: 1, memoryMib: 256 },
      nics: [],
    },
    version: 1,
    claimed: true,
    createdAtMs: 1,
  };
  const adaptation: Adaptation = {
    id: environment === "ring" ? `a-${name}` : `a-${environment}-${name}`,
    environmentId: `e-${environment}`,
    machineId: machine.id,
    decisionId: "d-1",
    values: { cpuPercent: 60 },
    reason: "",
    createdAtMs: 1,
  };
  await store.transaction(async (journal) => {
    if ((await journal.objects.get("environment", environmentRecord.id)) === undefined) {
      await journal.objects.put(environmentRecord);
    }
    await journal.objects.put(machine);
    await journal.adaptations.put(adaptation);
    await journal.events.append({ kind: "adaptation.started", atMs: 1, data: {} });
  });
}

async function eventually(check: () => void): Promise<void> {
  const endMs = performance.now() + 3_000;
  for (;;) {
    try {
      check();
      return;
    } catch (error) {
      if (performance.now() > endMs) throw error;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}
