/**
 * What a plan of `drover_machine` says: which baselines and live values change, and the PATCH that does it. Pure.
 * See docs/decisions/0006 for the cases; each row of its table is a test.
 */
import type { MachinePatch } from "@drover/shepherd/api/contract";
import type { Report } from "#schema/report";
import type { PlannedChange, PrivateData } from "#schema/resource";
import { equal, isUnknown, unknown, type Value } from "#schema/value";
import { type Adaptable, adaptable } from "./adaptation-attributes.ts";
import { environmentPins } from "./environment-modes.ts";
import type {
  EffectiveState as Effective,
  MachineAttributes,
  MachinePlan as Planned,
  MachineState as State,
} from "./machine-attributes.ts";
import {
  adaptationBody,
  disksOf,
  known,
  knownItems,
  networksOf,
  patchesOf,
} from "./machine-body.ts";

/** What read keeps beside the state. */
export interface Kept {
  /** Baselines as the shepherd has them, where a foreign change hides them. */
  readonly baseline?: Partial<Record<Adaptable, number | string>>;
  /** All of its cards, where somebody has unplugged one. */
  readonly networks?: NonNullable<State["networks"]>;
  /** An adaptation is being carried out or released; it is recorded when that has ended. */
  readonly adapting?: true;
  /** Its environment pins it, and it says nothing of a mode itself. */
  readonly pinned?: true;
}

export function planMachine(
  { prior, config, planned, private: kept }: PlannedChange<MachineAttributes>,
  report: Report,
): Partial<Planned> {
  if (prior === null) return { start_from: planStart(config) };
  const cards = (kept as Kept).networks ?? prior.networks ?? [];
  const networks = planNetworks(cards, { config, planned }, report);
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
    networks,
  };
  const { effective } = prior;
  if (effective === null) return plan;
  const placed = placedAt(prior, { ...planned, ...baseline } as Planned);
  if (changing.length === 0 && placed === undefined) return plan;
  // A baseline that catches up with what is live adopts it: nothing moves, the adaptation has done its work.
  const moved = changing.filter((name) => !sameLive(name, effective[name], baseline[name]));
  const adapted = moved.filter(
    (name) => hidden[name] !== undefined || !sameLive(name, effective[name], prior[name]),
  );
  warnOfSuperseding(effective, adapted, report);
  return {
    ...plan,
    effective: {
      ...effective,
      ...Object.fromEntries(moved.map((name) => [name, baseline[name]])),
      ...(moved.length === 0 ? {} : { host: unknown, state: unknown }),
      ...placed,
      adaptation_id: unknown,
      lease_until: unknown,
      reason: unknown,
    },
  };
}

/** What is live after another host was named; undefined: it is there, or none is asked for. */
function placedAt(prior: State, planned: Planned) {
  const { host, site } = planned;
  if (isUnknown(host)) return { host, site: unknown, state: unknown };
  if (host === null || host === prior.host || host === prior.effective?.host) return undefined;
  return { host, site, state: unknown };
}

/**
 * A card stays with its network and its address, wherever that stands in the list now; an address that the stack leaves
 * open is that of the card that is there. Another address is another card, which its guest must hear of.
 */
function planNetworks(
  has: NonNullable<State["networks"]>,
  { config, planned }: { readonly config: Planned; readonly planned: Planned },
  report: Report,
): Planned["networks"] {
  const wanted = known(config.networks);
  if (wanted === null) return planned.networks;
  const free = [...has];
  const take = (networkId: unknown, address: unknown) => {
    const at = free.findIndex(
      (nic) => nic.network_id === networkId && (address === null || nic.address === address),
    );
    return at < 0 ? undefined : free.splice(at, 1)[0];
  };
  const cards = wanted.map((item) =>
    isUnknown(item) || item.address === null ? undefined : take(item.network_id, item.address),
  );
  const networks = wanted.map((item, index) => {
    if (isUnknown(item)) return item;
    const { network_id, address } = item;
    const card = cards[index] ?? (address === null ? take(network_id, null) : undefined);
    return { network_id, address: address ?? card?.address ?? unknown };
  });
  for (const gone of free) {
    const at = wanted.findIndex((item) => !isUnknown(item) && item.network_id === gone.network_id);
    if (at < 0) continue;
    report
      .at("networks", at)
      .warning(
        "Another address is another network card",
        `The card with ${gone.address} is unplugged and a new one is plugged in, while the machine runs. A guest that asks DHCP has the new address at once; one that does not takes it at its next start. Connections to ${gone.address} end.`,
      );
  }
  return networks;
}

/**
 * Attributes to put in force: those whose baseline changes, and those whose live value differs from it without leave: no
 * adaptation is in force (an update is under way, or failed half way), it is pinned, or what was granted lies outside the
 * bounds that the stack says now.
 */
