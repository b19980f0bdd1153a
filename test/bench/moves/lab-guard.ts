/**
 * Sees that no lab stays behind when a bench ends, however it ends. A process of its own, in a session of its own, waits at
 * a pipe: what the bench does not dismiss before the pipe closes (it was killed) has its lab taken down by this process.
 */
import { spawn } from "node:child_process";
import { setTimeout as pause } from "node:timers/promises";
import { down } from "@drover/shepherd/lab/lab";
import { isFault } from "@drover/shepherd/model/fault";

const dismissal = "dismissed\n";
/** Whoever raises or lowers a lab holds its lock for less. */
const lockPatienceMs = 120_000;

/** From now on, the lab of this name goes when this process goes. Call what comes back when the lab is down. */
export function guardLab(name: string): () => Promise<void> {
  const guard = spawn(process.execPath, [import.meta.filename, name], {
    detached: true,
    stdio: ["pipe", "ignore", "ignore"],
  });
  guard.unref();
  guard.stdin.on("error", () => undefined); // a guard that somebody killed needs no dismissal
  return () => new Promise((resolve) => guard.stdin.end(dismissal, () => resolve()));
}

/** Takes down whatever there is of it, also while something of this process is still raising it. */
export async function takeDown(name: string): Promise<void> {
  const endMs = performance.now() + lockPatienceMs;
  for (;;) {
    try {
      await down({ name });
      return;
    } catch (error) {
      if (!isFault(error, "lab.busy") || performance.now() > endMs) throw error;
    }
    await pause(200);
  }
}

if (import.meta.main) {
  let said = "";
  for await (const chunk of process.stdin) said += String(chunk);
  const [, , name] = process.argv;
  if (name !== undefined && said !== dismissal) await takeDown(name);
}
