/**
 * A machine goes and its own disk stays: its file becomes a data volume of the environment, under the id that it was
 * named after, so nothing is copied or renamed. A later machine may name it in its disks. Destroying compute this way
 * deletes nothing, which is why no policy is asked (policy/built-in.ts); deleting the volume is.
 */
import { Fault } from "#model/fault";
import type { ImageRecord, MachineRecord, VolumeRecord } from "#model/objects";
import type { HostId, MachineId } from "#model/units";
import { overlayVolume } from "#operations/domain-spec";
import { needMachineWorld, tellChange } from "#operations/records";
import type { Look, Step, StepContext } from "#operations/step";
import { topVolumeOf } from "#ports/host";
import type { Journal } from "#ports/store";

const volumeBudgetMs = 60_000;
const bytesPerGib = 2 ** 30;
const undoImpossible = "a machine that was destroyed on its owner's word is not rebuilt";

/** Before anything is stopped: a disk in two layers, as a move that was given up leaves it, cannot be kept as one file. */
export function wholeDiskStep(of: { readonly machineId: MachineId; readonly name: string }): Step {
  const { machineId, name } = of;
  return {
    name: `${name}: disk in one piece`,
    budgetMs: volumeBudgetMs,
    weightMs: 50,
    undoNeedless: "it only looks",
    async observe(context): Promise<Look> {
      const machine = await context.read((journal) => journal.objects.get("machine", machineId));
      const hostId = machine?.effective.hostId ?? "";
      if (hostId === "") return { verdict: "done" };
      const top = topVolumeOf(overlayVolume(machineId));
      const found = await context.world.hosts.get(hostId).volumes.find(top);
      if (found !== undefined) throw new Fault("volume.layered", { machine: name, host: hostId });
      return { verdict: "done" };
    },
    do: async () => undefined,
  };
}

/** The record of the volume, once the guest has stopped; the file stays where it is. */
export function keepDiskStep(of: {
  readonly machineId: MachineId;
  readonly name: string;
  readonly hosts: (context: StepContext) => Promise<readonly HostId[]>;
}): Step {
  const { machineId, name } = of;
  return {
    name: `${name}: keep disk`,
    machine: { id: machineId, state: "destroying" },
    budgetMs: volumeBudgetMs,
    weightMs: 50,
    undoImpossible,
    onFault: "insist",
    async observe(context): Promise<Look> {
      const kept = await context.read((journal) => journal.objects.get("volume", machineId));
      if (kept !== undefined) return { verdict: "done", outcome: { volume: kept.spec.name } };
      const hostId = await hostOfDisk(context, of);
      return hostId === undefined ? { verdict: "done" } : { verdict: "todo", seen: { hostId } };
    },
    async do(context) {
      const hostId = await hostOfDisk(context, of);
      if (hostId === undefined) return;
      const siteId = context.world.fleet.find(({ id }) => id === hostId)?.siteId ?? "";
      await context.mark({ hostId }, (journal) =>
        record(journal, context, { machineId, hostId, siteId }),
      );
    },
  };
}

/** Undefined when no host has it: a machine that another tool made keeps its disks anyway. */
async function hostOfDisk(
  context: StepContext,
  { machineId, hosts }: Parameters<typeof keepDiskStep>[0],
): Promise<HostId | undefined> {
  for (const hostId of await hosts(context)) {
    const { volumes } = context.world.hosts.get(hostId);
    if ((await volumes.find(overlayVolume(machineId))) !== undefined) return hostId;
  }
  return undefined;
}

async function record(
  journal: Journal,
  context: StepContext,
  of: { readonly machineId: MachineId; readonly hostId: HostId; readonly siteId: string },
): Promise<void> {
  const { machineId, hostId, siteId } = of;
  if ((await journal.objects.get("volume", machineId)) !== undefined) return;
  const { machine, image } = await needMachineWorld(journal, machineId);
  const { environmentId } = machine.spec;
  const sizeGib = Math.ceil(image.effective.virtualBytes / bytesPerGib);
  const name = await freeName(journal, machine);
  const nowMs = context.world.clock.nowMs();
  const volume: VolumeRecord = {
    kind: "volume",
    // The file is named after this id, and `overlayVolume` and `dataVolume` spell it the same.
    id: machineId as string,
    key: `${environmentId}/${name}`,
    environmentId,
    spec: { environmentId, name, sizeGib, imageId: image.id },
    effective: { hostId, siteId, sizeGib },
    version: 1,
    claimed: false,
    createdAtMs: nowMs,
  };
  await journal.objects.put(volume);
  await tellChange(journal, volume, nowMs);
}

/** `rank-0-disk`, and when an earlier rank-0 has left one, with the beginning of the id. */
async function freeName(journal: Journal, { id, spec }: MachineRecord): Promise<string> {
  const plain = `${spec.name}-disk`;
  const taken = await journal.objects.findByKey("volume", `${spec.environmentId}/${plain}`);
  return taken === undefined ? plain : `${plain}-${id.slice(0, 8)}`;
}

/** Images that kept disks are layers on: their base must stay. */
export async function imagesOfKeptDisks(journal: Journal): Promise<readonly ImageRecord[]> {
  const ids = new Set(
    (await journal.objects.list("volume")).flatMap(({ spec }) => spec.imageId ?? []),
  );
  return (await journal.objects.list("image")).filter(({ id }) => ids.has(id));
}
