/**
 * What history costs: activating a signed bundle (each step), replaying recorded decisions, and whether memory stays
 * flat over many decisions. Prints lines; asserts nothing; how far it is goes to the error output. With --million a
 * million decisions are recorded and replayed in one go: 13 GB of disk below the system's temporary folder (TMPDIR), given
 * back at the end, also when it is interrupted; about half an hour.
 * Run: node test/bench/policy-history.ts [--quick | --million | --decisions=N]
 */
import { generateKeyPairSync } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, statfsSync, writeFileSync } from "node:fs";
import { loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { withEvidence } from "../../shepherd/evidence/evidence.ts";
import { packBundle } from "../../shepherd/opa/archive.ts";
import { buildBundle } from "../../shepherd/opa/bundle.ts";
import { openPolicy } from "../../shepherd/opa/engine.ts";
import { openGenerations } from "../../shepherd/opa/generations.ts";
import { openPolicies } from "../../shepherd/opa/policies.ts";
import { libraryFolder } from "../../shepherd/opa/sources.ts";
import { proveVectors, readVectors } from "../../shepherd/opa/vectors.ts";
import { combine } from "../../shepherd/policy/combine.ts";
import type { PolicyInput } from "../../shepherd/policy/input.ts";
import { inputFor } from "../../shepherd/policy/visible.ts";
import { createScaledClock } from "../../shepherd/simulated/clock.ts";
import { openSqliteStore } from "../../shepherd/store/sqlite.ts";
import { inputOf } from "./policy.ts";

const quick = process.argv.includes("--quick");
const million = process.argv.includes("--million");
const wanted = process.argv.find((word) => word.startsWith("--decisions="))?.split("=")[1];
const recorded =
  wanted === undefined ? (million ? 1_000_000 : quick ? 500 : 5_000) : Number(wanted);
const evaluations = quick ? 2_000 : 50_000;
/** Recorded together: one commit. */
const atOnce = 200;
const owner = "operator";
const folder = join(libraryFolder, "data/operator");
/** One recorded decision of 8 machines, with its share of indexes and of the log that is copied later. */
const recordBytes = 14_000;
const { bavail, bsize } = statfsSync(tmpdir());
if (bavail * bsize < recorded * recordBytes) {
  const gib = (recorded * recordBytes) / 2 ** 30;
  throw new Error(`${tmpdir()} has no ${gib.toFixed(1)} GiB free: set TMPDIR to a folder that has`);
}
const state = mkdtempSync(join(tmpdir(), "drover-bench-"));
process.on("exit", () => rmSync(state, { recursive: true, force: true }));
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => process.exit(130));
/** Tells of every twentieth part of a long work. */
function progressOf(what: string): (done: number) => void {
  let told = 0;
  return (done) => {
    if (recorded < 10_000 || done < (told + 1) * (recorded / 20)) return;
    told = Math.floor(done / (recorded / 20));
    const mib = Math.round(process.memoryUsage.rss() / 2 ** 20);
    process.stderr.write(`${what}: ${done} of ${recorded}, process ${mib} MiB\n`);
  };
}
const store = withEvidence(openSqliteStore(join(state, "journal.sqlite")));
const log = pino({ level: "silent" });
const clock = createScaledClock({ scale: 1, originMs: Date.now() });
process.stdout.write(
  `load at the start: ${loadavg()
    .map((load) => load.toFixed(1))
    .join(", ")}\n`,
);

const engine = await openPolicy({ owner, folder });
const asking = (n: number): PolicyInput => {
  const input = inputOf(8);
  return { ...input, request: { ...input.request, id: `r-${n}`, reason: `ask ${n}` } };
};

// history: all ask for the same in other words, so one answer is that of all
const verdict = combine([await engine.evaluate("decision", inputFor(owner, asking(0)))]);
const recordingMs = performance.now();
const tellRecorded = progressOf("recording");
for (let n = 0; n < recorded; ) {
  await store.transaction(async (journal) => {
    for (const end = Math.min(recorded, n + atOnce); n < end; ) {
      const input = asking(n);
      const about = { id: `d-${(n += 1)}`, requestId: input.request.id, environmentId: "ring" };
      await journal.decisions.add({
        ...about,
        point: "request",
        message: "",
        ...verdict,
        input,
        decidedAtMs: clock.nowMs(),
      });
    }
  });
  tellRecorded(n);
}
process.stdout.write(
  `recorded: ${recorded} decisions of 8 machines in ${((performance.now() - recordingMs) / 1_000).toFixed(1)} s\n`,
);

