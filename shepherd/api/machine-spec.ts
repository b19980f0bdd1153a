/**
 * What a declared machine means: defaults, bounds, addresses, where a re-created one starts, and what a change asks for.
 * Works inside the caller's transaction; asks no host and no policy.
 */
import type { Static } from "typebox";
import type { MachineView } from "#api/contract";
import { find, importId, journalChange } from "#api/records";
import type { MachineBody, MachinePatch } from "#api/schemas";
import { Fault } from "#model/fault";
import type {
  Baseline,
  Envelope,
  EnvironmentRecord,
  MachineRecord,
  MachineSpec,
  Nic,
  Range,
} from "#model/objects";
import type { Operation } from "#model/plan";
import type { Adaptation, MachineAsk } from "#model/request";
import type { Ms, SiteId } from "#model/units";
import { checkAddress, lowestFreeAddress, parseCidr } from "#network/addresses";
import { freeMacAddress, tapName } from "#network/names";
import { ceilingOf, memoryToleranceMib } from "#planner/target";
import type { Journal } from "#ports/store";

/** When the stack says nothing: the smallest machine that boots a usual Linux. */
export const defaultSizing = { vcpus: 1, cpuPercent: 100, memoryMib: 256 } as const;

/** What PUT found or made. */
export type Drafted =
  | { readonly kind: "drafted"; readonly record: MachineRecord; readonly ask: MachineAsk }
  | { readonly kind: "running"; readonly record: MachineRecord; readonly operation: Operation }
  | { readonly kind: "there"; readonly record: MachineRecord };

export interface Draft {
  readonly environment: EnvironmentRecord;
  readonly name: string;
  readonly body: Static<typeof MachineBody>;
  readonly id: string;
  readonly nowMs: Ms;
  readonly siteIds: readonly SiteId[];
}

/** Writes the record in state `creating`, without a host, with its addresses; and says what to ask the gate for. */
export async function draftMachine(journal: Journal, draft: Draft): Promise<Drafted> {
  const { environment, name, body, id, nowMs } = draft;
  const image = await find(journal, "image", body.image_id);
  const baseline: Baseline = {
    vcpus: body.vcpus ?? defaultSizing.vcpus,
    cpuPercent: body.cpu_percent ?? defaultSizing.cpuPercent,
    memoryMib: body.memory_mib ?? defaultSizing.memoryMib,
    siteId: body.site ?? environment.spec.sites[0] ?? "",
  };
  const envelope = envelopeOf(body.adaptation);
  const spec: MachineSpec = {
    environmentId: environment.id,
    name,
    group: body.group ?? undefined,
    speaker: body.speaker ?? false,
    class: body.class ?? undefined,
    imageId: image.id,
    baseline,
    envelope,
    networks: body.networks.map(({ network_id, address }) => ({
      networkId: network_id,
      address: address ?? undefined,
    })),
    startFrom:
      body.start_from == null
        ? undefined
        : {
            vcpus: body.start_from.vcpus,
            cpuPercent: body.start_from.cpu_percent,
            memoryMib: body.start_from.memory_mib,
            siteId: body.start_from.site,
            adaptationId: body.start_from.adaptation_id,
          },
  };
  checkSpec(spec, environment, draft.siteIds);
  const granted = await stillGranted(journal, { spec, nowMs });
  const start = granted === undefined ? baseline : (spec.startFrom ?? baseline);
  const ceiling = ceilingOf(spec);
  const record: MachineRecord = {
    kind: "machine",
    id,
    key: `${environment.id}/${name}`,
    environmentId: environment.id,
    spec,
    effective: {
      vcpus: start.vcpus,
      cpuPercent: start.cpuPercent,
      memoryMib: start.memoryMib,
      siteId: start.siteId,
      hostId: "",
      state: "creating",
      ceiling: {
        vcpus: Math.max(ceiling.vcpus, start.vcpus),
        memoryMib: Math.max(ceiling.memoryMib, start.memoryMib),
      },
      nics: await giveNics(journal, { spec, id, nowMs, environment }),
      adaptationId: granted?.id,
      leaseUntilMs: granted?.leaseUntilMs,
      reason: granted?.reason,
    },
    version: 1,
    claimed: false,
    createdAtMs: nowMs,
  };
  await journal.objects.put(record);
  for (const nic of record.effective.nics) {
    await journal.addresses.put({ networkId: nic.networkId, address: nic.address, machineId: id });
  }
  // The grant goes on with the machine that takes its predecessor's place.
  if (granted !== undefined) await journal.adaptations.put({ ...granted, machineId: id });
  await journalChange(journal, record, nowMs);
  const { vcpus, cpuPercent, memoryMib, siteId } = start;
  return {
    kind: "drafted",
    record,
    ask: { machineId: id, vcpus, cpuPercent, memoryMib, siteId },
  };
}

