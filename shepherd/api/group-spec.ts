/**
 * What a declared group means: its specification out of a body, its bounds, and the request that makes it so, for a new
 * one and for a changed one. Reads the journal in the caller's transaction; writes nothing and asks nobody.
 */
import type { Static } from "typebox";
import { askOf, checkSpec, type Declaration, restartReasons, templateOf } from "#api/machine-spec";
import { claimedConflict, environmentOf, importId, sameData } from "#api/records";
import type { GroupBody, GroupPatch } from "#api/schemas";
import { Fault } from "#model/fault";
import {
  defaultCpuWeight,
  type EnvironmentRecord,
  type GroupRecord,
  type GroupSpec,
  type MachineRecord,
  type MachineSpec,
} from "#model/objects";
import type { MachineAsk, Request } from "#model/request";
import { giveNics } from "#operations/declare";
import { changeGroup, memberIndex, memberSpec, membersOf } from "#planner/groups";
import type { Journal } from "#ports/store";

export type GroupAsk = Pick<Request, "machines" | "links" | "declares" | "scale">;

export interface GroupDeclaration extends Declaration {
  readonly newId: () => string;
}

/** Everything that a new group consists of. Faults `request.invalid`, `object.unknown`, `conflict.exists`. */
export async function declaredGroup(
  journal: Journal,
  of: GroupDeclaration & {
    readonly id: string;
    readonly name: string;
    readonly body: Static<typeof GroupBody>;
  },
): Promise<GroupAsk> {
  const { id } = of;
  const spec = await specOfBody(journal, of);
  checkGroup(spec, of);
  const scope = await scopeOf(journal, of);
  await refuseStrangers(journal, spec, scope.machines);
  const change = changeGroup(spec, spec.machineCount, scope);
  // A network that is not there or full is told before anybody decides; the grant counts the other members.
  const [first] = change.declares.machines ?? [];
  if (first !== undefined) await giveNics(journal, { ...first, nowMs: of.nowMs });
  return {
    machines: change.machines,
    links: change.links,
    declares: { ...change.declares, group: { id, spec } },
    scale: { groupId: id, machineCount: spec.machineCount },
  };
}

/**
 * What a PATCH makes of a group; undefined: nothing changes. Members that stay take the new template; the number changes
 * when the stack's word for it does. Faults of declaredGroup, `object.immutable`, `machine.restart_needed`.
 */
export async function patchedGroup(
  journal: Journal,
  of: GroupDeclaration & {
    readonly record: GroupRecord;
    readonly body: Static<typeof GroupPatch>;
  },
): Promise<GroupAsk | undefined> {
  const { record, body, environment } = of;
  const before = record.spec;
  const spec = await specOfBody(journal, { environment, name: before.name, body, before });
  checkGroup(spec, of);
  const { imageId: from } = before.template;
  const { imageId: to } = spec.template;
  if (from !== to) {
    const attribute = "template.image_id";
    throw new Fault("object.immutable", { kind: "group", key: spec.name, attribute, from, to });
  }
  const scope = await scopeOf(journal, of);
  const members = membersOf(spec, scope.machines);
  const says = spec.machineCount !== before.machineCount;
  const machineCount =
    body.planned_effective?.machine_count ??
    (says ? spec.machineCount : Math.max(members.length, spec.machineCount));
  const change = changeGroup(spec, machineCount, scope);
  const leaving = new Set(
    change.machines.flatMap((ask) => (ask.remove === true ? [ask.machineId] : [])),
  );
  const kept = changesOf(
    members.filter(({ id }) => !leaving.has(id)),
    spec,
    environment,
  );
  const machines = [...kept.asks, ...change.machines];
  const isSame = sameData(spec, before) && kept.declared.length === 0;
  if (isSame && machines.length === 0 && change.links.length === 0) return undefined;
  return {
    machines,
    links: change.links,
    declares: {
      ...change.declares,
      machines: [...kept.declared, ...(change.declares.machines ?? [])],
      group: { id: record.id, spec },
    },
    scale: { groupId: record.id, machineCount },
  };
}

/** All of a group, to be destroyed. */
export async function destroyedGroup(journal: Journal, record: GroupRecord): Promise<GroupAsk> {
  const { environmentId, name } = record.spec;
  const machines = await journal.objects.list("machine", { environmentId });
  const links = await journal.objects.list("link", { environmentId });
  return {
    machines: membersOf(record.spec, machines).map(({ id }) => ({ machineId: id })),
    links: links
      .filter(({ spec }) => spec.group === name)
      .map(({ id }) => ({ linkId: id, rateMbps: 0 })),
    scale: { groupId: record.id, machineCount: 0 },
  };
}

