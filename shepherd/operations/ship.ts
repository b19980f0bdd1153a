/**
 * Ships a file that nobody writes from one host's pool to another's, in ranges. Which ranges are missing is found by
 * digests that each host takes of its own file: zeros are not sent (the file begins as a hole), nor is what is there
 * from an attempt that failed. What has arrived is compared again before it counts. The bytes go through the shepherd,
 * over the encrypted connections it has to both hosts: no host needs to log in to another.
 */
import { createHash } from "node:crypto";
import { Fault } from "#model/fault";
import type { Bytes, Mbps, Ms } from "#model/units";
import { withBudget } from "#operations/budget";
import type { Clock } from "#ports/clock";
import type { HostVolumes, RangeDigests } from "#ports/host";

export interface Shipment {
  readonly name: string;
  readonly from: HostVolumes;
  readonly to: HostVolumes;
  /** For messages. */
  readonly toHostId: string;
  readonly clock: Clock;
  readonly maxMbps?: Mbps | undefined;
  /** Aborted: stops between two packets; what has arrived stays. */
  readonly signal: AbortSignal;
  readonly onProgress?: ((progress: ShipProgress) => void) | undefined;
}
export interface ShipProgress {
  readonly sentBytes: Bytes;
  readonly missingBytes: Bytes;
}
export interface Shipped {
  /** Of the file, holes included. */
  readonly fileBytes: Bytes;
  readonly rangeBytes: Bytes;
  readonly sentBytes: Bytes;
  /** Ranges that only hold zeros. */
  readonly zeroBytes: Bytes;
  /** Already there from an attempt before. */
  readonly presentBytes: Bytes;
}

interface Run {
  readonly offsetBytes: Bytes;
  readonly lengthBytes: Bytes;
}

const mib = 2 ** 20;
/** Small enough that little is sent twice, large enough that a digest's process is worth it. */
const leastRangeBytes = mib;
/** Digests of one file: above that, ranges become larger. */
const mostRanges = 4096;
/** One transfer, so that a cut costs little: what is written of it is found by its digests. */
const runBytes = 32 * mib;
/**
 * Transfers at once. libvirt takes one writer of a volume at a time (and forgets at each refresh of the pool that it has
 * one); a second stream would carry no more anyway, because nothing is acknowledged within one.
 */
const runsAtOnce = 1;
/** A file of terabytes is read for hours; a host that hangs is not waited for so long. */
const digestMs: Ms = 60 * 60_000;
const callMs: Ms = 60_000;
/** What gets no further for so long is given up; a line that was down for a while is waited for. */
const stallMs: Ms = 120_000;
/** The second round mends what a cut tore; what differs then is the disk's fault. */
const rounds = 3;

/** Faults `migration.layer_differs`, `operation.cancelled`, `pool.full`, and those of the hosts. */
export async function ship(shipment: Shipment): Promise<Shipped> {
  const { name, to } = shipment;
  const { wanted, rangeBytes } = await look(shipment);
  const { isNew } = await within(shipment, "beginning", callMs, () =>
    to.beginPartial({ name, sizeBytes: wanted.sizeBytes }),
  );
  const digestsThere = () =>
    within(shipment, "digests", digestMs, () => to.digests({ name, rangeBytes }));
  let there = isNew ? undefined : await digestsThere();
  const first = missing(wanted, there, rangeBytes);
  const zeroBytes = zeroBytesOf(wanted, rangeBytes);
  const total = { missingBytes: lengthOf(first), sentBytes: 0 };
  for (let round = 1; ; round += 1) {
    const runs = missing(wanted, there, rangeBytes);
    if (runs.length === 0 && there !== undefined) break;
    if (round > rounds) {
      const details = { ranges: runs.length, volume: name, host: shipment.toHostId };
      throw new Fault("migration.layer_differs", details);
    }
    await sendAll(shipment, runs, total);
    there = await digestsThere();
  }
  await within(shipment, "sealing", callMs, () => to.seal(name));
  return {
    fileBytes: wanted.sizeBytes,
    rangeBytes,
    sentBytes: total.sentBytes,
    zeroBytes,
    presentBytes: wanted.sizeBytes - zeroBytes - total.missingBytes,
  };
}

async function look(shipment: Shipment): Promise<{ wanted: RangeDigests; rangeBytes: Bytes }> {
  const { name, from } = shipment;
  const file = await within(shipment, "looking", callMs, () => from.find(name));
  if (file === undefined) throw noVolume(name);
  const rangeBytes = rangeBytesFor(file.capacityBytes);
  const wanted = await within(shipment, "digests", digestMs, () =>
    from.digests({ name, rangeBytes }),
  );
  if (wanted === undefined) throw noVolume(name);
  return { wanted, rangeBytes };
}

/** A call that is not answered is not waited for longer; one that is cancelled not at all. */
async function within<T>(
  { clock, name, signal }: Shipment,
  what: string,
  budgetMs: Ms,
  work: () => Promise<T>,
): Promise<T> {
  signal.throwIfAborted();
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const abort = () => reject(signal.reason);
  signal.addEventListener("abort", abort, { once: true });
  try {
    const limit = { what: `${what} of ${name}`, budgetMs };
    return await withBudget(clock, limit, () => Promise.race([work(), aborted]));
  } finally {
    signal.removeEventListener("abort", abort);
  }
}

/** Power of two mebibytes. */
export function rangeBytesFor(sizeBytes: Bytes): Bytes {
  let rangeBytes = leastRangeBytes;
  while (sizeBytes / rangeBytes > mostRanges) rangeBytes *= 2;
  return rangeBytes;
}

