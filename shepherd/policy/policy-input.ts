/**
 * Writes what policy sees: facts and a request, or a request with its plan, as the wire input of contract 1.
 * Pure. Knows no rule; decides nothing. Every field is always there, because a rule that sums cannot see what is absent.
 */
import type { Facts } from "#model/facts";
import {
  type AdaptationMode,
  classOf,
  defaultCpuWeight,
  type EnvironmentRecord,
  type LinkRecord,
  type MachineRecord,
  nameOfLink,
  type Range,
  type Sizing,
} from "#model/objects";
import type { Plan } from "#model/plan";
import type { Request, Subject } from "#model/request";
import { groupMode } from "#planner/groups";
import {
  compareText,
  linkTargetsOf,
  sizingOf,
  specOf,
  type Target,
  targetsOf,
} from "#planner/target";
import { constraintInput } from "#policy/constraints";
import { holdOn } from "#policy/hold";
import { diskGibOf, heldBy, movesOf, movingOf, ownerOf } from "#policy/holdings";
import {
  contractVersion,
  type PolicyInput,
  type PolicyLink,
  type PolicyMachine,
  type PolicyMove,
  type PolicyPlan,
} from "#policy/input";
import { holdOf, sitesOf } from "#policy/sites-input";

/** Fields that the contract bounds are cut here; a longer name would be refused whole at the engine's door. */
const maxNameLength = 128;

interface Place extends Sizing {
  readonly cpuWeight?: number | undefined;
  readonly siteId: string;
  readonly hostId: string;
}
const nowhere: Place = { vcpus: 0, cpuPercent: 0, memoryMib: 0, siteId: "", hostId: "" };

/** The input at the point `request`, or at the point `plan` when a plan is given. */
export function policyInput(
  request: Request,
  facts: Facts,
  environment: EnvironmentRecord,
  plan?: Plan,
): PolicyInput {
  const targets = targetsOf(request, facts);
  const machines = facts.machines.filter((machine) => machine.environmentId === environment.id);
  const links = facts.links.filter((link) => link.environmentId === environment.id);
  const linkTargets = linkTargetsOf(request, facts);
  const recent = facts.recent.filter(
    (row) => row.environmentId === environment.id && row.id !== request.id,
  );
  const asked = new Set(request.machines.map(({ machineId }) => machineId));
  const askedLinks = new Set(request.links.map(({ linkId }) => linkId));
  const shown = machines
    .toSorted((left, right) => compareText(left.spec.name, right.spec.name))
    .map((machine) => machineOf(machine, { request, facts, environment, targets, plan }));
  return {
    contract: contractVersion,
    now_ms: facts.nowMs,
    point: pointOf(request, plan),
    request: {
      id: request.id,
      kind: request.kind,
      machines: named(machines.filter(({ id }) => asked.has(id)).map(({ spec }) => spec.name)),
      links: named(links.filter(({ id }) => askedLinks.has(id)).map(linkName)),
      ...(request.group === undefined ? {} : { group: request.group }),
      ...(request.leaseMs === undefined ? {} : { lease_ms: request.leaseMs }),
      reason: request.reason.slice(0, 200),
    },
    subject: subjectOf(request.subject, machines),
    environment: {
      name: environment.spec.name,
      owner: environment.spec.owner,
      class: environment.spec.class,
      sites: [...environment.spec.sites],
      machines: shown,
      links: links
        .toSorted((left, right) => compareText(linkName(left), linkName(right)))
        .map((link) => linkOf(link, request, linkTargets)),
      counts: { machines: machines.length, links: links.length },
      groups: groupsOf(shown),
      recent: {
        total: recent.length,
        requests: recent.map((row) => ({
          id: row.id,
          at_ms: row.atMs,
          subject: row.subject.slice(0, maxNameLength),
          kind: row.kind,
          effect: row.effect,
          machines: named(
            row.machineIds.flatMap((id) => machines.find((one) => one.id === id)?.spec.name ?? []),
          ),
        })),
      },
      moves: movesOf(environment.id, facts.moves),
      moving: movingOf(new Set([environment.id]), facts),
      hold: holdOf(holdOn(facts.holds, { environmentId: environment.id }, facts.nowMs)),
    },
    owner: ownerOf(environment, facts),
    sites: sitesOf(facts, environment, machines),
    ...(plan === undefined ? {} : { plan: planOf(plan, facts, environment) }),
    hold: holdOf(holdOn(facts.holds, "everything", facts.nowMs)),
    exemptions: exemptionsOf(facts),
    ...constraintsOf(facts, environment),
  };
}

/**
 * The input at the point `audit`: an environment as it stands, with nothing proposed. Rules judge what is instead of
 * what would change. The answer grants and forbids nothing.
 */
