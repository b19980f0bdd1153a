/**
 * The rival of `make bench-migration`: twins of our machines (same memory, image, cap and disk), made and moved by virsh
 * alone with `migrate --live --copy-storage-all`, as an operator without us would do it.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { type GuestShell, openGuest } from "@drover/shepherd/lab/guest-shell";
import { insideHost } from "@drover/shepherd/lab/host";
import { hostOf } from "@drover/shepherd/lab/layout";
import { must, run } from "@drover/shepherd/lab/process";
import { readState } from "@drover/shepherd/lab/state";
import type { MovingStage } from "../../lab/moving-stage.ts";

const pool = "/var/lib/libvirt/images";

export interface Twin {
  readonly guest: GuestShell;
  /** The host that it runs at. */
  at(): string;
  /** Resolves when virsh has ended; false: it was given up after the time, and stays where it was. */
  move(to: string, giveUpAfterMs: number): Promise<{ ended: boolean; tookMs: number }>;
  remove(): Promise<void>;
}

/** Commands inside a host of the lab. */
export function hostShell(stage: MovingStage, id: string) {
  const anchor = readState(stage.lab.layout.stateDirectory)?.hosts[id]?.anchor;
  if (anchor === undefined) throw new Error(`no host ${id}`);
  const inside = insideHost(anchor);
  return {
    must: (...argv: readonly string[]) => must([...inside, ...argv], { timeoutMs: 120_000 }),
    run: (...argv: readonly string[]) => run([...inside, ...argv], { timeoutMs: 120_000 }),
  };
}

/** What a host's uplink has sent: the witness of bytes for both, headers and all. */
export async function sentBytes(stage: MovingStage, host: string): Promise<number> {
  const text = await hostShell(stage, host).must(
    "cat",
    "/sys/class/net/uplink/statistics/tx_bytes",
  );
  return Number(text.trim());
}

/** A twin of `rank-<index>`, running at `host`. */
export async function raiseTwin(stage: MovingStage, index: number, host: string): Promise<Twin> {
  const name = `twin-${index}`;
  const at = hostShell(stage, host);
  const original = await at.must("virsh", "dumpxml", "--inactive", `drover-ring-rank-${index}`);
  const base = /drover-[0-9a-f]{64}\.qcow2/.exec(await at.must("ls", pool))?.[0];
  if (base === undefined) throw new Error(`no image at ${host}`);
  const xml = original
    .replace(/<name>.*<\/name>/, `<name>${name}</name>`)
    .replace(/<uuid>.*<\/uuid>/, "")
    .replace(/<metadata>[\s\S]*?<\/metadata>/, "")
    .replace(/<interface[\s\S]*?<\/interface>/g, "")
    .replace(/drover-[0-9a-f]{8}-[0-9a-f-]{27}\.qcow2/g, `${name}.qcow2`);
  writeFileSync(join(hostOf(stage.lab.layout, host).folder, `run/${name}.xml`), xml);
  const disk = `${pool}/${name}.qcow2`;
  await at.must(
    "qemu-img",
    "create",
    "-q",
    "-f",
    "qcow2",
    "-F",
    "qcow2",
    "-b",
    `${pool}/${base}`,
    disk,
  );
  await at.must("virsh", "-q", "pool-refresh", "drover");
  await at.must("virsh", "-q", "define", `/run/${name}.xml`);
  await at.must("virsh", "-q", "start", name);
  const guest = openGuest(stage.lab.layout, name);
  await guest.read("true", { timeoutMs: 180_000 });
  let from = host;
  return {
    guest,
    at: () => from,
    async move(to, giveUpAfterMs) {
      const address = hostOf(stage.lab.layout, to).address;
      // What an earlier move left at the destination would be in its way.
      await forgetDisk(stage, to, name);
      const startedMs = performance.now();
      const giveUp = setTimeout(() => {
        void run(["virsh", "-q", "-c", stage.virshUri(from), "domjobabort", name]);
      }, giveUpAfterMs);
      const how = ["--live", "--copy-storage-all", "--persistent", "--undefinesource"];
      const where = ["--migrateuri", `tcp://${address}`, name, stage.virshUri(to)];
      const { code } = await run(
        ["virsh", "-q", "-c", stage.virshUri(from), "migrate", ...how, ...where],
        { timeoutMs: giveUpAfterMs + 120_000 },
      );
      clearTimeout(giveUp);
      const tookMs = performance.now() - startedMs;
      if (code === 0) {
        await forgetDisk(stage, from, name);
        from = to;
      }
      return { ended: code === 0, tookMs };
    },
    async remove() {
      for (const each of ["north-1", "south-1"]) {
        const there = hostShell(stage, each);
        await there.run("virsh", "destroy", name);
        await there.run("virsh", "undefine", name);
        await forgetDisk(stage, each, name);
      }
    },
  };
}

async function forgetDisk(stage: MovingStage, host: string, name: string): Promise<void> {
  const at = hostShell(stage, host);
  await at.run("virsh", "-q", "pool-refresh", "drover");
  await at.run("virsh", "-q", "vol-delete", "--pool", "drover", `${name}.qcow2`);
}
