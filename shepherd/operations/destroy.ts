/**
 * Destroying a machine: guest, disk, network, record. It never goes back (a stopped guest is not started again), so
 * every step insists, and another destroy may run it again. An adaptation of the machine stays granted
 * until its lease ends: a machine that is declared anew under that name may start from it.
 */
import { defaultStopTimeoutMs } from "#model/objects";
import type { PlanAction } from "#model/plan";
import type { HostId, MachineId } from "#model/units";
import { overlayVolume } from "#operations/domain-spec";
import { keepDiskStep, wholeDiskStep } from "#operations/keep-disk";
import { applyNetworks } from "#operations/networks";
import { sweepParts } from "#operations/parts";
import { changeMachine, needMachine, needMachineWorld, removeObject } from "#operations/records";
import type { Look, Step, StepContext } from "#operations/step";
import { topVolumeOf } from "#ports/host";
import type { Journal } from "#ports/store";

/** Beside the guest's own time to power off. */
const stopBudgetMs = 60_000;
const volumeBudgetMs = 60_000;
const undoImpossible = "a machine that was destroyed on its owner's word is not rebuilt";

export function destroySteps(
  action: Extract<PlanAction, { kind: "destroy_machine" }>,
  name: string,
): readonly Step[] {
  const { machineId, stopTimeoutMs: graceMs = defaultStopTimeoutMs } = action;
  const machine = { id: machineId, state: "destroying" } as const;
  const hosts = (context: StepContext) => whereItMayBe(context, machineId, action.hostId);
  return [
    ...(action.keepDisk === true ? [wholeDiskStep({ machineId, name })] : []),
    {
      name: `${name}: mark`,
      budgetMs: volumeBudgetMs,
      weightMs: 10,
      undoImpossible,
      onFault: "insist",
      async observe(context): Promise<Look> {
        const record = await context.read((journal) => journal.objects.get("machine", machineId));
        const done = record === undefined || record.effective.state === "destroying";
        return { verdict: done ? "done" : "todo" };
      },
      do: (context) =>
        context.mark({}, (journal) =>
          changeMachine(journal, machineId, context.world.clock.nowMs(), { state: "destroying" }),
        ),
    },
    {
      name: `${name}: stop`,
      machine,
      budgetMs: graceMs + stopBudgetMs,
      weightMs: 2_000,
      undoImpossible,
      onFault: "insist",
      async observe(context): Promise<Look> {
        for (const hostId of await hosts(context)) {
          const domain = await context.world.hosts.get(hostId).findDomain(machineId);
          if (domain !== undefined)
            return { verdict: "todo", seen: { hostId, state: domain.state } };
        }
        return { verdict: "done" };
      },
      async do(context) {
        for (const hostId of await hosts(context)) {
          await context.world.hosts.get(hostId).stopDomain(machineId, { graceMs });
        }
      },
    },
    action.keepDisk === true
      ? keepDiskStep({ machineId, name, hosts })
      : removeDiskStep({ machineId, name, hosts }),
    {
      name: `${name}: network`,
      machine,
      budgetMs: volumeBudgetMs,
      weightMs: 200,
      undoImpossible,
      onFault: "insist",
      observe: (context) => doneOrGone(context, machineId),
      async do(context) {
        const { effective } = await context.read((journal) => needMachine(journal, machineId));
        return applyNetworks(context, {
          required: await hosts(context),
          networkIds: effective.nics.map((nic) => nic.networkId),
        });
      },
    },
    {
      name: `${name}: image parts`,
      budgetMs: volumeBudgetMs,
      weightMs: 100,
      undoImpossible,
      onFault: "go_on",
      async observe(context) {
        const record = await context.read((journal) => journal.objects.get("machine", machineId));
        // Of a machine that another tool made no part is ours; its disks stay where they are.
        if (record?.spec.origin === "import") return { verdict: "done" };
        return await doneOrGone(context, machineId);
      },
      async do(context) {
        const world = await context.read((journal) => needMachineWorld(journal, machineId));
        return sweepParts(context, world);
      },
    },
    {
      name: `${name}: forget`,
      budgetMs: volumeBudgetMs,
      weightMs: 10,
      undoImpossible,
      onFault: "insist",
      async observe(context): Promise<Look> {
        const record = await context.read((journal) => journal.objects.get("machine", machineId));
        return { verdict: record === undefined ? "done" : "todo" };
      },
      do: (context) => context.mark({}, (journal) => forget(journal, context, machineId)),
    },
  ];
}

function removeDiskStep(of: {
  readonly machineId: MachineId;
  readonly name: string;
  readonly hosts: (context: StepContext) => Promise<readonly HostId[]>;
}): Step {
  const { machineId, name, hosts } = of;
  // The upper one first: it is there only where a move was given up half-way.
  const disk = [topVolumeOf(overlayVolume(machineId)), overlayVolume(machineId)];
  return {
    name: `${name}: disk`,
    machine: { id: machineId, state: "destroying" },
    budgetMs: volumeBudgetMs,
    weightMs: 200,
    undoImpossible,
    onFault: "insist",
    async observe(context): Promise<Look> {
      for (const hostId of await hosts(context)) {
        const { volumes } = context.world.hosts.get(hostId);
        for (const volume of disk) {
          const found = await volumes.find(volume);
          if (found !== undefined) return { verdict: "todo", seen: { hostId } };
        }
      }
      return { verdict: "done" };
    },
    async do(context) {
      for (const hostId of await hosts(context)) {
        const { volumes } = context.world.hosts.get(hostId);
        for (const volume of disk) await volumes.remove(volume);
      }
    },
  };
}

/** For steps that cannot be looked at: done once they were done, or when another destroy has finished before. */
async function doneOrGone(context: StepContext, machineId: MachineId): Promise<Look> {
  const record = await context.read((journal) => journal.objects.get("machine", machineId));
  return { verdict: record === undefined || context.phase === "after" ? "done" : "todo" };
}

/** Its host by the plan and by the journal now, and both hosts of a move that got stuck. */
async function whereItMayBe(
  context: StepContext,
  machineId: MachineId,
  hostId: HostId,
): Promise<readonly HostId[]> {
  const hostIds = new Set<HostId>([hostId]);
  await context.read(async (journal) => {
    const record = await journal.objects.get("machine", machineId);
    if (record !== undefined) hostIds.add(record.effective.hostId);
    for (const operation of await journal.operations.list({ states: ["stuck"], machineId })) {
      const plan = await journal.plans.get(operation.planId);
      for (const action of plan?.actions ?? []) {
        if (action.kind !== "move_machine" || action.machineId !== machineId) continue;
        hostIds.add(action.fromHostId);
        hostIds.add(action.toHostId);
      }
    }
  });
  hostIds.delete("");
  return [...hostIds].toSorted();
}

async function forget(journal: Journal, context: StepContext, machineId: MachineId): Promise<void> {
  const record = await journal.objects.get("machine", machineId);
  if (record === undefined) return;
  for (const { networkId, address } of record.effective.nics) {
    await journal.addresses.remove(networkId, address);
  }
  for (const stuck of await journal.operations.list({ states: ["stuck"], machineId })) {
    await journal.operations.put({ ...stuck, state: "failed" });
    await journal.reservations.removeOf(stuck.id);
  }
  await removeObject(journal, record, context.world.clock.nowMs());
}
