/** A backup is worth what its restore is worth: each is taken from a running shepherd, put back, and worked with. */
import { appendFileSync, cpSync, existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { withoutSecrets } from "@drover/shepherd/cli/commands/support";
import { runCommand } from "@drover/shepherd/cli/main";
import { backUp, restoreBackup } from "@drover/shepherd/store/backup";
import { openSqliteStore } from "@drover/shepherd/store/sqlite";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { declareRing, machineBody, mutate, type Running, run } from "../api/shepherd.ts";

let running: Running;
beforeEach(async () => {
  running = await run();
}, 60_000);
afterEach(async () => await running.end());

const state = () => join(running.folder, "state");
const copy = () => join(running.folder, "copy");
const machineNames = async () => {
  const { items } = await running.client.get<{
    items: { name: string; effective: { state: string } }[];
  }>("/v1/machines");
  return items.map(({ name, effective }) => `${name} ${effective.state}`).toSorted();
};

test("a copy taken while it runs is restored, and its hosts accept the restored shepherd", async () => {
  const ring = await declareRing(running, 1);
  const manifest = await backUp(state(), copy(), Date.now());
  expect(manifest.files.map((file) => file.path)).toContain("journal.sqlite");
  // Made after the backup: what is restored does not know it, and leaves it alone.
  const path = "/v1/environments/ring/machines/rank-1";
  await mutate(running, "PUT", path, machineBody(ring));
  expect(await machineNames()).toEqual(["rank-0 running", "rank-1 running"]);

  running = await running.restart(async () => {
    cpSync(state(), `${state()}.lost`, { recursive: true });
    rmSync(state(), { recursive: true });
    await restoreBackup(copy(), state(), Date.now());
  });
  expect(await machineNames()).toEqual(["rank-0 running"]);
  const { items } = await running.client.get<{ items: { class: string; object: string }[] }>(
    "/v1/differences",
  );
  expect(items.filter((one) => one.class !== "network")).toEqual([
    expect.objectContaining({ class: "foreign_change", object: "domain drover-ring-rank-1" }),
  ]);
  const verified = await running.client.get<{ ok: boolean }>("/v1/evidence/verify");
  expect(verified.ok).toBe(true);
}, 120_000);

test("a damaged backup restores nothing, and a journal that is there is never written over", async () => {
  await backUp(state(), copy(), 1);
  const target = join(running.folder, "elsewhere");
  await expect(restoreBackup(copy(), state(), 2)).rejects.toMatchObject({
    code: expect.stringMatching(/state.locked|backup.journal_there/),
  });
  await expect(backUp(state(), copy(), 3)).rejects.toMatchObject({ code: "backup.exists" });
  appendFileSync(join(copy(), "journal.sqlite"), "x");
  await expect(restoreBackup(copy(), target, 4)).rejects.toMatchObject({ code: "backup.damaged" });
  expect(existsSync(target)).toBe(false);
});

test("the restored journal's epoch is above any that the lost one may have handed out", async () => {
  await backUp(state(), copy(), 1);
  const target = join(running.folder, "elsewhere");
  mkdirSync(target);
  await restoreBackup(copy(), target, 5_000_000_000);
  const store = openSqliteStore(join(target, "journal.sqlite"));
  expect(store.epoch).toBeGreaterThan(5_000_000);
  await store.close();
});

test("a support bundle tells what happened, and no secret", async () => {
  await declareRing(running, 1);
  const file = join(running.folder, "bundle.json");
  const out: string[] = [];
  const code = await runCommand(["support", file, "--endpoint", running.endpoint], {
    out: (text) => out.push(text),
    err: (text) => out.push(text),
  });
  expect([code, out.join("")]).toEqual([0, expect.stringContaining("bundle.json")]);
  const bundle = JSON.parse(readFileSync(file, "utf8")) as Record<string, unknown[]>;
  expect(bundle["operations"]?.length).toBeGreaterThan(0);
  expect(bundle["events"]?.length).toBeGreaterThan(5);
  expect(bundle["decisions"]?.length).toBeGreaterThan(0);
  expect(
    withoutSecrets({
      a: [{ token: "x", token_sha256: "y", user_data: "z", name: "n" }],
      password: null,
    }),
  ).toEqual({
    a: [{ token: "[removed]", token_sha256: "y", user_data: "[removed]", name: "n" }],
    password: null,
  });
}, 60_000);
