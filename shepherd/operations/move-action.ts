/** What the steps of a move share: the action, and the questions that only hosts or humans can answer. */
import type { PlanAction } from "#model/plan";
import type { HostId } from "#model/units";
import type { Look } from "#operations/step";

export type MoveAction = Extract<PlanAction, { kind: "move_machine" }>;

export function waitingFor(hostId: HostId): Look {
  return {
    verdict: "unknown",
    question: `waiting for ${hostId} to say whether the machine is there`,
  };
}

export function bothSuspected(name: string, action: MoveAction): Look {
  const { fromHostId, toHostId } = action;
  const question = `${name} runs on ${fromHostId} and ${toHostId}: which of the two is the machine? Stop the other there.`;
  return {
    verdict: "broken",
    question,
    commands: [
      `ssh ${fromHostId} virsh dominfo ${action.machineId}`,
      `ssh ${toHostId} virsh dominfo ${action.machineId}`,
      `ssh ${toHostId} virsh destroy ${action.machineId}   # when ${fromHostId} is right`,
      `ssh ${fromHostId} virsh destroy ${action.machineId}   # when ${toHostId} is right`,
    ],
  };
}
