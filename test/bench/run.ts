/**
 * `make bench`: every benchmark of this folder in turn, each beside its rival in one run, under a line that tells the
 * machine. `node test/bench/run.ts policy planner` runs only those. Figures are for reading, never for passing.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync } from "node:fs";
import { cpus, totalmem } from "node:os";
import { basename, join } from "node:path";

const folder = import.meta.dirname;
const all = readdirSync(folder)
  .filter((file) => file.endsWith(".ts"))
  .map((file) => basename(file, ".ts"))
  .filter((name) => name !== "run");
const chosen = process.argv.slice(2);
const unknown = chosen.filter((name) => !all.includes(name));
if (unknown.length > 0) {
  console.error(`no benchmark ${unknown.join(", ")}; there are: ${all.join(", ")}`);
  process.exit(2);
}
const processors = cpus();
console.log(
  `${processors.length} x ${processors[0]?.model ?? "unknown"}, ${Math.round(totalmem() / 2 ** 30)} GiB, Node ${process.version}`,
);
let failed = 0;
let running: ChildProcess | undefined;
let isStopped = false;
// A benchmark may have much to take down: it is told, and waited for.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.on(signal, () => {
    isStopped = true;
    running?.kill(signal);
  });
}
for (const name of chosen.length > 0 ? chosen : all) {
  if (isStopped) break;
  console.log(`\n== ${name}`);
  running = spawn(process.execPath, [join(folder, `${name}.ts`)], { stdio: "inherit" });
  const [code] = await once(running, "exit");
  if (code !== 0) failed += 1;
}
process.exitCode = failed === 0 && !isStopped ? 0 : 1;
