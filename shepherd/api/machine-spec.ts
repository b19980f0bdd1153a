/**
 * What a declared machine means: defaults, bounds, where a re-created one starts, and what a change asks for.
 * Works inside the caller's transaction; asks no host and no policy.
 */
import type { Static } from "typebox";
import type { MachineView } from "#api/contract";
import { find, journalChange, sameData } from "#api/records";
import type {
  EnvironmentAdaptation as EnvironmentAdaptationBody,
  GroupTemplate as GroupTemplateBody,
  MachineBody,
  MachinePatch,
} from "#api/schemas";
import { pinnableNames } from "#api/views";
import { Fault, isFault } from "#model/fault";
import {
  type AdaptationWord,
  type Baseline,
  type DeclaredAdaptation,
  defaultCpuWeight,
  type EnvironmentAdaptation,
  type EnvironmentRecord,
  envelopeOf,
  type GroupTemplate,
  type MachineRecord,
  type MachineSpec,
  type Range,
} from "#model/objects";
import type { MachineAsk } from "#model/request";
import type { HostId, Ms, SiteId } from "#model/units";
import { xmlPatchProblem } from "#model/xml-patch";
import { giveNics, stillGranted } from "#operations/declare";
import { hasCards } from "#planner/cards";
import { restartNeeded } from "#planner/restart";
import { memoryToleranceMib } from "#planner/target";
import type { Journal } from "#ports/store";

/** When the stack says nothing: the smallest machine that boots a usual Linux. */
export const defaultSizing = { vcpus: 1, cpuPercent: 100, memoryMib: 256 } as const;

/** What a declaration is read with: the world that its words must fit. */
export interface Declaration {
  readonly environment: EnvironmentRecord;
  readonly siteIds: readonly SiteId[];
  /** The site of each host. */
  readonly hostSites: ReadonlyMap<HostId, SiteId>;
  /** By site: what its owner lets machines there patch in their XML. */
  readonly rawXmlPaths: Readonly<Record<SiteId, readonly string[]>>;
  readonly nowMs: Ms;
}

/** A new machine's specification, and what to ask the gate for. Reads the journal; writes nothing. */
export async function declaredMachine(
  journal: Journal,
  of: Declaration & {
    readonly name: string;
    readonly id: string;
    readonly body: Static<typeof MachineBody>;
  },
): Promise<{ readonly spec: MachineSpec; readonly ask: MachineAsk }> {
  const { body, id, nowMs } = of;
  const image = await find(journal, "image", body.image_id);
  const { spec } = wordedMachine({ ...of, body: { ...body, image_id: image.id } });
  await checkDisks(journal, id, spec);
  await refuseGroupName(journal, spec);
  const granted = await stillGranted(journal, { spec, nowMs });
  const kept = granted === undefined ? { ...spec, startFrom: undefined } : spec;
  // A full network or a taken address is a fault of the declaration: told before anybody decides about it.
  await giveNics(journal, { spec: kept, id, nowMs });
  return { spec: kept, ask: startOf(id, kept) };
}

/** The same by its words alone: what is not known yet is taken for its default. Faults `request.invalid`, `xml_patch.refused`. */
export function wordedMachine(
  of: Declaration & {
    readonly name: string;
    readonly id: string;
    readonly body: Partial<Static<typeof MachineBody>>;
  },
): { readonly spec: MachineSpec; readonly ask: MachineAsk } {
  const { environment, name, body, id } = of;
  const { start_from: from } = body;
  const spec: MachineSpec = {
    ...templateWords(body, environment),
    environmentId: environment.id,
    name,
    group: body.group ?? undefined,
    speaker: body.speaker ?? false,
    ...(body.host == null ? {} : { hostId: body.host }),
    envelope: envelopeOf(declaredAdaptation(body.adaptation), environment.spec.adaptation),
    networks: nicWords(body.networks),
    disks: body.disks?.map(({ volume_id }) => volume_id),
    startFrom:
      from == null
        ? undefined
        : {
            vcpus: from.vcpus,
            cpuPercent: from.cpu_percent,
            memoryMib: from.memory_mib,
            siteId: from.site,
            adaptationId: from.adaptation_id,
          },
  };
  checkSpec(spec, of);
  checkHost(spec, of);
  return { spec, ask: startOf(id, spec) };
}

