/** Images are judged by their header: what is no qcow2, or needs another file, is refused by name. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readQcow2Header } from "@drover/shepherd/api/qcow2";
import { Fault } from "@drover/shepherd/model/fault";
import { afterAll, expect, test } from "@jest/globals";
import { minimalQcow2 } from "./qcow2-file.ts";

const folder = mkdtempSync(join(tmpdir(), "drover-qcow2-"));
afterAll(() => rmSync(folder, { recursive: true }));

function fileOf(content: Buffer): string {
  const path = join(folder, "image");
  writeFileSync(path, content);
  return path;
}

test("version, virtual size and clusters come from the header", async () => {
  const path = fileOf(minimalQcow2({ virtualBytes: 3 * 2 ** 30, clusterBits: 16 }));
  expect(await readQcow2Header(path)).toEqual({
    version: 3,
    virtualBytes: 3 * 2 ** 30,
    clusterBytes: 65_536,
  });
});

test.each<[string, Buffer, string, string]>([
  [
    "a raw image",
    Buffer.alloc(4096),
    "image.not_qcow2",
    "it begins with 0x00000000, not with QFI\\xfb",
  ],
  [
    "an empty file",
    Buffer.alloc(0),
    "image.not_qcow2",
    "it begins with nothing, not with QFI\\xfb",
  ],
  ["a cut header", minimalQcow2({}).subarray(0, 90), "image.not_qcow2", "its header is cut off"],
  [
    "another version",
    minimalQcow2({ version: 4 }),
    "image.not_qcow2",
    "its version is 4; 2 and 3 are known",
  ],
  ["no size", minimalQcow2({ virtualBytes: 0 }), "image.not_qcow2", "its virtual size is 0 bytes"],
  [
    "encryption",
    minimalQcow2({ cryptMethod: 2 }),
    "image.not_qcow2",
    "it is encrypted, and nobody here has the key",
  ],
  [
    "corruption",
    minimalQcow2({ incompatible: 2n }),
    "image.not_qcow2",
    "it is marked corrupt; run qemu-img check",
  ],
  [
    "unknown features",
    minimalQcow2({ incompatible: 1n << 40n }),
    "image.not_qcow2",
    "it uses unknown features 0x10000000000",
  ],
])("%s is refused", async (_, content, code, problem) => {
  const fault = await faultOf(readQcow2Header(fileOf(content)));
  expect([fault.code, fault.details["problem"]]).toEqual([code, problem]);
});

test.each<[string, Buffer, string]>([
  ["a backing file", minimalQcow2({ backing: "/etc/passwd" }), "/etc/passwd"],
  ["a backing name with escapes", minimalQcow2({ backing: "\u001b[2Jx" }), "?[2Jx"],
  ["an external data file", minimalQcow2({ incompatible: 4n }), "an external data file"],
])("%s is refused by name", async (_, content, backing) => {
  const fault = await faultOf(readQcow2Header(fileOf(content)));
  expect([fault.code, fault.details["backing"]]).toEqual(["image.backing_path", backing]);
});

test("a file that is not there", async () => {
  expect((await faultOf(readQcow2Header(join(folder, "none")))).code).toBe("image.unreadable");
});

async function faultOf(work: Promise<unknown>): Promise<Fault> {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (error instanceof Fault) return error;
  throw new Error("nothing was refused", { cause: error });
}
