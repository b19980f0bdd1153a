/** A site's copy of checkpoints, through real shells on this machine: the scripts are what runs on a host. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Fault } from "@drover/shepherd/model/fault";
import type { HostShell } from "@drover/shepherd/shell/shell";
import { createShellWitness } from "@drover/shepherd/shell/witness";
import { afterEach, beforeEach, expect, test } from "@jest/globals";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "drover-witness-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

const here: HostShell = {
  hostId: "north-1",
  async run([program = "", ...args], { input = "" } = {}) {
    const { status, stdout, stderr } = spawnSync(program, args, {
      input,
      encoding: "utf8",
      maxBuffer: 64 << 20,
    });
    return { exitCode: status ?? -1, stdout, stderr };
  },
  script: () => Promise.reject(new Error("not used")),
};
const away: HostShell = {
  ...here,
  hostId: "north-2",
  run: () => Promise.reject(new Fault("host.unreachable", { host: "north-2", problem: "away" })),
};
const key = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n";

test("what was appended is read back in order, with the key that was first", async () => {
  const witness = createShellWitness("north", [here], join(folder, "drover"));
  expect(await witness.read()).toEqual({ lines: [], publicKey: undefined });
  await witness.append(['{"n":1}', '{"n":"a b $HOME `id`"}'], key);
  await witness.append(['{"n":3}'], key.replace("AAAA", "BBBB"));
  expect(await witness.read()).toEqual({
    lines: ['{"n":1}', '{"n":"a b $HOME `id`"}', '{"n":3}'],
    publicKey: key,
  });
});

test("the first host that answers takes it; reading needs one of them", async () => {
  const witness = createShellWitness("north", [away, here], join(folder, "drover"));
  await witness.append(['{"n":1}'], key);
  expect((await witness.read()).lines).toEqual(['{"n":1}']);
  const silent = createShellWitness("north", [away], join(folder, "drover"));
  await expect(silent.append(['{"n":1}'], key)).rejects.toMatchObject({ code: "host.unreachable" });
  await expect(silent.read()).rejects.toMatchObject({ code: "host.unreachable" });
});

test("a file that grows large loses its older half, never its newest line", async () => {
  const witness = createShellWitness("north", [here], folder);
  await witness.append(['{"n":0}'], key);
  const line = `{"n":1,"pad":"${"x".repeat(500)}"}`;
  writeFileSync(join(folder, "checkpoints"), `${line}\n`.repeat(20_000));
  await witness.append(['{"n":2}'], key);
  const { lines } = await witness.read();
  expect(lines).toHaveLength(10_000);
  expect([lines[0], lines.at(-1)]).toEqual([line, '{"n":2}']);
  expect(readFileSync(join(folder, "checkpoints.pub"), "utf8").trim()).toBe(key.trim());
});