/** Neighbours are sent as one, up to `runBytes`. */
function missing(
  wanted: RangeDigests,
  there: RangeDigests | undefined,
  rangeBytes: Bytes,
): readonly Run[] {
  const runs: { offsetBytes: Bytes; lengthBytes: Bytes }[] = [];
  for (const [index, digest] of wanted.digests.entries()) {
    const offsetBytes = index * rangeBytes;
    const lengthBytes = Math.min(rangeBytes, wanted.sizeBytes - offsetBytes);
    // A file that is longer there than here differs in its last range at most, and that is then sent.
    if (digest === (there?.digests[index] ?? zeroDigest(lengthBytes))) continue;
    const last = runs.at(-1);
    if (
      last !== undefined &&
      last.offsetBytes + last.lengthBytes === offsetBytes &&
      last.lengthBytes + lengthBytes <= runBytes
    ) {
      last.lengthBytes += lengthBytes;
    } else runs.push({ offsetBytes, lengthBytes });
  }
  return runs;
}

async function sendAll(
  shipment: Shipment,
  runs: readonly Run[],
  total: { missingBytes: Bytes; sentBytes: Bytes },
): Promise<void> {
  const { name, from, to, signal, clock } = shipment;
  const pace = createPace(clock, shipment.maxMbps);
  const waiting = runs.values();
  const failed = new AbortController();
  const watch = watchOver(clock, signal);
  const worker = async () => {
    for (const run of waiting) {
      if (failed.signal.aborted) return;
      signal.throwIfAborted();
      const bytes = paced(from.readRange({ name, ...run }), async (length) => {
        signal.throwIfAborted();
        await pace(length);
        watch.moved();
        total.sentBytes += length;
        shipment.onProgress?.({ ...total });
      });
      try {
        // A line that is down holds a transfer for minutes: whoever cancels does not wait for it.
        await Promise.race([to.writeRange({ name, ...run, bytes }), watch.ended]);
      } catch (error) {
        failed.abort();
        // The stream's own error hides why it was ended.
        signal.throwIfAborted();
        throw error;
      }
    }
  };
  try {
    const ended = await Promise.allSettled(Array.from({ length: runsAtOnce }, worker));
    for (const end of ended) if (end.status === "rejected") throw end.reason;
  } finally {
    watch.close();
  }
}

/** Rejects when it is cancelled, and when nothing has moved for `stallMs`. */
function watchOver(clock: Clock, signal: AbortSignal) {
  const { promise: ended, reject } = Promise.withResolvers<never>();
  // It may end before anybody waits for it.
  ended.catch(() => undefined);
  let movedAtMs = clock.nowMs();
  let cancelTimer: () => void = () => undefined;
  const look = () => {
    const stalledMs = clock.nowMs() - movedAtMs;
    if (stalledMs >= stallMs) reject(new Fault("migration.stalled", { afterMs: stalledMs }));
    else cancelTimer = clock.at(movedAtMs + stallMs, look);
  };
  const abort = () => reject(signal.reason);
  signal.addEventListener("abort", abort, { once: true });
  look();
  return {
    ended,
    moved() {
      movedAtMs = clock.nowMs();
    },
    close() {
      cancelTimer();
      signal.removeEventListener("abort", abort);
    },
  };
}

async function* paced(
  bytes: AsyncIterable<Uint8Array>,
  before: (length: Bytes) => Promise<void>,
): AsyncGenerator<Uint8Array> {
  for await (const chunk of bytes) {
    await before(chunk.length);
    yield chunk;
  }
}

/** All transfers together go no faster than this. */
function createPace(clock: Clock, maxMbps: Mbps | undefined): (length: Bytes) => Promise<void> {
  if (maxMbps === undefined) return async () => undefined;
  let freeAtMs: Ms = clock.nowMs();
  return async (length) => {
    freeAtMs = Math.max(freeAtMs, clock.nowMs()) + (length * 8) / (maxMbps * 1000);
    const waitMs = freeAtMs - clock.nowMs();
    if (waitMs >= 1) await clock.sleep(Math.ceil(waitMs));
  };
}

const zeroDigests = new Map<Bytes, string>();

function zeroDigest(lengthBytes: Bytes): string {
  const known = zeroDigests.get(lengthBytes);
  if (known !== undefined) return known;
  const hash = createHash("sha256");
  const zeros = Buffer.alloc(Math.min(mib, lengthBytes));
  for (let left = lengthBytes; left > 0; left -= zeros.length) {
    hash.update(left >= zeros.length ? zeros : zeros.subarray(0, left));
  }
  const digest = hash.digest("hex");
  if (zeroDigests.size < 64) zeroDigests.set(lengthBytes, digest);
  return digest;
}

function zeroBytesOf(file: RangeDigests, rangeBytes: Bytes): Bytes {
  let bytes = 0;
  for (const [index, digest] of file.digests.entries()) {
    const lengthBytes = Math.min(rangeBytes, file.sizeBytes - index * rangeBytes);
    if (digest === zeroDigest(lengthBytes)) bytes += lengthBytes;
  }
  return bytes;
}

function lengthOf(runs: readonly Run[]): Bytes {
  return runs.reduce((sum, run) => sum + run.lengthBytes, 0);
}

function noVolume(name: string): Fault {
  return new Fault("libvirt.no_volume", { message: `no volume ${name}`, volume: name });
}