function startOf(machineId: string, spec: MachineSpec): MachineAsk {
  const { vcpus, cpuPercent, memoryMib, siteId } = spec.startFrom ?? spec.baseline;
  const hostId = siteId === spec.baseline.siteId ? spec.hostId : undefined;
  return {
    machineId,
    vcpus,
    cpuPercent,
    memoryMib,
    siteId,
    ...(hostId === undefined ? {} : { hostId }),
  };
}

type TemplateWords = Partial<Omit<Static<typeof GroupTemplateBody>, "networks">>;

/** What a machine and a group's template have alike. An image "" is not known yet. Fault `object.unknown`: there is no such image. */
export async function templateOf(
  journal: Journal,
  body: Omit<Static<typeof GroupTemplateBody>, "networks">,
  environment: EnvironmentRecord,
): Promise<GroupTemplate> {
  if (body.image_id === "") return templateWords(body, environment);
  const image = await find(journal, "image", body.image_id);
  return templateWords({ ...body, image_id: image.id }, environment);
}

function templateWords(body: TemplateWords, environment: EnvironmentRecord): GroupTemplate {
  return {
    class: body.class ?? undefined,
    imageId: body.image_id ?? "",
    baseline: {
      vcpus: body.vcpus ?? defaultSizing.vcpus,
      cpuPercent: body.cpu_percent ?? defaultSizing.cpuPercent,
      memoryMib: body.memory_mib ?? defaultSizing.memoryMib,
      siteId: body.site ?? environment.spec.sites[0] ?? "",
    },
    ...(body.cpu_weight == null ? {} : { cpuWeight: body.cpu_weight }),
    declared: declaredAdaptation(body.adaptation),
    networks: [],
    ceiling: ceilingWord(body.ceiling),
    userData: body.user_data ?? undefined,
    stopTimeoutMs: body.stop_timeout_s == null ? undefined : body.stop_timeout_s * 1_000,
    deletionProtection: body.deletion_protection ?? false,
    allowRestart: body.allow_restart ?? false,
    xmlPatches: body.raw_xml_patch ?? undefined,
  };
}

/** Takes a record back that never came to a host, with its addresses. */
export async function removeDraft(
  journal: Journal,
  record: MachineRecord,
  nowMs: Ms,
): Promise<void> {
  for (const { networkId, address } of record.effective.nics) {
    await journal.addresses.remove(networkId, address);
  }
  await journal.objects.remove("machine", record.id);
  await journalChange(journal, record, nowMs, "object.deleted");
}

/** Before a machine goes: its grants stay until their leases end, under its name and with the whole size it had. */
export async function rememberGrants(journal: Journal, record: MachineRecord): Promise<void> {
  const { vcpus, cpuPercent, memoryMib, siteId } = record.effective;
  for (const adaptation of await journal.adaptations.list({ machineId: record.id })) {
    await journal.adaptations.put({
      ...adaptation,
      formerMachine: record.spec.name,
      values: { ...adaptation.values, vcpus, cpuPercent, memoryMib, siteId },
    });
  }
}

/**
 * The specification after a PATCH, and what to put in force; `ask` is undefined when nothing live has to change. Fault
 * `machine.restart_needed` when only a restart puts it in force and the stack does not allow one.
 */
