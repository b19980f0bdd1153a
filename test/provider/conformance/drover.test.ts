/**
 * Drover's own resources under the plugin host, against a shepherd on the simulated world: each through its life with
 * Terraform's rules checked, and what Terraform 1.11 cannot do: identity, lists, actions, generated configuration.
 */
import { join } from "node:path";
import { resources } from "@drover/provider/catalogue";
import { installProvider } from "@drover/provider/install";
import type { MachineView } from "@drover/shepherd/api/contract";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { Bench } from "../terraform/bench.ts";
import { Lifecycle, Refused } from "./lifecycle.ts";
import { diagnosticsOf, type Fields, PluginHost } from "./plugin-host.ts";
import { fromValue, toValue, UnknownValue } from "./values.ts";

let bench: Bench;
let host: PluginHost;
let environment: Lifecycle;
let image: Lifecycle;
let network: Lifecycle;
let machine: Lifecycle;
let nic: Fields;
let adaptation: Fields;
const idOf = (it: Lifecycle) => String(it.state?.["id"]);

beforeAll(async () => {
  bench = await Bench.raise({ speed: 50 });
  const executable = await installProvider(join(bench.directory, "direct"));
  host = await PluginHost.start(executable, { env: { DROVER_ENDPOINT: `unix:${bench.socket}` } });
  await host.call("ConfigureProvider", {
    terraform_version: "1.14.0",
    config: toValue({ endpoint: null, token: null, ca_file: null }),
  });
  const of = (type: string) => Lifecycle.of(host, type);
  [environment, image, network, machine] = await Promise.all([
    of("drover_environment"),
    of("drover_image"),
    of("drover_network"),
    of("drover_machine"),
  ]);
}, 60_000);
afterAll(async () => {
  await host?.shutdown();
  await bench?.clear();
}, 60_000);

const machineConfig = (given: Fields = {}): Fields => ({
  environment_id: idOf(environment),
  name: "m",
  image_id: idOf(image),
  vcpus: 1,
  cpu_percent: 20,
  memory_mib: 128,
  site: "north",
  networks: [nic],
  adaptation,
  ...given,
});
/** A nested attribute with everything null that is not given, as Terraform sends it. */
async function nested(type: string, path: readonly string[], given: Fields): Promise<Fields> {
  interface Attribute {
    name: string;
    nested_type: { attributes: Attribute[] } | null;
  }
  const { resource_schemas } = await host.call("GetProviderSchema");
  let { attributes } = (resource_schemas as Record<string, { block: { attributes: Attribute[] } }>)[
    type
  ]?.block ?? { attributes: [] };
  for (const step of path)
    attributes = attributes.find(({ name }) => name === step)?.nested_type?.attributes ?? [];
  return { ...Object.fromEntries(attributes.map(({ name }) => [name, null])), ...given };
}

test("environment, image, network and machine are made by the rules", async () => {
  await environment.apply({ name: "it", class: "batch", sites: ["north", "south"] });
  await image.apply({ name: "base", source: bench.image.path, sha256: bench.image.sha256 });
  await network.apply({ environment_id: idOf(environment), name: "lan", cidr: "10.42.0.0/24" });
  nic = await nested("drover_machine", ["networks"], { network_id: idOf(network) });
  adaptation = await nested("drover_machine", ["adaptation"], {
    memory_mib: { min: 128, max: 320 }, // so much it is booted able to reach
    sites: ["north", "south"],
  });
  const plan = await machine.plan(machineConfig());
  expect(plan.planned).toMatchObject({ id: new UnknownValue({ notNull: true }), vcpus: 1 });
  await machine.apply(machineConfig());
  expect(machine.state).toMatchObject({ effective: { state: "running", site: "north" } });
  for (const it of [environment, image, network, machine])
    expect(it.identity).toEqual({ id: idOf(it) });
}, 60_000);

