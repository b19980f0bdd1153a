/** Terraform is interrupted or killed in the middle of an apply: the shepherd goes on, the next apply continues. */
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { until } from "../../lab/story/process.ts";
import type { Terraform } from "../../lab/story/terraform.ts";
import { Bench } from "./bench.ts";

let bench: Bench;
beforeAll(async () => {
  bench = await Bench.raise({ speed: 1 }); // slow enough to be caught in the middle
}, 60_000);
afterAll(() => bench?.clear(), 60_000);

const one = (name: string, site: string) => `
resource "drover_image" "base" {
  name   = "${name}"
  source = "${bench.image.path}"
  sha256 = "${bench.image.sha256}"
}
resource "drover_environment" "it" {
  name  = "${name}"
  class = "batch"
  sites = ["north", "south"]
}
resource "drover_machine" "m" {
  environment_id = drover_environment.it.id
  name           = "m"
  image_id       = drover_image.base.id
  site           = "${site}"
  networks       = []
  adaptation     = { sites = ["north", "south"] }
}
`;
interface Running {
  readonly id: string;
  readonly kind: string;
  readonly state: string;
}
async function operations(): Promise<readonly Running[]> {
  return (await bench.client.get<{ items: Running[] }>("/v1/operations")).items;
}
const active = (operation: Running) => ["pending", "running", "undoing"].includes(operation.state);

/** Starts an apply, does `act` to its process once an operation of this kind runs, and waits for its end. */
async function applyAnd(stack: Terraform, kind: string, act: "SIGINT" | "SIGKILL") {
  let pid = 0;
  const finished = stack.run(["apply", "-auto-approve"], {
    onStart: (child) => {
      pid = child.pid ?? 0;
    },
  });
  const operation = await until(
    `an operation to ${kind}`,
    20_000,
    async () => (await operations()).find((one) => one.kind === kind && active(one)),
    20,
  );
  process.kill(act === "SIGINT" ? -pid : pid, act); // Ctrl-C reaches the whole group
  return { finished: await finished, operation };
}

test.each(["SIGINT", "SIGKILL"] as const)(
  "%s in the middle of a create: one machine, one operation, and the next apply finishes",
  async (signal) => {
    const name = signal.toLowerCase();
    const stack = await bench.stack(name, one(name, "north"));
    const { finished, operation } = await applyAnd(stack, "create", signal);
    expect(finished.code).not.toBe(0);
    if (signal === "SIGINT") expect(finished.stderr).toMatch(/goes on at the shepherd/);
    await stack.must(["apply", "-auto-approve", "-lock=false"]);
    expect((await stack.plan(["-lock=false"])).code).toBe(0);
    const creates = (await operations()).filter((one) => one.kind === "create");
    expect(creates.filter(({ id }) => id >= operation.id).map(({ id }) => id)).toEqual([
      operation.id,
    ]);
    await stack.must(["destroy", "-auto-approve", "-lock=false"]);
  },
  90_000,
);

test("Ctrl-C in the middle of a move: it ends at the shepherd, and the next plan is empty or finishes it", async () => {
  const stack = await bench.stack("moving", one("moving", "north"));
  await stack.must(["apply", "-auto-approve"]);
  bench.write(stack, one("moving", "south"));
  const { finished, operation } = await applyAnd(stack, "update", "SIGINT");
  expect(finished.code).not.toBe(0);
  await stack.must(["apply", "-auto-approve"]);
  const state = (await stack.state()).get("drover_machine.m");
  expect(state).toMatchObject({ site: "south", effective: { site: "south", state: "running" } });
  const updates = (await operations()).filter(({ kind }) => kind === "update");
  expect(updates.map(({ id }) => id)).toEqual([operation.id]); // nothing was started twice
  expect((await stack.plan()).code).toBe(0);
}, 90_000);

test("the shepherd is killed in the middle of a create: apply waits until it is back and finishes", async () => {
  const stack = await bench.stack("crash", one("crash", "north"));
  const applied = stack.run(["apply", "-auto-approve"]);
  await until(
    "a create to run",
    20_000,
    async () => (await operations()).find((one) => one.kind === "create" && active(one)),
    20,
  );
  await bench.crashShepherd();
  await bench.start();
  expect(await applied).toMatchObject({ code: 0 });
  expect((await stack.plan()).code).toBe(0);
}, 90_000);
