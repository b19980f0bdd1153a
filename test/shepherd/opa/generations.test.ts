/** What was activated stays on disk as long as it is of use: three bundles an owner, and the newest of what decided. */
import { existsSync, mkdtempSync, readdirSync, rmSync, utimesSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { WholeBundle } from "@drover/shepherd/opa/archive";
import { openGenerations } from "@drover/shepherd/opa/generations";
import { afterEach, beforeEach, expect, test } from "@jest/globals";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "drover-generations-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

function bundle(owner: string, policyDigest: string, dataDigest: string): WholeBundle {
  return {
    owner,
    revision: `${policyDigest}-${dataDigest}`,
    policyDigest,
    dataDigest,
    wasm: new Uint8Array([0, 97, 115, 109]),
    data: { drover: { constraints: {}, exemptions: [] } },
    sources: [],
    vectors: undefined,
  };
}

test("of policies that nobody can go back to, the newest are kept", async () => {
  const generations = openGenerations(folder, { policies: 2, data: 1 });
  const add = async (owner: string, policy: string, data: string): Promise<void> => {
    // files of one moment have no order: each is a minute older than those to come
    for (const name of existsSync(join(folder, "decided"))
      ? readdirSync(join(folder, "decided"))
      : []) {
      const file = join(folder, "decided", name);
      const before = new Date(Date.now() - 60_000 * (30 - count));
      if (!aged.has(name)) utimesSync(file, before, before);
      aged.add(name);
    }
    count += 1;
    await generations.add(bundle(owner, policy, data), new Uint8Array([1]), { by: "sue", atMs: 1 });
    aged.delete(`${policy}.wasm.gz`);
    aged.delete(`${policy}.rego.json.gz`);
    aged.delete(`${data}.data.json`);
  };
  let count = 0;
  const aged = new Set<string>();
  const is = async (policyDigest: string, dataDigest: string): Promise<boolean> =>
    (await generations.decided("operator", { policyDigest, dataDigest })) !== undefined;

  await add("site:north", "old", "d1");
  for (const policy of ["p1", "p2", "p3", "p4", "p5", "p6"]) await add("operator", policy, "d1");
  // north can still go back to what is older than all others
  expect(await is("old", "d1")).toBe(true);
  expect(await Promise.all(["p1", "p2", "p3", "p4", "p5", "p6"].map((p) => is(p, "d1")))).toEqual([
    false,
    true,
    true,
    true,
    true,
    true,
  ]);
  expect(await generations.sources("p1")).toBeUndefined();
  expect(await generations.sources("p2")).toEqual([]);

  // one that comes back is the newest again
  await add("operator", "p2", "d2");
  await add("operator", "p7", "d3");
  await add("operator", "p8", "d4");
  await add("operator", "p9", "d5");
  await add("operator", "p10", "d6");
  expect(await is("p2", "d6")).toBe(true);
  expect(await is("p3", "d6")).toBe(false);
  const data = readdirSync(join(folder, "decided")).filter((name) => name.endsWith(".data.json"));
  // of the operator's three generations, north's one, and one more
  expect(data.toSorted()).toEqual(
    ["d1", "d3", "d4", "d5", "d6"].map((name) => `${name}.data.json`),
  );
  expect((await generations.list("operator")).map(({ n }) => n)).toEqual([11, 10, 9]);
});
