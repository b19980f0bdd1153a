/**
 * Plans pass the gate: what policy would refuse or ask people about stands in the plan, at the attribute that it concerns,
 * before anything is done; and an apply that waits for people can be ended and taken up again. With the real Terraform.
 */
import { readFileSync } from "node:fs";
import { askCheck } from "@drover/provider/resources/plan-run";
import { ShepherdClient } from "@drover/shepherd/api/client";
import type { ApprovalView, TokenAnswer } from "@drover/shepherd/api/contract";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { until } from "../../lab/story/process.ts";
import type { Terraform } from "../../lab/story/terraform.ts";
import { Bench } from "../terraform/bench.ts";

let bench: Bench;
let stack: Terraform;
let approver: ShepherdClient;

/** South wants a person to agree before a machine there has more than 1 GiB. */
const southPolicy = `drover:
  constraints:
    approval_threshold:
      large:
        level: approve
        params: { approvals: 1, vcpus: 8, cpu_percent: 400, memory_mib: 1024, plan_bytes: 100000000000 }
  exemptions: []
`;

beforeAll(async () => {
  bench = await Bench.raise({ speed: 20, southPolicy });
  stack = await bench.stack("gate", "");
  const { token } = await bench.client.call<TokenAnswer>("POST", "/v1/tokens", {
    body: { name: "anna", role: "approver" },
  });
  approver = new ShepherdClient({ endpoint: `unix:${bench.socket}`, token });
}, 180_000);
afterAll(() => bench?.clear(), 180_000);

function machine(name: string, lines: string): string {
  return `
resource "drover_machine" "${name}" {
  environment_id = drover_environment.it.id
  name           = "${name}"
  image_id       = drover_image.base.id
  networks       = []
  ${lines}
}
`;
}
const around = (environment = "") => `
resource "drover_image" "base" {
  name   = "base"
  source = "${bench.image.path}"
  sha256 = "${bench.image.sha256}"
}
resource "drover_environment" "it" {
  name  = "gate"
  class = "batch"
  sites = ["north", "south"]
  ${environment}
}
`;
const one = (lines: string, environment = "") => around(environment) + machine("m", lines);
const flat = (text: string) => text.replaceAll(/[\s│╷╵]+/g, " ");
async function plan(configuration: string, ...args: readonly string[]) {
  bench.write(stack, configuration);
  const { code, stdout, stderr } = await stack.run(["plan", "-detailed-exitcode", ...args]);
  return { code, said: flat(stdout + stderr) };
}
async function apply(configuration: string, env: Record<string, string> = {}) {
  bench.write(stack, configuration);
  const { code, stdout, stderr } = await stack.run(["apply", "-auto-approve"], { env });
  return { code, said: flat(stdout + stderr) };
}
async function effective(name = "m"): Promise<Readonly<Record<string, unknown>>> {
  const all = await bench.client.get<{ items: { effective: Record<string, unknown> }[] }>(
    "/v1/machines",
    { query: { name } },
  );
  return all.items[0]?.effective ?? {};
}

test("what one environment may not have in sum is denied at plan, at the attribute, and nothing is changed", async () => {
  const third = (name: string, site: string) =>
    machine(name, `cpu_percent = 300\n  site = "${site}"`);
  const { code, said } = await plan(
    around() + third("a", "north") + third("b", "north") + third("c", "south"),
  );
  expect(code).toBe(1);
  expect(said.match(/Policy does not allow this: environment_quota \(owner:local-root\)/g)).toEqual(
    [
      expect.anything(), // one of the three tips it, whichever comes last
    ],
  );
  expect(said).toMatch(/cpu_percent = 300 The shepherd would not create machine "[abc]"/);
  expect(said).toMatch(/Nearest allowed: cpu_percent = 200\. Nothing has been changed/);
  // A group's image is not known before the first apply: how many there are and how large each is, is.
  const group = await plan(`${around()}
resource "drover_group" "g" {
  environment_id = drover_environment.it.id
  name           = "g"
  machine_count  = 3
  template       = { image_id = drover_image.base.id, networks = [], cpu_percent = 300 }
}
`);
  expect(group.code).toBe(1);
  expect(group.said).toMatch(/Policy does not allow this: environment_quota/);
  expect(await bench.client.get("/v1/environments")).toEqual({ items: [] });
}, 180_000);

