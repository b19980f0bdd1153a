/**
 * Writes a `newc` cpio archive, the format of an initial RAM disk, from data alone: the same entries give the same
 * bytes on every machine (no clock, no owner, no inode of the machine's). Pure.
 * Source: Documentation/driver-api/early-userspace/buffer-format.rst of the kernel.
 */

export type CpioEntry =
  | { readonly path: string; readonly kind: "folder" }
  | {
      readonly path: string;
      readonly kind: "file";
      readonly data: Uint8Array;
      readonly executable: boolean;
    }
  | { readonly path: string; readonly kind: "link"; readonly target: string };

/** The archive's bytes. Paths are relative; a folder must come before what is in it. */
export function cpioArchive(entries: readonly CpioEntry[]): Buffer {
  const parts = entries.map((entry, index) => record(entry, index + 1));
  const archive = Buffer.concat([
    ...parts,
    member({ path: "TRAILER!!!", inode: 0, mode: 0, data: Buffer.alloc(0) }),
  ]);
  return padded(archive, 512);
}

function record(entry: CpioEntry, inode: number): Buffer {
  const { path } = entry;
  switch (entry.kind) {
    case "folder":
      return member({ path, inode, mode: 0o040755, data: Buffer.alloc(0) });
    case "file":
      return member({
        path,
        inode,
        mode: entry.executable ? 0o100755 : 0o100644,
        data: entry.data,
      });
    case "link":
      return member({ path, inode, mode: 0o120777, data: Buffer.from(entry.target) });
  }
}

function member(file: { path: string; inode: number; mode: number; data: Uint8Array }): Buffer {
  const name = Buffer.from(`${file.path}\0`);
  // magic, then: inode mode uid gid links mtime size major minor rmajor rminor name-size checksum
  const fields = [file.inode, file.mode, 0, 0, 1, 0, file.data.length, 0, 0, 0, 0, name.length, 0];
  const header = `070701${fields.map((field) => field.toString(16).padStart(8, "0")).join("")}`;
  return Buffer.concat([
    padded(Buffer.concat([Buffer.from(header), name]), 4),
    padded(Buffer.from(file.data), 4),
  ]);
}

function padded(data: Buffer, multiple: number): Buffer {
  return Buffer.concat([data, Buffer.alloc((multiple - (data.length % multiple)) % multiple)]);
}
