/** The drift table of docs/decisions/0006: what read and plan make of adaptations, foreign changes and edits. Pure. */

import { createHash } from "node:crypto";
import { machineAttributes } from "@drover/provider/resources/machine-attributes";
import { patchOf, planMachine } from "@drover/provider/resources/machine-plan";
import { stateOf } from "@drover/provider/resources/machine-state";
import type { PlannedOf } from "@drover/provider/schema/attribute";
import { completePlan } from "@drover/provider/schema/plan";
import { Report } from "@drover/provider/schema/report";
import { type ObjectValue, unknown } from "@drover/provider/schema/value";
import type { MachineView } from "@drover/shepherd/api/contract";
import { expect, test } from "@jest/globals";

type Planned = PlannedOf<typeof machineAttributes>;
type Config = Partial<Planned>;

/** Declared with 2 vCPUs at site a. */
const declared: MachineView = {
  id: "m1",
  environment_id: "e1",
  environment: "ring",
  name: "rank-0",
  group: null,
  speaker: false,
  class: "batch",
  image_id: "i1",
  vcpus: 2,
  cpu_percent: 100,
  memory_mib: 256,
  cpu_weight: 100,
  site: "a",
  host: null,
  adaptation: { mode: "auto", vcpus: { min: 1, max: 8 }, sites: ["a", "b"] },
  declared_adaptation: { mode: "auto", vcpus: { min: 1, max: 8 }, sites: ["a", "b"] },
  disks: [],
  user_data_sha256: null,
  stop_timeout_s: 20,
  deletion_protection: false,
  allow_restart: false,
  raw_xml_patch: [],
  origin: "stack",
  managed_by: null,
  restart_needed: [],
  networks: [{ network_id: "n1", address: "10.42.0.10", mac: "52:54:00:00:00:01", plugged: true }],
  ceiling: { vcpus: 8, memory_mib: 256 },
  guest_seen: null,
  effective: {
    vcpus: 2,
    cpu_percent: 100,
    cpu_weight: 100,
    memory_mib: 256,
    site: "a",
    host: "a1",
    state: "running",
    adaptation_id: null,
    lease_until_ms: null,
    reason: null,
  },
  drift: [],
  version: 3,
};
/** An approved adaptation has taken it to 6 vCPUs at site b. */
const adapted: MachineView = {
  ...declared,
  effective: {
    ...declared.effective,
    vcpus: 6,
    site: "b",
    host: "b1",
    adaptation_id: "ad1",
    lease_until_ms: Date.parse("2026-11-23T15:04:05Z"),
    reason: "lanczos phase",
  },
};
/** Someone set it to 9 vCPUs behind the shepherd's back. */
const foreign: MachineView = {
  ...adapted,
  effective: { ...adapted.effective, vcpus: 9 },
  drift: [{ attribute: "vcpus", expected: 6, actual: 9 }],
};
const config: Config = {
  environment_id: "e1",
  name: "rank-0",
  image_id: "i1",
  vcpus: 2,
  cpu_percent: 100,
  memory_mib: 256,
  site: "a",
  networks: [{ network_id: "n1", address: "10.42.0.10" }],
  adaptation: {
    mode: "auto",
    vcpus: { min: 1, max: 8 },
    cpu_percent: null,
    memory_mib: null,
    sites: ["a", "b"],
    pinned_attributes: null,
  },
};