export function patchedSpec(
  record: MachineRecord,
  body: Static<typeof MachinePatch>,
  declaration: Declaration,
): { readonly spec: MachineSpec; readonly ask: MachineAsk | undefined } {
  const before = record.spec;
  const baseline: Baseline = {
    vcpus: body.vcpus ?? before.baseline.vcpus,
    cpuPercent: body.cpu_percent ?? before.baseline.cpuPercent,
    memoryMib: body.memory_mib ?? before.baseline.memoryMib,
    siteId: body.site ?? before.baseline.siteId,
  };
  const declared =
    body.adaptation === undefined ? before.declared : declaredAdaptation(body.adaptation);
  const environment = declaration.environment.spec;
  const given = <Body, Spec>(
    value: Body | null | undefined,
    was: Spec,
    read: (value: Body) => Spec,
  ) => (value === undefined ? was : value === null ? undefined : read(value));
  const spec: MachineSpec = {
    ...before,
    group: given(body.group, before.group, String),
    speaker: body.speaker ?? before.speaker,
    hostId: given(body.host, before.hostId, String),
    class: given(body.class, before.class, String),
    baseline,
    cpuWeight: given(body.cpu_weight, before.cpuWeight, Number),
    declared,
    // What an older shepherd stored has an envelope and no word of its own: kept until the stack says one.
    envelope:
      declared === undefined && before.declared === undefined && body.adaptation === undefined
        ? before.envelope
        : envelopeOf(declared, environment.adaptation),
    ceiling: body.ceiling === undefined ? before.ceiling : ceilingWord(body.ceiling),
    networks: body.networks === undefined ? before.networks : nicWords(body.networks),
    disks: given(body.disks, before.disks, (disks) => disks.map(({ volume_id }) => volume_id)),
    userData: given(body.user_data, before.userData, String),
    stopTimeoutMs: given(body.stop_timeout_s, before.stopTimeoutMs, (seconds) => seconds * 1_000),
    deletionProtection: body.deletion_protection ?? before.deletionProtection,
    allowRestart: body.allow_restart ?? before.allowRestart,
    xmlPatches: given(body.raw_xml_patch, before.xmlPatches, (patches) => patches),
  };
  refuseForeignCards(record, body.networks);
  checkSpec(spec, { ...declaration, isKnown: true });
  // A host that is gone meanwhile is in nobody's way, until another place is asked for.
  if (body.host !== undefined || body.site !== undefined) checkHost(spec, declaration);
  const promised = body.planned_effective;
  const hostId = spec.hostId === before.hostId ? undefined : spec.hostId;
  const changed = {
    vcpus: promised?.vcpus ?? differs(baseline.vcpus, before.baseline.vcpus),
    cpuPercent: promised?.cpu_percent ?? differs(baseline.cpuPercent, before.baseline.cpuPercent),
    memoryMib: promised?.memory_mib ?? differs(baseline.memoryMib, before.baseline.memoryMib),
    siteId:
      promised?.site ??
      (hostId === undefined ? differs(baseline.siteId, before.baseline.siteId) : baseline.siteId),
    hostId,
    // Whenever it is named: somebody may have changed it behind our back.
    cpuWeight: body.cpu_weight === undefined ? undefined : (spec.cpuWeight ?? defaultCpuWeight),
  };
  const ask = askOf(record.id, changed);
  const reasons = restartReasons({ before: record, spec, ask });
  if (reasons.length === 0) return { spec, ask };
  // What another tool defined is never defined anew, so it is never started anew either.
  if (spec.allowRestart !== true || spec.origin === "import") {
    throw new Fault("machine.restart_needed", {
      machine: spec.name,
      attributes: reasons.join(", "),
      attribute: reasons[0],
    });
  }
  return { spec, ask: { ...ask, machineId: record.id, restart: true } };
}

/**
 * What of a change only a restart puts in force. A ceiling that follows a widened envelope by itself waits for the next
 * start and asks for none; one that is declared, or that a wanted size needs, does.
 */
export function restartReasons(of: {
  readonly before: MachineRecord;
  readonly spec: MachineSpec;
  readonly ask: MachineAsk | undefined;
}): readonly string[] {
  const { before, spec, ask } = of;
  const { ceiling } = before.effective;
  const needed = restartNeeded({ spec, effective: before.effective });
  const beyond = [
    ...((ask?.vcpus ?? 0) > ceiling.vcpus ? ["vcpus"] : []),
    ...((ask?.memoryMib ?? 0) > ceiling.memoryMib ? ["memory_mib"] : []),
  ];
  const declared = spec.ceiling !== undefined && !sameData(spec.ceiling, before.spec.ceiling);
  return [
    ...needed.filter((attribute) => attribute !== "ceiling" || declared),
    ...(before.effective.hostId === "" ? [] : beyond),
  ];
}

/** An ask of what is given; undefined when nothing is. */
export function askOf(
  machineId: string,
  wanted: { [Key in "vcpus" | "cpuPercent" | "cpuWeight" | "memoryMib"]?: number | undefined } & {
    siteId?: SiteId | undefined;
    hostId?: HostId | undefined;
  },
): MachineAsk | undefined {
  const given = Object.entries(wanted).filter(([, value]) => value !== undefined);
  return given.length === 0 ? undefined : { machineId, ...Object.fromEntries(given) };
}

