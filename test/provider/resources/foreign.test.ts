/** A machine that another tool made is imported as it runs: written down, planned empty, changed live, never restarted. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { WorldData } from "@drover/shepherd/simulated/data";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { Bench } from "../terraform/bench.ts";

const id = "0b0e6a52-0000-4000-8000-00000000f001";
let bench: Bench;
beforeAll(async () => {
  bench = await Bench.raise({ speed: 20 });
  await bench.behindItsBack((world) => {
    const host = world.hosts["north-2"];
    if (host === undefined) throw new Error("there is no north-2");
    host.domains[id] = {
      id,
      name: "old-db",
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
  });
}, 180_000);
afterAll(() => bench?.clear(), 180_000);

/** What the simulated host holds. */
function domain() {
  const world = JSON.parse(
    readFileSync(join(bench.directory, "state", "simulated.json"), "utf8"),
  ) as WorldData;
  return world.hosts["north-2"]?.domains[id];
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
