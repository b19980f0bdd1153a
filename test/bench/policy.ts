/**
 * Policy decisions with everything around them: checking the input, the worker, checking the answer, and the durable
 * journal write with its evidence; by machines and active instances, beside `opa run --server` on the same sources, data
 * and input in the same run. Then the check of one plan by four bundles. Prints tables; asserts nothing.
 * Run: node test/bench/policy.ts [--quick]
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { Agent, request } from "node:http";
import { loadavg, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { withEvidence } from "../../shepherd/evidence/evidence.ts";
import { digestOf } from "../../shepherd/model/canonical.ts";
import { findOpa } from "../../shepherd/opa/binary.ts";
import { compileSources } from "../../shepherd/opa/compile.ts";
import { type LoadedPolicy, loadPolicy, openPolicy } from "../../shepherd/opa/engine.ts";
import { collectSources, libraryFolder, type RegoSource } from "../../shepherd/opa/sources.ts";
import { combine } from "../../shepherd/policy/combine.ts";
import { consult } from "../../shepherd/policy/consult.ts";
import type { PolicyData } from "../../shepherd/policy/data.ts";
import type { PolicyInput } from "../../shepherd/policy/input.ts";
import type { PolicyAnswer } from "../../shepherd/ports/policy-engine.ts";
import type { Store } from "../../shepherd/ports/store.ts";
import { openSqliteStore } from "../../shepherd/store/sqlite.ts";
import { exampleInput } from "../shepherd/opa/vectors.ts";

export interface PolicyFigures {
  readonly machines: number;
  readonly instances: number;
  /** The answer alone: door, worker, door. */
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly cpuMs: number;
  readonly perSecond: number;
  /** The answer and its own durable transaction, one after the other. */
  readonly journaledP50Ms: number;
  readonly journaledP99Ms: number;
  readonly journaledCpuMs: number;
  /** Sixteen askers, each with a durable transaction of its own, and the next question when it is answered. */
  readonly journaledPerSecond: number;
  readonly serverP50Ms: number;
  readonly serverP99Ms: number;
}

const quick = process.argv.includes("--quick");
const rounds = quick ? 200 : 500;

/** The example with this many machines, one of them asking for more. */
export function inputOf(machines: number): PolicyInput {
  const [template] = exampleInput.environment.machines;
  if (template === undefined) throw new Error("the example has no machine");
  const names = Array.from({ length: machines }, (_, index) => `rank-${index}`);
  return {
    ...exampleInput,
    environment: {
      ...exampleInput.environment,
      counts: { ...exampleInput.environment.counts, machines },
      groups: [{ name: template.group, machines: names }],
      machines: Array.from({ length: machines }, (_, index) => ({
        ...template,
        name: `rank-${index}`,
        proposed: { ...template.proposed, cpu_percent: index === 0 ? 60 : 20 },
      })),
    },
  };
}

/** This many live instances over the rules that judge a request, none denying. */
function dataOf(instances: number): PolicyData {
  const kinds = [
    ["envelope", {}],
    ["growth_factor", { max_factor: { vcpus: 9, cpu_percent: 9, memory_mib: 9 } }],
    ["request_rate", { per: "subject", max_requests: 30, window_ms: 60_000 }],
    ["freeze", { windows: [] }],
    [
      "environment_quota",
      {
        max_machines: 999,
        max_vcpus: 9_999,
        max_cpu_percent: 99_999,
        max_memory_mib: 999_999,
        max_disk_gib: 99_999,
        max_rate_mbps: 99_999,
      },
    ],
  ] as const;
  const constraints: PolicyData["drover"]["constraints"] = {};
  for (let index = 0; index < instances; index += 1) {
    const [rule, params] = kinds[index % kinds.length] ?? kinds[0];
    (constraints[rule] ??= {})[`i${index}`] = { level: "deny", params: { ...params } };
  }
  return { drover: { constraints, exemptions: [] } };
}

function quantile(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
}

interface Times {
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** Of all threads of this process, a round: what holds on a machine that others use, too. */
  readonly cpuMs: number;
}

