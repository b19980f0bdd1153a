/**
 * One owner's policy while the shepherd runs: what is in force of it, where it comes from, and every way it changes. A
 * bundle that fails any check changes nothing. Knows no other owner.
 */
import type { NewEvent } from "#model/event";
import { Fault, type FaultData, toFaultData } from "#model/fault";
import type { Ms } from "#model/units";
import { type Checked, checkBundle, type Override, standardPolicyLimits } from "#opa/activation";
import { packBundle, readBundle, type WholeBundle } from "#opa/archive";
import { buildBundle } from "#opa/bundle";
import { fetchBundle } from "#opa/bundle-source";
import { type LoadedPolicy, loadPolicy } from "#opa/engine";
import type { Generation } from "#opa/generations";
import type { ActivationReport, PoliciesOptions, PolicySource, PolicyState } from "#opa/policies";
import type { TrustedKey } from "#opa/signatures";
import { PolicySlot } from "#opa/slot";
import type { FlipReport } from "#policy/flips";

export class OwnerPolicy {
  readonly owner: string;
  /** What the gate asks. */
  readonly slot: PolicySlot;
  readonly #options: PoliciesOptions;
  readonly #source: PolicySource;
  /** Whose answers this policy would have given. */
  readonly #speaksFor: (asked: string) => boolean;
  #engine: LoadedPolicy | undefined;
  /** What the engine was made of. */
  #inForce: Generation | undefined;
  #tag: string | undefined;
  #staged: string | undefined;
  #problem: FaultData | undefined;
  #lastRequestMs: Ms | undefined;
  #lastDownloadMs: Ms | undefined;
  /** One change at a time. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(
    options: PoliciesOptions,
    about: {
      readonly owner: string;
      readonly source: PolicySource;
      readonly speaksFor: (asked: string) => boolean;
    },
  ) {
    this.#options = options;
    this.owner = about.owner;
    this.#source = about.source;
    this.#speaksFor = about.speaksFor;
    this.slot = new PolicySlot(about.owner, () => options.clock.nowMs());
  }

  /** Never rejects: without any policy that can be loaded this owner denies, and the log says why. */
  async open(): Promise<void> {
    try {
      await this.load();
    } catch (error) {
      await this.#openLastGood(error);
    }
  }

