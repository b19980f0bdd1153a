/** The guests' image: the same inputs give the same bytes, and nothing of a build that was killed is taken for an image. */
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { fetchSshd } from "@drover/shepherd/lab/guest-sshd";
import { buildImage, defaultCacheDirectory } from "@drover/shepherd/lab/image";
import { fetchKernel } from "@drover/shepherd/lab/kernel";
import { afterAll, beforeAll, expect, test } from "@jest/globals";

let folder: string;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "drover-image-"));
  // the packages are fetched once, not for each cache
  await fetchKernel({ cacheDirectory: defaultCacheDirectory });
  await fetchSshd({ cacheDirectory: defaultCacheDirectory });
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function buildIn(name: string): Promise<{ directory: string; description: string }> {
  const cacheDirectory = join(folder, name);
  mkdirSync(cacheDirectory, { recursive: true });
  for (const packages of ["kernel", "sshd"])
    cpSync(join(defaultCacheDirectory, packages), join(cacheDirectory, packages), {
      recursive: true,
    });
  const directory = await buildImage({ cacheDirectory });
  return { directory, description: readFileSync(join(directory, "image.json"), "utf8") };
}

test("two builds at different times, in different folders, are equal to the byte; a third is the first", async () => {
  const first = await buildIn("first");
  const second = await buildIn("second");
  expect(second.description).toBe(first.description);
  expect(await buildImage({ cacheDirectory: join(folder, "first") })).toBe(first.directory);
  expect(readdirSync(first.directory).toSorted()).toEqual([
    "base.qcow2",
    "image.json",
    "initrd",
    "kernel",
  ]);
});

test("what a killed build left an hour ago is removed by the next build", async () => {
  const left = join(folder, "third/image-0000.new-abc");
  mkdirSync(left, { recursive: true });
  utimesSync(left, 1, 1);
  const { directory } = await buildIn("third");
  expect(new Set(readdirSync(join(folder, "third")))).toEqual(
    new Set([basename(directory), "kernel", "sshd"]),
  );
});
