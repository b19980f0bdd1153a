/**
 * `drover_machine`: one virtual machine that adapts while it runs. Its attributes hold baselines, live values stand in
 * `effective`; a live value that no adaptation explains is shown in the baseline's place, so that plan puts it back.
 * Knows what the shepherd says about drift; never judges itself whether a value was approved.
 */
import { path } from "@drover/shepherd/api/client";
import type {
  MachineBody,
  MachinePatch,
  MachineView,
  OperationView,
} from "@drover/shepherd/api/contract";
import type { PlannedOf, StateOf } from "#schema/attribute";
import type { Report } from "#schema/report";
import {
  defineResource,
  type PlannedChange,
  type PrivateData,
  type Reached,
  type Work,
} from "#schema/resource";
import { equal, isUnknown, type Unknown, unknown, type Value } from "#schema/value";
import { declaredObject, splitImportId } from "./declared-object.ts";
import { findOne } from "./lookup.ts";
import { type MachineAttributes, machineAttributes } from "./machine-attributes.ts";
import { joinOperations } from "./mutation.ts";
import { leaseTime } from "./time.ts";

type State = StateOf<MachineAttributes>;
type Planned = PlannedOf<MachineAttributes>;
type Effective = NonNullable<State["effective"]>;
type StartFrom = NonNullable<State["start_from"]>;
type Adaptation = NonNullable<State["adaptation"]>;

/** The attributes that adapt; each is a baseline at the top and a live value under `effective`. */
const adaptable = ["vcpus", "cpu_percent", "memory_mib", "site"] as const;
type Adaptable = (typeof adaptable)[number];
const ranged = ["vcpus", "cpu_percent", "memory_mib"] as const;
/** Balloon targets are reached within this; closer values are the same (DESIGN 8). */
const memoryToleranceMib = 1;

export const machine = defineResource({
  name: "drover_machine",
  version: 0,
  description:
    "A virtual machine that may adapt while it runs: resized and moved live, within its envelope and policy.",
  importId: "environment/name or id",
  attributes: machineAttributes,
  validate,
  plan: planMachine,
  ...declaredObject<MachineAttributes, MachineView>({
    noun: "machine",
    typeName: "drover_machine",
    attributes: Object.keys(machineAttributes),
    put: (planned) => ({
      path: path`/v1/environments/${String(planned.environment_id)}/machines/${String(planned.name)}`,
      body: bodyOf(planned),
    }),
    one: (id) => path`/v1/machines/${id}`,
    lookUp: (client, planned) =>
      findOne<MachineView>(client, "/v1/machines", {
        environment: String(planned.environment_id),
        name: String(planned.name),
      }),
    join,
    observe,
    patch: ({ prior, planned, private: kept }) => patchOf(prior, planned, kept),
    state: stateOf,
    settle: keepPromises,
    idOf: (state) => state.id ?? "",
    nameOf: (state) => String(state.name),
    find: (client, id) => {
      const key = splitImportId(id);
      return key === undefined
        ? client.find(path`/v1/machines/${id}`)
        : findOne<MachineView>(client, "/v1/machines", key);
    },
    importIdOf: (planned) => `${String(planned.environment_id)}/${String(planned.name)}`,
  }),
});

function validate(config: Planned, report: Report): void {
  const { adaptation } = config;
  if (config.speaker === true && config.group === null)
    report
      .at("speaker")
      .error(
        "A speaker needs a group",
        "Set group to the group that it speaks for, or remove speaker.",
      );
  if (adaptation === null || isUnknown(adaptation)) return;
  for (const name of ranged) {
    const range = adaptation[name];
    if (range === null || isUnknown(range)) continue;
    const { min, max } = range;
    const at = report.at("adaptation", name);
    const baseline = config[name];
    if (typeof min === "number" && typeof max === "number" && min > max)
      at.error("Empty range", `min ${min} is above max ${max}; swap them.`);
    else if (typeof baseline === "number" && typeof min === "number" && baseline < min)
      at.error(
        "Baseline outside its range",
        `${name} = ${baseline} lies below min ${min}; lower min or raise ${name}.`,
      );
    else if (typeof baseline === "number" && typeof max === "number" && baseline > max)
      at.error(
        "Baseline outside its range",
        `${name} = ${baseline} lies above max ${max}; raise max or lower ${name}.`,
      );
  }
  const { sites } = adaptation;
  if (sites === null || isUnknown(sites) || sites.some(isUnknown)) return;
  if (typeof config.site === "string" && !sites.includes(config.site))
    report
      .at("adaptation", "sites")
      .error(
        "Baseline site not among its sites",
        `site = "${config.site}" is not in ${JSON.stringify(sites)}; add it.`,
      );
}

