/** The SSH shell on real sshd: what a server in a test's own process cannot show. */
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import {
  readConfiguration,
  type SshConfiguration,
} from "@drover/shepherd/configuration/configuration";
import { down, up } from "@drover/shepherd/lab/lab";
import { createSshShell, type SshShell } from "@drover/shepherd/shell/ssh";
import { afterAll, beforeAll, expect, jest, test } from "@jest/globals";

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
