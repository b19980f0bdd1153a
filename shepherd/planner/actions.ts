/**
 * Turns targets and places into actions, in the one order that is safe to stop at any point: create, move, cards, restart,
 * memory, rate, vcpus, CPU last, its weight, destroy. Pure. Growth comes after the move that makes its room; the cap of CPU is raised last, when
 * everything that could fail is done.
 */
import type { Facts } from "#model/facts";
import type { PlanAction } from "#model/plan";
import type { Declared } from "#model/request";
import type { VolumeId } from "#model/units";
import type { Placed } from "#planner/assignment";
import { fixedCost, measured } from "#planner/cost";
import {
  compareText,
  type LinkTarget,
  type SizingAttribute,
  type Target,
  travelling,
} from "#planner/target";

const order: Record<PlanAction["kind"], number> = {
  create_machine: 0,
  move_machine: 1,
  set_networks: 2,
  restart_machine: 3,
  set_memory: 4,
  apply_network: 5,
  set_rate: 6,
  grow_volume: 7,
  set_vcpus: 8,
  set_cpu_percent: 9,
  set_cpu_weight: 10,
  sweep_host: 11,
  destroy_machine: 12,
  remove_volume: 13,
};

/** Stable: actions of one kind keep the order of their machines' names. */
export function inOrder(actions: readonly PlanAction[]): readonly PlanAction[] {
  return actions.toSorted((left, right) => order[left.kind] - order[right.kind]);
}

export function placementActions({ target, host, move }: Placed): readonly PlanAction[] {
  const { machine, wanted } = target;
  if (machine.effective.hostId === "") {
    return [
      {
        kind: "create_machine",
        machineId: machine.id,
        hostId: host.id,
        siteId: host.siteId,
        sizing: wanted,
        ...volumesOf(target),
        ...(machine.spec.importedFrom === undefined ? {} : { adopt: true as const }),
        cost: fixedCost(machine.spec.importedFrom === undefined ? measured.createMs : 0),
      },
    ];
  }
  if (move === undefined)
    return [...cardActions(target), ...restartActions(target), ...sizingActions(target)];
  return [
    {
      kind: "move_machine",
      machineId: machine.id,
      fromHostId: machine.effective.hostId,
      fromSiteId: machine.effective.siteId,
      toHostId: host.id,
      toSiteId: host.siteId,
      ...(travelling(machine).length === 0 ? {} : { volumeIds: travelling(machine) }),
      ...(move.basis === undefined ? {} : { basis: move.basis }),
      cost: move.cost,
    },
    ...cardActions(target, host.id),
    ...restartActions(target, host.id),
    ...sizingActions(target),
  ];
}

function cardActions(
  { machine, networks }: Target,
  hostId = machine.effective.hostId,
): readonly PlanAction[] {
  if (networks === undefined) return [];
  const cost = fixedCost(measured.setNetworksMs);
  return [{ kind: "set_networks", machineId: machine.id, hostId, networks, cost }];
}

function restartActions(
  target: Target,
  hostId = target.machine.effective.hostId,
): readonly PlanAction[] {
  const { machine, restart } = target;
  if (restart !== true) return [];
  const cost = { ...fixedCost(measured.restartMs), downtimeMs: measured.restartMs };
  return [
    {
      kind: "restart_machine",
      machineId: machine.id,
      hostId,
      ...stopOf(machine),
      ...volumesOf(target),
      cost,
    },
  ];
}

function stopOf({ spec: { stopTimeoutMs } }: Target["machine"]) {
  return stopTimeoutMs === undefined ? {} : { stopTimeoutMs };
}

function volumesOf({ disks }: Target) {
  return disks.length === 0 ? {} : { volumeIds: disks };
}