/** What read keeps beside the state. */
interface Kept {
  /** Baselines as the shepherd has them, where a foreign change hides them. */
  readonly baseline?: Partial<Record<Adaptable, number | string>>;
  /** An adaptation is being carried out or released; it is recorded when that has ended. */
  readonly adapting?: true;
}

/** See docs/decisions/0006 for the cases; each row of its table is a test. */
export function planMachine(
  { prior, config, planned, private: kept }: PlannedChange<MachineAttributes>,
  report: Report,
): Partial<Planned> {
  if (prior === null) return { start_from: planStart(config) };
  const hidden = (kept as Kept).baseline ?? {};
  const baseline = Object.fromEntries(
    adaptable.map((name) => [
      name,
      config[name] === null ? (hidden[name] ?? planned[name]) : planned[name],
    ]),
  ) as Record<Adaptable, Value>;
  const changing = changes(prior, { ...planned, ...baseline } as Planned, kept);
  const plan: Partial<Planned> = {
    ...(baseline as Pick<Planned, Adaptable>),
    start_from: prior.start_from ?? planned.start_from,
    effective: prior.effective,
  };
  if (changing.length === 0 || prior.effective === null) return plan;
  warnOfSuperseding(prior.effective, changing, report);
  return {
    ...plan,
    effective: {
      ...prior.effective,
      ...Object.fromEntries(changing.map((name) => [name, baseline[name]])),
      host: unknown,
      state: unknown,
      adaptation_id: unknown,
      lease_until: unknown,
      reason: unknown,
    },
  };
}

/**
 * Attributes to put in force: those whose baseline changes, and those whose live value differs from it without a
 * reason: no adaptation is in force (an update is under way, or failed half way), or the machine is pinned.
 */
function changes(prior: State, planned: Planned, kept: PrivateData): readonly Adaptable[] {
  const { effective } = prior;
  const explained = effective?.adaptation_id !== null || (kept as Kept).adapting === true;
  const enforced = effective !== null && (isPinned(planned) || !explained);
  return adaptable.filter(
    (name) =>
      !equal(prior[name] as Value, planned[name] as Value) ||
      (enforced && !sameLive(name, effective[name], planned[name])),
  );
}

/** A live value that nothing explains yet may be an adaptation half way: only then its operation is looked for. */
async function observe(work: Work, view: MachineView): Promise<PrivateData> {
  const { effective, drift } = view;
  const plain = adaptable.every((name) => sameLive(name, effective[name], view[name]));
  if (plain || drift.length > 0 || effective.adaptation_id !== null) return {};
  const { items } = await work.client.get<{ items: readonly OperationView[] }>("/v1/operations", {
    query: { machine: view.id, active: "1" },
    signal: work.signal,
  });
  const adapting = items.some(({ kind }) => kind !== "create" && kind !== "update");
  return adapting ? ({ adapting } satisfies Kept as PrivateData) : {};
}

/**
 * Joins what is under way. Values that the plan saw on their way to the baseline count as they are then, and an
 * adaptation that was recorded meanwhile stays; all other values must be as the plan saw them.
 */
