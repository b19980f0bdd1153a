import { execFileSync } from "node:child_process";
import { lstatSync, mkdtempSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type CpioEntry, cpioArchive } from "@drover/shepherd/lab/cpio";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import fc from "fast-check";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "drover-cpio-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Another implementation reads what ours wrote. */
const unpack = (archive: Buffer) =>
  execFileSync("busybox", ["cpio", "-idmu"], {
    cwd: folder,
    input: archive,
    stdio: ["pipe", "pipe", "ignore"],
  });

test("busybox's cpio unpacks folders, files with their modes, and links", () => {
  unpack(
    cpioArchive([
      { path: "bin", kind: "folder" },
      { path: "bin/tool", kind: "file", data: Buffer.from("#!/bin/sh\n"), executable: true },
      { path: "empty", kind: "file", data: Buffer.alloc(0), executable: false },
      { path: "bin/alias", kind: "link", target: "tool" },
    ]),
  );
  expect({
    tool: readFileSync(join(folder, "bin/tool"), "utf8"),
    toolMode: lstatSync(join(folder, "bin/tool")).mode & 0o777,
    empty: lstatSync(join(folder, "empty")).size,
    alias: readlinkSync(join(folder, "bin/alias")),
  }).toEqual({ tool: "#!/bin/sh\n", toolMode: 0o755, empty: 0, alias: "tool" });
});

test("the same entries give the same bytes, and any content comes back", () => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ maxLength: 5000 }), { minLength: 1, maxLength: 4 }),
      (contents) => {
        const entries = contents.map(
          (data, index): CpioEntry => ({
            path: `file-${index}`,
            kind: "file",
            data,
            executable: false,
          }),
        );
        expect(cpioArchive(entries)).toEqual(cpioArchive(entries));
        unpack(cpioArchive(entries));
        expect(
          contents.map((_, index) => new Uint8Array(readFileSync(join(folder, `file-${index}`)))),
        ).toEqual(contents);
      },
    ),
    { numRuns: 15 },
  );
});
