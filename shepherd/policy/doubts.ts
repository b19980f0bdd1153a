/**
 * Whose word a plan rests on: hosts that are looked at again before a no for lack of room, or before more is put on them.
 * Pure.
 */
import type { Facts } from "#model/facts";
import type { HostId, MachineId } from "#model/units";
import type { plan } from "#planner/plan";

type Drafted = ReturnType<typeof plan>;

/** Hosts whose words decide: all that answer when nothing fits, otherwise those that are to hold more than now. */
export function hostsInDoubt(drafted: Drafted, facts: Facts): readonly HostId[] {
  if (drafted.kind === "planned") {
    return drafted.actions.flatMap((action) => {
      switch (action.kind) {
        case "create_machine":
          return [action.hostId];
        case "move_machine":
          return [action.fromHostId, action.toHostId];
        case "restart_machine":
          return homeOf(action.machineId, facts);
        case "set_memory":
          return action.toMib > action.fromMib ? homeOf(action.machineId, facts) : [];
        case "set_vcpus":
          return action.to > action.from ? homeOf(action.machineId, facts) : [];
        case "set_cpu_percent":
          return action.to > action.from ? homeOf(action.machineId, facts) : [];
        default:
          return [];
      }
    });
  }
  if (drafted.code !== "placement.no_host_fits") return [];
  return facts.sites.flatMap(({ hosts }) =>
    hosts.filter(({ state }) => state === "up").map(({ id }) => id),
  );
}

/** Not planned because a host does not answer: for how long it has been silent decides which no it is. */
export function isSilent(drafted: Drafted): boolean {
  return drafted.kind === "refused" && drafted.code === "placement.site_unavailable";
}

function homeOf(machineId: MachineId, facts: Facts): readonly HostId[] {
  return facts.machines
    .filter(({ id }) => id === machineId)
    .map(({ effective }) => effective.hostId);
}
