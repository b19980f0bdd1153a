/**
 * Volumes of one directory pool: placed whole or not at all, overlays, removal. A file that is being uploaded stands
 * beside a marker volume `<name>.partial`; as long as the marker is there the file counts as absent, also after a crash,
 * and the next upload begins anew. (libvirt cannot rename a volume; a copy to the final name would cost all bytes again.)
 * Knows no images and no machines.
 */
import { basename, dirname } from "node:path";
import { Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { callTimeoutMs, describe, lookUp, partialSuffix, remove } from "#libvirt/pool-calls";
import type { RpcConnection } from "#libvirt/rpc/connection";
import type { HostConnections } from "#libvirt/rpc/host-connections";
import { remote } from "#libvirt/rpc/procedures";
import type { PoolRef, VolumeRef } from "#libvirt/rpc/references";
import { type FileDigests, VolumeRanges } from "#libvirt/volume-ranges";
import {
  readPoolPath,
  type VolumeDescription,
  writeEmptyVolume,
  writeOverlayVolume,
  writeUploadVolume,
} from "#libvirt/xml/storage";
import { Fault, isFault } from "#model/fault";
import type { Bytes } from "#model/units";
import type { Clock } from "#ports/clock";
import type { HostVolumes, VolumeInfo } from "#ports/host";

/** What an empty qcow2 takes at once (measured: 196 KiB), rounded up. */
const emptyQcow2Bytes = 256 * 1024;
/** libvirt's states of a pool. */
const poolInactive = 0;
/** VIR_STORAGE_VOL_GET_PHYSICAL: the size of the file in place of its allocation. */
const getPhysical = 1;

export class PoolVolumes implements HostVolumes {
  readonly #connections: HostConnections;
  readonly #poolName: string;
  readonly #uploads = new Map<string, Promise<void>>();
  readonly #ranges: VolumeRanges;
  #found: { readonly pool: PoolRef; readonly path: string } | undefined;

  constructor(
    connections: HostConnections,
    poolName: string,
    options: { readonly clock: Clock; readonly fileDigests?: FileDigests | undefined },
  ) {
    this.#connections = connections;
    this.#poolName = poolName;
    this.#ranges = new VolumeRanges({
      connections,
      refreshed: async () => {
        const control = await this.#control();
        return { control, pool: (await this.#refreshed(control)).pool };
      },
      unlessFull: (file, work) => this.#unlessFull(file, work),
      ...options,
    });
  }

  /** Absolute folder of the pool on the host. Fault `libvirt.no_pool`. */
  async path(): Promise<string> {
    return (await this.#pool(await this.#control())).path;
  }

  async freeBytes(): Promise<Bytes> {
    const control = await this.#control();
    const { pool } = await this.#pool(control);
    const { availableBytes } = await control.call(
      remote.storagePoolGetInfo,
      { pool },
      { timeoutMs: callTimeoutMs },
    );
    return availableBytes;
  }

  async find(name: string): Promise<VolumeInfo | undefined> {
    const control = await this.#control();
    const { pool, path } = await this.#refreshed(control);
    if ((await lookUp(control, pool, name + partialSuffix)) !== undefined) return undefined;
    const volume = await lookUp(control, pool, name);
    const description = volume && (await describe(control, volume));
    return description && infoOf(description, path);
  }

  async list(): Promise<readonly VolumeInfo[]> {
    const control = await this.#control();
    const { pool, path } = await this.#refreshed(control);
    const { volumes } = await control.call(
      remote.storagePoolListAllVolumes,
      { pool, needResults: 1, flags: 0 },
      { timeoutMs: callTimeoutMs },
    );
    const names = new Set(volumes.map((volume) => volume.name));
    const whole = volumes.filter(
      ({ name }) => !name.endsWith(partialSuffix) && !names.has(name + partialSuffix),
    );
    const described = await Promise.all(whole.map((volume) => describe(control, volume)));
    return described
      .filter((description) => description !== undefined)
      .map((description) => infoOf(description, path))
      .toSorted((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** Joins an upload of the same name that is under way. Faults: `libvirt.exists`, `volume.size_mismatch`. */
  async upload(request: Parameters<HostVolumes["upload"]>[0]): Promise<void> {
    const running = this.#uploads.get(request.name);
    if (running !== undefined) return running;
    const { name, sizeBytes: neededBytes } = request;
    const upload = this.#unlessFull({ name, neededBytes }, () => this.#upload(request)).finally(
      () => this.#uploads.delete(request.name),
    );
    this.#uploads.set(request.name, upload);
    return upload;
  }

  async createOverlay(request: Parameters<HostVolumes["createOverlay"]>[0]): Promise<void> {
    const control = await this.#control();
    const { pool } = await this.#refreshed(control);
    const volume = await lookUp(control, pool, request.backing);
    const backing = volume && (await describe(control, volume));
    if (backing === undefined) {
      const message = `no backing volume ${request.backing} in pool ${this.#poolName}`;
      throw new Fault("libvirt.no_volume", { message, volume: request.backing });
    }
    const xml = writeOverlayVolume({
      name: request.name,
      capacityBytes: request.capacityBytes,
      backingPath: backing.path,
      backingFormat: backing.format,
    });
    await this.#unlessFull({ name: request.name, neededBytes: emptyQcow2Bytes }, () =>
      control.call(
        remote.storageVolCreateXml,
        { pool, xml, flags: 0 },
        { timeoutMs: callTimeoutMs, order: pool.uuid },
      ),
    );
  }

  async createEmpty(request: Parameters<HostVolumes["createEmpty"]>[0]): Promise<void> {
    const control = await this.#control();
    const { pool } = await this.#refreshed(control);
    await this.#unlessFull({ name: request.name, neededBytes: emptyQcow2Bytes }, () =>
      control.call(
        remote.storageVolCreateXml,
        { pool, xml: writeEmptyVolume(request), flags: 0 },
        { timeoutMs: callTimeoutMs, order: pool.uuid },
      ),
    );
  }

  async grow({ name, capacityBytes }: Parameters<HostVolumes["grow"]>[0]): Promise<void> {
    const control = await this.#control();
    const { pool } = await this.#refreshed(control);
    const options = { timeoutMs: callTimeoutMs, order: pool.uuid };
    const { volume } = await control.call(remote.storageVolLookupByName, { pool, name }, options);
    const there = await describe(control, volume);
    if (there !== undefined && there.capacityBytes >= capacityBytes) return;
    await control.call(remote.storageVolResize, { volume, capacityBytes, flags: 0 }, options);
  }

  async remove(name: string): Promise<void> {
    const control = await this.#control();
    const { pool } = await this.#refreshed(control);
    // The marker goes last: a crash in between leaves a marker, not a file that looks whole.
    for (const victim of [name, name + partialSuffix]) await remove(control, pool, victim);
  }

  digests(request: Parameters<HostVolumes["digests"]>[0]) {
    return this.#ranges.digests(request);
  }

  readRange(range: Parameters<HostVolumes["readRange"]>[0]) {
    return this.#ranges.readRange(range);
  }

  beginPartial(request: Parameters<HostVolumes["beginPartial"]>[0]) {
    return this.#ranges.beginPartial(request);
  }

  writeRange(request: Parameters<HostVolumes["writeRange"]>[0]) {
    return this.#ranges.writeRange(request);
  }

  seal(name: string) {
    return this.#ranges.seal(name);
  }

  listPartial() {
    return this.#ranges.listPartial();
  }

  /**
   * Fault `pool.full` before anything is written when there is no room, and in place of whatever libvirt says when the
   * room went meanwhile; what was begun is taken away again, because it would keep the pool full.
   */
  async #unlessFull<T>(
    file: { readonly name: string; readonly neededBytes: Bytes },
    work: () => Promise<T>,
  ): Promise<T> {
    const { name, neededBytes } = file;
    const full = async (options?: ErrorOptions) => {
      const free_bytes = await this.freeBytes();
      const details = { pool: this.#poolName, volume: name, needed_bytes: neededBytes, free_bytes };
      return new Fault("pool.full", details, options);
    };
    await this.#refreshed(await this.#control());
    if ((await this.freeBytes()) < neededBytes) throw await full();
    try {
      return await work();
    } catch (error) {
      if (!saysFull(error)) throw error;
      const fault = await full({ cause: error });
      await this.remove(name);
      throw fault;
    }
  }

  async #upload(request: Parameters<HostVolumes["upload"]>[0]): Promise<void> {
    const { name, sizeBytes } = request;
    const control = await this.#control();
    const { pool } = await this.#refreshed(control);
    const create = (xml: string) =>
      control.call(
        remote.storageVolCreateXml,
        { pool, xml, flags: 0 },
        { timeoutMs: callTimeoutMs, order: pool.uuid },
      );
    const marker = name + partialSuffix;
    if ((await lookUp(control, pool, marker)) !== undefined) await remove(control, pool, name);
    else await create(writeUploadVolume({ name: marker, sizeBytes: 512 }));
    const { volume } = await create(writeUploadVolume({ name, sizeBytes }));
    const sentBytes = await this.#send(volume, request);
    const { allocationBytes: physicalBytes } = await control.call(
      remote.storageVolGetInfoFlags,
      { volume, flags: getPhysical },
      { timeoutMs: callTimeoutMs },
    );
    if (sentBytes !== sizeBytes || physicalBytes !== sizeBytes) {
      const details = { volume: name, size_bytes: sizeBytes, sent_bytes: sentBytes };
      throw new Fault("volume.size_mismatch", { ...details, stored_bytes: physicalBytes });
    }
    await remove(control, pool, marker);
  }

  async #send(volume: VolumeRef, request: Parameters<HostVolumes["upload"]>[0]): Promise<Bytes> {
    const connection = await this.#connections.own("transfer");
    let bytes = 0;
    const counter = new Transform({
      transform(chunk: Buffer, _, done) {
        bytes += chunk.length;
        request.onProgress?.(bytes);
        done(null, chunk);
      },
    });
    try {
      const stream = await connection.openStream(
        remote.storageVolUpload,
        { volume, offsetBytes: 0, lengthBytes: request.sizeBytes, flags: 0 },
        { windowBytes: Number.POSITIVE_INFINITY },
      );
      stream.resume();
      await pipeline(request.open(), counter, stream);
      return bytes;
    } finally {
      await connection.close();
    }
  }

  #control(): Promise<RpcConnection> {
    return this.#connections.kept("control");
  }

  async #pool(control: RpcConnection): Promise<{ pool: PoolRef; path: string }> {
    if (this.#found !== undefined) return this.#found;
    const options = { timeoutMs: callTimeoutMs };
    const { pool } = await control.call(
      remote.storagePoolLookupByName,
      { name: this.#poolName },
      options,
    );
    const { state } = await control.call(remote.storagePoolGetInfo, { pool }, options);
    if (state === poolInactive)
      await control.call(remote.storagePoolCreate, { pool, flags: 0 }, options);
    const { xml } = await control.call(remote.storagePoolGetXmlDesc, { pool, flags: 0 }, options);
    this.#found = { pool, path: readPoolPath(xml) };
    return this.#found;
  }

  /** A pool whose cache is stale fails migrations and hides files; but it cannot be refreshed during an upload. */
  async #refreshed(control: RpcConnection): Promise<{ pool: PoolRef; path: string }> {
    const found = await this.#pool(control);
    try {
      await control.call(
        remote.storagePoolRefresh,
        { pool: found.pool, flags: 0 },
        { timeoutMs: callTimeoutMs, order: found.pool.uuid },
      );
    } catch (error) {
      if (!isFault(error, "libvirt.internal") && !isFault(error, "libvirt.invalid_now"))
        throw error;
    }
    return found;
  }
}

/** libvirt has no code for it: the system's own words are in the message, of the error or of its cause. */
function saysFull(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  return (
    /No space left on device|Disk quota exceeded/i.test(error.message) || saysFull(error.cause)
  );
}

function infoOf(description: VolumeDescription, poolPath: string): VolumeInfo {
  const { name, capacityBytes, allocatedBytes, backingPath } = description;
  const inPool = backingPath !== undefined && dirname(backingPath) === poolPath;
  return {
    name,
    capacityBytes,
    allocatedBytes,
    backing: inPool ? basename(backingPath) : undefined,
  };
}
