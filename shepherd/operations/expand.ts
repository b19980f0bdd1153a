/**
 * A plan's actions as one table of steps. Pure: depends on nothing but the plan (names are for people), so that a
 * shepherd that starts again numbers the steps as its predecessor did.
 */
import { assertNever } from "#model/assert-never";
import type { Plan, PlanAction } from "#model/plan";
import type { MachineId } from "#model/units";
import { cardSteps } from "#operations/cards";
import { createSteps } from "#operations/create";
import { destroySteps } from "#operations/destroy";
import { moveSteps } from "#operations/move";
import type { MoveAction } from "#operations/move-action";
import { preflightStep } from "#operations/preflight";
import { relinkSteps } from "#operations/relink";
import { repairNetworkSteps } from "#operations/repair";
import { cpuPercentSteps, cpuWeightSteps, memorySteps, vcpuSteps } from "#operations/resize";
import { restartSteps } from "#operations/restart";
import { shrinkSteps } from "#operations/shrink";
import type { Step } from "#operations/step";
import { sweepSteps } from "#operations/sweep";
import { growVolumeSteps, removeVolumeSteps } from "#operations/volumes";

export function expand(plan: Plan, nameOf: (machineId: MachineId) => string): readonly Step[] {
  const placesOfMoves = movesOf(plan, nameOf);
  const steps = plan.actions.flatMap((action): readonly Step[] => {
    switch (action.kind) {
      case "create_machine":
        return besideEachOther(plan, action, createSteps(action, nameOf(action.machineId)));
      case "move_machine":
        return placesOfMoves.get(action) ?? [];
      case "restart_machine":
        return restartSteps(action, nameOf(action.machineId));
      case "set_networks":
        return cardSteps(action, nameOf(action.machineId));
      case "set_memory":
        return memorySteps(action, nameOf(action.machineId));
      case "set_vcpus":
        return vcpuSteps(action, nameOf(action.machineId));
      case "set_cpu_percent":
        return cpuPercentSteps(action, nameOf(action.machineId));
      case "set_cpu_weight":
        return cpuWeightSteps(action, nameOf(action.machineId));
      case "set_rate":
        return relinkSteps(action);
      case "apply_network":
        return repairNetworkSteps(action);
      case "sweep_host":
        return sweepSteps(action);
      case "grow_volume":
        return growVolumeSteps(action);
      case "remove_volume":
        return removeVolumeSteps(action);
      case "destroy_machine":
        return destroySteps(action, nameOf(action.machineId));
      default:
        return assertNever(action);
    }
  });
  return [...steps, ...shrinkSteps(plan.actions, nameOf)];
}

/** Machines of one operation that are created at once: a host's daemon serves four calls at a time. */
const createsAtOnce = 4;

/** Several new machines are lanes, so many at once; when one cannot be, none is left. */
function besideEachOther(plan: Plan, action: PlanAction, steps: readonly Step[]): readonly Step[] {
  const creates = plan.actions.filter(({ kind }) => kind === "create_machine");
  if (creates.length < 2) return steps;
  const n = creates.indexOf(action);
  const stage = `create ${Math.floor(n / createsAtOnce)}`;
  return steps.map((step) => ({ ...step, lane: `create ${n}`, stage }));
}

/**
 * The steps of all moves, in the place of the first of them. One goes through its parts in order. Of several, each a lane:
 * all are looked at, then all are prepared, then they switch in the waves of the plan; what cleans up behind a wave runs
 * beside the next switch, so that machines that talk are parted no longer than the switches take.
 */
function movesOf(
  plan: Plan,
  nameOf: (machineId: MachineId) => string,
): ReadonlyMap<MoveAction, readonly Step[]> {
  const moves = plan.actions.filter((action) => action.kind === "move_machine");
  const [first] = moves;
  if (first === undefined) return new Map();
  const look = preflightStep(moves, ({ machineId }) => nameOf(machineId));
  if (moves.length === 1) {
    const { prepare, switch: over, finish } = moveSteps(first, nameOf(first.machineId));
    return new Map([[first, [look, ...prepare, ...over, ...finish]]]);
  }
  const lanes = moves.map((action) => {
    const parts = moveSteps(action, nameOf(action.machineId));
    const lane = action.machineId;
    const staged = (steps: readonly Step[], stage: string): readonly Step[] =>
      steps.map((step) => ({ ...step, lane, stage }));
    return { wave: action.wave ?? 0, parts, staged };
  });
  const waves = [...new Set(lanes.map(({ wave }) => wave))].toSorted((left, right) => left - right);
  const steps: Step[] = [
    look,
    ...lanes.flatMap(({ parts, staged }) => staged(parts.prepare, "prepare")),
  ];
  for (const [index, wave] of [...waves, Number.POSITIVE_INFINITY].entries()) {
    const before = index === 0 ? undefined : waves[index - 1];
    const stage = `wave ${index}`;
    for (const lane of lanes) {
      if (lane.wave === before) steps.push(...lane.staged(lane.parts.finish, stage));
      if (lane.wave === wave) steps.push(...lane.staged(lane.parts.switch, stage));
    }
  }
  return new Map([[first, steps]]);
}
