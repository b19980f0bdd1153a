/**
 * Times the gate with the policies that ship: from the request to the journaled answer, facts, three owners' WASM, plan
 * and plan check included. Simulated hosts, journal on a file. Run with `node test/bench/gate.ts`.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openPolicy } from "@drover/shepherd/opa/engine";
import { libraryFolder } from "@drover/shepherd/opa/sources";
import { createScaledClock } from "@drover/shepherd/simulated/clock";
import { openSqliteStore } from "@drover/shepherd/store/sqlite";
import { environmentId, siteOf, startShepherd } from "../simulation/shepherd.ts";

const rounds = 300;
/** The rooms' own timers keep no process alive. */
const alive = setInterval(() => undefined, 60_000);
const folder = mkdtempSync(join(tmpdir(), "drover-gate-"));
const engines = new Map();
for (const [owner, name] of [
  ["operator", "operator"],
  ["owner:*", "owner"],
  ["site:north", "site-north"],
  ["site:south", "site-south"],
] as const) {
  engines.set(owner, await openPolicy({ owner, folder: join(libraryFolder, "data", name) }));
}
const shepherd = await startShepherd({
  clock: createScaledClock({ scale: 1, originMs: Date.now() }),
  engines,
  store: openSqliteStore(join(folder, "journal.sqlite")),
  sites: [
    siteOf("north", { "north-1": { cpuPercent: 800, memoryMib: 8192 } }),
    siteOf("south", { "south-1": { cpuPercent: 800, memoryMib: 8192 } }),
  ],
});
await shepherd.create(Array.from({ length: 8 }, (_, n) => ({ name: `rank-${n}` })));
const { id } = await shepherd.machine("rank-0");

for (const [name, cpuPercent] of [
  ["denied by a rule", 6_400],
  ["granted, admitted, in force", undefined],
] as const) {
  const times: number[] = [];
  for (let n = 0; n < rounds; n++) {
    const start = performance.now();
    const { operation } = await shepherd.submit({
      environmentId,
      subject: { type: "operator", name: "bench", roles: ["operator"] },
      machines: [{ machineId: id, cpuPercent: cpuPercent ?? 30 + (n % 2) * 10 }],
    });
    if (cpuPercent !== undefined) times.push(performance.now() - start);
    if (operation !== undefined) {
      await shepherd.operations.wait(operation.id, 10_000);
      times.push(performance.now() - start);
    }
  }
  times.sort((left, right) => left - right);
  const at = (share: number) => (times[Math.floor(times.length * share)] ?? 0).toFixed(1);
  console.log(`${name.padEnd(30)} p50 ${at(0.5)} ms, p99 ${at(0.99)} ms, n ${times.length}`);
}
await shepherd.stop();
for (const engine of engines.values()) await engine.close();
rmSync(folder, { recursive: true });
clearInterval(alive);
