/**
 * Blows on real hosts in the middle of real operations: kill -9 and SIGSTOP of daemons and guests, cut wires, dead
 * shepherds. After each: one copy of the machine, whole disk, nothing left over. CHAOS_MINUTES bounds the time
 * (`make test`: 2); `make chaos-lab` plays all of them; CHAOS_ONLY=REGEX those whose names fit.
 */
import { randomUUID } from "node:crypto";
import { run } from "@drover/shepherd/lab/process";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { cases, nameOf } from "./chaos/cases.ts";
import { raiseStage, type Stage } from "./chaos/stage.ts";

const boxMs = Number(process.env["CHAOS_MINUTES"] ?? 2) * 60_000;
const only = new RegExp(process.env["CHAOS_ONLY"] ?? "");
/** In every run, however slow the machine is. */
const atLeast = 4;
/** A dead connection is told, and another one refused, long before. */
const patienceMs = 60_000;
let stage: Stage;
beforeAll(async () => {
  stage = await raiseStage();
}, 240_000);
afterAll(() => stage.end(), 120_000);

test("QEMU's own lock keeps a second writer off the disk", async () => {
  await stage.stand();
  const hostId = await stage.hostId();
  const disk = `/var/lib/libvirt/images/drover-${stage.machineId}.qcow2`;
  const written = await run([...stage.inside(hostId), "qemu-io", "-c", "write 0 512", disk]);
  expect(written.code).not.toBe(0);
  expect(written.stderr + written.stdout).toMatch(/Failed to get .*lock|Is another process using/);
}, 60_000);

test("a host ends the sessions of an old shepherd and refuses it from then on", async () => {
  await stage.stand();
  const hostId = await stage.hostId();
  const lineage = randomUUID();
  const old = stage.connect({ lineage, epoch: 1, holder: "old" });
  expect((await old.hosts.get(hostId).listDomains()).length).toBeGreaterThan(0);
  const young = stage.connect({ lineage, epoch: 2, holder: "young" });
  await young.hosts.get(hostId).listDomains();
  // Asked again and again, as a shepherd that wakes up would: first its dead connection, then the host's own no.
  const answers: string[] = [];
  const untilMs = performance.now() + patienceMs;
  while (answers.at(-1) !== "host.claimed" && performance.now() < untilMs) {
    await old.hosts
      .get(hostId)
      .stopDomain(stage.machineId, { graceMs: 0 })
      .then(
        () => answers.push("done"),
        (error: { code?: string }) => answers.push(error.code ?? "?"),
      );
    await new Promise((resolve) => setTimeout(resolve, 250));
  }
  expect(answers).not.toContain("done");
  expect(answers.at(-1)).toBe("host.claimed");
  const domain = await young.hosts.get(hostId).findDomain(stage.machineId);
  expect(domain?.state).toBe("running");
  const other = stage.connect({ lineage: randomUUID(), epoch: 9, holder: "other" });
  await expect(other.hosts.get(hostId).listDomains()).rejects.toMatchObject({
    code: "host.claimed",
  });
  await Promise.all([old.close(), young.close(), other.close()]);
}, 120_000);

test("every blow leaves one whole machine and nothing else", async () => {
  const startedAtMs = performance.now();
  const failed: string[] = [];
  let played = 0;
  const chosen = cases.filter((one) => only.test(nameOf(one)));
  for (const one of chosen) {
    if (played >= atLeast && performance.now() - startedAtMs > boxMs) break;
    const name = nameOf(one);
    const began = performance.now();
    try {
      const { operation, parts } = await stage.play(one);
      const took = parts.map(([part, seconds]) => `${part} ${seconds.toFixed(1)}`).join(", ");
      process.stderr.write(
        `  ${String(played + 1).padStart(2)} ${operation.state.padEnd(9)} ${((performance.now() - began) / 1000).toFixed(1).padStart(6)} s  ${name}  (${took})\n`,
      );
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      process.stderr.write(`  FAILED    ${name}\n${why}\n`);
      failed.push(`${name}: ${why}`);
      break;
    }
    played += 1;
  }
  process.stderr.write(`  ${played} of ${chosen.length} cases, ${failed.length} violations\n`);
  expect(failed).toEqual([]);
}, 3_600_000);
