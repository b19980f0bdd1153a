/**
 * What history costs: activating a signed bundle (each step), replaying recorded decisions, and whether memory stays
 * flat over many decisions. Prints lines; asserts nothing. With --million a million decisions are recorded and replayed in
 * one go: 13 GB of disk below the system's temporary folder, a quarter of an hour.
 * Run: node test/bench/policy-history.ts [--quick | --million]
 */
import { generateKeyPairSync } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
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
const recorded = million ? 1_000_000 : quick ? 500 : 5_000;
const evaluations = quick ? 2_000 : 50_000;
/** Recorded together: one commit. */
const atOnce = 200;
const owner = "operator";
const folder = join(libraryFolder, "data/operator");
const state = mkdtempSync(join(tmpdir(), "drover-bench-"));
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
for (;;) {
  const running = policies.trials.get(trial?.id ?? "");
  if (running?.state !== "running") break;
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
rmSync(state, { recursive: true });