async function join(work: Work, prior: State, what: string): Promise<State | undefined> {
  const id = prior.id ?? "";
  const joined = await joinOperations(work, { id, what });
  if (joined === undefined) return undefined;
  const { effective } = prior;
  const onTheirWay = changes(prior, prior as Planned, {});
  if (joined === 0 || onTheirWay.length === 0 || effective === null) return prior;
  const view = await work.client.find<MachineView>(path`/v1/machines/${id}`);
  if (view === undefined) return prior;
  const now = Object.fromEntries(onTheirWay.map((name) => [name, view.effective[name]]));
  const { adaptation_id } = view.effective;
  return { ...prior, effective: { ...effective, ...now, adaptation_id } };
}

function isPinned(planned: Planned): boolean {
  const { adaptation } = planned;
  return adaptation !== null && !isUnknown(adaptation) && adaptation.mode === "pinned";
}

function sameLive(name: Adaptable, live: unknown, wanted: unknown): boolean {
  if (name === "memory_mib" && typeof live === "number" && typeof wanted === "number")
    return Math.abs(live - wanted) <= memoryToleranceMib;
  return live === wanted;
}

function warnOfSuperseding(
  effective: Effective,
  changing: readonly Adaptable[],
  report: Report,
): void {
  const { adaptation_id, lease_until } = effective;
  if (adaptation_id === null) return;
  const until = lease_until === null ? "until released" : `until ${lease_until}`;
  report
    .at(changing[0] ?? "effective")
    .warning(
      "An approved adaptation will be superseded",
      `Adaptation ${adaptation_id} is in force ${until}; live now: ${changing.map((name) => `${name} = ${effective[name]}`).join(", ")}. ` +
        "Applying this puts the planned values in force instead. To keep them, make them the baseline.",
    );
}

/** At creation without `start_from` it equals the baselines; adaptation_id "" says that there was none. */
function planStart(config: Planned): Planned["start_from"] {
  if (config.start_from !== null) return config.start_from;
  const { vcpus, cpu_percent, memory_mib, site } = config;
  if ([vcpus, cpu_percent, memory_mib, site].some((value) => value === null)) return unknown;
  return { vcpus, cpu_percent, memory_mib, site, adaptation_id: "" };
}

function bodyOf(planned: Planned): MachineBody {
  const { networks, start_from } = planned;
  const start =
    start_from === null || isUnknown(start_from) || start_from.adaptation_id === ""
      ? null
      : (start_from as StartFrom);
  return {
    group: known(planned.group),
    speaker: planned.speaker === true,
    class: known(planned.class),
    image_id: String(planned.image_id),
    vcpus: known(planned.vcpus),
    cpu_percent: known(planned.cpu_percent),
    memory_mib: known(planned.memory_mib),
    site: known(planned.site),
    adaptation: envelopeOf(planned.adaptation),
    networks: (networks as State["networks"]).map(({ network_id, address }) => ({
      network_id,
      address: known(address),
    })),
    start_from: start,
  };
}

/** Undefined when nothing that the shepherd keeps changes. */
export function patchOf(
  prior: State,
  planned: Planned,
  kept: PrivateData,
): MachinePatch | undefined {
  const body: MachinePatch = {};
  if (planned.group !== prior.group) body.group = known(planned.group);
  if (planned.speaker !== prior.speaker) body.speaker = planned.speaker === true;
  if (!isUnknown(planned.class) && planned.class !== prior.class) body.class = planned.class;
  if (!equal(planned.adaptation as Value, prior.adaptation as Value))
    body.adaptation = envelopeOf(planned.adaptation) ?? { mode: "auto" };
  const changing = changes(prior, planned, kept);
  if (changing.length > 0) {
    const pick = (from: object) =>
      Object.fromEntries(
        changing.map((name) => [name, (from as Record<Adaptable, unknown>)[name]]),
      );
    Object.assign(body, pick(planned));
    if (prior.effective !== null) body.planned_from = pick(prior.effective);
    body.planned_effective = pick(planned);
  }
  return Object.keys(body).length === 0 ? undefined : body;
}

