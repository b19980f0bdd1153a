/**
 * What a checkpoint at a site proves: a log that was changed, cut, rolled back or replaced whole is found, also when
 * everything on the shepherd's own machine fits together again.
 */
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createCheckpointer } from "@drover/shepherd/evidence/checkpointer";
import { createEvidence, withEvidence } from "@drover/shepherd/evidence/evidence";
import type { Witness } from "@drover/shepherd/ports/witness";
import { createVirtualClock } from "@drover/shepherd/simulated/clock";
import { createFileWitness } from "@drover/shepherd/simulated/witness";
import { openCheckpointFile, openSigningKeys } from "@drover/shepherd/store/checkpoint-file";
import { openSqliteStore } from "@drover/shepherd/store/sqlite";
import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import Database from "better-sqlite3";
import pino from "pino";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "drover-checkpoints-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

const database = () => join(folder, "journal.sqlite");
const siteFile = (site: string) => join(folder, `${site}.checkpoints`);

/** A shepherd's evidence on the files of this folder; `wrap` makes a site unwilling. */
function open(wrap: (witness: Witness) => Witness = (witness) => witness) {
  const sqlite = openSqliteStore(database());
  const store = withEvidence(sqlite);
  const clock = createVirtualClock(1_000_000);
  const keys = openSigningKeys(folder);
  const file = openCheckpointFile(join(folder, "checkpoints"));
  const witnesses = ["north", "south"].map((site) => wrap(createFileWitness(site, siteFile(site))));
  const origin = sqlite.lineage;
  const checkpointer = createCheckpointer({
    store,
    origin,
    epoch: sqlite.epoch,
    keys,
    file,
    witnesses,
    clock,
    log: pino({ level: "silent" }),
  });
  checkpointer.start();
  return {
    store,
    clock,
    evidence: createEvidence(store, { origin, publicKey: keys.publicKey, file, witnesses }),
    async happen(count: number) {
      for (let n = 0; n < count; n += 1) {
        await store.transaction((journal) =>
          journal.events.append({ kind: "step.ended", atMs: clock.nowMs(), data: { n } }),
        );
      }
    },
    /** The last checkpoint is at every site. */
    async end() {
      await checkpointer.stop();
      await store.close();
    },
  };
}

/** Runs with `count` entries, checkpointed at the end. */
async function lived(count: number): Promise<void> {
  const running = open();
  await running.happen(count);
  await running.end();
}

async function verdict() {
  const { evidence, store } = open();
  const found = await evidence.verify();
  const heads = await evidence.verifyHeads();
  await store.close();
  return { ...found, heads };
}

function sql(text: string): void {
  const intruder = new Database(database());
  intruder.exec(text);
  intruder.close();
}

const lines = (file: string) => readFileSync(file, "utf8").split("\n").filter(Boolean);

describe("checkpoints", () => {
  test("are signed at most once a second of activity, and copied to every site", async () => {
    const running = open();
    await running.happen(50);
    await running.clock.advance(1_000);
    await running.happen(50);
    await running.clock.advance(999);
    await running.end();
    const own = lines(join(folder, "checkpoints"));
    expect(own.map((line) => (JSON.parse(line) as { seq: number }).seq)).toEqual([50, 100]);
    expect(lines(siteFile("north"))).toEqual(own);
    expect(lines(siteFile("south"))).toEqual(own);
    expect(await verdict()).toMatchObject({
      ok: true,
      entries: 100,
      problems: [],
      heads: [],
      witnesses: [
        { where: "shepherd", checkpoints: 2, newestSeq: 100 },
        { where: "north", checkpoints: 2, newestSeq: 100 },
        { where: "south", checkpoints: 2, newestSeq: 100 },
      ],
    });
  });

  test("nothing is signed while nothing happens, also after a restart", async () => {
    await lived(3);
    await (async () => open())().then(({ end }) => end());
    expect(lines(join(folder, "checkpoints")).length).toBeLessThanOrEqual(2);
    expect(await verdict()).toMatchObject({ ok: true, entries: 3 });
  });

  test("a site that was away gets the newest when it answers; until then it counts against nothing", async () => {
    let away = true;
    const running = open((witness) => ({
      ...witness,
      append: async (given, key) => {
        if (away && witness.siteId === "south") throw new Error("no route");
        await witness.append(given, key);
      },
      read: async () => {
        if (away && witness.siteId === "south") throw new Error("no route");
        return await witness.read();
      },
    }));
    await running.happen(5);
    await running.clock.advance(1_000);
    expect(await running.evidence.verify()).toMatchObject({
      ok: true,
      witnesses: [{}, { where: "north" }, { where: "south", problem: "internal: no route" }],
    });
    away = false;
    await running.happen(5);
    for (let tick = 0; tick < 10; tick += 1) await running.clock.advance(1_000);
    await running.end();
    const seqs = lines(siteFile("south")).map((line) => (JSON.parse(line) as { seq: number }).seq);
    expect(seqs.at(-1)).toBe(10);
    expect(await verdict()).toMatchObject({ ok: true });
  });
});

