/**
 * Several workers with the same policy, for work that has no order: a million recorded decisions. Live decisions have
 * one worker, because they are made one at a time.
 */
import { availableParallelism } from "node:os";
import type { PolicyBundle } from "#opa/bundle";
import { loadPolicy } from "#opa/engine";
import { type SandboxLimits, standardLimits } from "#opa/sandbox";
import type { PolicyEngine } from "#ports/policy-engine";

/** This process reads and compares for them; more than these would wait for it. */
const mostWorkers = 4;

/** Our loop reads a page of history in between, which takes it longer than a few answers take the worker. */
const limits: SandboxLimits = { ...standardLimits, ahead: 64 };

/** One worker a core that is left, each asked in turn. Faults as loadPolicy. */
export async function openCrew(bundle: PolicyBundle): Promise<PolicyEngine> {
  const size = Math.min(mostWorkers, Math.max(1, availableParallelism() - 1));
  const engines: PolicyEngine[] = [];
  for (let n = 0; n < size; n += 1) engines.push(await loadPolicy(bundle, limits));
  let turn = 0;
  const next = (): PolicyEngine => {
    turn = (turn + 1) % engines.length;
    const engine = engines[turn];
    if (engine === undefined) throw new Error("a crew has members");
    return engine;
  };
  return {
    owner: bundle.owner,
    evaluate: (...question) => next().evaluate(...question),
    query: (...question) => next().query(...question),
    async close() {
      await Promise.all(engines.map((engine) => engine.close()));
    },
  };
}
