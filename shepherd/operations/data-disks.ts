/**
 * A machine's data volumes in a move. QEMU copies each whole, beside the machine's own disk, into an empty file of exactly
 * its size. Where a volume lies is changed with its machine, in one transaction (records.ts): before that, what lies under
 * its name at the destination is nobody's, and afterwards what is left at the source is.
 */
import { Fault } from "#model/fault";
import type { HostId, Ms, VolumeId } from "#model/units";
import { baseVolume, dataVolume, imageParts } from "#operations/domain-spec";
import { mayRemove } from "#operations/layers";
import type { MoveAction } from "#operations/move-action";
import { placeParts } from "#operations/parts";
import type { Step, StepContext } from "#operations/step";
import type { Journal } from "#ports/store";

/** A disk that was kept may stand on an image that has to be placed first. */
const placeBudgetMs: Ms = 30 * 60_000;

/** The files at the destination, before anything is copied. No step for a machine that has none. */
export function dataDisksSteps(action: MoveAction, name: string): readonly Step[] {
  const { machineId, toHostId, volumeIds = [] } = action;
  if (volumeIds.length === 0) return [];
  return [
    {
      name: `${name}: data volumes on ${toHostId}`,
      machine: { id: machineId, state: "moving" },
      budgetMs: placeBudgetMs,
      weightMs: 100,
      // Whatever lies there under these names is left from an older move: its clusters would show through.
      observe: async ({ phase }) => ({ verdict: phase === "after" ? "done" : "todo" }),
      async do(context) {
        for (const id of volumeIds) await placeImageOf(context, id, toHostId);
        await placeFreshVolumes(context, action);
      },
      undo: (context) => removeVolumes(context, action, toHostId),
    },
  ];
}

/** Also for a copy that is begun again: the last one left half of them. */
export async function placeFreshVolumes(context: StepContext, action: MoveAction): Promise<void> {
  const { fromHostId, toHostId, volumeIds = [] } = action;
  if (volumeIds.length === 0) return;
  await mustHaveAll(context, action);
  await removeVolumes(context, action, toHostId);
  const { hosts } = context.world;
  const { volumes } = hosts.get(toHostId);
  for (const id of volumeIds) {
    const name = dataVolume(id);
    const source = await hosts.get(fromHostId).volumes.find(name);
    if (source === undefined) throw refused(action, `volume ${id} is not in the source's pool`);
    const { capacityBytes, backing } = source;
    if (backing === undefined) await volumes.createEmpty({ name, capacityBytes });
    else await volumes.createOverlay({ name, backing, capacityBytes });
  }
}

/** One that its guest does not have any more would not be copied, and yet count as moved. */
export async function mustHaveAll(context: StepContext, action: MoveAction): Promise<void> {
  const { machineId, fromHostId, volumeIds = [] } = action;
  if (volumeIds.length === 0) return;
  const domain = await context.world.hosts.get(fromHostId).findDomain(machineId);
  const lacking = volumeIds.find((id) => domain?.diskVolumes?.includes(dataVolume(id)) !== true);
  if (lacking === undefined) return;
  throw refused(action, `volume ${lacking} is not attached to it any more`);
}

/** From a host that the machine has left, or never reached. */
export async function removeVolumes(
  context: StepContext,
  action: MoveAction,
  hostId: HostId,
): Promise<void> {
  const { volumeIds = [] } = action;
  if (volumeIds.length === 0) return;
  await mayRemove(context, action, hostId);
  for (const id of volumeIds) {
    await mustLieElsewhere(context, { id, hostId });
    await context.world.hosts.get(hostId).volumes.remove(dataVolume(id));
  }
}

/** Whether anything of them is still on the host. */
export async function hasVolumes(
  context: StepContext,
  { volumeIds = [] }: MoveAction,
  hostId: HostId,
): Promise<boolean> {
  const { volumes } = context.world.hosts.get(hostId);
  for (const id of volumeIds) if ((await volumes.find(dataVolume(id))) !== undefined) return true;
  return false;
}

/** The journal's word beside the hosts': a volume that is at home there is never a left-over. */
async function mustLieElsewhere(
  context: StepContext,
  { id, hostId }: { readonly id: VolumeId; readonly hostId: HostId },
): Promise<void> {
  const record = await context.read((journal) => journal.objects.get("volume", id));
  if (record?.effective.hostId === hostId) {
    throw new Fault("volume.at_home", { volume: record.spec.name, host: hostId });
  }
}

async function placeImageOf(context: StepContext, id: VolumeId, hostId: HostId): Promise<void> {
  const image = await context.read((journal) => imageOf(journal, id));
  if (image === undefined) return;
  const base = baseVolume(image);
  const parts = imageParts(image).filter(({ volume }) => volume === base);
  await placeParts(context, hostId, parts);
}

/** Undefined: it is whole in itself. */
async function imageOf(journal: Journal, id: VolumeId) {
  const imageId = (await journal.objects.get("volume", id))?.spec.imageId;
  return imageId === undefined ? undefined : await journal.objects.get("image", imageId);
}

function refused({ machineId, fromHostId, toHostId }: MoveAction, problem: string): Fault {
  const details = { machine: machineId, from: fromHostId, to: toHostId, problem };
  return new Fault("migration.refused", details);
}
