/** The shepherd as a process: it survives kill -9 without a stale lock, stops on SIGTERM, starts with a host that is down. */
import { type ChildProcess, spawn } from "node:child_process";
import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ShepherdClient } from "@drover/shepherd/api/client";
import type { EventView, MachineView, Status } from "@drover/shepherd/api/contract";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { declareRing, mutate, need, run } from "./api/shepherd.ts";

const drover = join(import.meta.dirname, "../../shepherd/cli/drover.js");
let folder = "";
let child: ChildProcess | undefined;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "drover-main-"));
  writeFileSync(
    join(folder, "drover.yaml"),
    `world: simulated
state_dir: state
socket: shepherd.sock
sites:
  - id: north
    owner: north-lab
    hosts: [{ id: north-1, migration_address: 10.77.1.1, lend: { cpu_percent: 200, memory_mib: 1024, disk_gib: 8 } }]
`,
  );
});
afterEach(async () => {
  if (child?.exitCode === null) {
    child.kill("SIGKILL");
    await ended(child);
  }
  rmSync(folder, { recursive: true });
});

function ended(process: ChildProcess): Promise<{ code: number | null; signal: string | null }> {
  return new Promise((resolve) => {
    if (process.exitCode !== null || process.signalCode !== null) {
      resolve({ code: process.exitCode, signal: process.signalCode });
    } else process.once("exit", (code, signal) => resolve({ code, signal }));
  });
}

/** The daemon with its output; resolves when it listens, fails with what it said when it ended instead. */
async function start(): Promise<{
  process: ChildProcess;
  client: ShepherdClient;
  said(): string;
}> {
  const started = spawn(
    process.execPath,
    [drover, "shepherd", "--config", join(folder, "drover.yaml")],
    {
      stdio: ["ignore", "ignore", "pipe"],
    },
  );
  let said = "";
  await new Promise<void>((resolve, reject) => {
    started.stderr?.setEncoding("utf8").on("data", (text: string) => {
      said += text;
      if (said.includes('"msg":"listening"')) resolve();
    });
    started.once("exit", (code) => reject(Object.assign(new Error(said), { exitCode: code })));
  });
  const endpoint = `unix:${join(folder, "shepherd.sock")}`;
  return { process: started, client: new ShepherdClient({ endpoint }), said: () => said };
}

test("after kill -9 the next one starts on the same state; meanwhile nobody else may", async () => {
  const first = await start();
  child = first.process;
  await first.client.call("PUT", "/v1/environments/ring", {
    body: { class: "batch", sites: ["north"] },
  });
  await expect(start()).rejects.toMatchObject({
    exitCode: 1,
    message: expect.stringContaining(`(process ${child.pid})`),
  });
  child.kill("SIGKILL");
  expect(await ended(child)).toMatchObject({ signal: "SIGKILL" });

  const second = await start();
  child = second.process;
  const status = await second.client.get<Status>("/v1/status");
  expect(status.environments.map(({ name }) => name)).toEqual(["ring"]);
});

test("LANs in the clear are the operator's word: it stands in the log and among the events", async () => {
  const file = join(folder, "drover.yaml");
  const host = "migration_address: 10.77.2.1, lend: { cpu_percent: 1, memory_mib: 1, disk_gib: 1 }";
  appendFileSync(
    file,
    `  - id: south\n    owner: south-lab\n    hosts: [{ id: south-1, ${host} }]\n`,
  );
  const clearEvents = async (client: ShepherdClient) => {
    const { items } = await client.get<{ items: EventView[] }>("/v1/events", {
      query: { once: 1 },
    });
    return items.filter(({ kind }) => kind === "tunnel.clear").map(({ data }) => data);
  };
  const encrypted = await start();
  child = encrypted.process;
  expect(await clearEvents(encrypted.client)).toEqual([]);
  expect(encrypted.said()).not.toContain("not encrypted");
  child.kill("SIGTERM");
  await ended(child);
  appendFileSync(file, 'tunnels: { clear: ["north:south"] }\n');
  const { process: shepherd, client, said } = await start();
  child = shepherd;
  expect(await clearEvents(client)).toEqual([{ sites: ["north", "south"] }]);
  expect(said()).toContain("LANs between these sites are not encrypted");
});

test("SIGTERM ends it cleanly, with an event stream open", async () => {
  const { process: shepherd, client } = await start();
  child = shepherd;
  const reading = (async () => {
    for await (const event of client.events({ sinceSeq: 0 }))
      if (event.seq === 1) shepherd.kill("SIGTERM");
  })();
  expect(await ended(shepherd)).toEqual({ code: 0, signal: null });
  await reading.catch(() => undefined); // how the stream breaks off is not the point
});

test("a host that is down at start is degraded; the others work, and it comes back by itself", async () => {
  let running = await run();
  running.world.setReachable("south-1", false);
  running = await running.restart();
  try {
    const states = async () => {
      const { sites } = await running.client.get<Status>("/v1/status");
      return sites.flatMap((site) => site.hosts.map(({ id, state }) => [id, state]));
    };
    expect(await states()).toEqual([
      ["north-1", "up"],
      ["north-2", "up"],
      ["south-1", "degraded"],
    ]);
    const { machines } = await declareRing(running, 1);
    expect(need(machines[0]).effective.state).toBe("running");
    await expect(
      mutate<MachineView>(running, "PATCH", `/v1/machines/${need(machines[0]).id}`, {
        site: "south",
      }),
    ).rejects.toMatchObject({ code: "placement.site_unavailable" });
    running.world.setReachable("south-1", true);
    const endMs = performance.now() + 8_000;
    while ((await states())[2]?.[1] !== "up" && performance.now() < endMs) {
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    expect((await states())[2]).toEqual(["south-1", "up"]);
  } finally {
    await running.end();
  }
});
