/**
 * Reads a qcow2 header: is it one, how large is the disk it describes, and does it lean on files that a host would not
 * have. Reads 112 bytes and the backing name, never the data. Source: docs/interop/qcow2.txt of QEMU.
 */
import { open } from "node:fs/promises";
import { Fault } from "#model/fault";

export interface Qcow2Header {
  readonly version: 2 | 3;
  readonly virtualBytes: number;
  readonly clusterBytes: number;
}

const magic = 0x51_46_49_fb; // "QFI\xfb"
const headerBytes = 112;
/** The format's own limit for a backing file's name. */
const maxBackingNameBytes = 1023;
/** A disk larger than this is a broken header: 64 TiB is what hosts can hold at most. */
const maxVirtualBytes = 64 * 2 ** 40;
/** Incompatible feature bits (version 3): 0 dirty, 1 corrupt, 2 external data file, 3 zstd, 4 extended L2. */
const corruptBit = 1n << 1n;
const externalDataBit = 1n << 2n;
const knownBits = 0b1_1111n;

/** Fault `image.unreadable`, `image.not_qcow2`, or `image.backing_path` when it needs another file. */
export async function readQcow2Header(path: string): Promise<Qcow2Header> {
  const { head, read } = await openAt(path);
  const refuse = (problem: string) => new Fault("image.not_qcow2", { path, problem });
  if (head.length < 72 || head.readUInt32BE(0) !== magic) {
    const looks = head.subarray(0, 4).toString("hex");
    throw refuse(`it begins with ${looks === "" ? "nothing" : `0x${looks}`}, not with QFI\\xfb`);
  }
  const version = head.readUInt32BE(4);
  if (version !== 2 && version !== 3) throw refuse(`its version is ${version}; 2 and 3 are known`);
  if (version === 3 && head.length < 104) throw refuse("its header is cut off");
  const clusterBits = head.readUInt32BE(20);
  if (clusterBits < 9 || clusterBits > 21)
    throw refuse(`its cluster size is 2^${clusterBits} bytes`);
  const virtualBytes = head.readBigUInt64BE(24);
  if (virtualBytes === 0n || virtualBytes > BigInt(maxVirtualBytes)) {
    throw refuse(`its virtual size is ${virtualBytes} bytes`);
  }
  if (head.readUInt32BE(32) !== 0) throw refuse("it is encrypted, and nobody here has the key");
  const backingOffset = head.readBigUInt64BE(8);
  if (backingOffset !== 0n) {
    const length = Math.min(head.readUInt32BE(16), maxBackingNameBytes);
    const backing = (await read(Number(backingOffset), length)).toString("utf8");
    throw new Fault("image.backing_path", { path, backing: printable(backing) });
  }
  const features = version === 3 ? head.readBigUInt64BE(72) : 0n;
  if ((features & externalDataBit) !== 0n) {
    throw new Fault("image.backing_path", { path, backing: "an external data file" });
  }
  if ((features & corruptBit) !== 0n) throw refuse("it is marked corrupt; run qemu-img check");
  if ((features & ~knownBits) !== 0n) {
    throw refuse(`it uses unknown features 0x${(features & ~knownBits).toString(16)}`);
  }
  return { version, virtualBytes: Number(virtualBytes), clusterBytes: 2 ** clusterBits };
}

async function openAt(path: string) {
  const read = async (offset: number, length: number): Promise<Buffer> => {
    const file = await open(path, "r");
    try {
      const buffer = Buffer.alloc(length);
      const { bytesRead } = await file.read(buffer, 0, length, offset);
      return buffer.subarray(0, bytesRead);
    } finally {
      await file.close();
    }
  };
  try {
    return { head: await read(0, headerBytes), read };
  } catch (cause) {
    const problem = cause instanceof Error ? cause.message : String(cause);
    throw new Fault("image.unreadable", { path, problem }, { cause });
  }
}

/** The name stands in a file that somebody gave us: shown without control characters. */
function printable(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, "?");
}
