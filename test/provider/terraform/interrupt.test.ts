/** Terraform is killed in the middle of an apply: the shepherd goes on, the next apply joins. Interrupted: it cancels. */
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

test("SIGKILL in the middle of a create: one machine, one operation, and the next apply finishes", async () => {
  const stack = await bench.stack("killed", one("killed", "north"));
  const { finished, operation } = await applyAnd(stack, "create", "SIGKILL");
  expect(finished.code).not.toBe(0);
  await stack.must(["apply", "-auto-approve", "-lock=false"]);
  expect((await stack.plan(["-lock=false"])).code).toBe(0);
  const creates = (await operations()).filter((one) => one.kind === "create");
  expect(creates.filter(({ id }) => id >= operation.id).map(({ id }) => id)).toEqual([
    operation.id,
  ]);
  await stack.must(["destroy", "-auto-approve", "-lock=false"]);
}, 180_000);

test("Ctrl-C in the middle of a create cancels it: apply says so, nothing is left, and the next apply makes it", async () => {
  const stack = await bench.stack("interrupted", one("interrupted", "north"));
  const { finished, operation } = await applyAnd(stack, "create", "SIGINT");
  expect(finished.code).not.toBe(0);
  expect(finished.stderr).toMatch(/was cancelled/);
  expect((await operations()).find(({ id }) => id === operation.id)?.state).toBe("cancelled");
  const { items } = await bench.client.get<{ items: { effective: { host: string } }[] }>(
    "/v1/machines",
    { query: { environment: "interrupted" } },
  );
  expect(items.filter(({ effective }) => effective.host !== "")).toEqual([]);
  expect([...(await stack.state()).keys()]).not.toContain("drover_machine.m");
  await stack.must(["apply", "-auto-approve"]);
  expect((await stack.plan()).code).toBe(0);
  await stack.must(["destroy", "-auto-approve"]);
}, 180_000);

test("Ctrl-C in the middle of a move cancels it: the machine stays whole where it was, and the next apply moves it", async () => {
  const stack = await bench.stack("moving", one("moving", "north"));
  await stack.must(["apply", "-auto-approve"]);
  bench.write(stack, one("moving", "south"));
  const { finished, operation } = await applyAnd(stack, "update", "SIGINT");
  expect(finished.code).not.toBe(0);
  expect(finished.stderr).toMatch(/was cancelled/);
  expect((await operations()).find(({ id }) => id === operation.id)?.state).toBe("cancelled");
  const kept = (await stack.state()).get("drover_machine.m");
  expect(kept).toMatchObject({ effective: { site: "north", state: "running" } });
  await stack.must(["apply", "-auto-approve"]);
  const state = (await stack.state()).get("drover_machine.m");
  expect(state).toMatchObject({ site: "south", effective: { site: "south", state: "running" } });
  expect((await stack.plan()).code).toBe(0);
}, 180_000);

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
}, 180_000);
