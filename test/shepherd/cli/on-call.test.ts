/** What an operator on call types while things are under way: one operation, a question, a hold. Simulated sites, slow wires. */
import { runCommand } from "@drover/shepherd/cli/main";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { speakTo } from "../../simulation/shepherd.ts";
import { declareRing, need, type Running, run } from "../api/shepherd.ts";

let running: Running;
let machineId = "";
beforeEach(async () => {
  // A move takes long enough to be looked at, and as long as the test wants: its end is never waited for by time.
  running = await run("", { copyMbps: 16 });
  const { machines } = await declareRing(running, 1);
  machineId = need(machines[0]).id;
}, 180_000);
afterEach(async () => await running.end());

async function drover(...argv: string[]): Promise<{ code: number; out: string }> {
  let out = "";
  const write = (text: string) => {
    out += text;
  };
  const code = await runCommand([...argv, "--endpoint", running.endpoint], {
    out: write,
    err: write,
  });
  return { code, out };
}
async function until<T>(what: () => Promise<T | undefined>): Promise<T> {
  for (;;) {
    const found = await what();
    if (found !== undefined) return found;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
/** A move to south, in its copy. */
async function moving(): Promise<string> {
  const ordered = await drover("move", "ring/rank-0", "--to", "south", "--no-wait", "--json");
  const id = String((JSON.parse(ordered.out) as Record<string, unknown>)["operation"]);
  return await until(async () => {
    const { out } = await drover("operation", id);
    return /now +doing rank-0: copy and switch/.test(out) ? id : undefined;
  });
}
const guest = () => speakTo(need(running.world.guestPort(machineId)).guest);

test("an operation under way: phase, percent, rate, time left, what comes next, prediction, what recovery would do", async () => {
  const id = await moving();
  const { code, out } = await drover("operation", id);
  expect(code).toBe(4);
  expect(out).toMatch(new RegExp(`^adapt ${id}: running, \\d+ % after `));
  expect(out).toMatch(/\nnow +doing rank-0: copy and switch/);
  expect(out).toMatch(/\nnext +rank-0: /);
  expect(out).toMatch(/\npredicted +.*MiB/);
  expect(out).toMatch(/\nrecovery +the hosts are asked about "rank-0: copy and switch/);
  // The whole table stands there: what was done, what is done, what is to come.
  expect(out).toMatch(/\n +\d+ done +rank-0: /);
  expect(out).toMatch(/\n +\d+ pending +rank-0: /);
  // How fast it goes, and how long that takes: once there is something to reckon from.
  await until(async () => {
    const shown = (await drover("operation", id)).out;
    return /\nnow .*MiB\/s/.test(shown) && /\ntime left +about \d/.test(shown) ? true : undefined;
  });
  // Whoever watches sees it come, go on and go, and leaves with an interrupt.
  let seen = "";
  const write = (text: string) => {
    seen += text;
  };
  const argv = ["operations", "--watch", "--endpoint", running.endpoint];
  const watching = runCommand(argv, { out: write, err: write });
  await until(async () => (seen.includes(id) ? true : undefined));
  expect((await drover("operations")).out).toContain(id);
  await drover("operations", "cancel", id);
  await until(async () => (seen.endsWith("nothing runs\n\n") ? true : undefined));
  process.emit("SIGINT");
  expect(await watching).toBe(0);
}, 180_000);

test("a question that only a person can answer, with the commands; it goes on when it is answered", async () => {
  const id = await moving();
  running.world.powerCycle("north-1");
  running.world.powerCycle("north-2");
  const asked = await until(async () => {
    const { code, out } = await drover("stuck");
    return code === 0 ? undefined : out;
  });
  expect(asked).toContain(`adapt ${id}, since `);
  expect(asked).toMatch(/rank-0 .*\?/);
  expect(asked).toMatch(/\n {2}\$ ssh \S+ virsh /);
  expect(asked).toContain(`$ drover stuck retry ${id}`);
  expect((await drover("operation", id)).out).toMatch(/: stuck, /);
  // The commands' own words: somebody starts the machine where it was.
  const home = Object.values(running.world.data.hosts).find(({ domains }) => domains[machineId]);
  const domain = need(home?.domains[machineId]);
  Object.assign(domain, { state: "running", job: "none" });
  await drover("stuck", "retry", id);
  await until(async () => ((await drover("stuck")).code === 0 ? true : undefined));
}, 180_000);

test("once hold has answered nothing adapts any more; it says who and why, and a restart keeps it", async () => {
  const held = await drover("hold", "--reason", "fire drill", "--for", "1h");
  expect(held.code).toBe(0);
  let asks = 0;
  const ask = (method = "resize") =>
    guest().ask(method, method === "resize" ? { memory_mib: 320 } : {}, `ask-${(asks += 1)}`);
  const denied = {
    verdict: "denied",
    code: "hold.active",
    message: expect.stringContaining("fire drill"),
  };
  // Not after a while: the very next ask, and the same after a restart.
  expect(await ask()).toMatchObject(denied);
  expect((await drover("status")).out).toMatch(/hold.*fire drill/i);
  running = await running.restart();
  await until(async () => (await drover("status")).out.includes("running") || undefined);
  expect(await ask()).toMatchObject(denied);
  // Giving back and what people ask of the shepherd go on.
  expect(await ask("release")).toMatchObject({ verdict: "granted" });
  expect((await drover("hold", "--lift")).code).toBe(0);
  expect(await ask()).toMatchObject({ verdict: "granted" });
}, 180_000);