/** Takes back what draftMachine wrote. */
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

/** The specification after a PATCH, and what to put in force; `ask` is undefined when nothing live has to change. */
export function patchedSpec(
  record: MachineRecord,
  body: Static<typeof MachinePatch>,
  siteIds: readonly SiteId[],
): { readonly spec: MachineSpec; readonly ask: MachineAsk | undefined } {
  const before = record.spec;
  const baseline: Baseline = {
    vcpus: body.vcpus ?? before.baseline.vcpus,
    cpuPercent: body.cpu_percent ?? before.baseline.cpuPercent,
    memoryMib: body.memory_mib ?? before.baseline.memoryMib,
    siteId: body.site ?? before.baseline.siteId,
  };
  const spec: MachineSpec = {
    ...before,
    group: body.group === undefined ? before.group : (body.group ?? undefined),
    speaker: body.speaker ?? before.speaker,
    class: body.class === undefined ? before.class : (body.class ?? undefined),
    baseline,
    envelope: body.adaptation === undefined ? before.envelope : envelopeOf(body.adaptation),
  };
  refuseOtherNetworks(record, body.networks);
  checkSpec(spec, undefined, siteIds);
  const promised = body.planned_effective;
  const changed = {
    vcpus: promised?.vcpus ?? differs(baseline.vcpus, before.baseline.vcpus),
    cpuPercent: promised?.cpu_percent ?? differs(baseline.cpuPercent, before.baseline.cpuPercent),
    memoryMib: promised?.memory_mib ?? differs(baseline.memoryMib, before.baseline.memoryMib),
    siteId: promised?.site ?? differs(baseline.siteId, before.baseline.siteId),
  };
  return { spec, ask: askOf(record.id, changed) };
}

