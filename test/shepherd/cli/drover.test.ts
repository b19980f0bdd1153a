/** The drover command against a whole shepherd: what it prints, and the exit code that a script sees. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { runCommand } from "@drover/shepherd/cli/main";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { minimalQcow2 } from "../api/qcow2-file.ts";
import { declareRing, type Running, run } from "../api/shepherd.ts";

let running: Running;
beforeAll(async () => {
  running = await run();
  await declareRing(running, 2);
});
afterAll(async () => {
  await running.end();
});

async function drover(...argv: string[]): Promise<{ code: number; out: string; err: string }> {
  let out = "";
  let err = "";
  const remote = !["lab", "shepherd", "--help", "nonsense"].includes(argv[0] ?? "");
  const code = await runCommand([...argv, ...(remote ? ["--endpoint", running.endpoint] : [])], {
    out: (text) => {
      out += text;
    },
    err: (text) => {
      err += text;
    },
  });
  return { code, out, err };
}

test("status fits a terminal and shows where everything is", async () => {
  const { code, out } = await drover("status");
  expect(code).toBe(0);
  expect(out).toMatch(/ring\/rank-0 +running +north-\d/);
  expect(Math.max(...out.split("\n").map((line) => line.length))).toBeLessThanOrEqual(100);
});

test("status --json is the API's answer", async () => {
  const { out } = await drover("status", "--json");
  expect(JSON.parse(out)).toMatchObject({ world: "simulated", environments: [{ name: "ring" }] });
});

test("a granted resize waits until it is done; explain tells its story", async () => {
  const { code, out, err } = await drover(
    "resize",
    "ring/rank-0",
    "--cpu-percent",
    "60",
    "--memory-mib",
    "320",
    "--for",
    "1h",
    "--reason",
    "test",
    "--json",
  );
  expect([code, err]).toEqual([0, expect.stringContaining("100 %")]);
  const answer = JSON.parse(out);
  expect(answer).toMatchObject({ verdict: "granted", outcome: { state: "succeeded" } });
  const story = await drover("explain", answer.decision);
  expect(story.out).toContain("asked for resize in ring");
});

test("a denied one says why in its own line and exits with 3", async () => {
  const { code, out } = await drover("resize", "ring/rank-0", "--cpu-percent", "6400");
  expect(code).toBe(3);
  expect(out).toMatch(/^denied: /);
  expect(out).toMatch(/why: {3}envelope .*nearest allowed: cpu_percent = 60/);
});

test("a whole group at once, as a dry run, changes nothing", async () => {
  const { code, out } = await drover(
    "resize",
    "ring/rank",
    "--group",
    "--cpu-percent",
    "40",
    "--dry-run",
  );
  expect(code).toBe(0);
  expect(out).toMatch(/^would be granted/);
});

test("hold, what it does, and lifting it", async () => {
  expect((await drover("hold", "--reason", "maintenance", "--for", "1h")).code).toBe(0);
  expect(await drover("resize", "ring/rank-1", "--cpu-percent", "40")).toMatchObject({
    code: 3,
    out: expect.stringContaining("maintenance"),
  });
  expect((await drover("hold", "--lift")).out).toContain("nothing is held");
  expect((await drover("hold")).code).toBe(2);
});

test("adaptations pull writes what the shepherd writes", async () => {
  const { code } = await drover(
    "adaptations",
    "pull",
    "--environment",
    "ring",
    "--to",
    running.folder,
  );
  expect(code).toBe(0);
  expect(JSON.parse(readFileSync(join(running.folder, "adaptations.json"), "utf8"))).toMatchObject([
    { environment: "ring", machine: "rank-0", memory_mib: 320 },
  ]);
});

test("image push sends once, declares, and refuses what is no image", async () => {
  const file = join(running.folder, "disk.qcow2");
  writeFileSync(file, minimalQcow2({ virtualBytes: 2 ** 26 }));
  const pushed = await drover("image", "push", file, "--name", "disk", "--json");
  expect(JSON.parse(pushed.out)).toMatchObject({ image: { name: "disk", virtual_bytes: 2 ** 26 } });
  expect((await drover("image", "push", file)).err).toContain("already at the shepherd");
  writeFileSync(file, "not an image");
  expect(await drover("image", "push", file, "--name", "other")).toMatchObject({
    code: 1,
    err: expect.stringMatching(
      /^error: .*no usable qcow2.*\n(.*\n)*next: .*\ncode: {2}image\.not_qcow2\n$/,
    ),
  });
});

test("log verify, operations and tokens", async () => {
  expect((await drover("log", "verify")).out).toMatch(/^ok: \d+ entries/);
  const accepted = await drover("log", "accept-restore", "--reason", "a test");
  expect([accepted.code, accepted.err]).toEqual([
    3,
    expect.stringContaining("local-root has the role local-root"),
  ]);
  expect((await drover("operations", "list", "--all")).out).toContain("succeeded");
  expect((await drover("token", "create", "--name", "ci", "--role", "stack")).out).toMatch(
    /^DROVER_TOKEN=drover_/,
  );
  expect((await drover("token", "create", "--name", "ci", "--role", "king")).code).toBe(2);
  expect((await drover("token", "list")).out).toContain("ci");
});

test("a missing shepherd is exit 75 and says where it was looked for", async () => {
  let err = "";
  const code = await runCommand(["status", "--endpoint", "unix:/nonexistent/x.sock"], {
    out: () => undefined,
    err: (text) => {
      err += text;
    },
  });
  expect([code, err]).toEqual([75, expect.stringContaining("where: unix:/nonexistent/x.sock")]);
});

test("a wrong configuration names the line", async () => {
  const file = join(running.folder, "wrong.yaml");
  writeFileSync(file, "world: simulated\nsites:\n  - idd: north\n");
  const { code, err } = await drover("shepherd", "--config", file, "--check");
  expect(code).toBe(1);
  expect(err).toContain(`${file}:3: unknown key idd in sites[0]; did you mean id?`);
});

test.each(["--help", "resize --help", "lab up --help", "image push --help"])(
  "drover %s explains itself",
  async (line) => {
    const { code, out } = await drover(...line.split(" "));
    expect(code).toBe(0);
    expect(out).toContain("Usage: drover");
  },
);

test("an unknown command is exit 2 and offers help", async () => {
  expect(await drover("nonsense")).toMatchObject({
    code: 2,
    err: expect.stringContaining("--help"),
  });
});

test("a move that is under way is pending (4), can be cancelled, and leaves the machine where it was", async () => {
  const slow = await run("", { copyMbps: 100 });
  try {
    const { machines } = await declareRing(slow, 1);
    const before = machines[0]?.effective.host;
    const at = ["--endpoint", slow.endpoint, "--json"];
    const command = async (...argv: string[]) => {
      let out = "";
      const code = await runCommand([...argv, ...at], {
        out: (text) => {
          out += text;
        },
        err: () => undefined,
      });
      return { code, answer: JSON.parse(out) };
    };
    const asked = await command("move", "ring/rank-0", "--to", "south", "--no-wait");
    expect([asked.code, asked.answer.verdict]).toEqual([4, "pending"]);
    const { operation } = asked.answer;
    expect((await command("operations", "cancel", operation)).code).toBe(0);
    const ended = await command("operations", "wait", operation);
    expect([ended.code, ended.answer.state]).toEqual([1, "cancelled"]);
    const { answer } = await command("status");
    expect(answer.environments[0].machines[0].effective).toMatchObject({
      host: before,
      state: "running",
    });
    expect(slow.world.violations).toEqual([]);
  } finally {
    await slow.end();
  }
});
