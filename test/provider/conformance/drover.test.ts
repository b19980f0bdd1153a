/**
 * Drover's own resources under the plugin host, against a shepherd on the simulated world: each through its life with
 * Terraform's rules checked, and what Terraform 1.11 cannot do: identity, lists, actions, generated configuration.
 */
import { join } from "node:path";
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

test("a machine changes in place: sizes, then its site; its identity stays", async () => {
  const before = machine.identity;
  await machine.apply(machineConfig({ cpu_percent: 40, memory_mib: 192 }));
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
