/**
 * Asks history again. With a candidate: who would have been told otherwise. With the very policies that decided: whether
 * every recorded answer is still exactly what they give, because a decision is a pure function of policy digest, data
 * digest and input. Reads the journal in pages, newest first; changes nothing.
 */
import { canonicalJson, digestOf } from "#model/canonical";
import type { Consent, Decision, Finding } from "#model/request";
import type { Digest, Ms } from "#model/units";
import {
  effectOf,
  type FlipReport,
  FlipTally,
  type UnfitCount,
  UnfitTally,
  unfitReason,
} from "#policy/flips";
import { contractVersion, type PolicyInput } from "#policy/input";
import { inputFor } from "#policy/visible";
import type { PolicyAnswer, PolicyEngine, PolicyEntrypoint } from "#ports/policy-engine";
import type { Store } from "#ports/store";

/** How far back. */
export interface ReplayRange {
  /** At most so many decisions of this owner. */
  readonly last?: number | undefined;
  readonly sinceMs?: Ms | undefined;
}

export interface ReplayProgress {
  readonly read: number;
  readonly replayed: number;
  readonly flips: number;
}

/** Rows read at once: other work gets its turn between pages. */
const pageSize = 100;
/** Questions under way at once, across pages: workers have something to do while the next page is read. */
const inFlight = 128;

/**
 * Replays the recorded questions of one owner through an engine. `speaksFor` tells whose answers it would have given:
 * the engine of `owner:*` speaks for several. Ends early, with what it has, when the signal is aborted.
 */