/** The state as the shepherd sees the machine; `prior` says what the user left unset. */
export function stateOf(
  view: MachineView,
  prior: Planned | null,
): Reached<MachineAttributes> & { state: State } {
  const drifted = new Map(view.drift.map(({ attribute, actual }) => [attribute, actual]));
  const live = <Name extends Adaptable>(name: Name) =>
    (drifted.get(name) ?? view[name]) as MachineView[Name];
  const { effective } = view;
  const kept: Kept =
    drifted.size === 0
      ? {}
      : { baseline: Object.fromEntries([...drifted.keys()].map((name) => [name, view[name]])) };
  return {
    private: kept as PrivateData,
    state: {
      id: view.id,
      environment_id: view.environment_id,
      name: view.name,
      group: view.group,
      speaker: view.speaker,
      class: view.class,
      image_id: view.image_id,
      vcpus: live("vcpus"),
      cpu_percent: live("cpu_percent"),
      memory_mib: live("memory_mib"),
      site: live("site"),
      networks: view.networks.map(({ network_id, address }) => ({ network_id, address })),
      adaptation: adaptationOf(view, prior),
      start_from: startOf(view, prior),
      effective: {
        vcpus: effective.vcpus,
        cpu_percent: effective.cpu_percent,
        memory_mib: effective.memory_mib,
        site: effective.site,
        host: effective.host,
        state: effective.state,
        adaptation_id: effective.adaptation_id,
        lease_until: leaseTime(effective.lease_until_ms),
        reason: effective.reason,
      },
    },
  };
}

function startOf(view: MachineView, prior: Planned | null): StartFrom {
  const start = prior?.start_from;
  if (start !== undefined && start !== null && !isUnknown(start)) return start as StartFrom;
  const { vcpus, cpu_percent, memory_mib, site } = view;
  return { vcpus, cpu_percent, memory_mib, site, adaptation_id: "" };
}

/** The envelope; null where the user wrote none and the shepherd has the one that means the same. */
function adaptationOf(view: MachineView, prior: Planned | null): Adaptation | null {
  const { mode, vcpus, cpu_percent, memory_mib, sites } = view.adaptation;
  const before = prior?.adaptation;
  const written = before === undefined || before === null || isUnknown(before) ? null : before;
  const onlyBaselineSite = sites?.length === 1 && sites[0] === view.site;
  const keepSites =
    sites !== undefined && sites !== null && (!onlyBaselineSite || Boolean(written?.sites));
  const fixed = !vcpus && !cpu_percent && !memory_mib && !keepSites;
  if (written === null && fixed && mode === "auto") return null;
  return {
    mode,
    vcpus: vcpus ?? null,
    cpu_percent: cpu_percent ?? null,
    memory_mib: memory_mib ?? null,
    sites: keepSites ? sites : null,
  };
}

function envelopeOf(
  adaptation: Planned["adaptation"],
): (MachineBody["adaptation"] & object) | null {
  if (adaptation === null || isUnknown(adaptation)) return null;
  const { mode, vcpus, cpu_percent, memory_mib, sites } = adaptation as Adaptation;
  return {
    mode: (mode ?? "auto") as "auto",
    ...(vcpus === null ? {} : { vcpus }),
    ...(cpu_percent === null ? {} : { cpu_percent }),
    ...(memory_mib === null ? {} : { memory_mib }),
    ...(sites === null ? {} : { sites }),
  };
}

/**
 * After a change that succeeded: the live values that the plan named were reached, or the call would have failed with
 * plan.stale or worse; a newer adaptation shows at the next read, as it would a moment later anyway.
 */
function keepPromises(reached: State, planned: Planned): State {
  const promised = planned.effective;
  if (promised === null || isUnknown(promised) || reached.effective === null) return reached;
  const kept = Object.entries(promised).filter(([, value]) => !isUnknown(value));
  return { ...reached, effective: { ...reached.effective, ...Object.fromEntries(kept) } };
}

function known<T>(value: T | Unknown | null): T | null {
  return isUnknown(value) ? null : (value as T | null);
}
