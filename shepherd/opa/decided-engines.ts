/**
 * Engines of policies that decided once, opened when they are asked again and kept while they may be asked more: history
 * of several owners goes back and forth between a few of them.
 */

import type { Consent } from "#model/request";
import { type LoadedPolicy, loadPolicy } from "#opa/engine";
import type { Generations } from "#opa/generations";
import { type SandboxLimits, standardLimits } from "#opa/sandbox";
import type { PolicyAnswer, PolicyEngine } from "#ports/policy-engine";

/** Idle ones beyond this are closed, the one that was not asked for longest first. Each is a thread and its memory. */
const keptOpen = 4;
const limits: SandboxLimits = { ...standardLimits, ahead: 16 };

interface OpenEngine {
  /** Undefined: not kept any more. */
  readonly loading: Promise<LoadedPolicy | undefined>;
  asking: number;
}

export class DecidedEngines {
  readonly #generations: Pick<Generations, "decided">;
  /** Asked longest ago first. */
  readonly #open = new Map<string, OpenEngine>();

  constructor(generations: Pick<Generations, "decided">) {
    this.#generations = generations;
  }

  /** Undefined when what decided is not kept. Faults of loadPolicy. */
  async ask(
    consent: Pick<Consent, "owner" | "policyDigest" | "dataDigest">,
    question: Parameters<PolicyEngine["evaluate"]>,
  ): Promise<PolicyAnswer | undefined> {
    const { owner, policyDigest, dataDigest } = consent;
    const key = `${owner} ${policyDigest} ${dataDigest}`;
    const open = this.#open.get(key) ?? { loading: this.#load(consent), asking: 0 };
    this.#open.delete(key);
    this.#open.set(key, open);
    open.asking += 1;
    try {
      return await (await open.loading)?.evaluate(...question);
    } finally {
      open.asking -= 1;
      await this.#closeIdle();
    }
  }

  async close(): Promise<void> {
    const open = [...this.#open.values()];
    this.#open.clear();
    for (const { loading } of open) await closeWhenLoaded(loading);
  }

  async #load(
    consent: Pick<Consent, "owner" | "policyDigest" | "dataDigest">,
  ): Promise<LoadedPolicy | undefined> {
    const bundle = await this.#generations.decided(consent.owner, consent);
    return bundle && (await loadPolicy(bundle, limits));
  }

  async #closeIdle(): Promise<void> {
    for (const [key, { loading, asking }] of this.#open) {
      if (this.#open.size <= keptOpen) return;
      if (asking > 0) continue;
      this.#open.delete(key);
      await closeWhenLoaded(loading);
    }
  }
}

async function closeWhenLoaded(loading: OpenEngine["loading"]): Promise<void> {
  // whoever asked was told why it could not be loaded
  const engine = await loading.catch(() => undefined);
  await engine?.close();
}
