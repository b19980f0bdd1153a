import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { toFaultData } from "@drover/shepherd/model/fault";
import { runOk } from "@drover/shepherd/shell/shell";
import { createSshShell, type SshShell, type SshTarget } from "@drover/shepherd/shell/ssh";
import { afterEach, describe, expect, test } from "@jest/globals";
import { newKey, startSshServer, type TestSshServer } from "./ssh-server.ts";

const hostKey = newKey();
const userKey = newKey();
const ends: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

async function server(key = hostKey, port?: number): Promise<TestSshServer> {
  const started = await startSshServer({
    hostKey: key,
    userKey,
    ...(port === undefined ? {} : { port }),
  });
  ends.push(() => started.stop());
  return started;
}
function shell(port: number, target: Partial<SshTarget> = {}): SshShell {
  const made = createSshShell({
    hostId: "north-1",
    target: {
      address: "127.0.0.1",
      port,
      user: "root",
      privateKey: userKey.private,
      hostKey: hostKey.public,
      ...target,
    },
  });
  ends.push(() => made.close());
  return made;
}
/** The fault that the work ends with, as data without its causes. */
async function faultOf(work: Promise<unknown>): Promise<unknown> {
  try {
    return { unexpected: await work };
  } catch (error) {
    const { code, details } = toFaultData(error);
    return { code, details };
  }
}

describe("a command", () => {
  test("gives its exit code, both outputs and gets its input", async () => {
    const { port } = await server();
    const host = shell(port);
    expect(
      await host.run(["sh", "-c", "cat; echo to-stderr >&2; exit 7"], { input: "hello $(id)\n" }),
    ).toEqual({ exitCode: 7, stdout: "hello $(id)\n", stderr: "to-stderr\n" });
    expect(await host.run(["echo", "$HOME; `id`", "'"])).toEqual({
      exitCode: 0,
      stdout: "$HOME; `id` '\n",
      stderr: "",
    });
  });

  test("carries megabytes in both directions whole", async () => {
    const { port } = await server();
    const text = "line of a batch\n".repeat(200_000);
    const result = await shell(port).run(["cat"], { input: text });
    expect(result.exitCode).toBe(0);
    expect(result.stdout === text).toBe(true);
  });

  test("that must succeed and does not is shell.exit with its last words", async () => {
    const { port } = await server();
    expect(
      await faultOf(runOk(shell(port), ["sh", "-c", "echo no such thing >&2; exit 3"])),
    ).toEqual({
      code: "shell.exit",
      details: {
        host: "north-1",
        command: "sh -c 'echo no such thing >&2; exit 3'",
        exitCode: 3,
        problem: "no such thing",
      },
    });
  });

  test("that does not end in time is killed and told, and the shell goes on", async () => {
    const { port } = await server();
    const host = shell(port);
    expect(await faultOf(host.run(["sleep", "4"], { timeoutMs: 100 }))).toEqual({
      code: "shell.timeout",
      details: { host: "north-1", command: "sleep 4", timeoutMs: 100 },
    });
    expect((await host.run(["echo", "still here"])).stdout).toBe("still here\n");
  });

  test("waits when as many run as sshd allows beside others; all go over one connection", async () => {
    const started = await server();
    const host = shell(started.port);
    const results = await Promise.all(
      Array.from({ length: 30 }, (_, index) => host.run(["sh", "-c", `sleep 0.02; echo ${index}`])),
    );
    expect(results.map((result) => result.stdout.trim())).toEqual(
      Array.from({ length: 30 }, (_, index) => String(index)),
    );
    expect(started.mostAtOnce()).toBeLessThanOrEqual(7);
    expect(started.connections()).toBe(1);
  });
});

describe("a script", () => {
  test("gives its exit code and both outputs, also empty and unfinished lines", async () => {
    const { port } = await server();
    const host = shell(port);
    expect(
      await host.script("cat <<'END'\n$(id) '\nEND\nprintf no-newline; echo bad >&2; exit 9"),
    ).toEqual({
      exitCode: 9,
      stdout: "$(id) '\nno-newline",
      stderr: "bad\n",
    });
    expect(await host.script("")).toEqual({ exitCode: 0, stdout: "", stderr: "" });
    expect(await host.script("x=1; cd /tmp; exec 1>&2; exit")).toMatchObject({ exitCode: 0 });
    expect((await host.script('echo "x=$x $PWD"')).stdout).not.toBe("x= /tmp\n");
  });

  test("of megabytes, and an answer of megabytes, arrive whole", async () => {
    const { port } = await server();
    const body = "line of a batch ä\n".repeat(100_000);
    const result = await shell(port).script(`cat <<'END'\n${body}END\n`);
    expect(result.exitCode).toBe(0);
    expect(result.stdout === body).toBe(true);
  });

  test("runs in the order of the calls, all in one session", async () => {
    const started = await server();
    const host = shell(started.port);
    const folder = mkdtempSync(join(tmpdir(), "drover-ssh-"));
    ends.push(() => rmSync(folder, { recursive: true }));
    const results = await Promise.all(
      Array.from({ length: 10 }, (_, index) =>
        host.script(`echo ${index} >> ${folder}/order; cat ${folder}/order`),
      ),
    );
    expect(results.at(-1)?.stdout).toBe("0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n");
    expect(started.mostAtOnce()).toBe(1);
  });

  test("that does not end in time, or kills its session, is told, and the next one runs", async () => {
    const { port } = await server();
    const host = shell(port);
    expect(await faultOf(host.script("sleep 4", { timeoutMs: 100 }))).toEqual({
      code: "shell.timeout",
      details: { host: "north-1", command: "a script", timeoutMs: 100 },
    });
    expect((await host.script("echo next")).stdout).toBe("next\n");
    expect(await faultOf(host.script("kill -9 $(ps -o ppid= -p $PPID)"))).toMatchObject({
      code: "host.unreachable",
    });
    expect((await host.script("echo after")).stdout).toBe("after\n");
  });

  test("on a connection that is cut is told; the next one reconnects", async () => {
    const started = await server();
    const host = shell(started.port);
    await host.script("true");
    const running = faultOf(host.script("sleep 4"));
    await new Promise((resolve) => setTimeout(resolve, 50));
    started.cut();
    expect(await running).toMatchObject({ code: "host.unreachable" });
    expect((await host.script("echo again")).stdout).toBe("again\n");
  });
});

