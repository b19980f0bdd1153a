/**
 * Moving a running machine with its disks to another host. Up to the switch everything can be taken back and the
 * source never stops being the machine; from the switch on (the pivot) the destination is, and only cleaning remains.
 */
import { Fault } from "#model/fault";
import type { Bytes } from "#model/units";
import { networkTargets } from "#operations/create";
import { dataDisksSteps, hasVolumes, removeVolumes } from "#operations/data-disks";
import { dataVolume, overlayVolume } from "#operations/domain-spec";
import { diskStep, foldStep, freezeStep, hasDisk, removeDisk } from "#operations/layers";
import { migrateStep } from "#operations/migrate";
import { bothSuspected, type MoveAction, waitingFor } from "#operations/move-action";
import type { Arrival } from "#operations/network-state";
import { applyNetworks } from "#operations/networks";
import { placePartsStep } from "#operations/parts";
import { changeMachine, needMachine } from "#operations/records";
import type { Look, Step, StepContext } from "#operations/step";
import { askBoth, whereabouts } from "#operations/whereabouts";

const lookBudgetMs = 60_000;
const volumeBudgetMs = 60_000;

/** The parts of one move. Where several machines move, all are prepared before the first one switches. */
export interface MoveParts {
  /** Up to here nothing of the guest has left its host, and all can be taken back. */
  readonly prepare: readonly Step[];
  /** Memory, what is left of the disk, and the switch: from here on it lives elsewhere. */
  readonly switch: readonly Step[];
  readonly finish: readonly Step[];
}

export function moveSteps(action: MoveAction, name: string): MoveParts {
  const { machineId, fromHostId, toHostId } = action;
  const machine = { id: machineId, state: "moving" } as const;
  const arrival: Arrival = { machineId, hostId: toHostId };
  const prepare: readonly Step[] = [
    {
      name: `${name}: mark moving`,
      budgetMs: lookBudgetMs,
      weightMs: 10,
      async observe(context): Promise<Look> {
        const { effective } = await context.read((journal) => needMachine(journal, machineId));
        return { verdict: effective.state === "moving" ? "done" : "todo" };
      },
      do: (context) =>
        context.mark({}, (journal) =>
          changeMachine(journal, machineId, context.world.clock.nowMs(), { state: "moving" }),
        ),
      undo: (context) =>
        context.mark({}, (journal) =>
          changeMachine(journal, machineId, context.world.clock.nowMs(), { state: "running" }),
        ),
    },
    {
      name: `${name}: look at both hosts`,
      machine,
      budgetMs: lookBudgetMs,
      weightMs: 50,
      undoNeedless: "it only looks",
      observe: (context) => preflight(context, action),
      do: async () => undefined,
    },
    placePartsStep({ machineId, name, hostId: toHostId }),
    freezeStep(action, name),
    diskStep(action, name),
    ...dataDisksSteps(action, name),
    {
      // The port at the destination exists and is shut before the guest arrives: nothing is heard twice.
      name: `${name}: network on ${toHostId}`,
      machine,
      budgetMs: lookBudgetMs,
      weightMs: 100,
      observe: async ({ phase }) => ({
        verdict: phase === "after" ? "done" : "todo",
        seen: { arrival },
      }),
      do: async (context) =>
        applyNetworks(context, await networkTargets(context, machineId, toHostId)),
      // The row says `undoing` by now, so that the arrival is derived no more.
      undo: async (context) => {
        await applyNetworks(context, await networkTargets(context, machineId, toHostId));
      },
    },
  ];
  const finish: readonly Step[] = [
    {
      name: `${name}: forwarding`,
      machine,
      budgetMs: lookBudgetMs,
      weightMs: 100,
      onFault: "go_on",
      undoImpossible: "the machine lives there now",
      observe: async ({ phase }) => ({ verdict: phase === "after" ? "done" : "todo" }),
      do: async (context) =>
        applyNetworks(context, await networkTargets(context, machineId, toHostId)),
    },
    {
      // Nobody may write the old disk, and nobody may delete it, before the source itself says that the guest is gone.
      name: `${name}: leave ${fromHostId}`,
      machine,
      budgetMs: lookBudgetMs,
      weightMs: 500,
      onFault: "insist",
      undoImpossible: "the machine lives elsewhere now",
      async observe(context): Promise<Look> {
        const both = await askBoth(context.world, machineId, action);
        const { verdict } = whereabouts(both.source, both.destination);
        if (verdict === "both_suspected") return bothSuspected(name, action);
        if (both.source === "silent") return waitingFor(fromHostId);
        return { verdict: both.source === "absent" ? "done" : "todo", seen: { ...both } };
      },
      async do(context) {
        const both = await askBoth(context.world, machineId, action);
        // Paused since the hand-over, while the destination runs: an empty shell.
        if (both.destination !== "running" || both.source === "running") return;
        await context.world.hosts.get(fromHostId).stopDomain(machineId, { graceMs: 0 });
      },
    },
    {
      name: `${name}: remove disk on ${fromHostId}`,
      machine,
      budgetMs: volumeBudgetMs,
      weightMs: 100,
      onFault: "go_on",
      undoImpossible: "the machine's disks are at its new host",
      async observe(context): Promise<Look> {
        const isLeft =
          (await hasDisk(context, action, fromHostId)) ||
          (await hasVolumes(context, action, fromHostId));
        return { verdict: isLeft ? "todo" : "done" };
      },
      async do(context) {
        await removeDisk(context, action, fromHostId);
        await removeVolumes(context, action, fromHostId);
      },
    },
    foldStep(action, name),
    {
      // The source carries the network no longer, when this was its last machine there.
      name: `${name}: network on ${fromHostId}`,
      machine,
      budgetMs: lookBudgetMs,
      weightMs: 100,
      onFault: "go_on",
      undoImpossible: "the machine lives elsewhere now",
      observe: async ({ phase }) => ({ verdict: phase === "after" ? "done" : "todo" }),
      do: async (context) =>
        applyNetworks(context, await networkTargets(context, machineId, fromHostId, toHostId)),
    },
    {
      name: `${name}: arrived`,
      budgetMs: lookBudgetMs,
      weightMs: 10,
      undoImpossible: "the machine lives there now",
      observe: async ({ phase }) => ({ verdict: phase === "after" ? "done" : "todo" }),
      do: async () => undefined,
      commit: (journal, context) =>
        changeMachine(journal, machineId, context.world.clock.nowMs(), { state: "running" }),
    },
  ];
  return { prepare, switch: [migrateStep(action, name)], finish };
}

