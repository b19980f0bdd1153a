/**
 * Runs the real `drover-guest` as a machine of the simulated world: a pseudo terminal stands for the virtio port, and
 * its other end is the machine's socket below the shepherd's state directory.
 * Run: node test/tools/simulated-guest.ts STATE_DIRECTORY ENVIRONMENT/MACHINE COMMAND [OPTIONS]
 */
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createConnection } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

const script = resolve(import.meta.dirname, "../../shepherd/intake/guest/drover-guest");
const [stateDirectory, machine, ...words] = process.argv.slice(2);
if (stateDirectory === undefined || !/^[^/]+\/[^/]+$/.test(machine ?? "") || words.length === 0) {
  console.error("usage: simulated-guest.ts STATE_DIRECTORY ENVIRONMENT/MACHINE COMMAND [OPTIONS]");
  process.exit(64);
}
const folder = mkdtempSync(join(tmpdir(), "drover-guest-"));
process.exitCode = await run(
  join(stateDirectory, "guests", `drover-${machine?.replace("/", "-")}.sock`),
).finally(() => rmSync(folder, { recursive: true, force: true }));

async function run(path: string): Promise<number> {
  if (!existsSync(path)) {
    console.error(`No simulated machine ${machine} runs here: ${path} is missing.`);
    return 75;
  }
  const nameFile = join(folder, "tty");
  // util-linux' `script` holds the terminal; what is written to it from outside comes and goes through our pipes.
  const holder = spawn(
    "script",
    [
      "-qfec",
      `stty raw -echo; tty >${nameFile}.new; mv ${nameFile}.new ${nameFile}; exec sleep 3600`,
      "/dev/null",
    ],
    { stdio: ["pipe", "pipe", "ignore"] },
  );
  const socket = createConnection(path);
  socket.on("error", (error) => console.error(`${path}: ${error.message}`));
  try {
    while (!existsSync(nameFile)) await sleep(10);
    holder.stdout.pipe(socket).pipe(holder.stdin);
    const guest = spawn("sh", [script, ...words], {
      stdio: "inherit",
      env: {
        ...process.env,
        DROVER_GUEST_PORT: readFileSync(nameFile, "utf8").trim(),
        DROVER_GUEST_LOCK: join(folder, "lock"),
      },
    });
    return await new Promise((done) => guest.on("close", (code) => done(code ?? 1)));
  } finally {
    socket.destroy();
    holder.kill();
  }
}
