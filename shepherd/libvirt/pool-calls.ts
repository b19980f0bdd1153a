/**
 * The few calls about one volume that every file around a pool needs: find, describe, remove. "Not there" is an answer,
 * not an error. Knows neither uploads nor ranges.
 */
import type { RpcConnection } from "#libvirt/rpc/connection";
import { remote } from "#libvirt/rpc/procedures";
import type { PoolRef, VolumeRef } from "#libvirt/rpc/references";
import { readVolume, type VolumeDescription } from "#libvirt/xml/storage";
import { isFault } from "#model/fault";

/** Reads and small changes; libvirt itself gives up waiting for a lock after 30 s. */
export const callTimeoutMs = 60_000;
/** A volume of this name beside another says that the other is not whole. */
export const partialSuffix = ".partial";

export async function lookUp(
  control: RpcConnection,
  pool: PoolRef,
  name: string,
): Promise<VolumeRef | undefined> {
  const options = { timeoutMs: callTimeoutMs };
  return unlessGone(async () => {
    const { volume } = await control.call(remote.storageVolLookupByName, { pool, name }, options);
    return volume;
  });
}

export async function describe(
  control: RpcConnection,
  volume: VolumeRef,
): Promise<VolumeDescription | undefined> {
  const options = { timeoutMs: callTimeoutMs };
  return unlessGone(async () => {
    const { xml } = await control.call(remote.storageVolGetXmlDesc, { volume, flags: 0 }, options);
    return readVolume(xml);
  });
}

export async function remove(control: RpcConnection, pool: PoolRef, name: string): Promise<void> {
  const volume = await lookUp(control, pool, name);
  if (volume === undefined) return;
  const options = { timeoutMs: callTimeoutMs, order: pool.uuid };
  await unlessGone(() => control.call(remote.storageVolDelete, { volume, flags: 0 }, options));
}

async function unlessGone<T>(work: () => Promise<T>): Promise<T | undefined> {
  try {
    return await work();
  } catch (error) {
    if (isFault(error, "libvirt.no_volume")) return undefined;
    throw error;
  }
}
