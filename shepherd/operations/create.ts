/**
 * Creating a machine on the host that its plan chose. Nothing of it remains when it fails: what the journal says of its
 * place is taken back first, so that no other operation derives a port for it again.
 */
import { Fault } from "#model/fault";
import type { MachineEffective, MachineSpec, Sizing } from "#model/objects";
import type { PlanAction } from "#model/plan";
import type { HostId, MachineId } from "#model/units";
import { adoptSteps } from "#operations/adopt";
import { commonCpu } from "#operations/cpu-baseline";
import { baseVolume, domainSpecOf, overlayVolume } from "#operations/domain-spec";
import { applyNetworks } from "#operations/networks";
import { placePartsStep } from "#operations/parts";
import { changeMachine, needMachine, needMachineWorld } from "#operations/records";
import type { Look, Step, StepContext } from "#operations/step";
import { placeVolumesStep } from "#operations/volumes";
import { startedOf } from "#planner/restart";
import { ceilingOf as declaredCeiling } from "#planner/target";

/** Defining and starting; a TCG guest under load took 5 s. */
const startBudgetMs = 120_000;
const stopBudgetMs = 60_000;
const volumeBudgetMs = 60_000;

export function createSteps(
  action: Extract<PlanAction, { kind: "create_machine" }>,
  name: string,
): readonly Step[] {
  if (action.adopt === true) return adoptSteps(action, name);
  const { machineId, hostId, siteId, sizing } = action;
  const machine = { id: machineId, state: "creating" } as const;
  return [
    {
      name: `${name}: take ${hostId}`,
      machine,
      budgetMs: volumeBudgetMs,
      weightMs: 10,
      async observe(context): Promise<Look> {
        const { effective } = await context.read((journal) => needMachine(journal, machineId));
        // Planned from older facts: what runs already is no failed creation, and is not taken back like one.
        if (context.phase === "before" && !context.resumed && effective.hostId !== "") {
          throw new Fault("machine.placed_already", { machine: name, host: effective.hostId });
        }
        return { verdict: effective.hostId === hostId ? "done" : "todo" };
      },
      do: (context) =>
        context.mark({}, async (journal) => {
          const record = await needMachine(journal, machineId);
          const ceiling = ceilingOf(record.spec, record.effective, sizing);
          await changeMachine(journal, machineId, context.world.clock.nowMs(), {
            ...sizing,
            siteId,
            hostId,
            state: "creating",
            ceiling,
            started: startedOf(record.spec),
            // A booting guest has all of it, until its balloon driver takes the rest away.
            settlingFromMib: ceiling.memoryMib > sizing.memoryMib ? ceiling.memoryMib : undefined,
          });
        }),
      // First the journal, then the hosts: an apply for another machine must not bring the port back.
      async undo(context) {
        await context.mark({}, (journal) =>
          changeMachine(journal, machineId, context.world.clock.nowMs(), {
            hostId: "",
            state: "failed",
          }),
        );
        await applyNetworks(context, await networkTargets(context, machineId, hostId));
      },
    },
    placePartsStep({ machineId, name, hostId }),
    ...(action.volumeIds === undefined ? [] : [placeVolumesStep({ machineId, name, hostId })]),
    {
      name: `${name}: disk on ${hostId}`,
      machine,
      budgetMs: volumeBudgetMs,
      weightMs: 100,
      async observe(context): Promise<Look> {
        const { volumes } = context.world.hosts.get(hostId);
        const found = await volumes.find(overlayVolume(machineId));
        return { verdict: found === undefined ? "todo" : "done" };
      },
      async do(context) {
        const { image } = await context.read((journal) => needMachineWorld(journal, machineId));
        await context.world.hosts.get(hostId).volumes.createOverlay({
          name: overlayVolume(machineId),
          backing: baseVolume(image),
          capacityBytes: image.effective.virtualBytes,
        });
      },
      undo: (context) => context.world.hosts.get(hostId).volumes.remove(overlayVolume(machineId)),
    },
    {
      // libvirt connects the tap while it starts the guest: the bridge must be there before.
      name: `${name}: network`,
      machine,
      budgetMs: volumeBudgetMs,
      weightMs: 100,
      undoNeedless: "taking the host back applies the network without this machine",
      observe: async ({ phase }) => ({ verdict: phase === "after" ? "done" : "todo" }),
      do: async (context) =>
        applyNetworks(context, await networkTargets(context, machineId, hostId)),
    },
    {
      name: `${name}: start on ${hostId}`,
      machine,
      budgetMs: startBudgetMs,
      weightMs: 3_000,
      observe: (context) => observeRunning(context, machineId, hostId),
      async do(context) {
        const { spec, machineWorld } = await context.read(async (journal) => {
          const found = await needMachineWorld(journal, machineId);
          const networks = await journal.objects.list("network");
          return { machineWorld: found, spec: domainSpecOf(found, networks, context.world.epoch) };
        });
        const cpu = await commonCpu(context.world, machineWorld);
        await context.world.hosts
          .get(hostId)
          .startDomain({ ...spec, ...(cpu === undefined ? {} : { cpu }) });
      },
      undo: (context) => context.world.hosts.get(hostId).stopDomain(machineId, { graceMs: 0 }),
    },
    {
      // Again, now that the tap exists: filters and rates of the port.
      name: `${name}: port`,
      machine,
      budgetMs: stopBudgetMs,
      weightMs: 100,
      undoNeedless: "the port dies with the machine's tap",
      observe: async ({ phase }) => ({ verdict: phase === "after" ? "done" : "todo" }),
      do: async (context) =>
        applyNetworks(context, await networkTargets(context, machineId, hostId)),
    },
    {
      name: `${name}: confirm`,
      budgetMs: volumeBudgetMs,
      weightMs: 10,
      undoNeedless: "it only looks",
      observe: (context) => observeRunning(context, machineId, hostId),
      do: async () => undefined,
      commit: (journal, context) =>
        changeMachine(journal, machineId, context.world.clock.nowMs(), { state: "running" }),
    },
  ];
}

export async function observeRunning(
  context: StepContext,
  machineId: MachineId,
  hostId: HostId,
): Promise<Look> {
  const domain = await context.world.hosts.get(hostId).findDomain(machineId);
  const seen = { domain: domain?.state ?? "absent" };
  return { verdict: domain?.state === "running" ? "done" : "todo", seen };
}

/** The machine's host, and all that carry one of its networks. */
export async function networkTargets(
  context: StepContext,
  machineId: MachineId,
  ...hostIds: readonly HostId[]
) {
  const { effective } = await context.read((journal) => needMachine(journal, machineId));
  return { required: hostIds, networkIds: effective.nics.map((nic) => nic.networkId) };
}

/** What it is booted able to reach: its word or the envelope's highest, never below what it starts with. */
function ceilingOf(
  spec: MachineSpec,
  effective: MachineEffective,
  sizing: Sizing,
): MachineEffective["ceiling"] {
  const declared = declaredCeiling(spec);
  return {
    vcpus: Math.max(declared.vcpus, sizing.vcpus, effective.ceiling.vcpus),
    memoryMib: Math.max(declared.memoryMib, sizing.memoryMib, effective.ceiling.memoryMib),
  };
}
