/**
 * Every call of protocol 6, also those that no installed Terraform makes, driven by the plugin host against an example
 * provider that uses every feature of provider/schema. Core's own rules are checked at each step.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildProvider } from "@drover/provider/build";
import { afterAll, beforeAll, beforeEach, expect, test } from "@jest/globals";
import { saveBoxes } from "./example/boxes.ts";
import { Lifecycle, Refused } from "./lifecycle.ts";
import { callNames, diagnosticsOf, type Fields, PluginHost, streamNames } from "./plugin-host.ts";
import { fromValue, toValue, UnknownValue } from "./values.ts";

let directory = "";
let executable = "";
let host: PluginHost;

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "drover-protocol-"));
  process.env["EXAMPLE_FILE"] = join(directory, "boxes.json");
  ({ path: executable } = await buildProvider({
    entryPoint: join(import.meta.dirname, "example", "main.ts"),
    outFile: join(directory, "terraform-provider-example"),
    nodePath: process.execPath,
  }));
  host = await PluginHost.start(executable);
});
beforeEach(() => saveBoxes([]));
afterAll(async () => {
  expect(await host.shutdown()).toBe(0);
  rmSync(directory, { recursive: true, force: true });
});

const box = () => Lifecycle.of(host, "example_box");
const summaries = (answer: Fields) =>
  diagnosticsOf(answer).map(
    ({ severity, summary }) => `${severity === 1 ? "error" : "warning"}: ${summary}`,
  );
async function refusal(work: Promise<unknown>): Promise<Refused> {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (error instanceof Refused) return error;
  throw new Error("not refused", { cause: error });
}
const state = (given: Fields): Fields => ({
  id: "box-a",
  name: "a",
  size_gib: 1,
  mac: "52:54:00:00:00:01",
  zone: null,
  labels: null,
  secret_wo: null,
  secret_version: null,
  digest: "0",
  disks: null,
  title: null,
  timeouts: null,
  ...given,
});

test("the provider answers every call of the protocol, and names all it has", async () => {
  expect([...callNames].toSorted()).toEqual([
    "ApplyResourceChange",
    "CallFunction",
    "CloseEphemeralResource",
    "ConfigureProvider",
    "GenerateResourceConfig",
    "GetFunctions",
    "GetMetadata",
    "GetProviderSchema",
    "GetResourceIdentitySchemas",
    "ImportResourceState",
    "InvokeAction",
    "ListResource",
    "MoveResourceState",
    "OpenEphemeralResource",
    "PlanAction",
    "PlanResourceChange",
    "ReadDataSource",
    "ReadResource",
    "RenewEphemeralResource",
    "StopProvider",
    "UpgradeResourceIdentity",
    "UpgradeResourceState",
    "ValidateActionConfig",
    "ValidateDataResourceConfig",
    "ValidateEphemeralResourceConfig",
    "ValidateListResourceConfig",
    "ValidateProviderConfig",
    "ValidateResourceConfig",
  ]);
  const metadata = await host.call("GetMetadata");
  const types = (name: string) =>
    (metadata[name] as { type_name: string }[]).map((one) => one.type_name);
  expect({
    capabilities: metadata["server_capabilities"],
    resources: types("resources"),
    dataSources: types("data_sources"),
    functions: metadata["functions"],
    ephemerals: types("ephemeral_resources"),
    lists: types("list_resources"),
    actions: types("actions"),
  }).toEqual({
    capabilities: {
      plan_destroy: true,
      get_provider_schema_optional: true,
      move_resource_state: true,
      generate_resource_config: true,
    },
    resources: ["example_box"],
    dataSources: ["example_count"],
    functions: [{ name: "glue" }],
    ephemerals: ["example_key"],
    lists: ["example_box"],
    actions: ["example_shake"],
  });
  const schema = await host.call("GetProviderSchema");
  const keys = (name: string) => Object.keys(schema[name] as Fields);
  expect([
    keys("resource_schemas"),
    keys("data_source_schemas"),
    keys("functions"),
    keys("ephemeral_resource_schemas"),
    keys("list_resource_schemas"),
    keys("action_schemas"),
  ]).toEqual([
    ["example_box"],
    ["example_count"],
    ["glue"],
    ["example_key"],
    ["example_box"],
    ["example_shake"],
  ]);
  expect(await host.call("GetFunctions")).toEqual({
    functions: schema["functions"],
    diagnostics: [],
  });
});

test("flags of attributes stand in the schema: write-only, deprecated, sensitive, nested", async () => {
  const { resource_schemas } = await host.call("GetProviderSchema");
  const { version, block } = (resource_schemas as Record<string, Fields>)["example_box"] as {
    version: number;
    block: { attributes: Fields[] };
  };
  expect(version).toBe(2);
  const of = (name: string) => block.attributes.find((one) => one["name"] === name) ?? {};
  expect(of("secret_wo")).toMatchObject({ write_only: true, sensitive: true, optional: true });
  expect(of("title")).toMatchObject({ deprecated: true, deprecation_message: "Use name." });
  expect(of("disks")).toMatchObject({ nested_type: { nesting: 2 } });
});

test("arbitrary bytes to any call end in an answer or a gRPC status; the provider lives on", async () => {
  const garbage = [
    "ffffff",
    "0a",
    "0a05616263",
    "12ff01",
    "1a020808",
    "0a00120a0a08ffffffffffffffff",
  ];
  const fate = async (name: string, hex: string) => {
    try {
      const messages = [];
      for await (const message of streamNames.includes(name)
        ? host.streamed(`/tfplugin6.Provider/${name}`, Buffer.from(hex, "hex"))
        : [await host.raw(`/tfplugin6.Provider/${name}`, Buffer.from(hex, "hex"))])
        messages.push(message);
      return "answered";
    } catch (error) {
      return error instanceof Error && error.name === "GrpcError" ? error.name : String(error);
    }
  };
  const calls = callNames.filter((name) => name !== "StopProvider");
  for (const name of calls)
    for (const hex of garbage) expect(["answered", "GrpcError"]).toContain(await fate(name, hex));
  expect(await host.call("GetFunctions")).toMatchObject({ diagnostics: [] });
  expect(host.stderr).not.toMatch(/panic:/);
});

test("a box lives as Terraform leads it: made, changed, replaced, read, imported, removed", async () => {
  const it = await box();
  const made = await it.apply({ name: "a", disks: [{ name: "d0" }], labels: { x: "y" } });
  expect(made.planned).toMatchObject({
    id: new UnknownValue(),
    size_gib: 1, // the default
    mac: "52:54:00:00:00:01", // foreseen
    digest: new UnknownValue(),
    disks: [{ name: "d0", serial: new UnknownValue() }],
    secret_wo: null,
  });
  expect(it.identity).toEqual({ id: "box-a" });
  const grown = await it.apply({ name: "b", size_gib: 7, disks: [{ name: "d0" }, { name: "d1" }] });
  expect(grown.replaces).toEqual([]);
  expect(it.state).toMatchObject({
    id: "box-a",
    name: "b",
    size_gib: 7,
    disks: [{}, { serial: "serial-d1" }],
  });
  expect((await it.apply({ name: "b", zone: "island" })).replaces).toEqual([]);
  expect((await it.plan({ name: "b", zone: "shore" })).replaces).toEqual(["zone"]); // from the island only
  await it.apply({ name: "b", zone: "shore" });
  expect(it.state).toMatchObject({ id: "box-b", zone: "shore" });

  const other = await box();
  await other.import("b");
  expect(other.state).toEqual(it.state);
  const third = await box();
  await third.import({ id: "box-b" });
  expect([third.identity, third.state]).toEqual([{ id: "box-b" }, it.state]);
  await it.destroy();
  expect(it.state).toBeNull();
  await other.refresh();
  expect(other.state).toBeNull(); // gone: to be made again
});

test("another spelling of the same value is no change, in plan, in apply and in read", async () => {
  const it = await box();
  await it.apply({ name: "a", mac: "52-54-00-AB-CD-EF" }); // the world says 52:54:00:ab:cd:ef
  expect(it.state).toMatchObject({ mac: "52-54-00-AB-CD-EF" });
  const plan = await it.plan({ name: "a", mac: "5254.00ab.cdef" });
  expect(plan.planned).toEqual(it.state);
  expect((await it.plan({ name: "a", mac: "52:54:00:ab:cd:00" })).planned).not.toEqual(it.state);
});

test("a write-only value reaches the object and no state; its version says when to send it", async () => {
  const it = await box();
  await it.apply({ name: "a", secret_wo: "s1", secret_version: 1 });
  const { digest } = it.state ?? {};
  await it.apply({ name: "a", secret_wo: "s2", secret_version: 1 });
  expect(it.state).toMatchObject({ digest, secret_wo: null });
  const plan = await it.plan({ name: "a", secret_wo: "s2", secret_version: 2 });
  expect(plan.planned).toMatchObject({ digest: new UnknownValue(), secret_wo: null }); // it follows the version
  await it.apply({ name: "a", secret_wo: "s2", secret_version: 2 });
  expect(it.state?.["digest"]).not.toBe(digest);
  const old = await host.call("ValidateResourceConfig", {
    type_name: "example_box",
    config: toValue(it.config({ name: "a", secret_wo: "s", secret_version: 1 })),
  });
  expect(diagnosticsOf(old)).toMatchObject([
    {
      summary: "Write-only attributes need a newer tool",
      attribute: { steps: [{ attribute_name: "secret_wo" }] },
    },
  ]);
});

test("validators and rules speak on the attribute, and never about what is not known yet", async () => {
  const it = await box();
  const said = async (given: Fields) =>
    (await refusal(it.validate(given))).diagnostics.map(({ summary }) => summary);
  expect(await said({ name: "a", size_gib: 2.5 })).toEqual(["Not a whole number"]);
  expect(await said({ name: "a", title: "t", labels: {} })).toEqual([
    "Attributes exclude each other",
  ]);
  expect(await said({ name: "a", secret_wo: "s" })).toEqual(["Attributes belong together"]);
  expect(await said({ name: "a", timeouts: { create: "soon", delete: null } })).toEqual([
    "Not a duration",
  ]);
  const unknowns = {
    name: new UnknownValue({ notNull: true, prefix: "b" }),
    size_gib: new UnknownValue({ min: [1, true], max: [9, false] }),
    title: new UnknownValue(),
    labels: new UnknownValue({ lengthMin: 1, lengthMax: 3 }),
    secret_wo: new UnknownValue(),
    secret_version: 1,
    disks: new UnknownValue(),
    timeouts: { create: new UnknownValue(), delete: null },
  };
  expect(await it.validate(unknowns)).toMatchObject([
    { severity: 2, summary: "Deprecated attribute" },
  ]);
  expect((await it.plan(unknowns)).planned).toMatchObject({ name: new UnknownValue() });
});

test("the look ahead warns and refuses in the plan, keeps data for apply, and sees removals", async () => {
  const it = await box();
  const plan = await it.plan({ name: "precious", size_gib: 500 });
  expect(plan.warnings).toMatchObject([
    { severity: 2, summary: "A large box", attribute: { steps: [{ attribute_name: "size_gib" }] } },
  ]);
  expect(JSON.parse(Buffer.from(plan.private).toString())).toEqual({ foreseen: 1 });
  await it.apply({ name: "precious" });
  expect((await refusal(it.destroy())).message).toMatch(/Rename the box before you remove it/);
  expect(it.state).not.toBeNull();
  await it.apply({ name: "cheap" });
  await it.destroy();
});

test("what failed half way is what the state says", async () => {
  const half = await box();
  expect((await refusal(half.apply({ name: "half" }))).message).toMatch(/The lid is missing/);
  expect(half.state).toMatchObject({ id: "box-half" }); // tainted, not lost
  const it = await box();
  await it.apply({ name: "a", size_gib: 2 });
  const before = it.state;
  expect((await refusal(it.apply({ name: "refused", size_gib: 3 }))).diagnostics).toMatchObject([
    { summary: "Refused", attribute: { steps: [{ attribute_name: "name" }] } },
  ]);
  expect(it.state).toEqual(before);
  const bug = await refusal(it.apply({ name: "bug" }));
  expect(bug.message).toMatch(
    /An unexpected error in ApplyResourceChange.*a bug in the provider[\s\S]*RangeError/,
  );
  expect(it.state).toEqual(before); // a bug of ours makes nothing forgotten
  await it.apply({ name: "stuck" });
  await refusal(it.destroy());
  expect(it.state).toMatchObject({ name: "stuck" });
});

test("a create that takes longer than its timeouts ends with the reason", async () => {
  const it = await box();
  const late = await refusal(
    it.apply({ name: "slow", timeouts: { create: "50ms", delete: null } }),
  );
  expect(late.message).toMatch(/not finished within timeouts\.create = 50ms/);
  expect(it.state).toBeNull();
});

test("stored states of older versions are brought up one version at a time", async () => {
  const upgrade = async (version: number, json: object) => {
    const answer = await host.call("UpgradeResourceState", {
      type_name: "example_box",
      version,
      raw_state: { json: Buffer.from(JSON.stringify(json)) },
    });
    return diagnosticsOf(answer).length > 0
      ? summaries(answer)
      : fromValue(answer["upgraded_state"]);
  };
  const same = state({ name: "n", size_gib: 5, mac: null, digest: null });
  expect(await upgrade(0, { id: "box-a", called: "n", size: "5GiB", gone: {} })).toEqual(same);
  expect(await upgrade(1, { id: "box-a", name: "n", size: "5GiB" })).toEqual(same);
  expect(await upgrade(2, { id: "box-a", name: "n", size_gib: 5 })).toEqual(same);
  expect(await upgrade(3, {})).toEqual(["error: State of a newer provider"]);
  const flat = await host.call("UpgradeResourceState", {
    type_name: "example_box",
    version: 0,
    raw_state: { flatmap: { id: "a" } },
  });
  expect(diagnosticsOf(flat)[0]?.detail).toMatch(/as tools before Terraform 0.12 wrote it/);
  const identity = await host.call("UpgradeResourceIdentity", {
    type_name: "example_box",
    version: 0,
    raw_identity: { json: Buffer.from('{"id":"box-a","gone":1}') },
  });
  const { identity_data } = identity["upgraded_identity"] as Fields;
  expect(fromValue(identity_data)).toEqual({ id: "box-a" });
});

test("states move in from other types and other addresses, or say what could", async () => {
  const move = async (source: Fields, json: object) =>
    await host.call("MoveResourceState", {
      target_type_name: "example_box",
      source_schema_version: 0,
      source_state: { json: Buffer.from(JSON.stringify(json)) },
      ...source,
    });
  const from = {
    source_provider_address: "registry.invalid/example/other",
    source_type_name: "other_crate",
  };
  const moved = await move(from, { uuid: "box-7", whatever: true });
  expect(fromValue(moved["target_state"])).toMatchObject({ id: "box-7", name: null });
  expect(fromValue((moved["target_identity"] as Fields)["identity_data"])).toEqual({ id: "box-7" });
  expect(summaries(await move(from, {}))).toEqual(["error: Nothing to move"]);
  const renamed = await move(
    { source_provider_address: "old.invalid/drover/drover", source_type_name: "example_box" },
    { id: "box-8", called: "n", size: "2GiB" },
  );
  expect(fromValue(renamed["target_state"])).toMatchObject({ id: "box-8", name: "n", size_gib: 2 });
  const foreign = await move({ ...from, source_type_name: "other_jar" }, {});
  expect(diagnosticsOf(foreign)[0]?.detail).toMatch(/It can be moved from other_crate/);
});

test("a generated configuration holds what a user would have written", async () => {
  const answer = await host.call("GenerateResourceConfig", {
    type_name: "example_box",
    state: toValue(state({ labels: { x: "y" }, disks: [{ name: "d", serial: "s" }] })),
  });
  expect(fromValue(answer["config"])).toEqual({
    ...state({ id: null, size_gib: null, digest: null, labels: { x: "y" } }),
    disks: [{ name: "d", serial: null }],
  });
});

test("a data source is validated and read", async () => {
  const it = await box();
  await it.apply({ name: "a", zone: "shore" });
  const answer = await host.call("ReadDataSource", {
    type_name: "example_count",
    config: toValue({ zone: "shore", total: null }),
  });
  expect(fromValue(answer["state"])).toEqual({ zone: "shore", total: 1 });
});

test("functions take nulls, unknowns and any number of arguments; errors name the argument", async () => {
  const call = async (...values: unknown[]) => {
    const answer = await host.call("CallFunction", {
      name: "glue",
      arguments: values.map(toValue),
    });
    return answer["error"] ?? fromValue(answer["result"]);
  };
  expect(await call("-", "a", "b", "c")).toBe("a-b-c");
  expect(await call(null, "a", "b")).toBe("ab");
  expect(await call("-")).toBe("");
  expect(await call("-", "a", new UnknownValue())).toEqual({
    text: "It is not known.",
    function_argument: 2,
  });
  expect(await call()).toMatchObject({ text: expect.stringMatching(/takes 1 arguments/) });
  expect(await call("bug", "a")).toMatchObject({
    text: expect.stringMatching(/a bug in the provider[\s\S]*RangeError/),
  });
  expect(await call(7, "a")).toMatchObject({ text: expect.stringMatching(/where string is due/) });
  const none = await host.call("CallFunction", { name: "nothing", arguments: [] });
  expect(none["error"]).toMatchObject({ text: "this provider has no function nothing" });
});

test("an ephemeral resource is opened, renewed until it says so, and closed", async () => {
  const config = toValue({ lock: "door", key: null });
  expect(
    summaries(
      await host.call("ValidateEphemeralResourceConfig", { type_name: "example_key", config }),
    ),
  ).toEqual([]);
  const opened = await host.call("OpenEphemeralResource", { type_name: "example_key", config });
  expect(fromValue(opened["result"])).toEqual({ lock: "door", key: "key-of-door" });
  expect(opened["renew_at"]).toEqual({ seconds: 1_700_000_000, nanos: 250_000_000 });
  let kept = opened["private"];
  for (const nanos of [1_000_000, 2_000_000]) {
    const renewed = await host.call("RenewEphemeralResource", {
      type_name: "example_key",
      private: kept,
    });
    expect(renewed["renew_at"]).toEqual({ seconds: 1_700_000_000, nanos });
    kept = renewed["private"];
  }
  const last = await host.call("RenewEphemeralResource", {
    type_name: "example_key",
    private: kept,
  });
  expect([last["renew_at"] ?? null, last["private"]]).toEqual([null, kept]);
  expect(
    summaries(
      await host.call("CloseEphemeralResource", { type_name: "example_key", private: kept }),
    ),
  ).toEqual([]);
  await host.said(/"closed"/);
  const none = await host.call("OpenEphemeralResource", {
    type_name: "example_key",
    config: toValue({ lock: "nothing", key: null }),
  });
  expect(summaries(none)).toEqual(["error: No such lock"]);
});

test("a list streams identities, whole objects when asked, no more than the limit, warnings last", async () => {
  saveBoxes(
    ["a", "b", "c"].map(
      (name) =>
        ({ ...state({ name, id: `box-${name}` }), zone: name === "c" ? "fog" : null }) as never,
    ),
  );
  const list = async (request: Fields) => {
    const found = [];
    for await (const event of host.events("ListResource", {
      type_name: "example_box",
      ...request,
    })) {
      const { identity_data } = (event["identity"] ?? {}) as Fields;
      const whole = event["resource_object"] ?? null;
      found.push([
        fromValue(identity_data),
        event["display_name"],
        (fromValue(whole) as Fields | null)?.["name"] ?? null,
        ...(event["diagnostic"] as Fields[]).map(({ summary }) => summary),
      ]);
    }
    return found;
  };
  const all = toValue({ zone: null });
  expect(await list({ config: all })).toEqual([
    [{ id: "box-a" }, "a", null],
    [{ id: "box-b" }, "b", null],
    [{ id: "box-c" }, "c", null],
  ]);
  expect(await list({ config: all, limit: 2, include_resource_object: true })).toEqual([
    [{ id: "box-a" }, "a", "a"],
    [{ id: "box-b" }, "b", "b"],
  ]);
  expect(await list({ config: toValue({ zone: "fog" }) })).toEqual([
    [{ id: "box-c" }, "c", null],
    [null, "", null, "Fog"],
  ]);
  expect(
    summaries(
      await host.call("ValidateListResourceConfig", {
        type_name: "example_box",
        config: all,
        limit: toValue(5),
      }),
    ),
  ).toEqual([]);
});

test("an action is planned, tells its progress as it goes, and is cancelled with its stream", async () => {
  const config = toValue({ times: 3, hard: true });
  expect(
    summaries(await host.call("ValidateActionConfig", { action_type: "example_shake", config })),
  ).toEqual([]);
  expect(
    summaries(await host.call("PlanAction", { action_type: "example_shake", config })),
  ).toEqual(["warning: Hard"]);
  const said = [];
  for await (const event of host.events("InvokeAction", { action_type: "example_shake", config }))
    said.push(event["progress"] ?? event["completed"]);
  expect(said).toMatchObject([
    { message: "shaken 1 of 3" },
    { message: "shaken 2 of 3" },
    { message: "shaken 3 of 3" },
    { diagnostics: [{ severity: 2, summary: "Broken" }] },
  ]);
  const endless = toValue({ times: 1e9, hard: false });
  for await (const event of host.events("InvokeAction", {
    action_type: "example_shake",
    config: endless,
  }))
    if ((event["progress"] as Fields)["message"] === "shaken 20 of 1000000000") break;
  await host.said(/"stopped shaking"/);
});

test("StopProvider ends an action and a create that wait, each with what it reached", async () => {
  const fresh = await PluginHost.start(executable);
  const config = toValue({ times: 1e9, hard: false });
  const events = fresh.events("InvokeAction", { action_type: "example_shake", config });
  await events.next();
  const slow = await Lifecycle.of(fresh, "example_box");
  const made = refusal(slow.apply({ name: "slow" }));
  await fresh.said(/"creates"/);
  await fresh.call("StopProvider");
  expect((await made).message).toMatch(/interrupted/);
  const said = [];
  for await (const event of events) said.push(event["completed"] ?? null);
  expect(said.at(-1)).toMatchObject({ diagnostics: [{ severity: 1, summary: "Interrupted" }] });
  expect(await fresh.shutdown()).toBe(0);
});

test("with an unknown provider configuration, work is put off where the client allows it", async () => {
  const fresh = await PluginHost.start(executable);
  await fresh.call("ConfigureProvider", {
    config: toValue({ endpoint: new UnknownValue(), token: null, ca_file: null }),
  });
  const client_capabilities = { deferral_allowed: true, write_only_attributes_allowed: true };
  const deferred = { reason: 2 }; // PROVIDER_CONFIG_UNKNOWN
  const current = toValue(state({}));
  const type_name = "example_box";
  const config = toValue({ zone: null, total: null });
  expect(
    await Promise.all([
      fresh.call("ReadResource", { type_name, current_state: current, client_capabilities }),
      fresh.call("PlanResourceChange", {
        type_name,
        prior_state: toValue(null),
        proposed_new_state: current,
        config: current,
        client_capabilities,
      }),
      fresh.call("ImportResourceState", { type_name, id: "x", client_capabilities }),
      fresh.call("ReadDataSource", { type_name: "example_count", config, client_capabilities }),
      fresh.call("OpenEphemeralResource", {
        type_name: "example_key",
        config: toValue({ lock: "a", key: null }),
        client_capabilities,
      }),
      fresh.call("PlanAction", {
        action_type: "example_shake",
        config: toValue({ times: 1, hard: true }),
        client_capabilities,
      }),
    ]),
  ).toMatchObject(Array.from({ length: 6 }, () => ({ deferred, diagnostics: [] })));
  const refused = await fresh.call("ReadDataSource", { type_name: "example_count", config });
  expect(summaries(refused)).toEqual(["error: Not known yet"]); // others cannot wait
  expect(await fresh.shutdown()).toBe(0);
});
