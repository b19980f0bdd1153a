/**
 * The guest's script under real shells, against a peer of our own on a pseudo terminal: what it sends, what it prints
 * for every verdict, its exit codes, and that it asks again by the same id. The real port is the lab's test.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";

const script = join(import.meta.dirname, "../../../../shepherd/intake/guest/drover-guest");

interface Asked {
  readonly id: string;
  readonly method: string;
  readonly params: Record<string, unknown>;
}

/** The shepherd's end of the line: util-linux' `script` holds a pseudo terminal whose other side is our pipes. */
class Peer {
  readonly asked: Asked[] = [];
  #text = "";
  #answer: (asked: Asked, number: number) => readonly unknown[] = () => [];
  readonly #child: ChildProcess;
  readonly #nameFile: string;

  constructor(folder: string) {
    this.#nameFile = join(folder, "tty");
    this.#child = spawn(
      "script",
      [
        "-qfec",
        `stty raw -echo; tty >${this.#nameFile}.new; mv ${this.#nameFile}.new ${this.#nameFile}; exec sleep 60`,
        "/dev/null",
      ],
      {
        stdio: ["pipe", "pipe", "ignore"],
      },
    );
    this.#child.stdout?.on("data", (chunk: Buffer) => this.#take(chunk.toString()));
  }

  /** What to answer to the n-th message, from 0; strings are written as they are. */
  answers(answer: (asked: Asked, number: number) => readonly unknown[]): void {
    this.#answer = answer;
  }

  async port(): Promise<string> {
    while (!existsSync(this.#nameFile)) await sleep(10);
    return readFileSync(this.#nameFile, "utf8").trim();
  }

  end(): void {
    this.#child.kill("SIGKILL");
  }

  #take(text: string): void {
    this.#text += text;
    for (let end = this.#text.indexOf("\n"); end >= 0; end = this.#text.indexOf("\n")) {
      const asked = JSON.parse(this.#text.slice(0, end)) as Asked;
      this.#text = this.#text.slice(end + 1);
      this.asked.push(asked);
      for (const message of this.#answer(asked, this.asked.length - 1)) {
        this.#child.stdin?.write(
          typeof message === "string" ? message : `${JSON.stringify(message)}\n`,
        );
      }
    }
  }
}

let folder: string;
let peer: Peer;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "drover-guest-"));
  peer = new Peer(folder);
});
afterEach(() => {
  peer.end();
  rmSync(folder, { recursive: true, force: true });
});