describe("a host", () => {
  test("with another key is refused before anything is sent, and named", async () => {
    const { port } = await server(newKey());
    const fault = await faultOf(shell(port).run(["true"]));
    expect(fault).toMatchObject({
      code: "host.key_mismatch",
      details: {
        host: "north-1",
        expected: expect.stringMatching(/^SHA256:/),
        shown: expect.stringMatching(/^SHA256:/),
      },
    });
  });

  test("that does not know our key refuses the login", async () => {
    const { port } = await server();
    expect(await faultOf(shell(port, { privateKey: newKey().private }).run(["true"]))).toEqual({
      code: "host.login_refused",
      details: { host: "north-1", user: "root" },
    });
  });

  test("that is down is unreachable, is not asked again at once, and comes back by itself", async () => {
    const first = await server();
    const { port } = first;
    await first.stop();
    const host = shell(port);
    const refused = await faultOf(host.run(["true"]));
    expect(refused).toMatchObject({ code: "host.unreachable" });
    const second = await server(hostKey, port);
    expect(await faultOf(host.run(["true"]))).toEqual(refused);
    for (let attempt = 0; second.connections() === 0 && attempt < 100; attempt += 1) {
      await host.run(["true"]).catch(() => new Promise((resolve) => setTimeout(resolve, 20)));
    }
    expect((await host.run(["echo", "back"])).stdout).toBe("back\n");
  });

  test("that cuts the connection in a command: told as unreachable, the next command reconnects", async () => {
    const started = await server();
    const host = shell(started.port);
    const running = faultOf(host.run(["sleep", "4"]));
    while (started.mostAtOnce() === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    started.cut();
    expect(await running).toMatchObject({ code: "host.unreachable" });
    expect((await host.run(["echo", "again"])).stdout).toBe("again\n");
    expect(started.connections()).toBe(2);
  });

  test("behind a jump host is reached through it, both keys verified", async () => {
    const jump = await server(newKey());
    const inner = await server();
    const through = (jumpKey: string) =>
      shell(inner.port, {
        jump: {
          address: "127.0.0.1",
          port: jump.port,
          user: "root",
          privateKey: userKey.private,
          hostKey: jumpKey,
        },
      });
    expect((await through(jump.hostKey).run(["echo", "inside"])).stdout).toBe("inside\n");
    expect(await faultOf(through(newKey().public).run(["true"]))).toMatchObject({
      code: "host.key_mismatch",
    });
  });

  test("that was closed by us stays closed", async () => {
    const { port } = await server();
    const host = shell(port);
    await host.run(["true"]);
    await host.close();
    expect(await faultOf(host.run(["true"]))).toMatchObject({ code: "host.unreachable" });
  });
});

test("a host key that is none is met at once", () => {
  expect(() => shell(1, { hostKey: "ssh-ed25519 nonsense" })).toThrow(/known_hosts/);
});

describe("a stream to a unix socket", () => {
  test("carries bytes both ways beside commands; a socket that is not there is told", async () => {
    const folder = mkdtempSync(join(tmpdir(), "drover-ssh-"));
    ends.push(() => rmSync(folder, { recursive: true }));
    const path = join(folder, "echo.sock");
    const echo = createServer((socket) => socket.pipe(socket));
    await new Promise<void>((resolve) => echo.listen(path, resolve));
    ends.push(() => new Promise((resolve) => echo.close(() => resolve())));

    const { port } = await server();
    const host = shell(port);
    const stream = await host.openStream(path);
    const received: Buffer[] = [];
    const sent = Buffer.alloc(300_000, "streamlocal ");
    const done = new Promise((resolve) => stream.on("end", resolve));
    stream.on("data", (chunk: Buffer) => received.push(chunk));
    stream.end(sent);
    expect((await host.run(["echo", "beside"])).stdout).toBe("beside\n");
    await done;
    expect(Buffer.concat(received).equals(sent)).toBe(true);
    expect(await faultOf(host.openStream(join(folder, "none.sock")))).toMatchObject({
      code: "host.unreachable",
    });
  });
});