describe("is found", () => {
  test("a changed byte", async () => {
    await lived(20);
    sql(`update events set data = '{"n":99}' where seq = 7`);
    expect(await verdict()).toMatchObject({ ok: false, brokenAt: 7 });
  });

  test("a log cut at its end, so that the chain still fits", async () => {
    await lived(20);
    sql("delete from evidence where seq > 15; delete from events where seq > 15");
    expect(await verdict()).toMatchObject({
      ok: false,
      brokenAt: undefined,
      problems: [
        { kind: "log.shorter", where: "shepherd", seq: 20 },
        { kind: "log.shorter", where: "north", seq: 20 },
        { kind: "log.shorter", where: "south", seq: 20 },
      ],
      heads: [{ kind: "log.shorter" }, {}, {}],
    });
  });

  test("an old database put back, its own checkpoints with it, at once and after it has grown again", async () => {
    await lived(10);
    copyFileSync(database(), join(folder, "old.sqlite"));
    copyFileSync(join(folder, "checkpoints"), join(folder, "old.checkpoints"));
    await lived(10);
    for (const suffix of ["-wal", "-shm"]) rmSync(`${database()}${suffix}`, { force: true });
    copyFileSync(join(folder, "old.sqlite"), database());
    copyFileSync(join(folder, "old.checkpoints"), join(folder, "checkpoints"));
    expect(await verdict()).toMatchObject({
      ok: false,
      brokenAt: undefined,
      problems: [
        { kind: "log.shorter", where: "north", seq: 20 },
        { kind: "log.shorter", where: "south", seq: 20 },
      ],
    });
    // it goes on with other events than those that the sites saw
    const running = open();
    await running.clock.advance(5);
    await running.happen(15);
    await running.end();
    const { ok, problems } = await verdict();
    expect(ok).toBe(false);
    expect(problems.map(({ kind, where, seq }) => [kind, where, seq])).toEqual([
      ["log.rewritten", "north", 20],
      ["log.rewritten", "south", 20],
    ]);
  });

  test("a log written again from its start", async () => {
    await lived(10);
    rmSync(database());
    await lived(10);
    const { problems } = await verdict();
    expect(new Set(problems.map(({ kind }) => kind))).toEqual(new Set(["checkpoint.foreign"]));
  });

  test("another signing key, and checkpoints forged with it", async () => {
    await lived(10);
    rmSync(join(folder, "key.pem"));
    rmSync(join(folder, "checkpoints"));
    await lived(5);
    const { ok, problems } = await verdict();
    expect(ok).toBe(false);
    expect(problems.map(({ kind, where }) => `${kind} ${where}`)).toEqual([
      "key.changed north",
      "checkpoint.forged north",
      "key.changed south",
      "checkpoint.forged south",
    ]);
  });

  test.each([
    ["seq", 20, 19],
    ["hash", undefined, "0".repeat(64)],
    ["at_ms", undefined, 5],
  ] as const)("a changed %s in a checkpoint", async (key, _, value) => {
    await lived(20);
    const [line = ""] = lines(siteFile("north"));
    const changed = { ...(JSON.parse(line) as object), [key]: value };
    writeFileSync(siteFile("north"), `${JSON.stringify(changed)}\n`);
    expect(await verdict()).toMatchObject({
      ok: false,
      problems: [{ kind: "checkpoint.forged", where: "north" }],
    });
  });

  /** What `drover restore` does: the old database, which from then on writes with a higher epoch. */
  function putBack(epoch: number): void {
    for (const suffix of ["-wal", "-shm"]) rmSync(`${database()}${suffix}`, { force: true });
    copyFileSync(join(folder, "old.sqlite"), database());
    sql(`update shepherd set epoch = ${epoch}`);
  }
  async function accept(reason: string) {
    const { evidence, store } = open();
    try {
      return await evidence.acceptRestore({ by: "sue", reason, atMs: 2_000_000 });
    } finally {
      await store.close();
    }
  }

  test("an old database put back, until somebody owns up to it; and again when it is put back again", async () => {
    await lived(10);
    copyFileSync(database(), join(folder, "old.sqlite"));
    await lived(10);
    putBack(100);
    expect((await verdict()).problems).toHaveLength(3);
    const restore = { by: "sue", reason: "the disk died", keptSeq: 10, untilSeq: 20 };
    expect(await accept("the disk died")).toMatchObject(restore);
    const accepted = { ok: true, problems: [], heads: [], restores: [restore] };
    expect(await verdict()).toMatchObject({ ...accepted, entries: 11 });
    // and when it has grown past what was given up
    await lived(15);
    expect(await verdict()).toMatchObject({ ...accepted, entries: 26 });
    // what is signed since is no part of what was given up
    sql("delete from evidence where seq > 15; delete from events where seq > 15");
    expect(await verdict()).toMatchObject({
      ok: false,
      problems: [{ kind: "log.shorter", seq: 26 }, {}, {}],
      restores: [restore],
    });
    putBack(200);
    const again = await verdict();
    expect([again.ok, again.restores]).toEqual([false, []]);
    expect(new Set(again.problems.map(({ seq }) => seq))).toEqual(new Set([20, 26]));
  });

  test("an edited log, which nobody can accept as a restore; nor is there one when all fits", async () => {
    await lived(20);
    await expect(accept("why not")).rejects.toMatchObject({ code: "evidence.nothing_to_accept" });
    sql(`update events set data = '{"n":99}' where seq = 7`);
    await expect(accept("why not")).rejects.toMatchObject({
      code: "evidence.broken",
      details: { entry: 7 },
    });
    expect(await verdict()).toMatchObject({ ok: false, brokenAt: 7 });
  });

  test("but not a last line that a crash cut in the middle", async () => {
    await lived(20);
    const own = join(folder, "checkpoints");
    writeFileSync(own, `${readFileSync(own, "utf8")}{"origin":"x","ep`);
    expect(await verdict()).toMatchObject({ ok: true });
  });
});
