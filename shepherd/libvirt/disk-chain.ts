/**
 * A running guest's disk, frozen and folded: a disk-only snapshot without metadata puts a fresh overlay on the machine's
 * own layer, an active commit with a pivot takes it away again. The guest does not stop for either. The base of a commit
 * is always said: without one libvirt would write into the image that all machines share.
 * Each call looks first, so that it goes on where an earlier one was interrupted. Knows no moves.
 */
import type { RpcConnection } from "#libvirt/rpc/connection";
import { remote } from "#libvirt/rpc/procedures";
import { domainOf } from "#libvirt/rpc/references";
import { writeDiskSnapshot } from "#libvirt/xml/disk-snapshot";
import { type DomainDescription, readDomain } from "#libvirt/xml/read-domain";
import { Fault, isFault } from "#model/fault";
import type { MachineId, Ms } from "#model/units";
import type { Clock } from "#ports/clock";
import type { DiskLayers, HostVolumes } from "#ports/host";

export interface DiskChainRoom {
  readonly control: () => Promise<RpcConnection>;
  readonly volumes: HostVolumes & { path(): Promise<string> };
  readonly clock: Clock;
}

const readTimeoutMs = 40_000;
const changeTimeoutMs = 60_000;
/** How often a commit is looked at; a small top takes less than that. */
const commitPollMs: Ms = 100;
/** A commit is local: what does not get further for so long is stuck. */
const commitStallMs: Ms = 120_000;

const snapshot = { noMetadata: 4, diskOnly: 16, reuseExisting: 32, atomic: 128 } as const;
const commitActive = 4;
const abortPivot = 2;

/** Faults `libvirt.bad_argument`: it has no such disk; `libvirt.invalid_now`: it does not run. */
export async function freezeDisk(
  room: DiskChainRoom,
  id: MachineId,
  layers: DiskLayers,
): Promise<void> {
  const control = await room.control();
  const poolPath = await room.volumes.path();
  const now = await describe(control, id);
  const written = (file: string) => now.disks.find((disk) => disk.file === `${poolPath}/${file}`);
  if (written(layers.top) !== undefined) return;
  const disk = written(layers.volume);
  const volume = await room.volumes.find(layers.volume);
  if (disk === undefined || volume === undefined) throw noSuchDisk("freezeDisk", id, layers);
  // Nobody writes to it: it is left from an attempt that ended before the guest took it.
  await room.volumes.remove(layers.top);
  const { capacityBytes } = volume;
  await room.volumes.createOverlay({ name: layers.top, backing: layers.volume, capacityBytes });
  const xml = writeDiskSnapshot({
    target: disk.target,
    file: `${poolPath}/${layers.top}`,
    others: now.disks.flatMap(({ target }) => (target === disk.target ? [] : [target])),
  });
  const flags = snapshot.noMetadata | snapshot.diskOnly | snapshot.reuseExisting | snapshot.atomic;
  await control.call(
    remote.domainSnapshotCreateXml,
    { domain: domainOf(id), xml, flags },
    { timeoutMs: changeTimeoutMs },
  );
}

/** Faults `libvirt.bad_argument`, `libvirt.invalid_now`, `migration.fold_stalled`. */
export async function foldDisk(
  room: DiskChainRoom,
  id: MachineId,
  layers: DiskLayers,
): Promise<void> {
  const control = await room.control();
  const poolPath = await room.volumes.path();
  const { disks } = await describe(control, id);
  const top = disks.find(({ file }) => file === `${poolPath}/${layers.top}`);
  if (top === undefined) {
    if (!disks.some(({ file }) => file === `${poolPath}/${layers.volume}`)) {
      throw noSuchDisk("foldDisk", id, layers);
    }
    await room.volumes.remove(layers.top);
    return;
  }
  const domain = domainOf(id);
  const job = () =>
    control.call(
      remote.domainGetBlockJobInfo,
      { domain, path: top.target, flags: 0 },
      { timeoutMs: readTimeoutMs },
    );
  if (!(await job()).found) {
    await control.call(
      remote.domainBlockCommit,
      {
        domain,
        disk: top.target,
        base: `${poolPath}/${layers.volume}`,
        top: undefined,
        bandwidthMibps: 0,
        flags: commitActive,
      },
      { timeoutMs: changeTimeoutMs },
    );
  }
  await pivot(room.clock, id, {
    job,
    pivot: () =>
      control.call(
        remote.domainBlockJobAbort,
        { domain, path: top.target, flags: abortPivot },
        { timeoutMs: changeTimeoutMs },
      ),
  });
  await room.volumes.remove(layers.top);
}

/** As soon as all is in the lower layer; until then libvirt refuses. */
async function pivot(
  clock: Clock,
  id: MachineId,
  commit: {
    readonly job: () => Promise<{ found: boolean; current: number; end: number }>;
    readonly pivot: () => Promise<unknown>;
  },
): Promise<void> {
  let movedAtMs = clock.nowMs();
  let reached = -1;
  for (;;) {
    const { found, current, end } = await commit.job();
    // Ended by itself: whoever asked looks at the disk again.
    if (!found) return;
    if (current > reached) {
      reached = current;
      movedAtMs = clock.nowMs();
    }
    let refusal: unknown;
    if (current === end) {
      try {
        await commit.pivot();
        return;
      } catch (error) {
        // "not ready for pivot yet": its words say so, its code says only that it is busy or invalid now.
        if (!isFault(error) || error.code === "libvirt.disconnected") throw error;
        refusal = error;
      }
    }
    const stalledMs = clock.nowMs() - movedAtMs;
    if (stalledMs > commitStallMs) {
      throw new Fault("migration.fold_stalled", { machine: id, stalledMs }, { cause: refusal });
    }
    await clock.sleep(commitPollMs);
  }
}

async function describe(control: RpcConnection, id: MachineId): Promise<DomainDescription> {
  const { xml } = await control.call(
    remote.domainGetXmlDesc,
    { domain: domainOf(id), flags: 0 },
    { timeoutMs: readTimeoutMs },
  );
  return readDomain(xml);
}

function noSuchDisk(procedure: string, id: MachineId, { volume, top }: DiskLayers): Fault {
  const message = `domain ${id} writes neither to ${volume} nor to ${top}`;
  return new Fault("libvirt.bad_argument", { procedure, message });
}