export function changes(prior: State, planned: Planned, kept: PrivateData): readonly Adaptable[] {
  const { effective } = prior;
  const explained = effective?.adaptation_id !== null || (kept as Kept).adapting === true;
  return adaptable.filter((name) => {
    if (!equal(prior[name] as Value, planned[name] as Value)) return true;
    if (effective === null || sameLive(name, effective[name], planned[name])) return false;
    return !explained || !mayStay(name, effective[name], planned, kept);
  });
}

/** Whether the stack's words leave room for a live value that is not the baseline. What it leaves open is its environment's. */
function mayStay(name: Adaptable, live: unknown, planned: Planned, kept: Kept): boolean {
  const adaptation = known(planned.adaptation);
  const mode = known(adaptation?.mode ?? null);
  if (mode === "pinned" || (mode === null && isPinnedThere(planned, kept))) return false;
  if (adaptation === null) return true;
  if (knownItems(adaptation.pinned_attributes).includes(name)) return false;
  if (name === "site") {
    const sites = known(adaptation.sites);
    return sites === null || sites.some((site) => isUnknown(site) || site === live);
  }
  const { min, max } = known(adaptation[name]) ?? { min: unknown, max: unknown };
  const value = Number(live);
  return (
    (isUnknown(min) || min === null || value >= min) &&
    (isUnknown(max) || max === null || value <= max)
  );
}

/** By its environment: as this run plans it, else as it was read. */
export function isPinnedThere(
  { environment_id }: { readonly environment_id: unknown },
  { pinned }: { readonly pinned?: unknown },
): boolean {
  return environmentPins(environment_id) ?? pinned === true;
}

/** Undefined when nothing that the shepherd keeps changes. `config` holds what stands in no plan. */
export function patchOf(
  prior: State,
  {
    planned,
    config,
  }: { readonly planned: Planned; readonly config: Pick<Planned, "user_data_wo"> },
  kept: PrivateData,
): MachinePatch | undefined {
  const body: MachinePatch = {};
  if (planned.group !== prior.group) body.group = known(planned.group);
  if (planned.speaker !== prior.speaker) body.speaker = planned.speaker === true;
  if (!isUnknown(planned.class) && planned.class !== prior.class) body.class = planned.class;
  if (differs(planned.adaptation, prior.adaptation))
    body.adaptation = adaptationBody(planned.adaptation);
  if (differs(planned.networks, prior.networks)) body.networks = networksOf(planned.networks);
  if (differs(planned.disks, prior.disks)) body.disks = disksOf(planned.disks);
  if (differs(planned.ceiling, prior.ceiling))
    body.ceiling = known(planned.ceiling) as MachinePatch["ceiling"] & object;
  if (differs(planned.raw_xml_patch, prior.raw_xml_patch))
    body.raw_xml_patch = patchesOf(planned.raw_xml_patch) ?? [];
  if (planned.user_data_wo_version !== prior.user_data_wo_version)
    body.user_data = known(config.user_data_wo) ?? known(planned.user_data);
  else if (planned.user_data !== prior.user_data) body.user_data = known(planned.user_data);
  if (differs(planned.host, prior.host)) body.host = known(planned.host);
  if (differs(planned.cpu_weight, prior.cpu_weight)) body.cpu_weight = known(planned.cpu_weight);
  if (differs(planned.stop_timeout_s, prior.stop_timeout_s))
    body.stop_timeout_s = known(planned.stop_timeout_s);
  if (planned.deletion_protection !== prior.deletion_protection)
    body.deletion_protection = planned.deletion_protection === true;
  if (planned.allow_restart !== prior.allow_restart)
    body.allow_restart = planned.allow_restart === true;
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

function differs(planned: unknown, prior: unknown): boolean {
  return !isUnknown(planned) && !equal(planned as Value, prior as Value);
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
  if (adaptation_id === null || changing.length === 0) return;
  const until = lease_until === null ? "until released" : `until ${lease_until}`;
  report
    .at(changing[0] ?? "effective")
    .warning(
      "An approved adaptation will be superseded",
      `Adaptation ${adaptation_id} is in force ${until}; live now: ${changing.map((name) => `${name} = ${effective[name]}`).join(", ")}. ` +
        "Applying this puts the planned values in force instead. To keep them, make them the baseline: data.drover_adaptations has the lines.",
    );
}

/** At creation without `start_from` it equals the baselines; adaptation_id "" says that there was none. */
function planStart(config: Planned): Planned["start_from"] {
  if (config.start_from !== null) return config.start_from;
  const { vcpus, cpu_percent, memory_mib, site } = config;
  if ([vcpus, cpu_percent, memory_mib, site].some((value) => value === null)) return unknown;
  return { vcpus, cpu_percent, memory_mib, site, adaptation_id: "" };
}
