/**
 * Off and on again, where the machine is: for what only a start puts in force (its ceiling, user data, XML patches, data
 * volumes). The guest is asked to power off first. When the new start fails, the machine is started as it was before.
 */
import { Fault } from "#model/fault";
import { defaultStopTimeoutMs, type MachineRecord, type Started } from "#model/objects";
import type { PlanAction } from "#model/plan";
import type { MachineId } from "#model/units";
import { commonCpu } from "#operations/cpu-baseline";
import { networkTargets, observeRunning } from "#operations/create";
import { domainSpecOf } from "#operations/domain-spec";
import { applyNetworks } from "#operations/networks";
import { placePartsStep } from "#operations/parts";
import { changeMachine, needMachine, needMachineWorld } from "#operations/records";
import type { Look, Step, StepContext, StepData } from "#operations/step";
import { placeVolumesStep } from "#operations/volumes";
import { startedOf } from "#planner/restart";
import { ceilingOf } from "#planner/target";

/** Beside the guest's own time to power off. */
const stopBudgetMs = 60_000;
const startBudgetMs = 120_000;
const networkBudgetMs = 60_000;

/** What the machine was started with before; journaled with the first step, and what undo starts again. */
interface Before extends StepData {
  readonly ceiling: MachineRecord["effective"]["ceiling"];
  readonly started: Started | null;
}

export function restartSteps(
  action: Extract<PlanAction, { kind: "restart_machine" }>,
  name: string,
): readonly Step[] {
  const { machineId, hostId, stopTimeoutMs: graceMs = defaultStopTimeoutMs } = action;
  const machine = { id: machineId, state: "running" } as const;
  return [
    placePartsStep({ machineId, name, hostId }),
    ...(action.volumeIds === undefined ? [] : [placeVolumesStep({ machineId, name, hostId })]),
    {
      name: `${name}: restart`,
      machine,
      budgetMs: graceMs + stopBudgetMs + startBudgetMs,
      weightMs: 4_000,
      async observe(context): Promise<Look> {
        const record = await context.read((journal) => needMachine(journal, machineId));
        const domain = await context.world.hosts.get(hostId).findDomain(machineId);
        const seen: Before = {
          ceiling: record.effective.ceiling,
          started: record.effective.started ?? null,
        };
        if (context.phase === "before") {
          if (!context.resumed && domain?.state !== "running") {
            throw new Fault("machine.not_running", {
              machine: record.spec.name,
              host: hostId,
              state: domain?.state ?? "absent",
            });
          }
          return { verdict: "todo", seen };
        }
        return { verdict: domain?.state === "running" ? "done" : "todo", seen };
      },
      async do(context) {
        const host = context.world.hosts.get(hostId);
        const record = await context.read((journal) => needMachine(journal, machineId));
        await host.stopDomain(machineId, { graceMs });
        const { ceiling, started } = after(record);
        await start(context, machineId, { ceiling, started });
      },
      commit: (journal, context) => putStarted(journal, context, machineId, after),
      async undo(context) {
        const before = context.record?.observed as Before;
        const host = context.world.hosts.get(hostId);
        // Which of the two runs cannot be told from outside: only the old one is started again for certain.
        await host.stopDomain(machineId, { graceMs: 0 });
        await start(context, machineId, {
          ceiling: before.ceiling,
          started: before.started ?? undefined,
        });
        await applyNetworks(context, await networkTargets(context, machineId, hostId));
      },
      async revert(journal, context) {
        const before = context.record?.observed as Before;
        await putStarted(journal, context, machineId, () => ({
          ceiling: before.ceiling,
          started: before.started ?? undefined,
        }));
      },
    },
    {
      // The new tap has neither filters nor rates yet.
      name: `${name}: port`,
      machine,
      budgetMs: networkBudgetMs,
      weightMs: 100,
      undoNeedless: "starting it as it was applies its network again",
      observe: async ({ phase }) => ({ verdict: phase === "after" ? "done" : "todo" }),
      do: async (context) =>
        applyNetworks(context, await networkTargets(context, machineId, hostId)),
    },
    {
      name: `${name}: confirm`,
      budgetMs: networkBudgetMs,
      weightMs: 10,
      undoNeedless: "it only looks",
      observe: (context) => observeRunning(context, machineId, hostId),
      do: async () => undefined,
    },
  ];
}

/** What it is started with now: its specification's word. A ceiling is never below what is in force. */
function after({ spec, effective }: MachineRecord) {
  const ceiling = ceilingOf(spec);
  return {
    ceiling: {
      vcpus: Math.max(ceiling.vcpus, effective.vcpus),
      memoryMib: Math.max(ceiling.memoryMib, effective.memoryMib),
    },
    started: startedOf(spec),
  };
}

async function start(
  context: StepContext,
  machineId: MachineId,
  as: Pick<MachineRecord["effective"], "ceiling" | "started">,
): Promise<void> {
  const { spec, hostId, machineWorld } = await context.read(async (journal) => {
    const world = await needMachineWorld(journal, machineId);
    const machine = { ...world.machine, effective: { ...world.machine.effective, ...as } };
    const networks = await journal.objects.list("network");
    return {
      spec: domainSpecOf({ ...world, machine }, networks, context.world.epoch),
      hostId: machine.effective.hostId,
      machineWorld: world,
    };
  });
  const cpu = await commonCpu(context.world, machineWorld);
  await context.world.hosts
    .get(hostId)
    .startDomain({ ...spec, ...(cpu === undefined ? {} : { cpu }) });
}

async function putStarted(
  journal: Parameters<NonNullable<Step["commit"]>>[0],
  context: StepContext,
  machineId: MachineId,
  of: (record: MachineRecord) => Pick<MachineRecord["effective"], "ceiling" | "started">,
): Promise<void> {
  const record = await needMachine(journal, machineId);
  const { ceiling, started } = of(record);
  const { memoryMib } = record.effective;
  await changeMachine(journal, machineId, context.world.clock.nowMs(), {
    ceiling,
    started,
    // A booting guest has all of it, until its balloon driver takes the rest away.
    settlingFromMib: ceiling.memoryMib > memoryMib ? ceiling.memoryMib : undefined,
  });
}
