/** A machine that another tool made is imported as it runs: written down, planned empty, changed live, never restarted. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { installProvider } from "@drover/provider/install";
import type { DomainData, WorldData } from "@drover/shepherd/simulated/data";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { Lifecycle } from "../conformance/lifecycle.ts";
import { type Fields, PluginHost } from "../conformance/plugin-host.ts";
import { fromValue, toValue } from "../conformance/values.ts";
import { Bench } from "../terraform/bench.ts";

const id = "0b0e6a52-0000-4000-8000-00000000f001";
const listedId = "0b0e6a52-0000-4000-8000-00000000f002";
let bench: Bench;
beforeAll(async () => {
  bench = await Bench.raise({ speed: 20 });
  await bench.behindItsBack((world) => {
    const host = world.hosts["north-2"];
    if (host === undefined) throw new Error("there is no north-2");
    host.domains[id] = foreign(id, "old-db");
    host.domains[listedId] = foreign(listedId, "Old Web_1");
  });
}, 180_000);
afterAll(() => bench?.clear(), 180_000);

function foreign(machineId: string, name: string): DomainData {
  return {
    id: machineId,
    name,
    spec: undefined,
    state: "running",
    vcpus: 2,
    vcpusMax: 2,
    cpuPercent: 50,
    memoryMaxMib: 512,
    askedMib: 512,
    memory: { fromMib: 512, toMib: 512, sinceMs: 0 },
    cpuTime: { beforeMs: 0, sinceMs: 0 },
    bootId: "booted-long-ago",
    bootedAtMs: 0,
    diskContent: "rows",
    job: "none",
  };
}

/** What the simulated host holds. */
function domain(machineId = id) {
  const world = JSON.parse(
    readFileSync(join(bench.directory, "state", "simulated.json"), "utf8"),
  ) as WorldData;
  return world.hosts["north-2"]?.domains[machineId];
}

test("an import block takes it over: configuration is generated, the second plan is empty, it was not restarted", async () => {
  const environment = `resource "drover_environment" "ring" {
  name  = "ring"
  class = "batch"
  sites = ["north", "south"]
}
`;
  const stack = await bench.stack("foreign", environment);
  await stack.must(["apply", "-auto-approve"]);
  bench.write(
    stack,
    `${environment}import {\n  to = drover_machine.db\n  id = "ring/db=${id}"\n}\n`,
  );
  const generated = join(stack.directory, "generated.tf");
  const planned = await stack.plan([`-generate-config-out=${generated}`]);
  expect(planned.text).toMatch(/1 to import, 0 to add, 0 to change, 0 to destroy/);
  await stack.must(["apply", "-auto-approve"]);
  expect((await stack.plan()).code).toBe(0);
  expect((await stack.state()).get("drover_machine.db")).toMatchObject({
    id,
    name: "db",
    vcpus: 2,
    cpu_percent: 50,
    memory_mib: 512,
    effective: { host: "north-2", state: "running" },
  });
  expect(domain()).toMatchObject({ bootId: "booted-long-ago", name: "old-db" });

  const text = readFileSync(generated, "utf8");
  writeFileSync(generated, text.replace(/cpu_percent(\s+)= 50/, "cpu_percent$1= 40"));
  await stack.must(["apply", "-auto-approve"]);
  expect(domain()).toMatchObject({ bootId: "booted-long-ago", cpuPercent: 40 });
  expect((await stack.plan()).code).toBe(0);

  bench.write(
    stack,
    `${environment}import {\n  to = drover_machine.other\n  id = "ring/other=${id}"\n}\n`,
  );
  const second = await stack.plan([`-generate-config-out=${stack.directory}/other.tf`]);
  expect(second.code).toBe(1);
  expect(second.text).toMatch(/conflict\.exists/);
}, 180_000);

test("a list finds what other tools made; its identity and its generated configuration take it over as it runs", async () => {
  const executable = await installProvider(join(bench.directory, "direct"));
  const host = await PluginHost.start(executable, {
    env: { DROVER_ENDPOINT: `unix:${bench.socket}` },
  });
  try {
    await host.call("ConfigureProvider", {
      terraform_version: "1.14.0",
      config: toValue({ endpoint: null, token: null, ca_file: null }),
    });
    const found: Fields[] = [];
    const config = { environment: "ring", group: null, foreign: true, host: null };
    for await (const event of host.events("ListResource", {
      type_name: "drover_machine",
      config: toValue(config),
      include_resource_object: true,
      limit: 10,
    }))
      found.push(event);
    // the one that is imported already is nobody else's any more
    expect(found).toMatchObject([{ display_name: "Old Web_1 on north-2", diagnostic: [] }]);
    const { identity, resource_object } = found[0] ?? {};
    const known = fromValue(((identity ?? {}) as Fields)["identity_data"]) as Fields;
    expect(known).toEqual({ id: `ring/old-web-1=${listedId}` });

    const { config: generated } = await host.call("GenerateResourceConfig", {
      type_name: "drover_machine",
      state: resource_object,
    });
    const written = fromValue(generated) as Fields;
    expect(written).toMatchObject({ id: null, name: "old-web-1", vcpus: 2, memory_mib: 512 });
    const machine = await Lifecycle.of(host, "drover_machine");
    expect(await machine.validate(written)).toEqual([]);
    await machine.import(known);
    expect(machine.state).toMatchObject({ id: listedId, effective: { host: "north-2" } });
    expect((await machine.plan(written)).planned).toEqual(machine.state);
    expect(domain(listedId)).toMatchObject({ bootId: "booted-long-ago", name: "Old Web_1" });
  } finally {
    await host.shutdown();
  }
}, 120_000);
