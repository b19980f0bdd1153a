/** Uploads are there whole and verified, or not at all. */
import { createHash } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { createBlobStore } from "@drover/shepherd/api/blobs";
import { afterEach, beforeEach, expect, test } from "@jest/globals";

let directory = "";
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "drover-blobs-"));
});
afterEach(() => rmSync(directory, { recursive: true }));

const content = Buffer.from("a part of an image");
const sha256 = createHash("sha256").update(content).digest("hex");
const store = () => createBlobStore({ directory, maxBytes: 1000 });

test("what arrived whole is found again by its digest", async () => {
  const blobs = store();
  expect(blobs.has(sha256)).toBe(false);
  expect(await blobs.put(sha256, Readable.from([content]))).toEqual({ sizeBytes: content.length });
  expect(blobs.has(sha256)).toBe(true);
  expect(readFileSync(blobs.resolve(`blob:${sha256}`))).toEqual(content);
  expect(blobs.resolve("/srv/base.qcow2")).toBe("/srv/base.qcow2");
});

test.each<[string, () => Promise<unknown>, string]>([
  [
    "other bytes",
    () => store().put("0".repeat(64), Readable.from([content])),
    "blob.digest_mismatch",
  ],
  [
    "too many bytes",
    () => store().put(sha256, Readable.from([Buffer.alloc(1001)])),
    "blob.too_large",
  ],
  ["an unknown blob", async () => store().resolve(`blob:${sha256}`), "blob.unknown"],
  ["a path in disguise", async () => store().resolve("blob:../../etc/passwd"), "blob.unknown"],
])("%s leave nothing behind", async (_, work, code) => {
  await expect(work()).rejects.toMatchObject({ code });
  expect(readdirSync(directory)).toEqual([]);
});

test("an upload that breaks off leaves nothing behind", async () => {
  async function* broken() {
    yield content;
    throw new Error("the line went dead");
  }
  await expect(store().put(sha256, Readable.from(broken()))).rejects.toThrow("the line went dead");
  expect(readdirSync(directory)).toEqual([]);
});