export async function replayHistory(options: {
  readonly store: Store;
  readonly engine: PolicyEngine;
  readonly speaksFor: (owner: string) => boolean;
  readonly range: ReplayRange;
  readonly onProgress?: ((progress: ReplayProgress) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}): Promise<FlipReport> {
  const { engine, speaksFor, range, signal } = options;
  const tally = new FlipTally();
  const flow = new Flow();
  let read = 0;
  let asked = 0;
  const progress = (): void =>
    options.onProgress?.({ read, replayed: tally.replayed, flips: tally.flips });
  await eachDecision(options.store, range, async (page) => {
    if (signal?.aborted === true) return "stop";
    const left = (range.last ?? Infinity) - asked;
    const taken = questionsOf(page, speaksFor).slice(0, left);
    asked += taken.length;
    await flow.each(taken, async ({ decision, consent, input, unfit }) => {
      if (input === undefined) return tally.skip(unfit);
      tally.add({
        input,
        decisionId: decision.id,
        atMs: decision.decidedAtMs,
        before: consent.effect,
        findingsBefore: decision.findings.filter(({ owner }) => owner === consent.owner),
        others: decision.consents.filter((one) => one !== consent).map(({ effect }) => effect),
        after: await engine.evaluate(entrypointOf(decision), inputFor(consent.owner, input)),
      });
    });
    read += page.length;
    progress();
    return asked >= (range.last ?? Infinity) ? "stop" : "go on";
  });
  await flow.end();
  progress();
  return tally.report();
}

export interface ExactnessReport {
  /** Answers of owners that were asked again. */
  readonly replayed: number;
  /** Of these, not what was recorded. */
  readonly differing: readonly {
    readonly decision: string;
    readonly owner: string;
    readonly recorded: Digest;
    readonly replayed: Digest;
  }[];
  /** Answers whose policy or data is not kept any more. */
  readonly missing: number;
  /** Answers that no policy gave: none was loaded, or its time or memory ran out. */
  readonly unanswered: number;
  /** Answers to questions that cannot be asked again, and why. */
  readonly unfit: number;
  readonly unfit_by: readonly UnfitCount[];
}

/** Differences told in full; more of them say nothing new. */
const maxDiffering = 100;

export async function verifyReplay(options: {
  readonly store: Store;
  /** Puts a question to the engine of exactly these digests; undefined when they are not kept. */
  readonly ask: (
    consent: Pick<Consent, "owner" | "policyDigest" | "dataDigest">,
    question: Parameters<PolicyEngine["evaluate"]>,
  ) => Promise<PolicyAnswer | undefined>;
  readonly range: ReplayRange;
  readonly onProgress?: ((replayed: number) => void) | undefined;
}): Promise<ExactnessReport> {
  let [replayed, missing, unanswered, read] = [0, 0, 0, 0];
  const skipped = new UnfitTally();
  const differing: ExactnessReport["differing"][number][] = [];
  const last = options.range.last ?? Infinity;
  const flow = new Flow();
  await eachDecision(options.store, options.range, async (page) => {
    const questions = questionsOf(page.slice(0, last - read), () => true);
    read += page.length;
    await flow.each(questions, async ({ decision, consent, input, unfit }) => {
      if (consent.policyDigest === "" || gaveUp(decision, consent)) {
        unanswered += 1;
        return;
      }
      if (input === undefined) return skipped.add(unfit);
      const seen = inputFor(consent.owner, input);
      const answer = await options.ask(consent, [entrypointOf(decision), seen]);
      if (answer === undefined) {
        missing += 1;
        return;
      }
      // the door has become narrower since: the same policy cannot be asked this any more
      const refused = unfitReason(answer);
      if (refused !== undefined && !wasRefused(decision, consent)) return skipped.add(refused);
      replayed += 1;
      const findings = answer.findings.map((finding) => ({ ...finding, owner: consent.owner }));
      const now = answerDigest(effectOf(answer, input.request.kind), findings);
      const then = answerDigest(
        consent.effect,
        decision.findings.filter(
          ({ owner, rule }) => owner === consent.owner && rule !== "obligation",
        ),
      );
      if (now === then || differing.length >= maxDiffering) return;
      differing.push({
        decision: decision.id,
        owner: consent.owner,
        recorded: then,
        replayed: now,
      });
    });
    options.onProgress?.(replayed);
    return read >= last ? "stop" : "go on";
  });
  await flow.end();
  return {
    replayed,
    differing,
    missing,
    unanswered,
    unfit: skipped.total,
    unfit_by: skipped.rows(),
  };
}

/** Verdicts of the clock and the machine, not of the policy. */
const gaveUpCodes = new Set(["policy.timeout", "policy.overloaded", "policy.trap"]);

function gaveUp({ findings }: Decision, { owner }: Consent): boolean {
  return findings.some((one) => one.owner === owner && gaveUpCodes.has(one.code ?? ""));
}

/** The door refused it then, too: that is its answer. */
function wasRefused({ findings }: Decision, { owner }: Consent): boolean {
  return unfitReason({ findings: findings.filter((one) => one.owner === owner) }) !== undefined;
}

/** What an answer comes to, whatever order its findings stand in. */
function answerDigest(effect: string, findings: readonly Finding[]): Digest {
  return digestOf([effect, findings.map((finding) => canonicalJson(finding)).toSorted()]);
}

function entrypointOf({ point }: Decision): PolicyEntrypoint {
  return point === "plan" ? "plan_check" : "decision";
}

type Question = { readonly decision: Decision; readonly consent: Consent } & (
  | { readonly input: PolicyInput; readonly unfit?: undefined }
  | { readonly input?: undefined; readonly unfit: string }
);

/** One for each consent; built-in grants and refusals by code asked nobody. */
function questionsOf(
  page: readonly Decision[],
  speaksFor: (owner: string) => boolean,
): readonly Question[] {
  return page.flatMap((decision) => {
    const consents = decision.consents.filter(({ owner }) => speaksFor(owner));
    if (consents.length === 0) return [];
    const unfit = shapeProblem(decision.input);
    return consents.map(
      (consent): Question =>
        unfit === undefined
          ? // the rest of its shape the door looks at
            { decision, consent, input: decision.input as PolicyInput }
          : { decision, consent, unfit },
    );
  });
}

/** Why an input cannot even be cut for its owners; undefined = it can. */
function shapeProblem(input: unknown): string | undefined {
  if (typeof input !== "object" || input === null) return "no input is recorded";
  const fields = input as Readonly<Record<string, unknown>>;
  if (fields["contract"] !== contractVersion)
    return `it is of contract ${JSON.stringify(fields["contract"]) ?? "none"}, this is contract ${contractVersion}`;
  const lacking = ["exemptions", "sites"].filter((name) => !Array.isArray(fields[name]));
  return lacking.length === 0 ? undefined : `an older shape, without ${lacking.join(" and ")}`;
}

/** Newest first, until there are no more, they are too old, or `work` says stop. */
async function eachDecision(
  store: Store,
  { sinceMs = 0 }: ReplayRange,
  work: (page: readonly Decision[]) => Promise<"go on" | "stop">,
): Promise<void> {
  let before: number | undefined;
  for (;;) {
    const rows = await store.read((journal) => journal.decisions.page({ before, limit: pageSize }));
    const fresh = rows.filter(({ decision }) => decision.decidedAtMs >= sinceMs);
    const page = fresh.map(({ decision }) => decision);
    if (page.length > 0 && (await work(page)) === "stop") return;
    if (rows.length < pageSize || fresh.length < rows.length) return;
    before = rows.at(-1)?.n;
  }
}

/** Keeps a bounded number of questions under way, from one page to the next. The first failure ends it. */
class Flow {
  #underWay = 0;
  #failed: { readonly error: unknown } | undefined;
  /** Whoever waits for a place, or for the end. */
  #wake: (() => void) | undefined;

  /** Resolves when all have begun. */
  async each<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
    for (const item of items) {
      while (this.#underWay >= inFlight) await this.#change();
      if (this.#failed !== undefined) throw this.#failed.error;
      void this.#run(work(item));
    }
  }

  /** Resolves when all have ended. */
  async end(): Promise<void> {
    while (this.#underWay > 0) await this.#change();
    if (this.#failed !== undefined) throw this.#failed.error;
  }

  async #run(work: Promise<void>): Promise<void> {
    this.#underWay += 1;
    try {
      await work;
    } catch (error) {
      this.#failed ??= { error };
    }
    this.#underWay -= 1;
    this.#wake?.();
  }

  #change(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }
}