/** Fault `plan.stale` when a value that the plan was made from has changed since. */
export function refuseStale(
  view: MachineView,
  planned: Static<typeof MachinePatch>["planned_from"],
): void {
  for (const attribute of ["vcpus", "cpu_percent", "memory_mib", "site"] as const) {
    const was = planned?.[attribute];
    const now = view.effective[attribute];
    if (was === undefined || was === now) continue;
    const near =
      attribute === "memory_mib" && Math.abs(Number(was) - Number(now)) <= memoryToleranceMib;
    if (near) continue;
    throw new Fault("plan.stale", { machine: view.name, attribute, planned: was, now });
  }
}

export function declaredAdaptation(
  body: Static<typeof MachineBody>["adaptation"],
): DeclaredAdaptation | undefined {
  if (body == null) return undefined;
  const pinned = (Object.keys(pinnableNames) as (keyof typeof pinnableNames)[]).filter(
    (attribute) => body.pinned_attributes?.includes(pinnableNames[attribute]),
  );
  return { ...adaptationWord(body), pinned: pinned.length === 0 ? undefined : pinned };
}

export function environmentAdaptation(
  body: Static<typeof EnvironmentAdaptationBody> | null | undefined,
): EnvironmentAdaptation | undefined {
  if (body == null) return undefined;
  const { links } = body;
  return {
    ...adaptationWord(body),
    links: links == null ? undefined : { maxAdded: links.max_added, rateMbps: links.rate_mbps },
  };
}

function adaptationWord(
  body: Pick<
    Static<typeof EnvironmentAdaptationBody>,
    "mode" | "vcpus" | "cpu_percent" | "memory_mib" | "sites"
  >,
): AdaptationWord {
  return {
    mode: body.mode ?? undefined,
    vcpus: body.vcpus ?? undefined,
    cpuPercent: body.cpu_percent ?? undefined,
    memoryMib: body.memory_mib ?? undefined,
    sites: body.sites ?? undefined,
  };
}

function ceilingWord(ceiling: Static<typeof MachineBody>["ceiling"]): MachineSpec["ceiling"] {
  if (ceiling == null) return undefined;
  return {
    ...(ceiling.vcpus == null ? {} : { vcpus: ceiling.vcpus }),
    ...(ceiling.memory_mib == null ? {} : { memoryMib: ceiling.memory_mib }),
  };
}

const refuse = (attribute: string, problem: string): Fault =>
  new Fault("request.invalid", { where: attribute, attribute, problem });

/** Fault `request.invalid`: a baseline outside of its envelope. */
export function checkRanges({ baseline, envelope }: Pick<MachineSpec, "baseline" | "envelope">) {
  const ranges: readonly [string, Range | undefined, number][] = [
    ["vcpus", envelope.vcpus, baseline.vcpus],
    ["cpu_percent", envelope.cpuPercent, baseline.cpuPercent],
    ["memory_mib", envelope.memoryMib, baseline.memoryMib],
  ];
  for (const [attribute, range, value] of ranges) {
    if (range === undefined) continue;
    if (range.min < 1)
      throw refuse(attribute, `the envelope begins at ${range.min}; 1 is the least`);
    if (range.min > value || range.max < value) {
      throw refuse(
        attribute,
        `the baseline ${value} lies outside its envelope ${range.min} to ${range.max}`,
      );
    }
  }
}

/** `isKnown`: it was declared before; its environment may have lost a site since, and must not be stuck for it. */
export function checkSpec(
  spec: MachineSpec,
  { environment, siteIds, rawXmlPaths, isKnown }: Declaration & { readonly isKnown?: boolean },
): void {
  const { baseline, envelope, ceiling } = spec;
  checkRanges(spec);
  for (const site of [baseline.siteId, ...(envelope.sites ?? [])]) {
    if (!siteIds.includes(site)) {
      throw refuse("site", `there is no site ${site}; there are ${siteIds.join(", ")}`);
    }
    if (isKnown !== true && !environment.spec.sites.includes(site)) {
      throw refuse(
        "site",
        `${site} is not among the sites of environment ${environment.spec.name}: ${environment.spec.sites.join(", ")}`,
      );
    }
  }
  if (spec.speaker && spec.group === undefined) throw refuse("speaker", "a speaker needs a group");
  const reaches: readonly [string, number | undefined, number, number | undefined][] = [
    ["vcpus", ceiling?.vcpus, baseline.vcpus, envelope.vcpus?.max],
    ["memory_mib", ceiling?.memoryMib, baseline.memoryMib, envelope.memoryMib?.max],
  ];
  for (const [attribute, top, base, max] of reaches) {
    const least = Math.max(base, max ?? 0);
    if (top === undefined || top >= least) continue;
    throw refuse(
      "ceiling",
      `a ceiling of ${top} for ${attribute} is below what it must reach, ${least}`,
    );
  }
  for (const patch of spec.xmlPatches ?? []) {
    for (const site of new Set([baseline.siteId, ...(envelope.sites ?? [])])) {
      const problem = xmlPatchProblem(patch, rawXmlPaths[site] ?? []);
      if (problem === undefined) continue;
      const { path } = patch;
      throw new Fault("xml_patch.refused", { path, site, problem, attribute: "raw_xml_patch" });
    }
  }
}

