/**
 * What a plan of `drover_machine` says: which baselines and live values change, and the PATCH that does it. Pure.
 * See docs/decisions/0006 for the cases; each row of its table is a test.
 */
import type { MachinePatch } from "@drover/shepherd/api/contract";
import type { Report } from "#schema/report";
import type { PlannedChange, PrivateData } from "#schema/resource";
import { equal, isUnknown, unknown, type Value } from "#schema/value";
import type {
  EffectiveState as Effective,
  MachineAttributes,
  MachinePlan as Planned,
  MachineState as State,
} from "./machine-attributes.ts";
import { envelopeOf, known } from "./machine-body.ts";

/** The attributes that adapt; each is a baseline at the top and a live value under `effective`. */
export const adaptable = ["vcpus", "cpu_percent", "memory_mib", "site"] as const;

export type Adaptable = (typeof adaptable)[number];

/** What read keeps beside the state. */
export interface Kept {
  /** Baselines as the shepherd has them, where a foreign change hides them. */
  readonly baseline?: Partial<Record<Adaptable, number | string>>;
  /** An adaptation is being carried out or released; it is recorded when that has ended. */
  readonly adapting?: true;
}

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
export function changes(prior: State, planned: Planned, kept: PrivateData): readonly Adaptable[] {
  const { effective } = prior;
  const explained = effective?.adaptation_id !== null || (kept as Kept).adapting === true;
  const enforced = effective !== null && (isPinned(planned) || !explained);
  return adaptable.filter(
    (name) =>
      !equal(prior[name] as Value, planned[name] as Value) ||
      (enforced && !sameLive(name, effective[name], planned[name])),
  );
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

function isPinned(planned: Planned): boolean {
  const { adaptation } = planned;
  return adaptation !== null && !isUnknown(adaptation) && adaptation.mode === "pinned";
}

/** Balloon targets are reached within this; closer values are the same (DESIGN 8). */
const memoryToleranceMib = 1;

export function sameLive(name: Adaptable, live: unknown, wanted: unknown): boolean {
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