/** Plans with each attribute that a user may set unknown: alone, in all its parts, and with all that is required. */
async function unknownProblems(it: Lifecycle, type: string, base: Fields) {
  const attributes = resources.find(({ name }) => name === type)?.attributes ?? {};
  const problems: string[] = [];
  let plans = 0;
  const attempt = async (what: string, config: Fields) => {
    plans += 1;
    try {
      await it.validate(config);
      await it.plan(config);
    } catch (error) {
      if (!(error instanceof Error)) throw error;
      problems.push(`${type}.${what}: ${error.name} ${error.message}`);
    }
  };
  const unknowns = (names: readonly string[]) =>
    Object.fromEntries(names.map((name) => [name, new UnknownValue()]));
  for (const [name, { type: of, required, optional }] of Object.entries(attributes)) {
    if (required !== true && optional !== true) continue;
    await attempt(name, { ...base, ...unknowns([name]) });
    if (typeof of !== "object" || !("nesting" in of)) continue;
    const inner = unknowns(Object.keys(of.attributes));
    await attempt(`${name}.*`, { ...base, [name]: of.nesting === "single" ? inner : [inner] });
  }
  await attempt("*", unknowns(Object.keys(base)));
  expect(plans).toBeGreaterThan(Object.keys(base).length);
  return problems;
}

test("whatever is not known yet, alone or all at once, fails no plan", async () => {
  const environment_id = idOf(environment);
  const required: Readonly<Record<string, Fields>> = {
    drover_environment: { name: "new", class: "batch", sites: ["north"] },
    drover_image: { name: "new", source: bench.image.path, sha256: bench.image.sha256 },
    drover_network: { environment_id, name: "new", cidr: "10.44.0.0/24" },
    drover_machine: { environment_id, name: "new", image_id: idOf(image), networks: [] },
    drover_group: {
      environment_id,
      name: "new",
      machine_count: 2,
      template: await nested("drover_group", ["template"], {
        image_id: idOf(image),
        networks: [],
      }),
    },
    drover_link: { environment_id, machines: ["a", "b"], rate_mbps: 10 },
    drover_volume: { environment_id, name: "new", size_gib: 1 },
    drover_constraint: {
      environment_id,
      name: "new",
      rule: "cooldown",
      params: new UnknownValue(),
    },
    drover_site: { name: "east", owner: "olga", policy: "/policy" },
    drover_host: {
      site: "north",
      name: "north-9",
      migration_address: "192.0.2.9",
      lend: { cpu_percent: 100, memory_mib: 1024, disk_gib: 10 },
    },
  };
  expect(Object.keys(required).toSorted()).toEqual(resources.map(({ name }) => name).toSorted());
  const problems: string[] = [];
  for (const { name } of resources) {
    const fresh = await Lifecycle.of(host, name);
    problems.push(...(await unknownProblems(fresh, name, required[name] ?? {})));
  }
  const { drover_environment: asked = {}, drover_network: wanted = {} } = required;
  for (const [it, type, base] of [
    [environment, "drover_environment", { ...asked, name: "it" }],
    [network, "drover_network", { ...wanted, name: "lan", cidr: "10.42.0.0/24" }],
    [machine, "drover_machine", machineConfig()],
  ] as const)
    problems.push(...(await unknownProblems(it, type, base)));
  expect(problems).toEqual([]);
}, 60_000);

test("a machine changes in place: sizes, its host, then its site; its identity stays", async () => {
  const before = machine.identity;
  await machine.apply(machineConfig({ cpu_percent: 40, memory_mib: 192 }));
  const { host: was = "" } = (machine.state?.["effective"] ?? {}) as { host?: string };
  const other = was === "north-1" ? "north-2" : "north-1";
  expect((await machine.apply(machineConfig({ memory_mib: 192, host: other }))).replaces).toEqual(
    [],
  );
  expect(machine.state).toMatchObject({ host: other, effective: { host: other, site: "north" } });
  expect((await machine.apply(machineConfig({ memory_mib: 192, site: "south" }))).replaces).toEqual(
    [],
  );
  expect(machine.state).toMatchObject({
    site: "south",
    effective: { site: "south", memory_mib: 192 },
  });
  expect(machine.identity).toEqual(before);
}, 60_000);

test("a list finds it, and what it says imports it: the same state, and a plan without change", async () => {
  const found: Fields[] = [];
  const config = toValue({ environment: "it", group: null, foreign: null, host: null });
  const request = { type_name: "drover_machine", config, include_resource_object: true, limit: 10 };
  for await (const event of host.events("ListResource", request)) found.push(event);
  expect(found).toMatchObject([{ display_name: "it/m", diagnostic: [] }]);
  const { identity, resource_object } = found[0] ?? {};
  const { identity_data } = (identity ?? {}) as Fields;
  const known = fromValue(identity_data) as Fields;
  expect(known).toEqual(machine.identity);

  const imported = await Lifecycle.of(host, "drover_machine");
  await imported.import(known);
  expect(imported.state).toMatchObject({ id: idOf(machine), site: "south", memory_mib: 192 });
  expect((await imported.plan(machineConfig({ memory_mib: 192, site: "south" }))).planned).toEqual(
    imported.state,
  );
  const whole = fromValue(resource_object) as Fields;
  const generated = await host.call("GenerateResourceConfig", {
    type_name: "drover_machine",
    state: toValue(whole),
  });
  const written = fromValue(generated["config"]) as Fields;
  expect(written).toMatchObject({ id: null, name: "m", memory_mib: 192, effective: null });
  expect(await imported.validate(written)).toEqual([]); // it may be written as it is
  expect((await imported.plan(written)).planned).toEqual(imported.state);
}, 60_000);

