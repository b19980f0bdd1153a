/**
 * Data volumes of a machine: created where the machine is first placed, kept when it goes, found again by the next one
 * that names them. Empty qcow2 files of the volume's size; what is on them is the guest's.
 */
import { Fault } from "#model/fault";
import type { MachineRecord, VolumeRecord } from "#model/objects";
import type { PlanAction } from "#model/plan";
import type { HostId, MachineId, VolumeId } from "#model/units";
import { dataVolume } from "#operations/domain-spec";
import { changeVolume, needMachine, removeObject } from "#operations/records";
import type { Look, Step, StepContext } from "#operations/step";
import type { Journal } from "#ports/store";

const volumeBudgetMs = 60_000;
const bytesPerGib = 2 ** 30;

/** Every data volume that the machine's specification names, on this host; a new one is made, one elsewhere is a fault. */
export function placeVolumesStep(of: {
  readonly machineId: MachineId;
  readonly name: string;
  readonly hostId: HostId;
}): Step {
  const { machineId, name, hostId } = of;
  return {
    name: `${name}: data volumes on ${hostId}`,
    machine: { id: machineId, state: "creating" },
    budgetMs: volumeBudgetMs,
    weightMs: 50,
    undoNeedless: "a data volume belongs to its stack, with or without this machine",
    async observe(context): Promise<Look> {
      const missing = await missingOn(context, of);
      return missing.length === 0
        ? { verdict: "done" }
        : { verdict: "todo", seen: { missing: missing.map(({ id }) => id) } };
    },
    async do(context) {
      const { volumes } = context.world.hosts.get(hostId);
      for (const volume of await missingOn(context, of)) {
        if (volume.effective.hostId !== "" && volume.effective.hostId !== hostId) {
          throw new Fault("volume.elsewhere", {
            volume: volume.spec.name,
            host: volume.effective.hostId,
            wanted: hostId,
          });
        }
        const capacityBytes = volume.spec.sizeGib * bytesPerGib;
        if ((await volumes.find(dataVolume(volume.id))) === undefined) {
          await volumes.createEmpty({ name: dataVolume(volume.id), capacityBytes });
        }
        await context.mark({}, (journal) => placed(journal, context, volume, hostId));
      }
    },
  };
}

/** Through its machine where one runs that has it, else the file alone. */
export function growVolumeSteps(
  action: Extract<PlanAction, { kind: "grow_volume" }>,
): readonly Step[] {
  const { volumeId, hostId, toGib } = action;
  const capacityBytes = toGib * bytesPerGib;
  const volume = dataVolume(volumeId);
  return [
    {
      name: `volume ${volumeId}: ${toGib} GiB`,
      budgetMs: volumeBudgetMs,
      weightMs: 200,
      undoImpossible: "a disk that has grown is never made smaller: its guest may use all of it",
      async observe(context): Promise<Look> {
        const found = await context.world.hosts.get(hostId).volumes.find(volume);
        if (found === undefined && context.phase === "before") {
          throw new Fault("volume.elsewhere", {
            volume: volumeId,
            host: "nowhere",
            wanted: hostId,
          });
        }
        const seen = { capacityBytes: found?.capacityBytes ?? 0 };
        return { verdict: seen.capacityBytes >= capacityBytes ? "done" : "todo", seen };
      },
      async do(context) {
        const host = context.world.hosts.get(hostId);
        const holder = await context.read((journal) => runningHolder(journal, volumeId));
        const runs =
          holder !== undefined && (await host.findDomain(holder.id))?.state === "running";
        if (runs) await host.growDisk(holder.id, { volume, capacityBytes });
        else await host.volumes.grow({ name: volume, capacityBytes });
      },
      commit: (journal, context) =>
        changeVolume(journal, {
          id: volumeId,
          nowMs: context.world.clock.nowMs(),
          change: { effective: { sizeGib: toGib } },
        }),
    },
  ];
}

/** It was started with it, or is to be. */
export function hasVolume({ spec, effective }: MachineRecord, id: VolumeId): boolean {
  return spec.disks?.includes(id) === true || effective.started?.disks.includes(id) === true;
}

/** The machine that was started with it; undefined: none was. */
async function runningHolder(
  journal: Journal,
  volumeId: VolumeId,
): Promise<MachineRecord | undefined> {
  const volume = await journal.objects.get("volume", volumeId);
  const { environmentId } = volume?.spec ?? {};
  if (environmentId === undefined) return undefined;
  const machines = await journal.objects.list("machine", { environmentId });
  return machines.find(({ effective }) => effective.started?.disks.includes(volumeId) === true);
}

/** The file, then the record. It does not come back, so the step insists. */
export function removeVolumeSteps(
  action: Extract<PlanAction, { kind: "remove_volume" }>,
): readonly Step[] {
  const { volumeId, hostId } = action;
  return [
    {
      name: `volume ${volumeId}: remove`,
      budgetMs: volumeBudgetMs,
      weightMs: 100,
      undoImpossible: "what was on a volume that its owner destroyed is gone",
      onFault: "insist",
      async observe(context): Promise<Look> {
        if (hostId === "") return { verdict: "done" };
        const found = await context.world.hosts.get(hostId).volumes.find(dataVolume(volumeId));
        return { verdict: found === undefined ? "done" : "todo" };
      },
      do: (context) => context.world.hosts.get(hostId).volumes.remove(dataVolume(volumeId)),
      async commit(journal, context) {
        const record = await journal.objects.get("volume", volumeId);
        if (record !== undefined) {
          await removeObject(journal, record, context.world.clock.nowMs());
        }
      },
    },
  ];
}

async function missingOn(
  context: StepContext,
  of: { readonly machineId: MachineId; readonly hostId: HostId },
): Promise<readonly VolumeRecord[]> {
  const wanted = await context.read(async (journal) => {
    const { spec } = await needMachine(journal, of.machineId);
    const found: VolumeRecord[] = [];
    for (const id of spec.disks ?? []) {
      const volume = await journal.objects.get("volume", id);
      if (volume === undefined) throw new Fault("operation.object_gone", { kind: "volume", id });
      found.push(volume);
    }
    return found;
  });
  const missing: VolumeRecord[] = [];
  for (const volume of wanted) {
    const { volumes } = context.world.hosts.get(of.hostId);
    const found = await volumes.find(dataVolume(volume.id));
    if (found === undefined || volume.effective.hostId !== of.hostId) missing.push(volume);
  }
  return missing;
}

function placed(
  journal: Journal,
  context: StepContext,
  { id, spec: { sizeGib } }: VolumeRecord,
  hostId: HostId,
): Promise<void> {
  const siteId = context.world.fleet.find((host) => host.id === hostId)?.siteId ?? "";
  return changeVolume(journal, {
    id,
    nowMs: context.world.clock.nowMs(),
    change: { effective: { hostId, siteId, sizeGib } },
  });
}