/** Both hosts answer, the source runs it, the destination has neither it nor another of its name, and room for it. */
async function preflight(context: StepContext, action: MoveAction): Promise<Look> {
  const { machineId, fromHostId, toHostId } = action;
  const { hosts } = context.world;
  const refuse = (problem: string) =>
    new Fault("migration.refused", { machine: machineId, from: fromHostId, to: toHostId, problem });
  const destination = hosts.get(toHostId);
  const domain = await hosts.get(fromHostId).findDomain(machineId);
  if (domain?.state !== "running") {
    throw refuse(`the source says it is ${domain?.state ?? "absent"}`);
  }
  const there = await destination.findDomainByName(domain.name);
  if (there !== undefined) throw refuse(`the destination has a domain ${domain.name} already`);
  const { freeMemoryMib, poolFreeBytes } = await destination.observe();
  if (freeMemoryMib < domain.memoryMib) {
    throw refuse(`${freeMemoryMib} MiB are free there, ${domain.memoryMib} MiB are needed`);
  }
  let diskBytes: Bytes = 0;
  for (const file of [overlayVolume(machineId), ...(action.volumeIds ?? []).map(dataVolume)]) {
    const found = await hosts.get(fromHostId).volumes.find(file);
    if (found === undefined) throw refuse(`its disk ${file} is not in the source's pool`);
    diskBytes += found.allocatedBytes;
  }
  if (poolFreeBytes < diskBytes) {
    throw refuse(`${poolFreeBytes} bytes of disk are free there, ${diskBytes} needed`);
  }
  return { verdict: "done", outcome: { memoryMib: domain.memoryMib, diskBytes } };
}
