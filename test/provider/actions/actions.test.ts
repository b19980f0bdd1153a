/**
 * Every action from plan to its end, as Terraform 1.14's plugin host invokes it: what it tells on the way, what the
 * machine is afterwards, and that cancelling leaves the machine as it was.
 */
import { installProvider } from "@drover/provider/install";
import type { HostMarkView, MachineView, OperationView } from "@drover/shepherd/api/contract";
import { afterEach, expect, test } from "@jest/globals";
import { until } from "../../lab/story/process.ts";
import { declareRing, type Running, run } from "../../shepherd/api/shepherd.ts";
import { diagnosticsOf, type Fields, PluginHost } from "../conformance/plugin-host.ts";
import { toValue } from "../conformance/values.ts";

let running: Running | undefined;
let host: PluginHost | undefined;
afterEach(async () => {
  await host?.shutdown();
  await running?.end();
  host = undefined;
  running = undefined;
}, 60_000);

async function raise(speeds: { copyMbps?: number } = {}) {
  const shepherd = await run("", speeds);
  running = shepherd;
  await declareRing(shepherd, 1);
  const executable = await installProvider(`${shepherd.folder}/provider`);
  const plugin = await PluginHost.start(executable, {
    env: { DROVER_ENDPOINT: shepherd.endpoint },
  });
  host = plugin;
  await plugin.call("ConfigureProvider", {
    terraform_version: "1.14.0",
    config: toValue({ endpoint: null, token: null, ca_file: null }),
  });
  const { action_schemas } = await plugin.call("GetProviderSchema");
  const schemas = action_schemas as Record<
    string,
    { schema: { block: { attributes: { name: string }[] } } }
  >;
  /** As Terraform sends it: everything that is not given is null. */
  const request = (type: string, given: Fields) => ({
    action_type: type,
    config: toValue({
      ...Object.fromEntries(
        (schemas[type]?.schema.block.attributes ?? []).map(({ name }) => [name, null]),
      ),
      ...given,
    }),
  });
  const view = async (): Promise<MachineView> => {
    const { items } = await shepherd.client.get<{ items: MachineView[] }>("/v1/machines");
    const [machine] = items;
    if (machine === undefined) throw new Error("there is no machine");
    return machine;
  };
  return { client: shepherd.client, plugin, request, view };
}

interface Invoked {
  readonly progress: readonly string[];
  readonly problems: readonly unknown[];
}
function toldBy(events: readonly Fields[]): Invoked {
  return {
    progress: events.flatMap(({ progress }) =>
      progress === undefined || progress === null ? [] : String((progress as Fields)["message"]),
    ),
    problems: events.flatMap(({ completed }) =>
      completed === undefined || completed === null ? [] : diagnosticsOf(completed as Fields),
    ),
  };
}

test("resize, release, move and drain are planned, tell their progress, and are done", async () => {
  const { client, plugin, request, view } = await raise();
  const invoke = async (type: string, given: Fields): Promise<Invoked> => {
    const asked = request(type, given);
    expect(diagnosticsOf(await plugin.call("ValidateActionConfig", asked))).toEqual([]);
    expect(diagnosticsOf(await plugin.call("PlanAction", asked))).toEqual([]);
    const events: Fields[] = [];
    for await (const event of plugin.events("InvokeAction", asked)) events.push(event);
    return toldBy(events);
  };
  const rank0 = { environment: "ring", machine: "rank-0" };

  const resized = await invoke("drover_resize", { ...rank0, cpu_percent: 60, reason: "a phase" });
  expect(resized.problems).toEqual([]);
  expect(resized.progress[0]).toMatch(/^decision /);
  expect(await view()).toMatchObject({ cpu_percent: 20, effective: { cpu_percent: 60 } });

  expect(await invoke("drover_release", rank0)).toMatchObject({ problems: [] });
  expect(await view()).toMatchObject({ effective: { cpu_percent: 20, adaptation_id: null } });

  const moved = await invoke("drover_move", { ...rank0, site: "south" });
  expect(moved.problems).toEqual([]);
  expect(moved.progress.length).toBeGreaterThan(0);
  expect(await view()).toMatchObject({ site: "north", effective: { host: "south-1" } });
  expect((await invoke("drover_move", { ...rank0, site: "north" })).problems).toEqual([]);

  const from = (await view()).effective.host;
  const drained = await invoke("drover_drain", { host: from, reason: "new disks" });
  expect(drained.problems).toEqual([]);
  expect(drained.progress.at(-1)).toBe(`host ${from} is empty`);
  expect((await view()).effective.host).not.toBe(from);
  const { items } = await client.get<{ items: HostMarkView[] }>("/v1/host-marks");
  expect(items).toMatchObject([{ host_id: from, kind: "draining" }]);
}, 120_000);

test("what policy denies is an error of the plan", async () => {
  const { plugin, request } = await raise();
  const asked = request("drover_resize", {
    environment: "ring",
    machine: "rank-0",
    cpu_percent: 6400,
  });
  expect(diagnosticsOf(await plugin.call("PlanAction", asked))).toMatchObject([
    { summary: expect.stringContaining("envelope") },
  ]);
}, 60_000);

test("a stop cancels what runs and tells what was reached: the machine is where it was", async () => {
  const { client, plugin, request, view } = await raise({ copyMbps: 10 });
  const asked = request("drover_move", { environment: "ring", machine: "rank-0", site: "south" });
  const events: Fields[] = [];
  const ended = (async () => {
    for await (const event of plugin.events("InvokeAction", asked)) events.push(event);
  })();
  const operation = await until("the move to be under way", 30_000, async () => {
    const { items } = await client.get<{ items: OperationView[] }>("/v1/operations", {
      query: { active: "1" },
    });
    return items.find(({ progress }) => progress.percent > 0) ?? undefined;
  });
  await plugin.call("StopProvider");
  await ended;
  const { progress, problems } = toldBy(events);
  expect(progress).toContain(`operation ${operation.id} was asked to cancel`);
  expect(problems).toMatchObject([{ detail: expect.stringContaining("was cancelled") }]);
  expect(await client.get(`/v1/operations/${operation.id}`)).toMatchObject({ state: "cancelled" });
  expect(await view()).toMatchObject({ effective: { site: "north", state: "running" } });
}, 120_000);
