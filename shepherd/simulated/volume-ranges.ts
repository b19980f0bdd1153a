/**
 * Files that arrive in ranges, in the simulated world: a volume's bytes are a token for each mebibyte, so that digests
 * compare, torn files show, and nothing large is carried about. Time follows from lengths. Knows no moves.
 */
import { createHash } from "node:crypto";
import { Fault } from "#model/fault";
import type { Bytes, HostId } from "#model/units";
import type { HostVolumes } from "#ports/host";
import type { Caller } from "#simulated/caller";
import type { VolumeData } from "#simulated/data";
import type { Machinery } from "#simulated/machinery";

const pieceBytes = 2 ** 20;
/** A mebibyte that was never written. */
const zero = "";

type Ranges = Pick<
  HostVolumes,
  "digests" | "readRange" | "beginPartial" | "writeRange" | "seal" | "listPartial"
>;

export function createRanges(machinery: Machinery, caller: Caller, hostId: HostId): Ranges {
  const host = () => machinery.host(hostId);
  const call = <T>(name: string, work: () => T | Promise<T>) =>
    caller.call(hostId, `volumes.${name}`, work);
  const need = (name: string): VolumeData => {
    const volume = host().volumes[name];
    if (volume !== undefined) return volume;
    const message = `no volume named ${name}`;
    throw new Fault("libvirt.no_volume", { procedure: "volumes.ranges", message });
  };
  return {
    digests: ({ name, rangeBytes }) =>
      call("digests", () => {
        const volume = host().volumes[name];
        if (volume === undefined) return undefined;
        const sizeBytes = sizeOf(volume);
        const pieces = piecesOf(volume);
        const perRange = rangeBytes / pieceBytes;
        const digests = Array.from({ length: Math.ceil(sizeBytes / rangeBytes) }, (_, index) => {
          const first = index * perRange;
          const lengthBytes = Math.min(rangeBytes, sizeBytes - index * rangeBytes);
          return digestOf(pieces.slice(first, first + perRange), lengthBytes);
        });
        return { sizeBytes, digests };
      }),
    async *readRange({ name, offsetBytes, lengthBytes }) {
      const pieces = await call("readRange", () => piecesOf(need(name)));
      const first = offsetBytes / pieceBytes;
      for (let index = 0; index * pieceBytes < lengthBytes; index += 1) {
        yield Buffer.from(JSON.stringify(pieces[first + index] ?? zero));
      }
    },
    beginPartial: ({ name, sizeBytes }) =>
      call("beginPartial", () => {
        const { volumes } = host();
        const there = volumes[name];
        if (there === undefined) {
          volumes[name] = {
            name,
            capacityBytes: sizeBytes,
            allocatedBytes: 0,
            backing: undefined,
            content: "",
            partial: { sizeBytes, pieces: {}, touchedAtMs: machinery.clock.nowMs() },
          };
          machinery.changed();
          return { isNew: true };
        }
        there.partial = {
          sizeBytes: Math.max(sizeBytes, sizeOf(there)),
          pieces: Object.fromEntries(piecesOf(there).entries()),
          touchedAtMs: machinery.clock.nowMs(),
        };
        machinery.changed();
        return { isNew: false };
      }),
    writeRange: ({ name, offsetBytes, lengthBytes, bytes }) =>
      call("writeRange", async () => {
        const { partial } = need(name);
        if (partial === undefined) throw new Error(`${name} is whole: nobody may write to it`);
        let index = offsetBytes / pieceBytes;
        const { copyMbps } = machinery.speeds;
        for await (const token of bytes) {
          const restBytes = Math.min(pieceBytes, offsetBytes + lengthBytes - index * pieceBytes);
          await caller.pause(hostId, Math.max(1, Math.ceil((restBytes * 8) / (copyMbps * 1000))));
          partial.pieces[index] = JSON.parse(Buffer.from(token).toString()) as string;
          partial.touchedAtMs = machinery.clock.nowMs();
          index += 1;
        }
        need(name).allocatedBytes = Object.keys(partial.pieces).length * pieceBytes;
        machinery.changed();
      }),
    seal: (name) =>
      call("seal", () => {
        const volume = need(name);
        if (volume.partial === undefined) return;
        volume.content = contentOf(volume);
        volume.allocatedBytes = volume.partial.sizeBytes;
        delete volume.partial;
        machinery.changed();
      }),
    listPartial: () =>
      call("listPartial", () =>
        Object.values(host().volumes).flatMap(({ name, allocatedBytes, partial }) =>
          partial === undefined ? [] : [{ name, allocatedBytes, touchedAtMs: partial.touchedAtMs }],
        ),
      ),
  };
}

function sizeOf(volume: VolumeData): Bytes {
  return volume.partial?.sizeBytes ?? volume.allocatedBytes;
}

/** One token a mebibyte. */
function piecesOf(volume: VolumeData): readonly string[] {
  const length = Math.ceil(sizeOf(volume) / pieceBytes);
  return Array.from({ length }, (_, index) =>
    volume.partial === undefined
      ? `${volume.content}#${index}`
      : (volume.partial.pieces[index] ?? zero),
  );
}

/** What a file that came whole says; one that was put together of different files says that. */
function contentOf(volume: VolumeData): string {
  const contents = new Set(
    piecesOf(volume).map((piece, index) =>
      piece.endsWith(`#${index}`) ? piece.slice(0, piece.lastIndexOf("#")) : `torn at ${index}`,
    ),
  );
  const [content] = contents;
  return contents.size === 1 && content !== undefined ? content : "torn";
}

const zeroDigests = new Map<Bytes, string>();

function digestOf(pieces: readonly string[], lengthBytes: Bytes): string {
  if (pieces.some((piece) => piece !== zero)) {
    return createHash("sha256").update(JSON.stringify(pieces)).digest("hex");
  }
  const known = zeroDigests.get(lengthBytes);
  if (known !== undefined) return known;
  const digest = createHash("sha256").update(Buffer.alloc(lengthBytes)).digest("hex");
  zeroDigests.set(lengthBytes, digest);
  return digest;
}
