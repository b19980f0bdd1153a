/**
 * Tar archives, as far as bundles need them: plain files, read with limits, written the same for the same content.
 * POSIX ustar; names of at most 100 bytes, no links, no folders. Knows nothing of policies.
 */
const blockBytes = 512;
/** A bundle is some hundred kilobytes; an archive that unpacks to more is an attack or a mistake. */
export const maxUnpackedBytes = 64 << 20;
const maxFiles = 10_000;

export type Files = ReadonlyMap<string, Uint8Array<ArrayBuffer>>;

/** Files by name without a leading slash. Throws Error with what is wrong with the archive. */
export function readTar(archive: Uint8Array): Files {
  const bytes = Buffer.from(archive.buffer, archive.byteOffset, archive.byteLength);
  const files = new Map<string, Uint8Array<ArrayBuffer>>();
  for (let offset = 0; offset + blockBytes <= bytes.length; ) {
    const header = bytes.subarray(offset, offset + blockBytes);
    if (header.every((byte) => byte === 0)) break;
    const text = (from: number, to: number): string =>
      header.toString("utf8", from, to).replace(/\0.*$/s, "");
    const name = [text(345, 500), text(0, 100)]
      .filter(Boolean)
      .join("/")
      .replace(/^(\.?\/)+/, "");
    const sizeText = text(124, 136).trim() || "0";
    const sizeBytes = Number.parseInt(sizeText, 8);
    if (!/^[0-7]+$/.test(sizeText)) throw new Error(`${name}: a size of ${sizeText}`);
    const kind = text(156, 157);
    const from = offset + blockBytes;
    if (from + sizeBytes > bytes.length) throw new Error(`it ends in the middle of ${name}`);
    offset = from + Math.ceil(sizeBytes / blockBytes) * blockBytes;
    if (kind === "5") continue;
    if (kind !== "0" && kind !== "") throw new Error(`${name} is no plain file`);
    if (name.split("/").includes("..")) throw new Error(`${name} leads out of the archive`);
    if (files.has(name)) throw new Error(`${name} is there twice`);
    if (files.size >= maxFiles) throw new Error(`it holds more than ${maxFiles} files`);
    files.set(name, new Uint8Array(bytes.subarray(from, from + sizeBytes)));
  }
  return files;
}

/** Sorted by name, times zero: equal files give equal bytes. Names stand with a leading slash, as opa writes them. */
export function writeTar(files: Files): Uint8Array<ArrayBuffer> {
  const blocks = [...files.keys()].toSorted().flatMap((name) => {
    const content = files.get(name) ?? new Uint8Array();
    const padding = (blockBytes - (content.length % blockBytes)) % blockBytes;
    return [headerOf(`/${name}`, content.length), content, Buffer.alloc(padding)];
  });
  return new Uint8Array(Buffer.concat([...blocks, Buffer.alloc(2 * blockBytes)]));
}

function headerOf(name: string, sizeBytes: number): Buffer {
  if (Buffer.byteLength(name) > 100) throw new Error(`${name}: the name is longer than 100 bytes`);
  const header = Buffer.alloc(blockBytes);
  const octal = (value: number, digits: number): string => value.toString(8).padStart(digits, "0");
  header.write(name, 0);
  header.write(`${octal(0o600, 7)}\0${octal(0, 7)}\0${octal(0, 7)}\0`, 100);
  header.write(`${octal(sizeBytes, 11)}\0${octal(0, 11)}\0        0`, 124);
  header.write("ustar\x0000", 257);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${octal(sum, 6)}\0 `, 148);
  return header;
}