/** Applied while it looked like `applied`, refreshed when it looks like `now`, planned with `wanted`. */
function planAfter(now: MachineView, wanted: Config = config, observed = {}) {
  const full = (values: Config): Planned =>
    Object.fromEntries(
      Object.keys(machineAttributes).map((name) => [name, values[name as keyof Config] ?? null]),
    ) as unknown as Planned;
  const before = stateOf(declared, full(config)).state;
  const read = stateOf(now, before as Planned);
  const state = read.state;
  const kept = { ...read.private, ...observed };
  const configured = full(wanted);
  // As Terraform proposes: what is configured, else the prior value where the attribute is computed.
  const proposed = Object.fromEntries(
    Object.entries(machineAttributes).map(([name, attribute]) => {
      const given = configured[name as keyof Planned];
      const prior = state[name as keyof typeof state];
      return [name, given ?? ("computed" in attribute ? prior : null)];
    }),
  );
  const planned = completePlan(machineAttributes, {
    prior: state as unknown as ObjectValue,
    proposed: proposed as unknown as ObjectValue,
    config: configured as unknown as ObjectValue,
  }) as unknown as Planned;
  const report = new Report();
  const final = {
    ...planned,
    ...planMachine({ prior: state, config: configured, planned, private: kept }, report),
  } as Planned;
  return {
    changes: Object.fromEntries(
      (Object.keys(machineAttributes) as (keyof Planned)[])
        .filter((name) => JSON.stringify(final[name]) !== JSON.stringify(state[name]))
        .map((name) => [name, final[name]]),
    ),
    patch: patchOf(state, { planned: final, config: { user_data_wo: null } }, kept),
    warnings: report.diagnostics.map(({ summary }) => summary),
  };
}

/** `effective` of a plan that changes live values: what it promises, and what is known only afterwards. */
const promise = (live: object) => ({
  cpu_percent: 100,
  memory_mib: 256,
  vcpus: 6,
  site: "b",
  ...live,
  host: unknown,
  state: unknown,
  adaptation_id: unknown,
  lease_until: unknown,
  reason: unknown,
});
const clean = { changes: {}, patch: undefined, warnings: [] };
const superseded = ["An approved adaptation will be superseded"];

test("plan after an approved change is clean", () => {
  expect(planAfter(adapted)).toEqual(clean);
});

test("an unrelated edit keeps the adapted values", () => {
  expect(planAfter(adapted, { ...config, class: "sensitive" })).toEqual({
    changes: { class: "sensitive" },
    patch: { class: "sensitive" },
    warnings: [],
  });
});

test("unapproved drift to 9 is shown as 9 -> 2, and nothing else", () => {
  expect(planAfter(foreign)).toEqual({
    changes: { vcpus: 2, effective: promise({ vcpus: 2 }) },
    patch: { vcpus: 2, planned_from: { vcpus: 9 }, planned_effective: { vcpus: 2 } },
    warnings: superseded,
  });
});

test("a weight that somebody else gave it is shown as 900 -> 100; an edit touches nothing that is adapted", () => {
  const weighed: MachineView = {
    ...adapted,
    effective: { ...adapted.effective, cpu_weight: 900 },
    drift: [{ attribute: "cpu_weight", expected: 100, actual: 900 }],
  };
  expect(planAfter(weighed)).toEqual({
    changes: { cpu_weight: 100 },
    patch: { cpu_weight: 100 },
    warnings: [],
  });
  expect(planAfter(adapted, { ...config, cpu_weight: 300 })).toEqual({
    changes: { cpu_weight: 300 },
    patch: { cpu_weight: 300 },
    warnings: [],
  });
});

test("another host is a live move; taking the word back moves nothing", () => {
  const atA2 = { ...config, host: "a2" };
  expect(planAfter(declared, atA2)).toEqual({
    changes: { host: "a2", effective: { ...promise({ vcpus: 2, site: "a" }), host: "a2" } },
    patch: { host: "a2" },
    warnings: [],
  });
  // It is there: the words change, and nothing else.
  expect(planAfter(declared, { ...config, host: "a1" })).toEqual({
    changes: { host: "a1" },
    patch: { host: "a1" },
    warnings: [],
  });
  // From where an adaptation took it, back to its site.
  expect(planAfter(adapted, atA2).changes).toMatchObject({
    host: "a2",
    effective: { host: "a2", site: "a" },
  });
  expect(planAfter({ ...declared, host: "a1" }, config)).toEqual({
    changes: { host: null },
    patch: { host: null },
    warnings: [],
  });
  // Where it is by now is nobody's drift.
  expect(planAfter({ ...declared, host: "a2" }, atA2)).toEqual(clean);
});

test("a user's edit 2 -> 4 wins over the adaptation, and plan warns", () => {
  expect(planAfter(adapted, { ...config, vcpus: 4 })).toEqual({
    changes: { vcpus: 4, effective: promise({ vcpus: 4 }) },
    patch: { vcpus: 4, planned_from: { vcpus: 6 }, planned_effective: { vcpus: 4 } },
    warnings: superseded,
  });
});

