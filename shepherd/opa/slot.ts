/**
 * One owner's place among the engines: whatever is loaded there is asked, and is changed between two questions. A shadow
 * is asked the same questions and never heard; a policy that its source has not confirmed for too long says no.
 */
import { toFaultData } from "#model/fault";
import type { Ms } from "#model/units";
import { absentPolicy, deniedAnswer } from "#opa/engine";
import { effectOf, type FlipReport, FlipTally } from "#policy/flips";
import type { PolicyInput } from "#policy/input";
import type { PolicyAnswer, PolicyEngine, PolicyEntrypoint } from "#ports/policy-engine";

/** A candidate that listens to live requests. */
export interface Shadow {
  readonly revision: string;
  readonly engine: PolicyEngine;
  readonly by: string;
  readonly sinceMs: Ms;
  readonly untilMs: Ms;
}

/** Live questions that may wait for the shadow; beyond that it misses some, and says how many. */
const maxShadowed = 64;

export class PolicySlot implements PolicyEngine {
  readonly owner: string;
  readonly #nowMs: () => Ms;
  #engine: PolicyEngine;
  #running = new Set<Promise<unknown>>();
  #shadow: (Shadow & { readonly tally: FlipTally; missed: number; waiting: number }) | undefined;
  /** Undefined: never stale. */
  #staleAtMs: Ms | undefined;

  constructor(owner: string, nowMs: () => Ms) {
    this.owner = owner;
    this.#nowMs = nowMs;
    this.#engine = absentPolicy(owner, new Error("it has not been loaded yet"));
  }

  /** From the next question on; the one before it is closed when its last answer is out. */
  swap(engine: PolicyEngine): void {
    const before = this.#engine;
    const running = this.#running;
    this.#engine = engine;
    this.#running = new Set();
    void Promise.allSettled(running).then(() => before.close());
  }

  /** The owner said no policy can be loaded. */
  swapToAbsent(why: unknown): void {
    this.swap(absentPolicy(this.owner, why));
  }

  /** Its source has confirmed what is loaded; the next confirmation is due by then. */
  confirmUntil(staleAtMs: Ms | undefined): void {
    this.#staleAtMs = staleAtMs;
  }

  get isStale(): boolean {
    return this.#staleAtMs !== undefined && this.#nowMs() > this.#staleAtMs;
  }

  async evaluate(entrypoint: PolicyEntrypoint, input: PolicyInput): Promise<PolicyAnswer> {
    if (this.isStale) {
      const since = new Date(this.#staleAtMs ?? 0).toISOString();
      // no digests: nothing of the policy was asked
      return deniedAnswer(
        { owner: this.owner, entrypoint, policyDigest: "", dataDigest: "", durationMs: 0 },
        "policy.stale",
        `the source of ${this.owner}'s policy has not confirmed it since ${since}`,
      );
    }
    const answer = await this.#ask((engine) => engine.evaluate(entrypoint, input));
    this.#overhear(entrypoint, input, answer);
    return answer;
  }

  query(...question: Parameters<PolicyEngine["query"]>): ReturnType<PolicyEngine["query"]> {
    return this.#ask((engine) => engine.query(...question));
  }

  /** Replaces a shadow that was there. */
  setShadow(shadow: Shadow): void {
    this.endShadow();
    this.#shadow = { ...shadow, tally: new FlipTally(), missed: 0, waiting: 0 };
  }

  endShadow(): void {
    const shadow = this.#shadow;
    this.#shadow = undefined;
    if (shadow !== undefined) void shadow.engine.close();
  }

  get shadow():
    | (Omit<Shadow, "engine"> & { readonly report: FlipReport; readonly missed: number })
    | undefined {
    if (this.#shadow === undefined) return undefined;
    const { engine: _, tally, waiting: __, ...about } = this.#shadow;
    return { ...about, report: tally.report() };
  }

  async close(): Promise<void> {
    this.endShadow();
    await Promise.allSettled(this.#running);
    await this.#engine.close();
  }

  async #ask<T>(work: (engine: PolicyEngine) => Promise<T>): Promise<T> {
    const running = this.#running;
    const asked = work(this.#engine);
    running.add(asked);
    try {
      return await asked;
    } finally {
      running.delete(asked);
    }
  }

  /** Never awaited by the decision, never part of it. */
  #overhear(entrypoint: PolicyEntrypoint, input: PolicyInput, live: PolicyAnswer): void {
    const shadow = this.#shadow;
    if (shadow === undefined) return;
    if (this.#nowMs() > shadow.untilMs) return;
    if (shadow.waiting >= maxShadowed) {
      shadow.missed += 1;
      return;
    }
    shadow.waiting += 1;
    void shadow.engine.evaluate(entrypoint, input).then((after) => {
      shadow.waiting -= 1;
      shadow.tally.add({
        input,
        decisionId: input.request.id,
        atMs: input.now_ms,
        before: effectOf(live, input.request.kind),
        findingsBefore: live.findings,
        others: [],
        after,
      });
    });
  }
}

/** One line of why something could not be loaded, for status. */
export function whyNot(error: unknown): { readonly code: string; readonly message: string } {
  const { code, message } = toFaultData(error);
  return { code, message };
}
