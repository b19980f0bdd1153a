/**
 * A machine's seed: its user data as cloud-init's NoCloud source reads it, a read-only ISO 9660 image labelled `cidata`
 * with the files `user-data` and `meta-data`, named as they are by Joliet. Pure: the same words give the same bytes, so
 * that a seed is named by its content like every part. Source: ECMA-119 sections 8 and 9; the Joliet specification.
 */
import { digestOf } from "#model/canonical";
import type { MachineId } from "#model/units";

const sectorBytes = 2048;
/** Where the parts of the image stand, in sectors. */
const at = {
  primary: 16,
  joliet: 17,
  end: 18,
  primaryTableL: 19,
  primaryTableM: 20,
  jolietTableL: 21,
  jolietTableM: 22,
  primaryRoot: 23,
  jolietRoot: 24,
  files: 25,
} as const;

interface SeedFile {
  readonly name: string;
  /** As ECMA-119 allows it, for what knows no Joliet. */
  readonly plainName: string;
  readonly content: Buffer;
  readonly sector: number;
}

/** The image's bytes. A change of the words makes it another instance, so that cloud-init runs again. */
export function seedImage(of: {
  readonly machineId: MachineId;
  readonly name: string;
  readonly userData: string;
}): Buffer {
  const { machineId, name, userData } = of;
  const instance = `${machineId}-${digestOf(userData).slice(0, 8)}`;
  const files = placed([
    ["meta-data", "META_DATA.;1", `instance-id: ${instance}\nlocal-hostname: ${name}\n`],
    ["user-data", "USER_DATA.;1", userData],
  ]);
  const last = files.at(-1);
  const sectors = last === undefined ? at.files : last.sector + sectorsOf(last.content.length);
  const image = Buffer.alloc(sectors * sectorBytes);
  descriptor(image, { sector: at.primary, type: 1, root: at.primaryRoot, table: at.primaryTableL });
  descriptor(image, { sector: at.joliet, type: 2, root: at.jolietRoot, table: at.jolietTableL });
  put(image, at.end, Buffer.from("\xffCD001\x01", "latin1"));
  pathTable(image, at.primaryTableL, at.primaryRoot);
  pathTable(image, at.jolietTableL, at.jolietRoot);
  const plain = (file: SeedFile) => Buffer.from(file.plainName, "latin1");
  put(image, at.primaryRoot, directory(at.primaryRoot, files, plain));
  put(
    image,
    at.jolietRoot,
    directory(at.jolietRoot, files, ({ name: text }) => wide(text)),
  );
  for (const file of files) put(image, file.sector, file.content);
  return image;
}

function placed(words: readonly (readonly [string, string, string])[]): readonly SeedFile[] {
  let sector: number = at.files;
  return words.map(([name, plainName, text]) => {
    const content = Buffer.from(text, "utf8");
    const file = { name, plainName, content, sector };
    sector += sectorsOf(content.length);
    return file;
  });
}

function sectorsOf(bytes: number): number {
  return Math.max(1, Math.ceil(bytes / sectorBytes));
}

function put(image: Buffer, sector: number, bytes: Buffer): void {
  bytes.copy(image, sector * sectorBytes);
}

/** UCS-2, big-endian. */
function wide(text: string): Buffer {
  return Buffer.from(text, "utf16le").swap16();
}

/** A number in both byte orders, one after the other. */
function both32(target: Buffer, offset: number, value: number): void {
  target.writeUInt32LE(value, offset);
  target.writeUInt32BE(value, offset + 4);
}
function both16(target: Buffer, offset: number, value: number): void {
  target.writeUInt16LE(value, offset);
  target.writeUInt16BE(value, offset + 2);
}

/** ECMA-119 8.4 and 8.5: primary (1), or supplementary with Joliet's escape sequence (2). */
function descriptor(
  image: Buffer,
  of: {
    readonly sector: number;
    readonly type: 1 | 2;
    readonly root: number;
    readonly table: number;
  },
): void {
  const bytes = Buffer.alloc(sectorBytes);
  const isWide = of.type === 2;
  const text = (offset: number, length: number, words: string) => {
    const said = isWide ? wide(words) : Buffer.from(words, "latin1");
    const blank = isWide ? wide(" ") : Buffer.from(" ", "latin1");
    for (let i = 0; i + blank.length <= length; i += blank.length) blank.copy(bytes, offset + i);
    said.copy(bytes, offset, 0, length);
  };
  bytes.writeUInt8(of.type, 0);
  bytes.write("CD001", 1, "latin1");
  bytes.writeUInt8(1, 6);
  text(8, 32, "");
  text(40, 32, "cidata");
  both32(bytes, 80, image.length / sectorBytes);
  if (isWide) bytes.write("%/E", 88, "latin1");
  both16(bytes, 120, 1);
  both16(bytes, 124, 1);
  both16(bytes, 128, sectorBytes);
  both32(bytes, 132, pathTableBytes);
  bytes.writeUInt32LE(of.table, 140);
  bytes.writeUInt32BE(of.table + 1, 148);
  record(Buffer.from([0]), { sector: of.root, bytes: sectorBytes, isFolder: true }).copy(
    bytes,
    156,
  );
  for (const offset of [190, 318, 446, 574]) text(offset, 128, "");
  for (const offset of [702, 739, 776]) text(offset, 37, "");
  // No date is known that would not change the bytes: digits of zero mean "not given".
  for (const offset of [813, 830, 847, 864]) bytes.write("0".repeat(16), offset, "latin1");
  bytes.writeUInt8(1, 881);
  put(image, of.sector, bytes);
}

/** Of a lone root: one entry, named by one zero byte. */
const pathTableBytes = 10;
function pathTable(image: Buffer, sector: number, root: number): void {
  for (const [offset, isBig] of [
    [0, false],
    [1, true],
  ] as const) {
    const bytes = Buffer.alloc(pathTableBytes);
    bytes.writeUInt8(1, 0);
    if (isBig) bytes.writeUInt32BE(root, 2);
    else bytes.writeUInt32LE(root, 2);
    if (isBig) bytes.writeUInt16BE(1, 6);
    else bytes.writeUInt16LE(1, 6);
    put(image, sector + offset, bytes);
  }
}

function directory(
  sector: number,
  files: readonly SeedFile[],
  nameOf: (file: SeedFile) => Buffer,
): Buffer {
  const self = { sector, bytes: sectorBytes, isFolder: true };
  return Buffer.concat([
    record(Buffer.from([0]), self),
    record(Buffer.from([1]), self),
    ...files.map((file) =>
      record(nameOf(file), { sector: file.sector, bytes: file.content.length, isFolder: false }),
    ),
  ]);
}

/** ECMA-119 9.1. */
function record(
  name: Buffer,
  of: { readonly sector: number; readonly bytes: number; readonly isFolder: boolean },
): Buffer {
  const length = 33 + name.length + (name.length % 2 === 0 ? 1 : 0);
  const bytes = Buffer.alloc(length);
  bytes.writeUInt8(length, 0);
  both32(bytes, 2, of.sector);
  both32(bytes, 10, of.bytes);
  // 1970-01-01: years are counted from 1900.
  Buffer.from([70, 1, 1, 0, 0, 0, 0]).copy(bytes, 18);
  bytes.writeUInt8(of.isFolder ? 2 : 0, 25);
  both16(bytes, 28, 1);
  bytes.writeUInt8(name.length, 32);
  name.copy(bytes, 33);
  return bytes;
}