/** Live changes of one machine: where what it has, or what the journal says it has, is not what it should have. */
export function sizingActions(target: Target): readonly PlanAction[] {
  const { live, wanted } = target;
  const machineId = target.machine.id;
  const actions: PlanAction[] = [];
  if (differs(target, "memoryMib")) {
    actions.push({
      kind: "set_memory",
      machineId,
      fromMib: live.memoryMib,
      toMib: wanted.memoryMib,
      cost: fixedCost(measured.setMemoryMs),
    });
  }
  if (differs(target, "vcpus")) {
    actions.push({
      kind: "set_vcpus",
      machineId,
      from: live.vcpus,
      to: wanted.vcpus,
      cost: fixedCost(measured.setVcpusMs),
    });
  }
  if (differs(target, "cpuPercent")) {
    actions.push({
      kind: "set_cpu_percent",
      machineId,
      from: live.cpuPercent,
      to: wanted.cpuPercent,
      cost: fixedCost(measured.setCpuPercentMs),
    });
  }
  if (target.cpuWeight !== undefined) {
    const cost = fixedCost(measured.setCpuPercentMs);
    actions.push({ kind: "set_cpu_weight", machineId, ...target.cpuWeight, cost });
  }
  return actions;
}

function differs({ machine, live, wanted, touched }: Target, attribute: SizingAttribute): boolean {
  if (!touched.includes(attribute)) return false;
  return (
    live[attribute] !== wanted[attribute] || machine.effective[attribute] !== wanted[attribute]
  );
}

export function rateActions(links: readonly LinkTarget[]): readonly PlanAction[] {
  return links.flatMap(({ link, liveMbps, wantedMbps }) =>
    liveMbps === wantedMbps
      ? []
      : [
          {
            kind: "set_rate" as const,
            linkId: link.id,
            fromMbps: liveMbps,
            toMbps: wantedMbps,
            cost: fixedCost(measured.setRateMs),
          },
        ],
  );
}

export function destroyActions(
  targets: readonly Target[],
  { keepDisks }: { readonly keepDisks?: true | undefined } = {},
): readonly PlanAction[] {
  return targets.map(({ machine }) => ({
    kind: "destroy_machine",
    machineId: machine.id,
    hostId: machine.effective.hostId,
    ...(keepDisks === undefined ? {} : { keepDisk: keepDisks }),
    ...stopOf(machine),
    cost: fixedCost(machine.effective.hostId === "" ? 0 : measured.destroyMs),
  }));
}

/** Volumes whose new word is larger than what lies on their host; one that lies nowhere yet is made as large as that. */
export function growActions(
  words: NonNullable<Declared["volumes"]>,
  facts: Pick<Facts, "volumes">,
): readonly PlanAction[] {
  return words.flatMap(({ id: volumeId, spec }) => {
    const effective = facts.volumes.find(({ id }) => id === volumeId)?.effective;
    if (effective === undefined || effective.hostId === "") return [];
    const { hostId, sizeGib: fromGib } = effective;
    const toGib = spec.sizeGib;
    if (toGib <= fromGib) return [];
    const cost = fixedCost(measured.growVolumeMs);
    return [{ kind: "grow_volume" as const, volumeId, hostId, fromGib, toGib, cost }];
  });
}

/** Volumes that facts do not know are gone already. */
export function volumeActions(
  volumeIds: readonly VolumeId[],
  facts: Pick<Facts, "volumes">,
): readonly PlanAction[] {
  return volumeIds.flatMap((volumeId) => {
    const volume = facts.volumes.find(({ id }) => id === volumeId);
    if (volume === undefined) return [];
    const cost = fixedCost(measured.removeVolumeMs);
    return [{ kind: "remove_volume" as const, volumeId, hostId: volume.effective.hostId, cost }];
  });
}

export function networkActions(hostIds: readonly string[]): readonly PlanAction[] {
  if (hostIds.length === 0) return [];
  return [
    {
      kind: "apply_network",
      hostIds: [...new Set(hostIds)].toSorted(compareText),
      cost: fixedCost(measured.applyNetworkMs),
    },
  ];
}
