/**
 * Taking over a machine that another tool made: our mark on it, and a record of what it is. It is neither stopped nor
 * defined anew; its disks, networks and name stay what they were. Undo takes the mark away again.
 */
import { Fault } from "#model/fault";
import type { PlanAction } from "#model/plan";
import { changeMachine, needMachine } from "#operations/records";
import type { Look, Step, StepContext } from "#operations/step";

const adoptBudgetMs = 60_000;

export function adoptSteps(
  action: Extract<PlanAction, { kind: "create_machine" }>,
  name: string,
): readonly Step[] {
  const { machineId, hostId, siteId, sizing } = action;
  const find = (context: StepContext) => context.world.hosts.get(hostId).findDomain(machineId);
  return [
    {
      name: `${name}: take over on ${hostId}`,
      machine: { id: machineId, state: "creating" },
      budgetMs: adoptBudgetMs,
      weightMs: 100,
      async observe(context): Promise<Look> {
        const domain = await find(context);
        const { environmentId } = await context.read((journal) => needMachine(journal, machineId));
        if (domain?.state !== "running") {
          const problem = `it is ${domain?.state ?? "gone"}; a running machine is taken over`;
          throw new Fault("import.refused", { name, host: hostId, problem });
        }
        const { vcpusMax, memoryMaxMib, memoryMib } = domain;
        const isOurs = domain.ours?.environmentId === environmentId;
        return { verdict: isOurs ? "done" : "todo", seen: { vcpusMax, memoryMaxMib, memoryMib } };
      },
      async do(context) {
        const { environmentId, owner } = await context.read(async (journal) => {
          const { spec } = await needMachine(journal, machineId);
          const environment = await journal.objects.get("environment", spec.environmentId);
          return { environmentId: spec.environmentId, owner: environment?.spec.owner ?? "" };
        });
        const { epoch } = context.world;
        await context.world.hosts
          .get(hostId)
          .markDomain(machineId, { environmentId, owner, epoch });
      },
      commit: (journal, context, seen) =>
        changeMachine(journal, machineId, context.world.clock.nowMs(), {
          ...sizing,
          siteId,
          hostId,
          state: "running",
          ceiling: { vcpus: Number(seen["vcpusMax"]), memoryMib: Number(seen["memoryMaxMib"]) },
          started: { disks: [] },
        }),
      async undo(context) {
        if ((await find(context)) === undefined) return;
        await context.world.hosts.get(hostId).markDomain(machineId, undefined);
      },
      revert: (journal, context) =>
        changeMachine(journal, machineId, context.world.clock.nowMs(), {
          hostId: "",
          state: "failed",
        }),
    },
  ];
}
