/** Changing machines and links in the journal: read, change, count the version, tell. Knows no step. */
import { canonicalJson } from "#model/canonical";
import { Fault } from "#model/fault";
import type {
  EnvironmentRecord,
  GroupRecord,
  ImageRecord,
  LinkEffective,
  LinkRecord,
  MachineEffective,
  MachineRecord,
  VolumeRecord,
} from "#model/objects";
import type { LinkId, MachineId, Ms, VolumeId } from "#model/units";
import type { Journal } from "#ports/store";

export async function needMachine(journal: Journal, id: MachineId): Promise<MachineRecord> {
  const record = await journal.objects.get("machine", id);
  if (record === undefined) throw new Fault("operation.object_gone", { kind: "machine", id });
  return record;
}

export async function needLink(journal: Journal, id: LinkId): Promise<LinkRecord> {
  const record = await journal.objects.get("link", id);
  if (record === undefined) throw new Fault("operation.object_gone", { kind: "link", id });
  return record;
}

/** A machine with all that its domain is made of. */
export interface MachineWorld {
  readonly machine: MachineRecord;
  readonly environment: EnvironmentRecord;
  readonly image: ImageRecord;
}

export async function needMachineWorld(journal: Journal, id: MachineId): Promise<MachineWorld> {
  const machine = await needMachine(journal, id);
  const { environmentId, imageId } = machine.spec;
  const environment = await journal.objects.get("environment", environmentId);
  if (environment === undefined) {
    throw new Fault("operation.object_gone", { kind: "environment", id: environmentId });
  }
  const image = await journal.objects.get("image", imageId);
  if (image === undefined) throw new Fault("operation.object_gone", { kind: "image", id: imageId });
  return { machine, environment, image };
}

/** Fields given as undefined are cleared. A machine that is gone stays gone. */
export async function changeMachine(
  journal: Journal,
  id: MachineId,
  nowMs: Ms,
  change: Partial<MachineEffective>,
): Promise<void> {
  const record = await journal.objects.get("machine", id);
  if (record === undefined) return;
  const changed: MachineRecord = {
    ...record,
    effective: { ...record.effective, ...change },
    version: record.version + 1,
  };
  await journal.objects.put(changed);
  await tellChange(journal, changed, nowMs);
}

/** Where a machine is, and with it the volumes that go along: in one transaction, whoever reads sees them together. */
export async function changePlace(
  journal: Journal,
  of: {
    readonly machineId: MachineId;
    readonly volumeIds: readonly VolumeId[];
    readonly nowMs: Ms;
    readonly place: Pick<MachineEffective, "hostId" | "siteId"> & Partial<MachineEffective>;
  },
): Promise<void> {
  const { machineId, volumeIds, nowMs, place } = of;
  await changeMachine(journal, machineId, nowMs, place);
  const { hostId, siteId } = place;
  for (const id of volumeIds) {
    await changeVolume(journal, { id, nowMs, change: { effective: { hostId, siteId } } });
  }
}

export async function changeLink(
  journal: Journal,
  id: LinkId,
  nowMs: Ms,
  change: Partial<LinkEffective>,
): Promise<void> {
  const record = await journal.objects.get("link", id);
  if (record === undefined) return;
  const changed: LinkRecord = {
    ...record,
    effective: { ...record.effective, ...change },
    version: record.version + 1,
  };
  await journal.objects.put(changed);
  await tellChange(journal, changed, nowMs);
}

/** A volume that is gone stays gone; the same again changes nothing. */
export async function changeVolume(
  journal: Journal,
  of: {
    readonly id: VolumeId;
    readonly nowMs: Ms;
    readonly change: {
      readonly spec?: VolumeRecord["spec"];
      readonly effective?: Partial<VolumeRecord["effective"]>;
    };
  },
): Promise<void> {
  const record = await journal.objects.get("volume", of.id);
  if (record === undefined) return;
  const changed: VolumeRecord = {
    ...record,
    spec: of.change.spec ?? record.spec,
    effective: { ...record.effective, ...of.change.effective },
    version: record.version + 1,
  };
  if (canonicalJson({ ...changed, version: record.version }) === canonicalJson(record)) return;
  await journal.objects.put(changed);
  await tellChange(journal, changed, of.nowMs);
}

export async function removeObject(
  journal: Journal,
  record: MachineRecord | LinkRecord | GroupRecord | VolumeRecord,
  nowMs: Ms,
): Promise<void> {
  await journal.objects.remove(record.kind, record.id);
  await journal.events.append({
    kind: "object.deleted",
    atMs: nowMs,
    environmentId: record.environmentId,
    machineId: record.kind === "machine" ? record.id : undefined,
    data: { kind: record.kind, id: record.id, key: record.key, version: record.version },
  });
}

export async function tellChange(
  journal: Journal,
  record: MachineRecord | LinkRecord | GroupRecord | VolumeRecord,
  nowMs: Ms,
): Promise<void> {
  await journal.events.append({
    kind: "object.changed",
    atMs: nowMs,
    environmentId: record.environmentId,
    machineId: record.kind === "machine" ? record.id : undefined,
    data: { kind: record.kind, id: record.id, key: record.key, version: record.version },
  });
}