// activation: the same rules with one more instance, vectors of the whole library in the bundle
const { privateKey, publicKey } = generateKeyPairSync("ed25519");
const built = await buildBundle({ owner, folder });
const proven = await proveVectors(built, built.sources, await readVectors(folder));
const key = {
  id: "k",
  algorithm: "EdDSA" as const,
  privateKey: privateKey.export({ type: "pkcs8", format: "pem" }).toString(),
};
const publish = (revision: string, more: object): void => {
  const drover = { ...built.data.drover, ...more };
  const bundle = { ...built, data: { drover }, revision, vectors: proven.file };
  writeFileSync(join(state, "out/bundle.tar.gz"), packBundle(bundle, key));
};
mkdirSync(join(state, "out"));
publish("one", {});
const policies = await openPolicies({
  sources: new Map([
    [
      owner,
      {
        kind: "bundle",
        source: join(state, "out"),
        keys: [{ ...key, publicKey: publicKey.export({ type: "spki", format: "pem" }).toString() }],
        activation: "manual",
        pollMs: 60_000,
      },
    ],
  ]),
  generations: openGenerations(join(state, "policies")),
  limits: { replayLast: 500, maxFlips: 10 },
  store,
  clock,
  ids: { next: () => "trial" },
  log,
});
publish("two", { exemptions: [], mask: ["/input/nothing"] });
const begunMs = performance.now();
const report = await policies.activate(owner, { by: "bench" });
process.stdout.write(
  `activation: ${Math.round(performance.now() - begunMs)} ms: ${report.steps
    .map(({ step, durationMs, told }) => `${step} ${durationMs} ms (${told})`)
    .join("; ")}\n`,
);

// replay of everything
const cpuBefore = process.cpuUsage();
const trial = await policies.trials.start({
  owner,
  packed: packBundle(built),
  by: "bench",
  range: {},
});
const resident: string[] = [];
const tellReplayed = progressOf("replaying");
for (;;) {
  const running = policies.trials.get(trial?.id ?? "");
  if (running?.state !== "running") break;
  tellReplayed(running.progress.read);
  if (running.progress.read >= (recorded / 5) * (resident.length + 1))
    resident.push(
      `${running.progress.read}: ${Math.round(process.memoryUsage.rss() / 2 ** 20)} MiB`,
    );
  await new Promise((resolve) => setTimeout(resolve, 20));
}
const done = policies.trials.get(trial?.id ?? "");
const tookMs = done?.steps.find(({ step }) => step === "replay")?.durationMs ?? Number.NaN;
const replayCpu = process.cpuUsage(cpuBefore);
const cpuMs = (replayCpu.user + replayCpu.system) / 1_000 / recorded;
const perSecond = (recorded * 1_000) / tookMs;
process.stdout.write(
  `replay: ${done?.report?.replayed} decisions of 8 machines in ${(tookMs / 1_000).toFixed(1)} s, ${Math.round(perSecond)}/s; a million in ${(1e6 / perSecond / 60).toFixed(1)} min; CPU of all threads ${cpuMs.toFixed(2)} ms a decision\nprocess while it read: ${resident.join("; ")}\n`,
);

// memory
const figures: string[] = [];
for (let asked = 0; asked <= evaluations; ) {
  figures.push(
    `${asked}: WASM ${(engine.memoryBytes / 2 ** 20).toFixed(1)} MiB, process ${Math.round(process.memoryUsage.rss() / 2 ** 20)} MiB`,
  );
  for (let n = 0; n < evaluations / 4; n += 20, asked += 20)
    await Promise.all(
      Array.from({ length: 20 }, (_, index) => engine.evaluate("decision", asking(asked + index))),
    );
}
process.stdout.write(`memory after so many decisions: ${figures.join("; ")}\n`);

await policies.stop();
await engine.close();
await store.close();
