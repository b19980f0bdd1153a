/**
 * A plan's actions as one table of steps. Pure: depends on nothing but the plan (names are for people), so that a
 * shepherd that starts again numbers the steps as its predecessor did.
 */
import { assertNever } from "#model/assert-never";
import type { Plan } from "#model/plan";
import type { MachineId } from "#model/units";
import { createSteps } from "#operations/create";
import { destroySteps } from "#operations/destroy";
import { moveSteps } from "#operations/move";
import { relinkSteps } from "#operations/relink";
import { repairNetworkSteps } from "#operations/repair";
import { cpuPercentSteps, memorySteps, vcpuSteps } from "#operations/resize";
import { restartSteps } from "#operations/restart";
import type { Step } from "#operations/step";
import { sweepSteps } from "#operations/sweep";
import { removeVolumeSteps } from "#operations/volumes";

export function expand(plan: Plan, nameOf: (machineId: MachineId) => string): readonly Step[] {
  return plan.actions.flatMap((action): readonly Step[] => {
    switch (action.kind) {
      case "create_machine":
        return createSteps(action, nameOf(action.machineId));
      case "move_machine":
        return moveSteps(action, nameOf(action.machineId));
      case "restart_machine":
        return restartSteps(action, nameOf(action.machineId));
      case "set_memory":
        return memorySteps(action, nameOf(action.machineId));
      case "set_vcpus":
        return vcpuSteps(action, nameOf(action.machineId));
      case "set_cpu_percent":
        return cpuPercentSteps(action, nameOf(action.machineId));
      case "set_rate":
        return relinkSteps(action);
      case "apply_network":
        return repairNetworkSteps(action);
      case "sweep_host":
        return sweepSteps(action);
      case "remove_volume":
        return removeVolumeSteps(action);
      case "destroy_machine":
        return destroySteps(action, nameOf(action.machineId));
      default:
        return assertNever(action);
    }
  });
}