test("an action asks as a request does: it is judged when planned, tells progress, and is done", async () => {
  const { action_schemas } = await host.call("GetProviderSchema");
  const { schema } = (
    action_schemas as Record<string, { schema: { block: { attributes: { name: string }[] } } }>
  )["drover_resize"] ?? { schema: { block: { attributes: [] } } };
  const config = (given: Fields) =>
    toValue({
      ...Object.fromEntries(schema.block.attributes.map(({ name }) => [name, null])),
      ...given,
    });
  const resize = { environment: "it", machine: "m", memory_mib: 256, reason: "a test" };
  const request = { action_type: "drover_resize", config: config(resize) };
  expect(diagnosticsOf(await host.call("ValidateActionConfig", request))).toEqual([]);
  expect(
    diagnosticsOf(await host.call("PlanAction", request)).filter(({ severity }) => severity === 1),
  ).toEqual([]);
  const said = [];
  for await (const event of host.events("InvokeAction", request)) said.push(event);
  expect(said.length).toBeGreaterThan(1);
  expect(said.at(-1)).toMatchObject({ completed: { diagnostics: [] } });
  const view = await bench.client.get<MachineView>(`/v1/machines/${idOf(machine)}`);
  expect(view).toMatchObject({ memory_mib: 192, effective: { memory_mib: 256 } });
  await machine.refresh(); // approved: the baseline stays, the live value stands in effective
  expect(machine.state).toMatchObject({ memory_mib: 192, effective: { memory_mib: 256 } });

  const wrong = {
    action_type: "drover_resize",
    config: config({ environment: "it", machine: "m" }),
  };
  expect(diagnosticsOf(await host.call("ValidateActionConfig", wrong))).not.toEqual([]);
}, 60_000);

test("a link, a volume and a group live by the rules too", async () => {
  const volume = await Lifecycle.of(host, "drover_volume");
  await volume.apply({
    environment_id: idOf(environment),
    name: "data",
    size_gib: 2,
    site: "north",
  });
  expect(volume.state).toMatchObject({ size_gib: 2 });
  const group = await Lifecycle.of(host, "drover_group");
  const template = await nested("drover_group", ["template"], {
    image_id: idOf(image),
    cpu_percent: 10,
    memory_mib: 64,
    networks: [{ network_id: idOf(network) }],
  });
  const config = { environment_id: idOf(environment), name: "rank", machine_count: 2, template };
  await group.apply(config);
  await group.apply({ ...config, machine_count: 3 });
  expect(group.state).toMatchObject({ machine_count: 3 });
  const link = await Lifecycle.of(host, "drover_link");
  const between = { environment_id: idOf(environment), machines: ["rank-0", "rank-1"] };
  await link.apply({ ...between, rate_mbps: 100 });
  await link.apply({ ...between, rate_mbps: 200 });
  expect(link.state).toMatchObject({ effective: { rate_mbps: 200 } });
  const unsure = [
    ...(await unknownProblems(group, "drover_group", config)),
    ...(await unknownProblems(link, "drover_link", { ...between, rate_mbps: 200 })),
  ];
  expect(unsure).toEqual([]);
  for (const it of [link, group, volume]) await it.destroy();
}, 120_000);

test("what protects from deletion speaks in the plan, and lets go when told", async () => {
  const guarded = machineConfig({ memory_mib: 192, site: "south", deletion_protection: true });
  await machine.apply(guarded);
  await expect(machine.plan(null)).rejects.toBeInstanceOf(Refused);
  await machine.apply({ ...guarded, deletion_protection: false });
  for (const it of [machine, network, image, environment]) await it.destroy();
  expect(await bench.client.get("/v1/environments")).toEqual({ items: [] });
}, 60_000);