test("adding a pin puts the baselines in force, in one step", () => {
  const adaptation = { ...(config.adaptation as object), mode: "pinned" } as Planned["adaptation"];
  expect(planAfter(adapted, { ...config, adaptation })).toEqual({
    changes: { adaptation, effective: promise({ vcpus: 2, site: "a" }) },
    patch: {
      adaptation: {
        mode: "pinned",
        vcpus: { min: 1, max: 8 },
        cpu_percent: null,
        memory_mib: null,
        sites: ["a", "b"],
        pinned_attributes: null,
      },
      vcpus: 2,
      site: "a",
      planned_from: { vcpus: 6, site: "b" },
      planned_effective: { vcpus: 2, site: "a" },
    },
    warnings: superseded,
  });
});

test("baselines stay what they are for those who refer to them", () => {
  const { state } = stateOf(adapted, null);
  expect([state.vcpus, state.site]).toEqual([2, "a"]);
});

test("a machine that is pinned and at its baselines is left alone, also within 1 MiB", () => {
  const adaptation = { ...(config.adaptation as object), mode: "pinned" } as Planned["adaptation"];
  const pinned: MachineView = {
    ...declared,
    adaptation: { ...declared.adaptation, mode: "pinned" },
    declared_adaptation: { ...declared.declared_adaptation, mode: "pinned" },
    effective: { ...declared.effective, memory_mib: 257 },
  };
  expect(planAfter(pinned, { ...config, adaptation })).toEqual(clean);
});

test("drift of an attribute that the stack leaves to the shepherd shows too, against its default", () => {
  const { vcpus: _, ...silent } = config;
  expect(planAfter(foreign, silent).changes).toEqual({
    vcpus: 2,
    effective: promise({ vcpus: 2 }),
  });
  expect(planAfter(adapted, silent)).toEqual(clean);
});

test("an edit of site is a move in place with the host known afterwards", () => {
  expect(planAfter(declared, { ...config, site: "b" })).toEqual({
    changes: { site: "b", effective: promise({ vcpus: 2, site: "b" }) },
    patch: { site: "b", planned_from: { site: "a" }, planned_effective: { site: "b" } },
    warnings: [],
  });
});

test("a move that is under way, or that failed half way, is planned again until it is reached", () => {
  const moving: MachineView = {
    ...declared,
    site: "b",
    effective: { ...declared.effective, state: "moving" },
  };
  expect(planAfter(moving, { ...config, site: "b" })).toEqual({
    changes: { effective: promise({ vcpus: 2, site: "b" }) },
    patch: { site: "b", planned_from: { site: "a" }, planned_effective: { site: "b" } },
    warnings: [],
  });
});

test("an adaptation that is half way, not recorded yet, is left alone", () => {
  const halfWay: MachineView = {
    ...declared,
    effective: { ...declared.effective, vcpus: 6 },
  };
  expect(planAfter(halfWay, config, { adapting: true })).toEqual(clean);
  expect(planAfter(halfWay).changes).toEqual({ effective: promise({ vcpus: 2, site: "a" }) });
});

test("a move that an adaptation makes is left alone while it is under way", () => {
  const moving: MachineView = {
    ...adapted,
    effective: { ...adapted.effective, site: "a", host: "a1", state: "moving" },
  };
  expect(planAfter(moving)).toEqual(clean);
});

test("start_from that appears beside an existing machine changes nothing", () => {
  const start_from = {
    vcpus: 6,
    cpu_percent: 100,
    memory_mib: 256,
    site: "b",
    adaptation_id: "ad1",
  };
  expect(planAfter(adapted, { ...config, start_from })).toEqual(clean);
});

test("a stack without adaptation sees none, whatever its environment says", () => {
  const view: MachineView = { ...declared, declared_adaptation: null };
  expect(stateOf(view, { adaptation: null } as Planned).state.adaptation).toBeNull();
  expect(stateOf(view, null).state.adaptation).toBeNull();
});

