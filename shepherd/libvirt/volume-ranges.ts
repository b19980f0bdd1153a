/**
 * Files that arrive in ranges: digests of what is there, reading and writing of parts, and the marker that says that a
 * file is not whole yet. What stopped arriving keeps its bytes, so that whoever tries again sends only what is missing.
 * Knows neither machines nor why a file is shipped. Where digests are taken is the caller's affair (a command on the
 * host); without one the bytes are read through libvirt, which is slower and needs nothing.
 */
import { createHash } from "node:crypto";
import { Readable, Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { callTimeoutMs, describe, lookUp, partialSuffix, remove } from "#libvirt/pool-calls";
import type { RpcConnection } from "#libvirt/rpc/connection";
import type { HostConnections } from "#libvirt/rpc/host-connections";
import { remote } from "#libvirt/rpc/procedures";
import type { PoolRef, VolumeRef } from "#libvirt/rpc/references";
import { type VolumeDescription, writeUploadVolume } from "#libvirt/xml/storage";
import { Fault, isFault } from "#model/fault";
import type { Bytes, Ms } from "#model/units";
import type { Clock } from "#ports/clock";
import type { HostVolumes, PartialVolume, RangeDigests, VolumeRange } from "#ports/host";

/** SHA-256 in hex of each range of a file of the host, by an absolute path. */
export type FileDigests = (path: string, rangeBytes: Bytes) => Promise<RangeDigests>;

export interface VolumeRangesOptions {
  readonly connections: HostConnections;
  /** The pool, its cache refreshed. */
  readonly refreshed: () => Promise<{ readonly control: RpcConnection; readonly pool: PoolRef }>;
  /** Fault `pool.full` in place of what libvirt says, and before anything is written. */
  readonly unlessFull: <T>(
    file: { readonly name: string; readonly neededBytes: Bytes },
    work: () => Promise<T>,
  ) => Promise<T>;
  readonly fileDigests?: FileDigests | undefined;
  readonly clock: Clock;
}

const markerBytes = 512;
const inUseMs: Ms = 20_000;
const inUsePollMs: Ms = 200;

export class VolumeRanges {
  readonly #options: VolumeRangesOptions;

  constructor(options: VolumeRangesOptions) {
    this.#options = options;
  }

  async digests(request: Parameters<HostVolumes["digests"]>[0]): Promise<RangeDigests | undefined> {
    const found = await this.#find(request.name);
    if (found === undefined) return undefined;
    const { fileDigests } = this.#options;
    if (fileDigests !== undefined) return fileDigests(found.description.path, request.rangeBytes);
    const sizeBytes = found.description.physicalBytes ?? 0;
    const whole = { name: request.name, offsetBytes: 0, lengthBytes: sizeBytes };
    return { sizeBytes, digests: await digestsOf(this.readRange(whole), request.rangeBytes) };
  }

  async *readRange(range: VolumeRange): AsyncGenerator<Uint8Array> {
    const { volume } = await this.#need(range.name);
    const { offsetBytes, lengthBytes } = range;
    if (lengthBytes === 0) return;
    const connection = await this.#options.connections.own("transfer");
    try {
      const stream = await connection.openStream(remote.storageVolDownload, {
        volume,
        offsetBytes,
        lengthBytes,
        flags: 0,
      });
      for await (const chunk of stream) yield chunk as Uint8Array;
    } finally {
      await connection.close();
    }
  }

  async beginPartial(
    request: Parameters<HostVolumes["beginPartial"]>[0],
  ): Promise<{ readonly isNew: boolean }> {
    const { name, sizeBytes } = request;
    const { control, pool } = await this.#options.refreshed();
    const create = (xml: string) =>
      control.call(
        remote.storageVolCreateXml,
        { pool, xml, flags: 0 },
        { timeoutMs: callTimeoutMs, order: pool.uuid },
      );
    const marker = name + partialSuffix;
    if ((await lookUp(control, pool, marker)) === undefined) {
      await create(writeUploadVolume({ name: marker, sizeBytes: markerBytes }));
    }
    if ((await lookUp(control, pool, name)) !== undefined) return { isNew: false };
    await create(writeUploadVolume({ name, sizeBytes }));
    return { isNew: true };
  }

  async writeRange(request: Parameters<HostVolumes["writeRange"]>[0]): Promise<void> {
    const { name, lengthBytes } = request;
    return this.#options.unlessFull({ name, neededBytes: lengthBytes }, () => this.#write(request));
  }

  async seal(name: string): Promise<void> {
    const { control, pool } = await this.#options.refreshed();
    await remove(control, pool, name + partialSuffix);
  }

  async listPartial(): Promise<readonly PartialVolume[]> {
    const { control, pool } = await this.#options.refreshed();
    const { volumes } = await control.call(
      remote.storagePoolListAllVolumes,
      { pool, needResults: 1, flags: 0 },
      { timeoutMs: callTimeoutMs },
    );
    const names = new Set(volumes.map(({ name }) => name));
    const partial = volumes.filter(({ name }) => names.has(name + partialSuffix));
    const described = await Promise.all(partial.map((volume) => describe(control, volume)));
    return described
      .filter((description) => description !== undefined)
      .map(({ name, allocatedBytes, modifiedAtMs }) => ({
        name,
        allocatedBytes,
        touchedAtMs: modifiedAtMs,
      }))
      .toSorted((a, b) => (a.name < b.name ? -1 : 1));
  }

  async #write({
    name,
    offsetBytes,
    lengthBytes,
    bytes,
  }: Parameters<HostVolumes["writeRange"]>[0]): Promise<void> {
    const { volume } = await this.#need(name);
    const connection = await this.#options.connections.own("transfer");
    let sentBytes = 0;
    const counter = new Transform({
      transform(chunk: Buffer, _, done) {
        sentBytes += chunk.length;
        done(null, chunk);
      },
    });
    try {
      const stream = await this.#whenFree(() =>
        connection.openStream(
          remote.storageVolUpload,
          { volume, offsetBytes, lengthBytes, flags: 0 },
          { windowBytes: Number.POSITIVE_INFINITY },
        ),
      );
      stream.resume();
      await pipeline(Readable.from(bytes, { objectMode: false }), counter, stream);
    } finally {
      await connection.close();
    }
    if (sentBytes !== lengthBytes) {
      const details = { volume: name, size_bytes: lengthBytes, sent_bytes: sentBytes };
      throw new Fault("volume.size_mismatch", { ...details, stored_bytes: sentBytes });
    }
  }

  /** An upload that was broken off keeps its volume until the daemon has noticed. */
  async #whenFree<T>(work: () => Promise<T>): Promise<T> {
    const { clock } = this.#options;
    const untilMs = clock.nowMs() + inUseMs;
    for (;;) {
      try {
        return await work();
      } catch (error) {
        if (!isFault(error, "libvirt.invalid_now") || clock.nowMs() > untilMs) throw error;
        await clock.sleep(inUsePollMs);
      }
    }
  }

  async #find(
    name: string,
  ): Promise<{ volume: VolumeRef; description: VolumeDescription } | undefined> {
    const { control, pool } = await this.#options.refreshed();
    const volume = await lookUp(control, pool, name);
    const description = volume && (await describe(control, volume));
    return volume === undefined || description === undefined ? undefined : { volume, description };
  }

  async #need(name: string): Promise<{ volume: VolumeRef }> {
    const found = await this.#find(name);
    if (found !== undefined) return found;
    throw new Fault("libvirt.no_volume", { message: `no volume ${name}`, volume: name });
  }
}

/** Digests of the ranges of a file that comes as a stream. */
async function digestsOf(
  bytes: AsyncIterable<Uint8Array>,
  rangeBytes: Bytes,
): Promise<readonly string[]> {
  const digests: string[] = [];
  let hash = createHash("sha256");
  let hashedBytes = 0;
  for await (let rest of bytes) {
    while (rest.length > 0) {
      const part = rest.subarray(0, rangeBytes - hashedBytes);
      hash.update(part);
      hashedBytes += part.length;
      rest = rest.subarray(part.length);
      if (hashedBytes < rangeBytes) continue;
      digests.push(hash.digest("hex"));
      hash = createHash("sha256");
      hashedBytes = 0;
    }
  }
  if (hashedBytes > 0) digests.push(hash.digest("hex"));
  return digests;
}
