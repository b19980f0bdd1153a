/**
 * What an operation holds while it runs: for each machine the most it may take on each host it touches. Pure. Whole
 * amounts, so that room stays counted right while steps change what is in force. A destroy holds nothing.
 */
import type { MachineRecord, Sizing } from "#model/objects";
import type { Plan, Reservation } from "#model/plan";
import type { Bytes, HostId, MachineId, Ms, OperationId } from "#model/units";

/** Removed when the operation ends; this only frees what a lost row would hold for ever. */
const longestOperationMs = 7 * 24 * 3_600_000;

export function reservationsOf(
  plan: Plan,
  of: {
    readonly operationId: OperationId;
    readonly machines: ReadonlyMap<MachineId, MachineRecord>;
    /** Virtual sizes of the machine's disk and data volumes. */
    readonly diskBytes: (machine: MachineRecord) => Bytes;
    readonly nowMs: Ms;
  },
): readonly Reservation[] {
  const held = new Map<MachineId, { hosts: Set<HostId>; most: Sizing }>();
  const hold = (machineId: MachineId, hostIds: readonly HostId[], sizing: Partial<Sizing>) => {
    const record = of.machines.get(machineId);
    if (record === undefined) return;
    const { effective } = record;
    const entry = held.get(machineId) ?? {
      hosts: new Set([effective.hostId]),
      most: effective,
    };
    for (const hostId of hostIds) entry.hosts.add(hostId);
    held.set(machineId, { hosts: entry.hosts, most: larger(entry.most, sizing) });
  };
  for (const action of plan.actions) {
    switch (action.kind) {
      case "create_machine":
        hold(action.machineId, [action.hostId], action.sizing);
        break;
      case "move_machine":
        hold(action.machineId, [action.fromHostId, action.toHostId], {});
        break;
      case "set_memory":
        hold(action.machineId, [], { memoryMib: Math.max(action.fromMib, action.toMib) });
        break;
      case "set_vcpus":
        hold(action.machineId, [], { vcpus: Math.max(action.from, action.to) });
        break;
      case "set_cpu_percent":
        hold(action.machineId, [], { cpuPercent: Math.max(action.from, action.to) });
        break;
      case "set_cpu_weight":
      case "set_networks":
      case "set_rate":
      case "apply_network":
      case "sweep_host":
      case "grow_volume":
      case "remove_volume":
      case "destroy_machine":
        break;
      case "restart_machine":
        hold(action.machineId, [action.hostId], {});
        break;
    }
  }
  return [...held].flatMap(([machineId, { hosts, most }]) => {
    const record = of.machines.get(machineId);
    if (record === undefined) return [];
    return [...hosts]
      .filter((hostId) => hostId !== "")
      .toSorted()
      .map((hostId) => ({
        operationId: of.operationId,
        hostId,
        machineId,
        cpuPercent: most.cpuPercent,
        memoryMib: most.memoryMib,
        diskBytes: of.diskBytes(record),
        expiresAtMs: of.nowMs + longestOperationMs,
      }));
  });
}

function larger(most: Sizing, other: Partial<Sizing>): Sizing {
  return {
    vcpus: Math.max(most.vcpus, other.vcpus ?? 0),
    cpuPercent: Math.max(most.cpuPercent, other.cpuPercent ?? 0),
    memoryMib: Math.max(most.memoryMib, other.memoryMib ?? 0),
  };
}