  /** What the folder holds, or what was last good of the source. Faults of checkBundle and buildBundle. */
  async load(): Promise<void> {
    await (this.#source.kind === "folder" ? this.#openFolder() : this.#openBundle());
  }

  async state(): Promise<PolicyState> {
    const generations = await this.#options.generations.list(this.owner);
    return {
      owner: this.owner,
      source: this.#source.kind === "folder" ? this.#source.folder : this.#source.source,
      activation: this.#source.kind === "folder" ? "folder" : this.#source.activation,
      active: this.#inForce,
      self: this.#engine?.self,
      data: this.#engine?.bundle.data,
      generations,
      isStale: this.slot.isStale,
      staged: this.#staged,
      problem: this.#problem,
      lastRequestMs: this.#lastRequestMs,
      lastDownloadMs: this.#lastDownloadMs,
      shadow: this.slot.shadow,
    };
  }

  async activate({
    by,
    override,
  }: {
    readonly by: string;
    readonly override?: Override | undefined;
  }): Promise<ActivationReport> {
    return await this.#inTurn(async () => {
      try {
        const candidate = await this.#candidateOf();
        const checked = await this.#check(candidate, override);
        return await this.#putInForce(checked, candidate, {
          by,
          reason: checked.overridden ? override?.reason : undefined,
        });
      } catch (error) {
        await this.#refused(error, by);
        throw error;
      }
    });
  }

  async rollback(who: {
    readonly by: string;
    readonly reason: string;
    readonly generation?: number | undefined;
  }): Promise<ActivationReport> {
    const { owner } = this;
    return await this.#inTurn(async () => {
      const [newest, ...older] = await this.#options.generations.list(owner);
      const wanted = older.find(({ n }) => who.generation === undefined || n === who.generation);
      const packed = wanted && (await this.#options.generations.read(owner, wanted.n));
      if (newest === undefined || wanted === undefined || packed === undefined) {
        const generation = `generation ${who.generation ?? "before this one"}`;
        throw new Fault("policy.no_generation", { owner, generation });
      }
      const bundle = readBundle(packed, { owner, keys: keysOf(this.#source) });
      const engine = await loadPolicy(bundle);
      const { policyDigest, dataDigest } = newest;
      return await this.#putInForce(
        { bundle, engine, steps: [], flips: undefined, overridden: false },
        { packed },
        {
          by: who.by,
          reason: `back to generation ${wanted.n}: ${who.reason}`,
          rolledBackFrom: { policyDigest, dataDigest },
        },
      );
    });
  }

  async shadow(order: {
    readonly packed: Uint8Array;
    readonly by: string;
    readonly untilMs: Ms;
  }): Promise<PolicyState> {
    const { owner } = this;
    const { packed, by, untilMs } = order;
    const bundle = readBundle(packed, { owner, keys: "unsigned" });
    const engine = await loadPolicy(bundle);
    const sinceMs = this.#options.clock.nowMs();
    this.slot.setShadow({ revision: bundle.revision, engine, by, sinceMs, untilMs });
    await this.#tell("policy.tried", { owner, revision: bundle.revision, by, untilMs });
    return await this.state();
  }

  async endShadow(): Promise<PolicyState> {
    this.slot.endShadow();
    return await this.state();
  }

  /** Looks at the source from now on; a folder is loaded at a start and by `activate` only. */
  async watch(signal: AbortSignal): Promise<void> {
    const source = this.#source;
    if (source.kind === "folder") return;
    while (!signal.aborted) {
      await this.#inTurn(() => this.#look(source)).catch((error: unknown) => {
        this.#problem = toFaultData(error);
        this.#options.log.warn({ err: error, owner: this.owner }, "policy source");
      });
      await this.#options.clock.sleep(source.pollMs, signal).catch(() => undefined);
    }
  }

  /** After what is under way. */
  async close(): Promise<void> {
    await this.#turn;
    await this.slot.close();
  }

  /** A folder of the machine's own is as trusted as drover.yaml: it is loaded as it stands, unless it was rolled back from. */
  async #openFolder(): Promise<void> {
    const { owner } = this;
    const candidate = await this.#candidateOf();
    if (!("built" in candidate)) throw new Error("a folder is built");
    const { built } = candidate;
    const [newest] = await this.#options.generations.list(owner);
    if (newest?.rolledBackFrom !== undefined && isSame(newest.rolledBackFrom, built)) {
      this.#options.log.warn({ owner }, "the folder holds what was rolled back; it stays out");
      return await this.#loadGeneration(newest);
    }
    const engine = await loadPolicy(built);
    if (newest !== undefined && isSame(newest, built)) {
      await this.#options.generations.keep(built);
      return this.#swap(engine, newest);
    }
    const plain = { bundle: built, engine, steps: [], flips: undefined, overridden: false };
    await this.#putInForce(plain, candidate, { by: "start" });
  }

  async #openBundle(): Promise<void> {
    const [newest] = await this.#options.generations.list(this.owner);
    if (newest !== undefined) return await this.#loadGeneration(newest);
    // nothing was ever in force: the first genuine bundle is better than denying all
    const candidate = await this.#candidateOf();
    const checked = await this.#check(candidate, undefined);
    await this.#putInForce(checked, candidate, { by: "start" });
  }

  async #openLastGood(error: unknown): Promise<void> {
    const { owner, slot } = this;
    const { log, generations } = this.#options;
    this.#problem = toFaultData(error);
    try {
      const [newest] = await generations.list(owner);
      if (newest !== undefined) {
        await this.#loadGeneration(newest);
        log.error(
          { err: error, owner, revision: newest.revision },
          "policy not loaded: the last good one stays in force",
        );
        return;
      }
    } catch (cause) {
      log.error({ err: cause, owner }, "the last good policy cannot be loaded either");
    }
    log.error({ err: error, owner }, "policy not loaded: everything of this owner is denied");
    slot.swapToAbsent(error);
  }

  async #loadGeneration(generation: Generation): Promise<void> {
    const { owner } = this;
    const { n, activatedAtMs } = generation;
    const packed = await this.#options.generations.read(owner, n);
    if (packed === undefined)
      throw new Fault("policy.no_generation", { owner, generation: `generation ${n}` });
    const bundle = readBundle(packed, { owner, keys: keysOf(this.#source) });
    this.#swap(await loadPolicy(bundle), generation);
    // its source has not been heard yet: a restart is no confirmation
    this.#confirm(activatedAtMs);
  }

  /** What the source has now. */
  async #candidateOf(): Promise<Candidate> {
    const { owner } = this;
    const source = this.#source;
    this.#lastRequestMs = this.#options.clock.nowMs();
    if (source.kind === "folder") {
      const built = await buildBundle({ owner, folder: source.folder });
      return { built, packed: packBundle(built) };
    }
    const fetched = await fetchBundle({ owner, ...source }, undefined);
    if (fetched.kind === "same") throw new Error("nothing was known");
    this.#lastDownloadMs = this.#options.clock.nowMs();
    this.#confirm();
    this.#tag = fetched.tag;
    return { packed: fetched.packed, keys: source.keys };
  }

  async #check(candidate: Candidate, override: Override | undefined): Promise<Checked> {
    const { store, limits = standardPolicyLimits } = this.#options;
    const checked = await checkBundle({
      owner: this.owner,
      candidate: "built" in candidate ? { built: candidate.built } : candidate,
      store,
      speaksFor: this.#speaksFor,
      limit: { last: limits.replayLast, maxFlips: limits.maxFlips },
      override,
    });
    if (this.#engine !== undefined && isSame(this.#engine.bundle, checked.bundle)) {
      await checked.engine.close();
      const problem = `revision ${checked.bundle.revision} is in force already`;
      throw new Fault("policy.no_candidate", { owner: this.owner, problem });
    }
    return checked;
  }

  /** Durable first, then told, then asked. */
  async #putInForce(
    {
      bundle,
      engine,
      steps,
      flips,
      overridden,
    }: Omit<Checked, "flips"> & { readonly flips: FlipReport | undefined },
    { packed }: { readonly packed: Uint8Array },
    about: Pick<Generation, "by" | "reason" | "rolledBackFrom">,
  ): Promise<ActivationReport> {
    const { generations, clock, log } = this.#options;
    const { owner, revision, policyDigest, dataDigest } = bundle;
    const generation = await generations.add(bundle, packed, { ...about, atMs: clock.nowMs() });
    await this.#tell("policy.activated", {
      owner,
      revision,
      policyDigest,
      dataDigest,
      generation: generation.n,
      by: about.by,
      ...(about.reason === undefined ? {} : { reason: about.reason }),
      overridden,
      flips: flips?.flips ?? 0,
      replayed: flips?.replayed ?? 0,
    });
    this.#swap(engine, generation);
    this.#staged = undefined;
    this.#problem = undefined;
    log.info({ owner, revision, generation: generation.n, by: about.by }, "policy in force");
    return { owner, generation, steps, flips, overridden };
  }

  #swap(engine: LoadedPolicy, generation: Generation): void {
    this.#engine = engine;
    this.#inForce = generation;
    this.slot.swap(engine);
    this.#confirm();
  }

  #confirm(heardAtMs = this.#options.clock.nowMs()): void {
    const source = this.#source;
    if (source.kind === "folder" || source.maxStaleMs === undefined) return;
    this.slot.confirmUntil(heardAtMs + source.maxStaleMs);
  }

  async #refused(error: unknown, by: string): Promise<void> {
    const { code, message } = toFaultData(error);
    this.#problem = toFaultData(error);
    await this.#tell("policy.refused", { owner: this.owner, by, code, message });
  }

  async #tell(kind: NewEvent["kind"], data: NewEvent["data"]): Promise<void> {
    const { store, clock } = this.#options;
    await store.transaction((journal) =>
      journal.events.append({ kind, atMs: clock.nowMs(), data }),
    );
  }

  /** Asks the source once; what is new is staged, or activated when its owner said so. */
  async #look(source: PolicySource & { readonly kind: "bundle" }): Promise<void> {
    const { owner } = this;
    const { generations, clock } = this.#options;
    this.#lastRequestMs = clock.nowMs();
    const fetched = await fetchBundle({ owner, ...source }, this.#tag);
    this.#confirm();
    if (fetched.kind === "same") return;
    this.#lastDownloadMs = clock.nowMs();
    this.#tag = fetched.tag;
    const candidate = { packed: fetched.packed, keys: source.keys };
    try {
      const bundle = readBundle(candidate.packed, { owner, keys: candidate.keys });
      if (this.#engine !== undefined && isSame(this.#engine.bundle, bundle)) return;
      const [newest] = await generations.list(owner);
      const wasLeft = newest?.rolledBackFrom !== undefined && isSame(newest.rolledBackFrom, bundle);
      if (source.activation === "manual" || wasLeft) {
        this.#staged = bundle.revision;
        this.#problem = undefined;
        return;
      }
      const checked = await this.#check(candidate, undefined);
      await this.#putInForce(checked, candidate, { by: "source" });
    } catch (error) {
      await this.#refused(error, "source");
      throw error;
    }
  }

  async #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const mine = this.#turn.then(work);
    this.#turn = mine.catch(() => undefined);
    return await mine;
  }
}

type Candidate =
  | { readonly built: WholeBundle; readonly packed: Uint8Array }
  | { readonly packed: Uint8Array; readonly keys: readonly TrustedKey[] };

function keysOf(source: PolicySource): readonly TrustedKey[] | "unsigned" {
  // built from a folder of this machine, kept in the shepherd's own state
  return source.kind === "folder" ? "unsigned" : source.keys;
}

function isSame(
  left: Pick<WholeBundle, "policyDigest" | "dataDigest">,
  right: Pick<WholeBundle, "policyDigest" | "dataDigest">,
): boolean {
  return left.policyDigest === right.policyDigest && left.dataDigest === right.dataDigest;
}