test("values that are not known yet do not fail a plan", async () => {
  const unknown = `
resource "terraform_data" "later" {
  input = { memory_mib = 512, max = 60, site = "north", name = "c-0", networks = [], count = 2 }
}
locals {
  later = terraform_data.later.output
}
resource "drover_link" "l" {
  environment_id = drover_environment.it.id
  machines       = [drover_machine.c.name, local.later.name]
  rate_mbps      = local.later.max
}
resource "drover_machine" "c" {
  environment_id = local.later.site
  name           = "c"
  image_id       = drover_image.base.id
  memory_mib     = local.later.memory_mib
  site           = local.later.site
  networks       = local.later.networks
  adaptation     = { cpu_percent = { min = 10, max = local.later.max }, sites = [local.later.site] }
}
resource "drover_group" "g" {
  environment_id = drover_environment.it.id
  name           = "g"
  machine_count  = local.later.count
  adaptation     = { machine_count = { min = local.later.count, max = 4 } }
  template       = { image_id = drover_image.base.id, networks = [], memory_mib = local.later.memory_mib }
}
resource "drover_volume" "v" {
  environment_id = drover_environment.it.id
  name           = local.later.name
  size_gib       = local.later.count
}
`;
  const { code, said } = await plan(around() + unknown);
  expect(said).not.toMatch(/Error:/);
  expect(code).toBe(2);
}, 180_000);

/** Booted able to reach 2 GiB, so that an edit of its memory is live. */
const south = (memoryMib: number) =>
  `site = "south"\n  memory_mib = ${memoryMib}\n  ceiling = { memory_mib = 2048 }`;

test("where people must agree, plan warns, apply ends pending with the request's id, and the next one attaches", async () => {
  const large = one(`${south(1536)}\n  timeouts = { create = "4s" }`);
  const planned = await plan(large);
  expect(planned.code).toBe(2);
  expect(planned.said).toMatch(/This waits for approval when it is applied/);
  expect(planned.said).toMatch(/Policy: approval_threshold \(site:south\)/);

  const ended = await apply(large);
  expect(ended.code).toBe(1);
  const [, request] = /Waits for approval: request ([0-9a-f-]{36})/.exec(ended.said) ?? [];
  expect(request).toBeDefined();
  await approver.call("POST", `/v1/requests/${request}/approve`, { body: { reason: "fine" } });

  expect(await apply(large)).toMatchObject({ code: 0 });
  expect(await effective()).toMatchObject({ memory_mib: 1536, site: "south" });
  expect((await plan(large)).code).toBe(0);
  const { items } = await bench.client.get<{ items: ApprovalView[] }>("/v1/approvals");
  expect(items.map((one) => one.request)).toEqual([request]); // asked once
}, 180_000);

test("an apply that is allowed to wait goes on when somebody agrees, and tells whom it waits for", async () => {
  const progress = `${bench.directory}/progress`;
  const applied = apply(one(south(1600)), { DROVER_PROGRESS: progress });
  const pending = await until("a request to wait", 30_000, async () => {
    const { items } = await bench.client.get<{ items: ApprovalView[] }>("/v1/approvals", {
      query: { state: "pending" },
    });
    return items[0];
  });
  await approver.call("POST", `/v1/requests/${pending.request}/approve`, {
    body: { reason: "fine", plan_digest: pending.plan_digest },
  });
  expect(await applied).toMatchObject({ code: 0 });
  expect(await effective()).toMatchObject({ memory_mib: 1600 });
  expect(readFileSync(progress, "utf8")).toMatch(
    new RegExp(`update machine "m": request ${pending.request} waits for approval`),
  );
}, 180_000);

test("a refusal by a person fails the apply, with the reason, and nothing is changed", async () => {
  const applied = apply(one(south(1700)));
  const pending = await until("a request to wait", 30_000, async () => {
    const { items } = await bench.client.get<{ items: ApprovalView[] }>("/v1/approvals", {
      query: { state: "pending" },
    });
    return items[0];
  });
  await approver.call("POST", `/v1/requests/${pending.request}/reject`, {
    body: { reason: "not tonight" },
  });
  const { code, said } = await applied;
  expect(code).toBe(1);
  expect(said).toMatch(/The request was rejected/);
  expect(said).toMatch(/not tonight/);
  expect(await effective()).toMatchObject({ memory_mib: 1600 });
}, 180_000);