/** The specification that a body says, over an earlier one where it says nothing. Fault `request.invalid`. */
async function specOfBody(
  journal: Journal,
  of: {
    readonly environment: EnvironmentRecord;
    readonly name: string;
    readonly body: Static<typeof GroupPatch>;
    readonly before?: GroupSpec;
  },
): Promise<GroupSpec> {
  const { environment, name, body, before } = of;
  const template =
    body.template === undefined
      ? before?.template
      : {
          ...(await templateOf(journal, body.template, environment)),
          networks: body.template.networks.map(({ network_id }) => ({ networkId: network_id })),
          // It is shown to nobody: whoever changes something else cannot repeat it.
          ...(body.template.user_data === undefined ? { userData: before?.template.userData } : {}),
        };
  if (template === undefined) throw invalid("template", "is missing");
  const adaptation =
    body.adaptation === undefined
      ? { mode: before?.mode, machineCounts: before?.machineCounts }
      : {
          mode: body.adaptation?.mode ?? undefined,
          machineCounts: body.adaptation?.machine_count ?? undefined,
        };
  return {
    environmentId: environment.id,
    name,
    template,
    machineCount: body.machine_count ?? before?.machineCount ?? 0,
    mode: adaptation.mode,
    machineCounts: adaptation.machineCounts,
    topology: said(body.topology, before?.topology) ?? "none",
    topologyRateMbps: said(body.topology_rate_mbps, before?.topologyRateMbps) ?? 0,
    coupling: said(body.coupling, before?.coupling) ?? "independent",
    speaker:
      body.speaker === undefined
        ? before === undefined
          ? 0
          : before.speaker
        : (body.speaker ?? undefined),
  };
}

function checkGroup(spec: GroupSpec, declaration: Declaration): void {
  const { machineCount, machineCounts, topology, topologyRateMbps, speaker } = spec;
  if (machineCounts !== undefined) {
    const { min, max } = machineCounts;
    if (min > machineCount || max < machineCount) {
      throw invalid(
        "adaptation",
        `the baseline of ${machineCount} machines lies outside ${min} to ${max}`,
      );
    }
  }
  if (topology !== "none" && topologyRateMbps < 1) {
    throw invalid("topology_rate_mbps", `a ${topology} needs the rate of its links`);
  }
  if (speaker !== undefined && speaker >= Math.max(1, machineCount)) {
    throw invalid("speaker", `there is no machine ${speaker} among ${machineCount}`);
  }
  checkSpec(memberSpec(spec, 0, declaration.environment), declaration);
}

/** A machine of that group or of a member's name, declared by itself, would be taken for the group's own. */
async function refuseStrangers(
  journal: Journal,
  spec: GroupSpec,
  machines: readonly MachineRecord[],
): Promise<void> {
  const stranger = machines.find(
    (one) => one.spec.group === spec.name || memberIndex(spec.name, one.spec.name) !== undefined,
  );
  if (stranger === undefined) return;
  const environment = await environmentOf(journal, spec.environmentId);
  throw claimedConflict(stranger, importId(environment, stranger.spec.name));
}

async function scopeOf(journal: Journal, { environment, newId }: GroupDeclaration) {
  const inside = { environmentId: environment.id };
  return {
    environment,
    machines: await journal.objects.list("machine", inside),
    links: await journal.objects.list("link", inside),
    newId,
  };
}

/** What each member that stays has to become, and its new words; members without a host are asked for anyway. */
function changesOf(
  members: readonly MachineRecord[],
  group: GroupSpec,
  environment: EnvironmentRecord,
): {
  readonly asks: readonly MachineAsk[];
  readonly declared: readonly { readonly id: string; readonly spec: MachineSpec }[];
} {
  const asks: MachineAsk[] = [];
  const declared: { readonly id: string; readonly spec: MachineSpec }[] = [];
  for (const member of members) {
    const index = memberIndex(group.name, member.spec.name) ?? 0;
    const spec = memberSpec(group, index, environment);
    if (sameData(spec, member.spec)) continue;
    declared.push({ id: member.id, spec });
    if (member.effective.hostId === "") continue;
    const ask = askOf(member.id, differing(spec, member.spec));
    const reasons = restartReasons({ before: member, spec, ask });
    if (reasons.length > 0 && spec.allowRestart !== true) {
      throw new Fault("machine.restart_needed", {
        machine: spec.name,
        attributes: reasons.join(", "),
        attribute: `template.${reasons[0]}`,
      });
    }
    if (reasons.length > 0) asks.push({ ...ask, machineId: member.id, restart: true });
    else asks.push(ask ?? { machineId: member.id });
  }
  return { asks, declared };
}

function differing(after: MachineSpec, was: MachineSpec) {
  const changed = <T>(value: T, old: T) => (value === old ? undefined : value);
  const { baseline: now } = after;
  const { baseline: before } = was;
  return {
    vcpus: changed(now.vcpus, before.vcpus),
    cpuPercent: changed(now.cpuPercent, before.cpuPercent),
    memoryMib: changed(now.memoryMib, before.memoryMib),
    siteId: changed(now.siteId, before.siteId),
    cpuWeight: changed(after.cpuWeight ?? defaultCpuWeight, was.cpuWeight ?? defaultCpuWeight),
  };
}

/** The body's word; null takes it back; absent: as before. */
function said<T>(value: T | null | undefined, before: T | undefined): T | undefined {
  return value === undefined ? before : (value ?? undefined);
}

function invalid(attribute: string, problem: string): Fault {
  return new Fault("request.invalid", { where: attribute, attribute, problem });
}
