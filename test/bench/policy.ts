/**
 * Policy decisions, door and worker included: p50, p99 and rate by machines and active instances, beside
 * `opa run --server` on the same sources, data and input in the same run. Prints a table; asserts nothing.
 * Run: node test/bench/policy.ts [--quick]
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { Agent, request } from "node:http";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { digestOf } from "../../shepherd/model/canonical.ts";
import { findOpa } from "../../shepherd/opa/binary.ts";
import { compileSources } from "../../shepherd/opa/compile.ts";
import { loadPolicy } from "../../shepherd/opa/engine.ts";
import { collectSources, libraryFolder, type RegoSource } from "../../shepherd/opa/sources.ts";
import type { PolicyData } from "../../shepherd/policy/data.ts";
import type { PolicyInput } from "../../shepherd/policy/input.ts";
import { exampleInput } from "../shepherd/opa/vectors.ts";

export interface PolicyFigures {
  readonly machines: number;
  readonly instances: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly perSecond: number;
  readonly serverP50Ms: number;
  readonly serverP99Ms: number;
}

const quick = process.argv.includes("--quick");
const rounds = quick ? 200 : 1_000;

/** The example with this many machines, one of them asking for more. */
function inputOf(machines: number): PolicyInput {
  const [template] = exampleInput.environment.machines;
  if (template === undefined) throw new Error("the example has no machine");
  return {
    ...exampleInput,
    environment: {
      ...exampleInput.environment,
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

async function measure(work: () => Promise<void>): Promise<{ p50Ms: number; p99Ms: number }> {
  const times: number[] = [];
  for (let round = 0; round < rounds + 50; round += 1) {
    const begunMs = performance.now();
    await work();
    if (round >= 50) times.push(performance.now() - begunMs);
  }
  times.sort((left, right) => left - right);
  return { p50Ms: quantile(times, 0.5), p99Ms: quantile(times, 0.99) };
}

async function measureServer(
  sources: readonly RegoSource[],
  data: PolicyData,
  input: PolicyInput,
): Promise<{ p50Ms: number; p99Ms: number }> {
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

/** One row a size; `progress` is called with each when it is done. */
export async function benchPolicy(progress: (row: PolicyFigures) => void): Promise<void> {
  const folder = join(libraryFolder, "data/operator");
  const sources = await collectSources({ owner: "bench", folder });
  const wasm = await compileSources("bench", sources);
  for (const machines of quick ? [32] : [4, 32, 128])
    for (const instances of quick ? [10, 50] : [10, 50, 200]) {
      const data = dataOf(instances);
      const input = inputOf(machines);
      const engine = await loadPolicy({
        owner: "bench",
        wasm,
        data,
        policyDigest: "",
        dataDigest: digestOf(data),
      });
      const decide = async (): Promise<void> => {
        const { effect, findings } = await engine.evaluate("decision", input);
        if (effect !== "allow") throw new Error(JSON.stringify(findings));
      };
      const ours = await measure(decide);
      const begunMs = performance.now();
      for (let round = 0; round < rounds; round += 10)
        await Promise.all(Array.from({ length: 10 }, decide));
      const perSecond = Math.round((rounds * 1_000) / (performance.now() - begunMs));
      await engine.close();
      const server = await measureServer(sources, data, input);
      progress({
        machines,
        instances,
        ...ours,
        perSecond,
        serverP50Ms: server.p50Ms,
        serverP99Ms: server.p99Ms,
      });
    }
}

if (import.meta.main) {
  process.stdout.write(
    "| machines | instances | p50 ms | p99 ms | decisions/s | opa server p50 ms | p99 ms | p50 ratio |\n",
  );
  process.stdout.write("| --- | --- | --- | --- | --- | --- | --- | --- |\n");
  await benchPolicy((row) => {
    const cells = [
      row.machines,
      row.instances,
      row.p50Ms.toFixed(2),
      row.p99Ms.toFixed(2),
      row.perSecond,
      row.serverP50Ms.toFixed(2),
      row.serverP99Ms.toFixed(2),
      (row.p50Ms / row.serverP50Ms).toFixed(2),
    ];
    process.stdout.write(`| ${cells.join(" | ")} |\n`);
  });
}
