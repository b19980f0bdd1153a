/** The SSH shell on real sshd: what a server in a test's own process cannot show. */
import { copyFileSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import {
  readConfiguration,
  type SshConfiguration,
} from "@drover/shepherd/configuration/configuration";
import { withEvidence } from "@drover/shepherd/evidence/evidence";
import { type KeptEvidence, keepEvidence } from "@drover/shepherd/evidence/keep";
import { down, up } from "@drover/shepherd/lab/lab";
import { createSshShell, type SshShell } from "@drover/shepherd/shell/ssh";
import { createShellWitness } from "@drover/shepherd/shell/witness";
import { createScaledClock } from "@drover/shepherd/simulated/clock";
import { openCheckpointFile, openSigningKeys } from "@drover/shepherd/store/checkpoint-file";
import { openSqliteStore } from "@drover/shepherd/store/sqlite";
import { afterAll, beforeAll, expect, jest, test } from "@jest/globals";
import pino from "pino";

jest.setTimeout(60_000);
const labName = "ssht";
const shells: SshShell[] = [];
let north: SshConfiguration;
let south: SshConfiguration;
let host: SshShell;

beforeAll(async () => {
  const lab = await up({ name: labName });
  const { sites } = readConfiguration(
    readFileSync(lab.configurationFile, "utf8"),
    lab.configurationFile,
  );
  const sshOf = (id: string): SshConfiguration => {
    const ssh = sites.flatMap((site) => site.hosts).find((candidate) => candidate.id === id)?.ssh;
    if (ssh === undefined) throw new Error(`no way to ${id}`);
    return ssh;
  };
  north = sshOf("north-1");
  south = sshOf("south-1");
  host = open(north);
}, 120_000);
afterAll(async () => {
  for (const shell of shells) await shell.close();
  await down({ name: labName });
}, 60_000);

function open(ssh: SshConfiguration, hostKey = ssh.hostKey, jump?: SshConfiguration): SshShell {
  const target = (way: SshConfiguration) => ({
    ...way,
    privateKey: readFileSync(way.keyFile),
    jump: undefined,
  });
  const shell = createSshShell({
    hostId: "north-1",
    target: { ...target(ssh), hostKey, jump: jump === undefined ? undefined : target(jump) },
  });
  shells.push(shell);
  return shell;
}

test("a command sees the host's own world", async () => {
  expect(await host.run(["hostname"])).toEqual({ exitCode: 0, stdout: "north-1\n", stderr: "" });
  expect((await host.run(["cat"], { input: "ä\0b" })).stdout).toBe("ä\0b");
});

test("forty commands at once stay within sshd's ten sessions, beside scripts", async () => {
  const commands = Array.from({ length: 40 }, (_, index) => host.run(["echo", String(index)]));
  const scripts = Array.from({ length: 40 }, (_, index) => host.script(`echo ${index}`));
  const results = await Promise.all([...commands, ...scripts]);
  expect(results.map((result) => Number(result.stdout))).toEqual([
    ...Array(40).keys(),
    ...Array(40).keys(),
  ]);
});

test("sixty streams to libvirt's socket stand beside each other on one connection", async () => {
  const path = "/run/libvirt/libvirt-sock";
  const streams = await Promise.all(Array.from({ length: 60 }, () => host.openStream(path)));
  expect((await host.run(["echo", "beside"])).stdout).toBe("beside\n");
  for (const stream of streams) stream.destroy();
  await expect(host.openStream("/run/nothing")).rejects.toMatchObject({ code: "host.unreachable" });
});

test("what nobody waits for any more is ended by the host itself", async () => {
  await expect(host.run(["sleep", "4321"], { timeoutMs: 200 })).rejects.toMatchObject({
    code: "shell.timeout",
  });
  await expect(host.script("sleep 4322", { timeoutMs: 200 })).rejects.toMatchObject({
    code: "shell.timeout",
  });
  expect((await host.script("echo next")).stdout).toBe("next\n");
  await sleep(3_000);
  const left = await host.script(
    "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -o 'sleep 432[12]'",
  );
  expect(left.stdout).toBe("");
});

test("another host's key is refused, and both are named", async () => {
  await expect(open(north, south.hostKey).run(["true"])).rejects.toMatchObject({
    code: "host.key_mismatch",
    details: {
      host: "north-1",
      expected: expect.stringMatching(/^SHA256:/),
      shown: expect.stringMatching(/^SHA256:/),
    },
  });
});

test("a login that the host does not know is refused", async () => {
  await expect(open({ ...north, user: "nobody" }).run(["true"])).rejects.toMatchObject({
    code: "host.login_refused",
    details: { host: "north-1", user: "nobody" },
  });
});

test("a killed session, by its own process, is told, and the next command connects again", async () => {
  const shell = open(north);
  await shell.script("true");
  const up =
    "p=$$; while [ $(cat /proc/$p/comm) != sshd ]; do p=$(cut -d' ' -f4 /proc/$p/stat); done";
  const broken = { code: "host.unreachable" };
  await Promise.all([
    expect(shell.run(["sleep", "5"])).rejects.toMatchObject(broken),
    // The first sshd upwards is the process of this connection.
    expect(shell.script(`sleep 0.5; ${up}; kill -9 $p; sleep 5`)).rejects.toMatchObject(broken),
  ]);
  expect((await shell.run(["echo", "again"])).stdout).toBe("again\n");
});

test("sites keep the evidence's checkpoints, and find an old database that was put back", async () => {
  const folder = mkdtempSync(join(tmpdir(), "drover-evidence-"));
  const journal = join(folder, "journal.sqlite");
  const witnesses = [
    createShellWitness("north", [host]),
    createShellWitness("south", [open(south)]),
  ];
  /** A shepherd's life: so many entries more, and until every site has the last one. */
  const live = async (
    entries: number,
    look: (kept: KeptEvidence) => Promise<void> = async () => undefined,
  ): Promise<void> => {
    const sqlite = openSqliteStore(journal);
    const store = withEvidence(sqlite);
    const clock = createScaledClock({ scale: 1, originMs: Date.now() });
    const kept = keepEvidence({
      store,
      origin: sqlite.lineage,
      epoch: sqlite.epoch,
      keys: openSigningKeys(folder),
      file: openCheckpointFile(join(folder, "checkpoints")),
      witnesses,
      clock,
      log: pino({ level: "silent" }),
    });
    for (let n = 0; n < entries; n += 1)
      await store.transaction((rows) =>
        rows.events.append({ kind: "host.state", atMs: clock.nowMs(), data: { n } }),
      );
    for (const witness of witnesses)
      while (entries > 0) {
        const newest = (await witness.read()).lines.map(
          (line) => (JSON.parse(line) as { seq: number }).seq,
        );
        if (newest.at(-1) === (await store.read((rows) => rows.evidence.last()))?.seq) break;
        await sleep(200);
      }
    await look(kept);
    await kept.stop();
    await store.close();
  };
  try {
    await live(5, async ({ evidence }) => {
      expect(await evidence.verify()).toMatchObject({ ok: true, entries: 5 });
    });
    copyFileSync(journal, join(folder, "old.sqlite"));
    await live(5);
    const place = "/var/lib/libvirt/drover";
    expect((await host.run(["cat", `${place}/checkpoints`])).stdout).toContain('"seq":10');
    expect((await host.run(["stat", "-c", "%a", `${place}/checkpoints`])).stdout).toBe("600\n");
    expect((await host.run(["cat", `${place}/checkpoints.pub`])).stdout).toBe(
      readFileSync(join(folder, "key.pub"), "utf8"),
    );
    // everything on the shepherd's own machine fits together again
    for (const suffix of ["", "-wal", "-shm"]) rmSync(`${journal}${suffix}`, { force: true });
    rmSync(join(folder, "checkpoints"));
    copyFileSync(join(folder, "old.sqlite"), journal);
    await live(0, async ({ evidence }) => {
      const found = await evidence.verify();
      expect(found.problems.map(({ kind, where, seq }) => [kind, where, seq])).toEqual([
        ["log.shorter", "north", 10],
        ["log.shorter", "south", 10],
      ]);
      await evidence.acceptRestore({ by: "sue", reason: "a test", atMs: Date.now() });
      expect(await evidence.verify()).toMatchObject({ ok: true, restores: [{ by: "sue" }] });
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
});