/** An ask of what is given; undefined when nothing is. */
export function askOf(
  machineId: string,
  wanted: { [Key in "vcpus" | "cpuPercent" | "memoryMib"]?: number | undefined } & {
    siteId?: SiteId | undefined;
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

/** The adaptation that startFrom names, if it still holds and belonged to this machine's predecessor. */
async function stillGranted(
  journal: Journal,
  of: { readonly spec: MachineSpec; readonly nowMs: Ms },
): Promise<Adaptation | undefined> {
  const { startFrom, environmentId } = of.spec;
  if (startFrom === undefined) return undefined;
  const adaptation = await journal.adaptations.get(startFrom.adaptationId);
  if (adaptation?.environmentId !== environmentId) return undefined;
  if (adaptation.leaseUntilMs !== undefined && adaptation.leaseUntilMs <= of.nowMs)
    return undefined;
  const { machineId, formerMachine, values } = adaptation;
  // A living machine keeps its own grants, and only a machine of the same name is a successor.
  if (machineId === undefined || formerMachine !== of.spec.name) return undefined;
  if ((await journal.objects.get("machine", machineId)) !== undefined) return undefined;
  // What the file says is a claim; what was granted stands in the journal.
  const within =
    values.vcpus === startFrom.vcpus &&
    values.cpuPercent === startFrom.cpuPercent &&
    values.memoryMib === startFrom.memoryMib &&
    values.siteId === startFrom.siteId;
  return within ? adaptation : undefined;
}

async function giveNics(
  journal: Journal,
  of: {
    readonly spec: MachineSpec;
    readonly id: string;
    readonly nowMs: Ms;
    readonly environment: EnvironmentRecord;
  },
): Promise<readonly Nic[]> {
  const machines = await journal.objects.list("machine");
  const macs = new Set(machines.flatMap(({ effective }) => effective.nics.map((nic) => nic.mac)));
  const nics: Nic[] = [];
  for (const [index, wanted] of of.spec.networks.entries()) {
    const network = await find(journal, "network", wanted.networkId);
    if (network.spec.environmentId !== of.environment.id) {
      throw new Fault("object.unknown", { kind: "network", id: wanted.networkId });
    }
    const cidr = parseCidr(network.spec.cidr);
    const taken = new Map<string, string>();
    for (const row of await journal.addresses.list(network.id)) {
      const holder = machines.find((machine) => machine.id === row.machineId);
      // A gone machine's address is not given away while its lease lives, but who asks for it by name gets it.
      const resting = row.freeFromMs === undefined || row.freeFromMs > of.nowMs;
      if (holder !== undefined || (resting && wanted.address === undefined)) {
        taken.set(
          row.address,
          holder === undefined
            ? "a machine that is gone"
            : importId(of.environment, holder.spec.name),
        );
      }
    }
    const address =
      wanted.address === undefined
        ? lowestFreeAddress(cidr, taken)
        : checkAddress(cidr, wanted.address, taken);
    const mac = freeMacAddress(of.id, index, macs);
    macs.add(mac);
    nics.push({
      networkId: network.id,
      address,
      prefixLength: cidr.prefixLength,
      mac,
      tap: tapName(of.id, index),
    });
  }
  return nics;
}

function envelopeOf(adaptation: Static<typeof MachineBody>["adaptation"]): Envelope {
  return {
    mode: adaptation?.mode ?? "auto",
    vcpus: adaptation?.vcpus ?? undefined,
    cpuPercent: adaptation?.cpu_percent ?? undefined,
    memoryMib: adaptation?.memory_mib ?? undefined,
    sites: adaptation?.sites ?? undefined,
  };
}

function checkSpec(
  spec: MachineSpec,
  environment: EnvironmentRecord | undefined,
  siteIds: readonly SiteId[],
): void {
  const { baseline, envelope } = spec;
  const refuse = (attribute: string, problem: string): Fault =>
    new Fault("request.invalid", { where: attribute, attribute, problem });
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
  for (const site of [baseline.siteId, ...(envelope.sites ?? [])]) {
    if (!siteIds.includes(site)) {
      throw refuse("site", `there is no site ${site}; there are ${siteIds.join(", ")}`);
    }
    if (environment !== undefined && !environment.spec.sites.includes(site)) {
      throw refuse(
        "site",
        `${site} is not among the sites of environment ${environment.spec.name}: ${environment.spec.sites.join(", ")}`,
      );
    }
  }
  if (spec.speaker && spec.group === undefined) throw refuse("speaker", "a speaker needs a group");
}

/** A NIC cannot come or go while the machine runs. */
function refuseOtherNetworks(
  record: MachineRecord,
  networks: Static<typeof MachinePatch>["networks"],
): void {
  if (networks === undefined) return;
  const { nics } = record.effective;
  const same =
    networks.length === nics.length &&
    networks.every(
      (wanted, index) =>
        wanted.network_id === nics[index]?.networkId &&
        (wanted.address ?? nics[index]?.address) === nics[index]?.address,
    );
  if (same) return;
  throw new Fault("object.immutable", {
    kind: "machine",
    key: record.spec.name,
    attribute: "networks",
    from: nics.map((nic) => nic.address).join(", "),
    to: networks.map((wanted) => wanted.address ?? "any").join(", "),
  });
}

function differs<T>(now: T, before: T): T | undefined {
  return now === before ? undefined : now;
}