async function ask(
  shell: readonly string[],
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
): Promise<{ code: number; out: string; err: string }> {
  const [command = "sh", ...rest] = shell;
  const child = spawn(command, [...rest, script, ...args], {
    env: {
      ...process.env,
      TZ: "UTC",
      DROVER_GUEST_PORT: await peer.port(),
      DROVER_GUEST_LOCK: join(folder, "lock"),
      ...env,
    },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let out = "";
  let err = "";
  child.stdout.on("data", (chunk: Buffer) => {
    out += chunk.toString();
  });
  child.stderr.on("data", (chunk: Buffer) => {
    err += chunk.toString();
  });
  const code = await new Promise<number>((resolve) => {
    child.on("close", (ended) => resolve(ended ?? -1));
  });
  return { code, out, err };
}

const result = (asked: Asked, value: object) => ({ jsonrpc: "2.0", id: asked.id, result: value });
const failure = (asked: Asked, error: object) => ({ jsonrpc: "2.0", id: asked.id, error });
const ash = ["busybox", "sh"];

describe.each([
  ["busybox ash", ash],
  ["dash", ["dash"]],
  ["bash", ["bash"]],
])("under %s", (_name, shell) => {
  test("a resize is sent as the protocol says, and its grant is told with times and sizes", async () => {
    peer.answers((asked) => [
      result(asked, {
        verdict: "granted",
        code: "granted",
        message: "60 % of a core, 800 MiB",
        decision: "0192f",
        granted: { cpu_percent: 60, memory_mib: 800 },
        lease_until_ms: 4102455845000,
        in_force_after_ms: 410,
      }),
    ]);
    const told = await ask(shell, [
      "resize",
      "--cpu-percent",
      "60",
      "--memory-mib=800",
      "--for",
      "1h",
      "--reason",
      'say "lanczos"\u001b[31m \\ end',
      "--id",
      "7",
    ]);
    expect(told).toEqual({
      code: 0,
      out: "granted until 2100-01-01 03:04:05 (decision 0192f): 60 % of a core, 800 MiB; in force after 0.41 s\n",
      err: "",
    });
    expect(peer.asked).toEqual([
      {
        jsonrpc: "2.0",
        id: "7",
        method: "resize",
        params: {
          cpu_percent: 60,
          memory_mib: 800,
          lease_s: 3600,
          reason: 'say "lanczos" [31m \\ end',
        },
      },
    ]);
  });

  test("the clock is set by the shepherd's, and told how far off it was", async () => {
    // The clock of this machine is not ours to set: `date` sets the shift of a clock of its own.
    const shift = join(folder, "shift");
    writeFileSync(shift, "-7300");
    const date = `#!/bin/bash
now=$(/bin/date +%s%3N)
case $1 in
+%s%N) echo "$((now + $(cat ${shift})))000000" ;;
-s) echo $((\${2#@} * 1000 - now)) >${shift} ;;
esac`;
    const program = join(folder, "date");
    writeFileSync(program, date, { mode: 0o755 });
    peer.answers((asked) => [result(asked, { protocol: 1, now_ms: Date.now() })]);
    const told = await ask(shell, ["clock"], { DROVER_GUEST_DATE: program });
    expect([told.code, told.err]).toEqual([0, ""]);
    const [, was = "", is = ""] =
      /^clock: was off by (-?\d+) ms .*, now by (-?\d+) ms/.exec(told.out) ?? [];
    expect(Math.abs(Number(was) + 7_300)).toBeLessThan(2_000);
    expect(Math.abs(Number(is))).toBeLessThan(2_000);
    expect(Math.abs(Number(readFileSync(shift, "utf8")))).toBeLessThan(2_000);
    expect(new Set(peer.asked.map(({ method }) => method))).toEqual(new Set(["status"]));
  });

  test("a denial is told with its rule and the nearest that would pass", async () => {
    peer.answers((asked) => [
      result(asked, {
        verdict: "denied",
        code: "policy.denied",
        rule: "envelope",
        message: "6400 % is above this machine's 60 %",
        nearest: { cpu_percent: 60 },
      }),
    ]);
    expect(await ask(shell, ["resize", "--cpu-percent", "6400"])).toEqual({
      code: 3,
      out: "denied: envelope: 6400 % is above this machine's 60 %. Nearest allowed: 60\n",
      err: "",
    });
  });

  test("pending work is followed by its progress to its end", async () => {
    peer.answers((asked) => [
      "garbage{\n",
      { jsonrpc: "2.0", id: "another", result: { verdict: "denied" } },
      result(asked, {
        verdict: "pending",
        code: "operation.running",
        message: "moving to south",
        operation: "o1",
      }),
      {
        jsonrpc: "2.0",
        method: "progress",
        params: { id: asked.id, operation: "o1", message: "copying the disk", percent: 43 },
      },
      {
        jsonrpc: "2.0",
        method: "progress",
        params: {
          id: asked.id,
          operation: "o1",
          message: "done",
          percent: 100,
          final: true,
          result: {
            verdict: "partial",
            granted: { site: "south" },
            message: "moved, not resized",
            code: "partial",
          },
        },
      },
    ]);
    expect(await ask(shell, ["move", "--to", "south"])).toEqual({
      code: 5,
      out: "partial: at south: moved, not resized\n",
      err: "pending: moving to south\n  copying the disk (43 %)\n  done (100 %)\n",
    });
  });
});

test("silence is answered by the same line again, under the same id", async () => {
  peer.answers((asked, number) =>
    number === 0
      ? []
      : [result(asked, { verdict: "granted", message: "given back", code: "granted" })],
  );
  expect(await ask(ash, ["release"])).toEqual({ code: 0, out: "granted: given back\n", err: "" });
  expect(peer.asked).toHaveLength(2);
  expect(peer.asked[1]).toEqual(peer.asked[0]);
});

test("too many requests: it waits as told and asks again", async () => {
  peer.answers((asked, number) =>
    number === 0
      ? [
          failure(asked, {
            code: -32002,
            message: "too many requests",
            data: { retry_after_ms: 300 },
          }),
        ]
      : [result(asked, { verdict: "granted", message: "ok", code: "granted" })],
  );
  expect((await ask(ash, ["release"])).code).toBe(0);
  expect(peer.asked.map((asked) => asked.id)).toEqual([peer.asked[0]?.id, peer.asked[0]?.id]);
});

test("work that does not end in time is pending, with the id to ask again by", async () => {
  peer.answers((asked) => [
    result(asked, {
      verdict: "pending",
      message: "waiting for a person",
      code: "policy.approval_needed",
    }),
  ]);
  expect(await ask(ash, ["resize", "--vcpus", "2", "--wait", "2", "--id", "x1"])).toEqual({
    code: 4,
    out: "pending: waiting for a person; ask again with --id x1\n",
    err: "pending: waiting for a person\n",
  });
});

test("nobody outside: 75, within the time that was given", async () => {
  expect(await ask(ash, ["status", "--wait", "1"])).toEqual({
    code: 75,
    out: "",
    err: expect.stringMatching(
      /^drover-guest: no shepherd answers: \/dev\/pts\/\d+ stayed silent for 1 s\n$/,
    ),
  });
});

test("an error names the parameter and is wrong use", async () => {
  peer.answers((asked) => [
    failure(asked, {
      code: -32602,
      message: "invalid params",
      data: { path: "params.memory_mib", problem: "must be at least 1" },
    }),
  ]);
  expect(await ask(ash, ["resize", "--memory-mib", "0"])).toEqual({
    code: 64,
    out: "",
    err: "drover-guest: invalid params at params.memory_mib: must be at least 1\n",
  });
});

test("a group's answer has a line for each machine; status tells baseline and lease", async () => {
  peer.answers((asked) =>
    asked.method === "status"
      ? [
          result(asked, {
            protocol: 1,
            environment: "ring",
            machine: "rank-0",
            site: "north",
            effective: { vcpus: 1, cpu_percent: 60, memory_mib: 320 },
            baseline: { vcpus: 1, cpu_percent: 20, memory_mib: 256 },
            lease_until_ms: null,
          }),
        ]
      : [
          result(asked, {
            verdict: "granted",
            code: "granted",
            message: "2 machines",
            machines: [
              {
                machine: "rank-0",
                verdict: "granted",
                granted: { cpu_percent: 60 },
                message: null,
              },
              { machine: "rank-1", verdict: "granted", granted: { cpu_percent: 60 } },
            ],
          }),
        ],
  );
  expect((await ask(ash, ["resize", "--group", "rank", "--cpu-percent", "60"])).out).toBe(
    "granted: 2 machines\n  rank-0: granted: 60 % of a core\n  rank-1: granted: 60 % of a core\n",
  );
  expect(peer.asked[0]?.params).toEqual({ group: "rank", cpu_percent: 60 });
  expect((await ask(ash, ["status"])).out).toBe(
    "rank-0 of ring at north: 1 vCPUs, 60 % of a core, 320 MiB\n  baseline: 1 vCPUs, 20 % of a core, 256 MiB\n",
  );
});

test("escape sequences in an answer do not reach the terminal", async () => {
  peer.answers((asked) => [
    `{"jsonrpc":"2.0","id":"${asked.id}","result":{"verdict":"denied","code":"x","message":"\\u001b[2Jgone \u001b[31mred\\n"}}\n`,
  ]);
  const { out } = await ask(ash, ["release"]);
  expect(out).toMatch(/^denied: [ -~]+\n$/);
});

test.each([
  ["an unknown command", ["grow"]],
  ["an unknown option", ["resize", "--cpus", "2"]],
  ["an option of another command", ["status", "--cpu-percent", "2"]],
  ["a number with a unit", ["resize", "--memory-mib", "800M"]],
  ["a negative number", ["resize", "--vcpus", "-1"]],
  ["a time without a unit", ["resize", "--vcpus", "1", "--for", "3600"]],
  ["an option without its value", ["resize", "--vcpus"]],
  ["an id that is not the protocol's", ["release", "--id", 'a"b']],
])("refuses %s before it says anything", async (_what, args) => {
  expect((await ask(ash, args)).code).toBe(64);
  expect(peer.asked).toEqual([]);
});

test.each([
  [["scale", "--group", "rank", "--machines", "6"], { group: "rank", machines: 6 }],
  [["rate", "--to", "rank-1", "--rate-mbps", "200"], { peer: "rank-1", rate_mbps: 200 }],
  [
    ["topology", "--link", "a,b=100", "--link", "b,c=50"],
    {
      links: [
        { machines: ["a", "b"], rate_mbps: 100 },
        { machines: ["b", "c"], rate_mbps: 50 },
      ],
    },
  ],
  [["topology"], { links: [] }],
  [
    ["topology", "--group", "rank", "--link", "a,b=1"],
    { group: "rank", links: [{ machines: ["a", "b"], rate_mbps: 1 }] },
  ],
  [
    ["forecast", "--phase", "lanczos", "--in", "10m", "--for", "2h", "--cpu-percent", "60"],
    { phase: "lanczos", in_s: 600, for_s: 7200, cpu_percent: 60 },
  ],
])("%j sends its parameters", async (args, params) => {
  peer.answers((asked) => [result(asked, { verdict: "denied", code: "x", message: "no" })]);
  await ask(ash, args);
  expect(peer.asked.map((asked) => asked.params)).toEqual([params]);
});