export function auditInput(facts: Facts, environment: EnvironmentRecord): PolicyInput {
  const nobody: Request = {
    id: "audit",
    kind: "resize",
    environmentId: environment.id,
    subject: { type: "shepherd", name: "audit", roles: [] },
    machines: [],
    links: [],
    reason: "",
    idempotencyKey: "audit",
    receivedAtMs: facts.nowMs,
  };
  const input = policyInput(nobody, facts, environment);
  return { ...input, point: "audit", request: { ...input.request, kind: "audit" } };
}

/** Those that a second person approved; what is over is left out, so that an input does not grow for ever. */
function exemptionsOf(facts: Facts): PolicyInput["exemptions"] {
  return (facts.exemptions ?? []).flatMap((one) =>
    one.approvedBy === undefined || one.expiresAtMs <= facts.nowMs
      ? []
      : {
          id: one.id,
          owner: one.owner,
          rule: one.rule,
          instance: one.instance,
          environments: [...one.environments],
          expires_ms: one.expiresAtMs,
          approved_by: one.approvedBy ?? "",
          ticket: one.ticket,
        },
  );
}

/** By name, so that equal declarations make equal inputs. */
function constraintsOf(
  facts: Facts,
  { id }: EnvironmentRecord,
): Pick<PolicyInput, "constraints"> | undefined {
  const own = (facts.constraints ?? []).filter(({ environmentId }) => environmentId === id);
  if (own.length === 0) return undefined;
  const sorted = own.toSorted((left, right) => compareText(left.spec.name, right.spec.name));
  return { constraints: sorted.map(({ spec }) => constraintInput(spec)) };
}

function pointOf(request: Request, plan: Plan | undefined): PolicyInput["point"] {
  if (plan !== undefined) return "plan";
  return request.subject.type === "stack" ? "stack" : "request";
}

function subjectOf(subject: Subject, machines: readonly MachineRecord[]): PolicyInput["subject"] {
  const machine = machines.find(({ id }) => id === subject.machineId);
  return {
    type: subject.type,
    name: subject.name.slice(0, maxNameLength),
    ...(machine === undefined ? {} : { machine: machine.spec.name }),
    roles: [...subject.roles],
  };
}

function machineOf(
  machine: MachineRecord,
  of: {
    readonly request: Request;
    readonly facts: Facts;
    readonly environment: EnvironmentRecord;
    readonly targets: readonly Target[];
    readonly plan: Plan | undefined;
  },
): PolicyMachine {
  const { request, facts } = of;
  const target = of.targets.find((candidate) => candidate.machine.id === machine.id);
  const isNew = request.kind === "create" && target !== undefined;
  const now = isNew ? nowhere : placeNow(machine, facts);
  const spec = specOf(request, machine);
  // One more of a group is no growth of a machine; how many there are is the quotas' business.
  const isAdded = !isNew && target !== undefined && machine.version === 0;
  const low = isNew ? nowhere : isAdded ? target.wanted : (facts.hourLow[machine.id] ?? now);
  return {
    name: machine.spec.name,
    class: classOf(spec, of.environment.spec),
    group: spec.group ?? "",
    site: now.siteId,
    host: now.hostId,
    ...sizes(now),
    ...weight(now),
    disk_gib: diskGibOf(machine, facts),
    baseline: { ...sizes(spec.baseline), site: spec.baseline.siteId },
    envelope: {
      mode: modeOf(machine, of),
      vcpus: rangeOf(spec.envelope.vcpus, spec.baseline.vcpus),
      cpu_percent: rangeOf(spec.envelope.cpuPercent, spec.baseline.cpuPercent),
      memory_mib: rangeOf(spec.envelope.memoryMib, spec.baseline.memoryMib),
      sites: [...new Set([spec.baseline.siteId, ...(spec.envelope.sites ?? [])])],
    },
    hour_low: sizes(low),
    held: isNew ? { cpu_percent: 0, memory_mib: 0 } : heldBy(machine, facts),
    proposed: proposedOf(machine, now, target, of),
  };
}

/** How it adapts. Whether guests may add it to its group, or take it away, is the group's mode; its own is of its sizes. */
function modeOf(
  machine: MachineRecord,
  of: { readonly request: Request; readonly facts: Facts; readonly environment: EnvironmentRecord },
): AdaptationMode {
  const { scale } = of.request;
  const spec = specOf(of.request, machine);
  if (of.request.kind !== "scale" || scale === undefined) return spec.envelope.mode;
  const group = of.facts.groups.find(({ id }) => id === scale.groupId);
  if (group === undefined || spec.group !== group.spec.name) return spec.envelope.mode;
  return groupMode(group.spec, of.environment.spec);
}

/** What it is now. One that is being created counts where its capacity is reserved; one that waits for its decision, nowhere. */
function placeNow(machine: MachineRecord, facts: Facts): Place {
  const { effective } = machine;
  if (effective.hostId !== "")
    return {
      ...sizingOf(effective),
      cpuWeight: effective.cpuWeight,
      siteId: effective.siteId,
      hostId: effective.hostId,
    };
  const held = facts.reservations.find(({ machineId }) => machineId === machine.id);
  if (held === undefined) return nowhere;
  const site = facts.sites.find(({ hosts }) => hosts.some(({ id }) => id === held.hostId));
  return { ...sizingOf(effective), siteId: site?.id ?? "", hostId: held.hostId };
}