test("plan says of each change whether it is live, a move or a restart, and a restart must be allowed", async () => {
  const small = (more = "", site = "north") =>
    one(
      `site = "${site}"\n  memory_mib = 512\n  ${more}\n  adaptation = { memory_mib = { min = 256, max = 1024 }, sites = ["north", "south"] }`,
    );
  await stack.must(["destroy", "-auto-approve"]);
  expect(await apply(small())).toMatchObject({ code: 0 });
  const live = await plan(small("cpu_percent = 80"));
  expect(live.said).toMatch(/\+ "cpu_percent" = "live"/);
  expect(live.said).not.toMatch(/Warning:/);
  const moved = await plan(small("", "south"));
  expect(moved.said).toMatch(/\+ "site" = "move"/);
  expect(moved.said).toMatch(
    /This moves the machine, live .* It takes about [\d.]+ s, copies \d+ MiB/,
  );
  const refused = await plan(small("ceiling = { memory_mib = 2048 }"));
  expect(refused.code).toBe(1);
  expect(refused.said).toMatch(/m must be restarted for ceiling\. Set allow_restart = true/);
  const allowed = await plan(small("ceiling = { memory_mib = 2048 }\n  allow_restart = true"));
  expect(allowed.code).toBe(2);
  expect(allowed.said).toMatch(/\+ "ceiling" = "restart"/);
  const restarted = small(
    'ceiling = { memory_mib = 2048 }\n  allow_restart = true\n  user_data = "#cloud-config"',
  );
  expect(await apply(restarted)).toMatchObject({ code: 0 });
  expect((await plan(restarted)).code).toBe(0);
  expect(await effective()).toMatchObject({ memory_mib: 512, state: "running" });
  const patched = await plan(
    small(
      'allow_restart = true\n  raw_xml_patch = [{ path = "cpu/topology@sockets", value = "2" }]',
    ),
  );
  expect(patched.code).toBe(1);
  expect(patched.said).toMatch(/raw_xml_patch/);
  bench.write(stack, restarted);
  await stack.must(["destroy", "-auto-approve"]);
}, 180_000);

test("what is protected is not destroyed, at plan and at the shepherd", async () => {
  const lines = "memory_mib = 512";
  expect(await apply(one(`${lines}\n  deletion_protection = true`))).toMatchObject({ code: 0 });
  const { code, said } = await plan(one(`${lines}\n  deletion_protection = true`), "-destroy");
  expect(code).toBe(1);
  expect(said).toMatch(/It is protected from deletion .* apply deletion_protection = false first/);
  const id = (await stack.state()).get("drover_machine.m")?.["id"];
  await expect(bench.client.call("DELETE", `/v1/machines/${id}`)).rejects.toMatchObject({
    code: "object.protected",
  });
  expect(await apply(one(lines))).toMatchObject({ code: 0 });
  expect((await plan(one(lines), "-destroy")).code).toBe(2);
}, 180_000);

test("a machine inherits its environment's adaptation; an environment that pins takes it back", async () => {
  const inheriting = (mode: string) =>
    one(
      "memory_mib = 512",
      `adaptation = { mode = "${mode}", cpu_percent = { min = 10, max = 150 } }`,
    );
  expect(await apply(inheriting("auto"))).toMatchObject({ code: 0 });
  const asked = await bench.client.call<{ verdict: string }>("POST", "/v1/requests", {
    query: { wait_ms: 30_000 },
    waitMs: 30_000,
    body: { method: "resize", environment: "gate", machine: "m", params: { cpu_percent: 140 } },
  });
  expect(asked.verdict).toBe("granted");
  expect((await plan(inheriting("auto"))).code).toBe(0);
  const pinned = await plan(inheriting("pinned"));
  expect(pinned.said).toMatch(/cpu_percent = 140 -> 100/);
  expect(await apply(inheriting("pinned"))).toMatchObject({ code: 0 });
  expect(await effective()).toMatchObject({ cpu_percent: 100 });
  expect((await plan(inheriting("pinned"))).code).toBe(0);
}, 180_000);

test("a shepherd that is started anew in the middle of a plan judges the rest by the whole", async () => {
  expect(await apply(around())).toMatchObject({ code: 0 });
  const provider = new ShepherdClient({ endpoint: `unix:${bench.socket}` });
  const { items } = await bench.client.get<{ items: { id: string }[] }>("/v1/environments");
  const one = (name: string, site: string) => ({
    run: "a run of this test",
    kind: "machine" as const,
    verb: "create" as const,
    environment: items[0]?.id ?? "",
    name,
    body: { cpu_percent: 300, site },
  });
  const ask = (name: string, site: string) =>
    askCheck(provider, one(name, site), AbortSignal.timeout(60_000));
  expect(await ask("a", "north")).toMatchObject({ verdict: "granted" });
  await bench.crashShepherd();
  await bench.start();
  await expect(
    bench.client.call("POST", "/v1/plan-checks", { body: { ...one("b", "north"), earlier: 1 } }),
  ).rejects.toMatchObject({ code: "plan.forgotten" });
  expect(await ask("b", "north")).toMatchObject({ verdict: "granted" });
  await bench.crashShepherd();
  await bench.start();
  expect(await ask("c", "south")).toMatchObject({
    verdict: "denied",
    findings: [{ rule: "environment_quota", nearest: { cpu_percent: 200 } }],
  });
}, 180_000);