async function measure(work: () => Promise<void>): Promise<Times> {
  const times: number[] = [];
  let before = process.cpuUsage();
  for (let round = 0; round < rounds + 50; round += 1) {
    const begunMs = performance.now();
    await work();
    if (round >= 50) times.push(performance.now() - begunMs);
    else before = process.cpuUsage();
  }
  const { user, system } = process.cpuUsage(before);
  times.sort((left, right) => left - right);
  return {
    p50Ms: quantile(times, 0.5),
    p99Ms: quantile(times, 0.99),
    cpuMs: (user + system) / 1_000 / rounds,
  };
}

async function measureServer(
  sources: readonly RegoSource[],
  data: PolicyData,
  input: PolicyInput,
): Promise<Times> {
  const folder = mkdtempSync(join(tmpdir(), "drover-bench-"));
  let server: ChildProcess | undefined;
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  try {
    for (const { path, text } of sources) {
      mkdirSync(dirname(join(folder, "rego", path)), { recursive: true });
      writeFileSync(join(folder, "rego", path), text);
    }
    writeFileSync(join(folder, "data.json"), JSON.stringify(data));
    const opa = await findOpa();
    const socket = join(folder, "opa.sock");
    server = spawn(
      opa.path,
      [
        "run",
        "--server",
        "--addr",
        `unix://${socket}`,
        "--log-level",
        "error",
        "rego",
        "data.json",
      ],
      { cwd: folder, stdio: "ignore" },
    );
    const body = JSON.stringify({ input });
    const ask = (): Promise<void> =>
      new Promise((resolve, reject) => {
        const asked = request(
          { socketPath: socket, path: "/v1/data/drover/main/decision", method: "POST", agent },
          (answer) => {
            let text = "";
            answer.on("data", (chunk: Buffer) => {
              text += chunk.toString();
            });
            answer.on("end", () =>
              text.includes('"effect":"allow"') ? resolve() : reject(new Error(text.slice(0, 200))),
            );
          },
        );
        asked.on("error", reject);
        asked.end(body);
      });
    for (let patience = 100; patience > 0; patience -= 1) {
      try {
        await ask();
        break;
      } catch (error) {
        if (patience === 1) throw error;
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    }
    return await measure(ask);
  } finally {
    agent.destroy();
    if (server?.exitCode === null) {
      server.kill();
      await once(server, "exit");
    }
    rmSync(folder, { recursive: true });
  }
}

const atOnce = 16;

/** What the gate journals of one answer: the decision, its event, and with it an entry of the evidence chain. */
function journal(store: Store): (input: PolicyInput, answer: PolicyAnswer) => Promise<void> {
  let lastId = 0;
  return async (input, answer) => {
    const id = `d-${(lastId += 1)}`;
    await store.transaction(async (rows) => {
      await rows.decisions.add({
        id,
        requestId: "r",
        environmentId: "ring",
        point: "request",
        message: "",
        ...combine([answer]),
        input,
        decidedAtMs: 1,
      });
      await rows.events.append({ kind: "decision.made", atMs: 1, data: { decisionId: id } });
    });
  };
}

/** One row a size; `progress` is called with each when it is done. */
export async function benchPolicy(progress: (row: PolicyFigures) => void): Promise<void> {
  const folder = join(libraryFolder, "data/operator");
  const sources = await collectSources({ owner: "bench", folder });
  const wasm = await compileSources("bench", sources);
  for (const machines of quick ? [32] : [4, 32, 128])
    for (const instances of quick ? [10, 50] : [10, 50, 200])
      progress(await measureSize({ sources, wasm, machines, instances }));
}

async function measureSize(size: {
  readonly sources: readonly RegoSource[];
  readonly wasm: Uint8Array<ArrayBuffer>;
  readonly machines: number;
  readonly instances: number;
}): Promise<PolicyFigures> {
  const { sources, wasm, machines, instances } = size;
  const data = dataOf(instances);
  const input = inputOf(machines);
  const engine = await loadPolicy({
    owner: "bench",
    wasm,
    data,
    policyDigest: "p",
    dataDigest: digestOf(data),
  });
  const state = mkdtempSync(join(tmpdir(), "drover-bench-"));
  const store = withEvidence(openSqliteStore(join(state, "journal.sqlite")));
  const write = journal(store);
  try {
    // a fresh input each time: the same one would be checked and written only once
    const decide = async (): Promise<PolicyAnswer> => {
      const answer = await engine.evaluate("decision", { ...input });
      if (answer.effect !== "allow") throw new Error(JSON.stringify(answer.findings));
      return answer;
    };
    const alone = await measure(async () => void (await decide()));
    const perSecond = await rate(decide);
    // a journal that has just been made starts the thread that copies its log, once, when it has grown
    for (let n = 0; n < 200; n += 1) await write(input, await decide());
    const journaled = await measure(async () => write(input, await decide()));
    const journaledPerSecond = await rate(async () => write(input, await decide()));
    const server = await measureServer(sources, data, input);
    return {
      machines,
      instances,
      ...alone,
      perSecond,
      journaledP50Ms: journaled.p50Ms,
      journaledP99Ms: journaled.p99Ms,
      journaledCpuMs: journaled.cpuMs,
      journaledPerSecond,
      serverP50Ms: server.p50Ms,
      serverP99Ms: server.p99Ms,
    };
  } finally {
    await engine.close();
    await store.close();
    rmSync(state, { recursive: true });
  }
}

/** Of `atOnce` askers, each of whom asks again as soon as the answer is there. */
async function rate(work: () => Promise<unknown>): Promise<number> {
  let left = rounds;
  const begunMs = performance.now();
  await Promise.all(
    Array.from({ length: atOnce }, async () => {
      while (left-- > 0) await work();
    }),
  );
  return Math.round((rounds * 1_000) / (performance.now() - begunMs));
}

/** The shipped policies of four owners on the plan of one move; the slowest of them counts. */
export async function benchPlanCheck(): Promise<Times> {
  const owners = [
    ["operator", "operator"],
    ["owner:alice", "owner"],
    ["site:north", "site-north"],
    ["site:south", "site-south"],
  ] as const;
  const engines = new Map<string, LoadedPolicy>();
  for (const [owner, name] of owners)
    engines.set(owner, await openPolicy({ owner, folder: join(libraryFolder, "data", name) }));
  const input = planOf(inputOf(32));
  try {
    return await measure(async () => {
      const verdict = await consult(engines, {
        entrypoint: "plan_check",
        owners: owners.map(([owner]) => owner),
        input: { ...input },
        kind: "move",
      });
      if (verdict.consents.some(({ effect }) => effect !== "allow"))
        throw new Error(JSON.stringify(verdict.findings.filter(({ ok }) => !ok)));
    });
  } finally {
    for (const engine of engines.values()) await engine.close();
  }
}

/** A plan that changes sizes where the machines are. */
function planOf(input: PolicyInput): PolicyInput {
  const { contract, now_ms, request: asked, subject, environment, ...rest } = input;
  return {
    ...rest,
    contract,
    now_ms,
    point: "plan",
    request: { ...asked, kind: "resize" },
    subject,
    environment,
    plan: { digest: "d", predicted_ms: 100, bytes: 0, downtime_ms: 0, moves: [] },
  };
}

if (import.meta.main) {
  process.stdout.write(
    `load at the start: ${loadavg()
      .map((load) => load.toFixed(1))
      .join(", ")}\n\n`,
  );
  process.stdout.write(
    "| machines | instances | p50 ms | p99 ms | CPU ms | per s | journaled p50 ms | p99 ms | CPU ms | per s, 16 askers | opa server p50 ms | p99 ms | p50 ratio |\n",
  );
  process.stdout.write(
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
  );
  await benchPolicy((row) => {
    const cells = [
      row.machines,
      row.instances,
      row.p50Ms.toFixed(2),
      row.p99Ms.toFixed(2),
      row.cpuMs.toFixed(2),
      row.perSecond,
      row.journaledP50Ms.toFixed(2),
      row.journaledP99Ms.toFixed(2),
      row.journaledCpuMs.toFixed(2),
      row.journaledPerSecond,
      row.serverP50Ms.toFixed(2),
      row.serverP99Ms.toFixed(2),
      (row.p50Ms / row.serverP50Ms).toFixed(2),
    ];
    process.stdout.write(`| ${cells.join(" | ")} |\n`);
  });
  const plan = await benchPlanCheck();
  process.stdout.write(
    `\none plan of 32 machines, four shipped bundles: p50 ${plan.p50Ms.toFixed(2)} ms, p99 ${plan.p99Ms.toFixed(2)} ms, CPU ${plan.cpuMs.toFixed(2)} ms\n`,
  );
}