test("removing the bounds leaves them to the environment", () => {
  const { adaptation: _, ...plain } = config;
  expect(planAfter(adapted, plain)).toEqual({
    changes: { adaptation: null },
    patch: { adaptation: null },
    warnings: [],
  });
});

const bounds = (more: object) =>
  ({ ...(config.adaptation as object), ...more }) as Planned["adaptation"];

test("an edit of what was not adapted says nothing of the adaptation", () => {
  expect(planAfter(adapted, { ...config, memory_mib: 512 })).toMatchObject({
    changes: { memory_mib: 512, effective: promise({ memory_mib: 512 }) },
    warnings: [],
  });
});

test("an attribute that is pinned goes back to its baseline, the others stay adapted", () => {
  const adaptation = bounds({ pinned_attributes: ["site"] });
  expect(planAfter(adapted, { ...config, adaptation })).toMatchObject({
    changes: { adaptation, effective: promise({ vcpus: 6, site: "a" }) },
    patch: { site: "a", planned_from: { site: "b" }, planned_effective: { site: "a" } },
    warnings: superseded,
  });
});

test("bounds that leave out what was granted put the baseline in force", () => {
  const adaptation = bounds({ vcpus: { min: 1, max: 4 } });
  expect(planAfter(adapted, { ...config, adaptation })).toMatchObject({
    changes: { adaptation, effective: promise({ vcpus: 2 }) },
    patch: { vcpus: 2, planned_from: { vcpus: 6 }, planned_effective: { vcpus: 2 } },
    warnings: superseded,
  });
});

test("wider bounds, and bounds left to the environment, keep what was granted", () => {
  const wider = bounds({ vcpus: { min: 1, max: 16 } });
  expect(planAfter(adapted, { ...config, adaptation: wider }).changes).toEqual({
    adaptation: wider,
  });
  const open = bounds({ vcpus: null, sites: null });
  expect(planAfter(adapted, { ...config, adaptation: open }).changes).toEqual({ adaptation: open });
});

test("an environment that pins holds for machines that say nothing of a mode", () => {
  const view: MachineView = {
    ...adapted,
    adaptation: { ...adapted.adaptation, mode: "pinned" },
    declared_adaptation: { vcpus: { min: 1, max: 8 } },
  };
  const adaptation = bounds({ mode: null, sites: null });
  expect(planAfter(view, { ...config, adaptation }).changes).toMatchObject({
    effective: promise({ vcpus: 2, site: "a" }),
  });
});

test("a baseline that catches up with what was granted adopts it: nothing moves, nothing is warned of", () => {
  expect(planAfter(adapted, { ...config, vcpus: 6, site: "b" })).toEqual({
    changes: {
      vcpus: 6,
      site: "b",
      effective: {
        ...adaptedState(),
        adaptation_id: unknown,
        lease_until: unknown,
        reason: unknown,
      },
    },
    patch: {
      vcpus: 6,
      site: "b",
      planned_from: { vcpus: 6, site: "b" },
      planned_effective: { vcpus: 6, site: "b" },
    },
    warnings: [],
  });
});

function adaptedState() {
  const { effective } = stateOf(adapted, null).state;
  return effective;
}

test("a network that comes first leaves the other's address with it", () => {
  const networks = [
    { network_id: "n2", address: null },
    { network_id: "n1", address: null },
  ];
  expect(planAfter(declared, { ...config, networks })).toMatchObject({
    changes: {
      networks: [
        { network_id: "n2", address: unknown },
        { network_id: "n1", address: "10.42.0.10" },
      ],
    },
    patch: {
      networks: [
        { network_id: "n2", address: null },
        { network_id: "n1", address: "10.42.0.10" },
      ],
    },
  });
});

test("user data that another hand has changed shows as missing, the same text does not", () => {
  const text = "#cloud-config\n";
  const digest = createHash("sha256").update(text).digest("hex");
  const before = { user_data: text } as Planned;
  expect(stateOf({ ...declared, user_data_sha256: digest }, before).state.user_data).toBe(text);
  expect(stateOf({ ...declared, user_data_sha256: "0" }, before).state.user_data).toBeNull();
});