function proposedOf(
  machine: MachineRecord,
  now: Place,
  target: Target | undefined,
  of: { readonly request: Request; readonly plan: Plan | undefined },
): PolicyMachine["proposed"] {
  const wish = (place: Place) => ({
    ...sizes(place),
    ...weight(place),
    site: place.siteId,
    host: place.hostId,
  });
  if (target === undefined) return wish(now);
  if (of.request.kind === "destroy" || target.remove === true) return wish(nowhere);
  const cpuWeight = target.cpuWeight?.to ?? machine.effective.cpuWeight;
  if (of.plan !== undefined) return wish(planned(machine, { ...now, cpuWeight }, of.plan));
  const siteId = target.siteId ?? now.siteId;
  return wish({
    ...target.wanted,
    cpuWeight,
    siteId,
    hostId: siteId === now.siteId ? now.hostId : "",
  });
}

/** What the plan's actions leave of a machine: read from the actions, not from what was asked for. */
function planned(machine: MachineRecord, now: Place, plan: Plan): Place {
  return plan.actions.reduce<Place>((place, action) => {
    if (!("machineId" in action) || action.machineId !== machine.id) return place;
    switch (action.kind) {
      case "create_machine":
        return { ...place, ...action.sizing, siteId: action.siteId, hostId: action.hostId };
      case "move_machine":
        return { ...place, siteId: action.toSiteId, hostId: action.toHostId };
      case "set_memory":
        return { ...place, memoryMib: action.toMib };
      case "set_vcpus":
        return { ...place, vcpus: action.to };
      case "set_cpu_percent":
        return { ...place, cpuPercent: action.to };
      case "set_cpu_weight":
        return { ...place, cpuWeight: action.to };
      case "restart_machine":
      case "set_networks":
        return place;
      case "destroy_machine":
        return nowhere;
    }
  }, now);
}

function linkOf(
  link: LinkRecord,
  request: Request,
  targets: ReturnType<typeof linkTargetsOf>,
): PolicyLink {
  const target = targets.find((candidate) => candidate.link.id === link.id);
  const proposed =
    target === undefined
      ? link.effective.rateMbps
      : request.kind === "destroy"
        ? 0
        : target.wantedMbps;
  return {
    name: linkName(link),
    machines: link.spec.machines.filter((end) => end !== undefined),
    ...(link.spec.network === undefined ? {} : { network: link.spec.network }),
    rate_mbps: target?.liveMbps ?? link.effective.rateMbps,
    baseline_mbps: link.spec.rateMbps,
    proposed_mbps: proposed,
  };
}

function planOf(plan: Plan, facts: Facts, environment: EnvironmentRecord): PolicyPlan {
  const moves = plan.actions.flatMap((action): PolicyMove[] => {
    if (action.kind !== "move_machine") return [];
    const machine = facts.machines.find(({ id }) => id === action.machineId);
    if (machine === undefined) return [];
    return [
      {
        machine: machine.spec.name,
        class: classOf(machine.spec, environment.spec),
        from_site: action.fromSiteId,
        from_host: action.fromHostId,
        to_site: action.toSiteId,
        to_host: action.toHostId,
        predicted_ms: action.cost.durationMs,
        bytes: action.cost.bytes,
        downtime_ms: action.cost.downtimeMs,
      },
    ];
  });
  return {
    digest: plan.digest,
    predicted_ms: plan.cost.durationMs,
    bytes: plan.cost.bytes,
    downtime_ms: plan.cost.downtimeMs,
    moves,
  };
}

function sizes(of: Sizing): { vcpus: number; cpu_percent: number; memory_mib: number } {
  return { vcpus: of.vcpus, cpu_percent: of.cpuPercent, memory_mib: of.memoryMib };
}

/** Absent is the default, so that what says nothing of weights reads as it always did. */
function weight({ cpuWeight }: Place): { cpu_weight?: number } {
  return cpuWeight === undefined || cpuWeight === defaultCpuWeight ? {} : { cpu_weight: cpuWeight };
}

/** An attribute without a range does not adapt. */
function rangeOf(range: Range | undefined, baseline: number): { min: number; max: number } {
  return range === undefined
    ? { min: baseline, max: baseline }
    : { min: range.min, max: range.max };
}

function groupsOf(machines: readonly PolicyMachine[]): PolicyInput["environment"]["groups"] {
  const groups = [...new Set(machines.map(({ group }) => group))].filter((name) => name !== "");
  return named(groups).map((name) => ({
    name,
    machines: machines.filter(({ group }) => group === name).map((machine) => machine.name),
  }));
}

function linkName(link: LinkRecord): string {
  return nameOfLink(link.spec);
}

function named(names: readonly string[]): string[] {
  return names.toSorted(compareText);
}