/** Fault `request.invalid`: there is no such host, or it is at another site than the machine is to be. */
function checkHost({ hostId, baseline }: MachineSpec, { hostSites }: Declaration): void {
  if (hostId === undefined) return;
  const siteId = hostSites.get(hostId);
  if (siteId === baseline.siteId) return;
  const there = [...hostSites].flatMap(([id, at]) => (at === baseline.siteId ? [id] : []));
  const problem =
    siteId === undefined ? `there is no host ${hostId}` : `host ${hostId} is at site ${siteId}`;
  throw refuse("host", `${problem}; site ${baseline.siteId} has ${there.join(", ") || "none"}`);
}

/** The cards that it would get can be given: networks of its own environment, with the addresses that it names. */
export async function checkCards(
  journal: Journal,
  record: MachineRecord,
  of: { readonly spec: MachineSpec; readonly nowMs: Ms },
): Promise<void> {
  const { nics } = record.effective;
  if (hasCards(nics, of.spec.networks)) return;
  try {
    await giveNics(journal, { ...of, id: record.id, has: nics });
  } catch (error) {
    if (!isFault(error)) throw error;
    throw new Fault(error.code, { ...error.details, attribute: "networks" }, { cause: error });
  }
}

/** Volumes of its own environment, each with one writer. */
export async function checkDisks(journal: Journal, id: string, spec: MachineSpec): Promise<void> {
  const { disks = [], environmentId } = spec;
  if (disks.length === 0) return;
  const machines = await journal.objects.list("machine", { environmentId });
  for (const [index, volumeId] of disks.entries()) {
    const volume = await journal.objects.get("volume", volumeId);
    if (volume === undefined || volume.spec.environmentId !== environmentId) {
      throw new Fault("object.unknown", { kind: "volume", id: volumeId, attribute: "disks" });
    }
    const holder =
      disks.indexOf(volumeId) < index
        ? spec.name
        : machines.find((one) => one.id !== id && one.spec.disks?.includes(volumeId))?.spec.name;
    if (holder === undefined) continue;
    const { name } = volume.spec;
    throw new Fault("volume.taken", { volume: name, machine: holder, attribute: "disks" });
  }
}

/** A group's machines come from the group; one declared beside them would be counted as its own. */
async function refuseGroupName(journal: Journal, spec: MachineSpec): Promise<void> {
  const { group, environmentId, name } = spec;
  if (group === undefined) return;
  const found = await journal.objects.findByKey("group", `${environmentId}/${group}`);
  if (found !== undefined) throw new Fault("object.of_group", { key: name, group });
}

function nicWords(networks: Static<typeof MachineBody>["networks"] = []): MachineSpec["networks"] {
  return networks.map(({ network_id, address }) => ({
    networkId: network_id,
    address: address ?? undefined,
  }));
}

/** The cards of what another tool made are its own. */
function refuseForeignCards(
  { spec }: MachineRecord,
  networks: Static<typeof MachinePatch>["networks"],
): void {
  if (spec.origin !== "import" || networks === undefined || networks.length === 0) return;
  throw new Fault("object.immutable", {
    kind: "machine",
    key: spec.name,
    attribute: "networks",
    from: "what it was made with",
    to: `${networks.length} networks of drover`,
  });
}

function differs<T>(now: T, before: T): T | undefined {
  return now === before ? undefined : now;
}
