/**
 * The policies of all owners while the shepherd runs: loads what was last good, looks for what was published, activates,
 * rolls back, and keeps the engines that the gate asks. A bundle that fails any check changes nothing.
 */
import type { NewEvent } from "#model/event";
import { Fault, type FaultData, toFaultData } from "#model/fault";
import type { Ms } from "#model/units";
import {
  type Checked,
  checkBundle,
  type Override,
  speaksFor,
  standardPolicyLimits,
} from "#opa/activation";
import { packBundle, readBundle, type WholeBundle } from "#opa/archive";
import { buildBundle } from "#opa/bundle";
import { fetchBundle } from "#opa/bundle-source";
import { DecidedEngines } from "#opa/decided-engines";
import { type LoadedPolicy, loadPolicy } from "#opa/engine";
import type { Generation, Generations } from "#opa/generations";
import type {
  ActivationReport,
  Policies,
  PoliciesOptions,
  PolicySource,
  PolicyState,
} from "#opa/policies";
import type { TrustedKey } from "#opa/signatures";
import { PolicySlot } from "#opa/slot";
import { createTrials, type Trials } from "#opa/trials";
import type { FlipReport } from "#policy/flips";
import { type ExactnessReport, type ReplayRange, verifyReplay } from "#policy/replay";
import type { PolicyEngine } from "#ports/policy-engine";

interface Place {
  readonly owner: string;
  readonly source: PolicySource;
  readonly slot: PolicySlot;
  engine: LoadedPolicy | undefined;
  tag: string | undefined;
  staged: string | undefined;
  problem: FaultData | undefined;
  lastRequestMs: Ms | undefined;
  lastDownloadMs: Ms | undefined;
  /** One change of an owner's policy at a time. */
  turn: Promise<unknown>;
}

export class LivePolicies implements Policies {
  readonly trials: Trials;
  readonly #options: PoliciesOptions;
  readonly #places = new Map<string, Place>();
  readonly #stopped = new AbortController();
  #polling: Promise<unknown> = Promise.resolve();

  constructor(options: PoliciesOptions) {
    this.#options = options;
    const nowMs = () => options.clock.nowMs();
    for (const [owner, source] of options.sources) {
      this.#places.set(owner, {
        owner,
        source,
        slot: new PolicySlot(owner, nowMs),
        engine: undefined,
        tag: undefined,
        staged: undefined,
        problem: undefined,
        lastRequestMs: undefined,
        lastDownloadMs: undefined,
        turn: Promise.resolve(),
      });
    }
    this.trials = createTrials({
      store: options.store,
      ids: options.ids,
      nowMs,
      speaksFor: (owner) => this.#speaksFor(owner),
    });
  }

  get engines(): ReadonlyMap<string, PolicyEngine> {
    return new Map([...this.#places].map(([owner, { slot }]) => [owner, slot]));
  }

  get sources(): Generations["sources"] {
    return this.#options.generations.sources;
  }

  /** One after the other: equal sources compile once and then come from the cache. */
  async open(): Promise<void> {
    for (const place of this.#places.values()) {
      try {
        await (place.source.kind === "folder" ? this.#openFolder(place) : this.#openBundle(place));
      } catch (error) {
        await this.#openLastGood(place, error);
      }
    }
  }

  async states(): Promise<readonly PolicyState[]> {
    return await Promise.all([...this.#places.values()].map((place) => this.#stateOf(place)));
  }

  async state(owner: string): Promise<PolicyState> {
    return await this.#stateOf(this.#place(owner));
  }

  async activate(
    owner: string,
    { by, override }: { readonly by: string; readonly override?: Override | undefined },
  ): Promise<ActivationReport> {
    const place = this.#place(owner);
    return await inTurn(place, async () => {
      try {
        const candidate = await this.#candidateOf(place);
        const checked = await this.#check(place, candidate, override);
        return await this.#putInForce(place, checked, candidate, {
          by,
          reason: checked.overridden ? override?.reason : undefined,
        });
      } catch (error) {
        await this.#refused(place, error, by);
        throw error;
      }
    });
  }

  async rollback(
    owner: string,
    who: { readonly by: string; readonly reason: string; readonly generation?: number | undefined },
  ): Promise<ActivationReport> {
    const place = this.#place(owner);
    return await inTurn(place, async () => {
      const [newest, ...older] = await this.#options.generations.list(owner);
      const wanted = older.find(({ n }) => who.generation === undefined || n === who.generation);
      const packed = wanted && (await this.#options.generations.read(owner, wanted.n));
      if (newest === undefined || wanted === undefined || packed === undefined) {
        const generation = `generation ${who.generation ?? "before this one"}`;
        throw new Fault("policy.no_generation", { owner, generation });
      }
      const bundle = readBundle(packed, { owner, keys: keysOf(place.source) });
      const engine = await loadPolicy(bundle);
      const { policyDigest, dataDigest } = newest;
      return await this.#putInForce(
        place,
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

  async shadow(
    owner: string,
    { packed, by, untilMs }: { packed: Uint8Array; by: string; untilMs: Ms },
  ): Promise<PolicyState> {
    const place = this.#place(owner);
    const bundle = readBundle(packed, { owner, keys: "unsigned" });
    const engine = await loadPolicy(bundle);
    const sinceMs = this.#options.clock.nowMs();
    place.slot.setShadow({ revision: bundle.revision, engine, by, sinceMs, untilMs });
    await this.#tell("policy.tried", { owner, revision: bundle.revision, by, untilMs });
    return await this.#stateOf(place);
  }

  async endShadow(owner: string): Promise<PolicyState> {
    const place = this.#place(owner);
    place.slot.endShadow();
    return await this.#stateOf(place);
  }

  async verifyReplay(range: ReplayRange): Promise<ExactnessReport> {
    const { generations, store } = this.#options;
    const engines = new DecidedEngines(generations);
    try {
      return await verifyReplay({
        store,
        range,
        ask: (consent, question) => engines.ask(consent, question),
      });
    } finally {
      await engines.close();
    }
  }

  start(): void {
    const loops = [...this.#places.values()].map((place) => this.#pollLoop(place));
    this.#polling = Promise.all(loops);
  }

  async stop(): Promise<void> {
    this.#stopped.abort();
    await this.trials.stop();
    await this.#polling;
    for (const { slot, turn } of this.#places.values()) {
      await turn;
      await slot.close();
    }
  }

  #place(owner: string): Place {
    const place = this.#places.get(owner);
    if (place === undefined) throw new Fault("object.unknown", { kind: "policy", id: owner });
    return place;
  }

  #speaksFor(owner: string): (asked: string) => boolean {
    return speaksFor(owner, this.#places.keys());
  }

  async #stateOf(place: Place): Promise<PolicyState> {
    const generations = await this.#options.generations.list(place.owner);
    return {
      owner: place.owner,
      source: place.source.kind === "folder" ? place.source.folder : place.source.source,
      activation: place.source.kind === "folder" ? "folder" : place.source.activation,
      active: place.engine === undefined ? undefined : generations[0],
      self: place.engine?.self,
      data: place.engine?.bundle.data,
      generations,
      isStale: place.slot.isStale,
      staged: place.staged,
      problem: place.problem,
      lastRequestMs: place.lastRequestMs,
      lastDownloadMs: place.lastDownloadMs,
      shadow: place.slot.shadow,
    };
  }

  /** A folder of the machine's own is as trusted as drover.yaml: it is loaded as it stands, unless it was rolled back from. */
  async #openFolder(place: Place): Promise<void> {
    const { owner } = place;
    const candidate = await this.#candidateOf(place);
    if (!("built" in candidate)) throw new Error("a folder is built");
    const { built } = candidate;
    const [newest] = await this.#options.generations.list(owner);
    if (newest?.rolledBackFrom !== undefined && isSame(newest.rolledBackFrom, built)) {
      this.#options.log.warn({ owner }, "the folder holds what was rolled back; it stays out");
      return await this.#loadGeneration(place, newest);
    }
    const engine = await loadPolicy(built);
    if (newest !== undefined && isSame(newest, built)) {
      await this.#options.generations.keep(built);
      return this.#swap(place, engine);
    }
    const plain = { bundle: built, engine, steps: [], flips: undefined, overridden: false };
    await this.#putInForce(place, plain, candidate, { by: "start" });
  }

  async #openBundle(place: Place): Promise<void> {
    const [newest] = await this.#options.generations.list(place.owner);
    if (newest !== undefined) return await this.#loadGeneration(place, newest);
    // nothing was ever in force: the first genuine bundle is better than denying all
    const candidate = await this.#candidateOf(place);
    const checked = await this.#check(place, candidate, undefined);
    await this.#putInForce(place, checked, candidate, { by: "start" });
  }

  async #openLastGood(place: Place, error: unknown): Promise<void> {
    const { owner, slot } = place;
    const { log, generations } = this.#options;
    place.problem = toFaultData(error);
    try {
      for (const generation of await generations.list(owner)) {
        await this.#loadGeneration(place, generation);
        log.error(
          { err: error, owner, revision: generation.revision },
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

  async #loadGeneration(place: Place, { n, activatedAtMs }: Generation): Promise<void> {
    const { owner, source } = place;
    const packed = await this.#options.generations.read(owner, n);
    if (packed === undefined)
      throw new Fault("policy.no_generation", { owner, generation: `generation ${n}` });
    const bundle = readBundle(packed, { owner, keys: keysOf(source) });
    this.#swap(place, await loadPolicy(bundle));
    // its source has not been heard yet: a restart is no confirmation
    this.#confirm(place, activatedAtMs);
  }

  /** What the source has now. */
  async #candidateOf(place: Place): Promise<Candidate> {
    const { owner, source } = place;
    place.lastRequestMs = this.#options.clock.nowMs();
    if (source.kind === "folder") {
      const built = await buildBundle({ owner, folder: source.folder });
      return { built, packed: packBundle(built) };
    }
    const fetched = await fetchBundle({ owner, ...source }, undefined);
    if (fetched.kind === "same") throw new Error("nothing was known");
    place.lastDownloadMs = this.#options.clock.nowMs();
    this.#confirm(place);
    place.tag = fetched.tag;
    return { packed: fetched.packed, keys: source.keys };
  }

  async #check(
    place: Place,
    candidate: Candidate,
    override: Override | undefined,
  ): Promise<Checked> {
    const { store, limits = standardPolicyLimits } = this.#options;
    const checked = await checkBundle({
      owner: place.owner,
      candidate: "built" in candidate ? { built: candidate.built } : candidate,
      store,
      speaksFor: this.#speaksFor(place.owner),
      limit: { last: limits.replayLast, maxFlips: limits.maxFlips },
      override,
    });
    if (place.engine !== undefined && isSame(place.engine.bundle, checked.bundle)) {
      await checked.engine.close();
      const problem = `revision ${checked.bundle.revision} is in force already`;
      throw new Fault("policy.no_candidate", { owner: place.owner, problem });
    }
    return checked;
  }

  /** Durable first, then told, then asked. */
  async #putInForce(
    place: Place,
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
    this.#swap(place, engine);
    place.staged = undefined;
    place.problem = undefined;
    log.info({ owner, revision, generation: generation.n, by: about.by }, "policy in force");
    return { owner, generation, steps, flips, overridden };
  }

  #swap(place: Place, engine: LoadedPolicy): void {
    place.engine = engine;
    place.slot.swap(engine);
    this.#confirm(place);
  }

  #confirm({ source, slot }: Place, heardAtMs = this.#options.clock.nowMs()): void {
    if (source.kind === "folder" || source.maxStaleMs === undefined) return;
    slot.confirmUntil(heardAtMs + source.maxStaleMs);
  }

  async #refused(place: Place, error: unknown, by: string): Promise<void> {
    const { code, message } = toFaultData(error);
    place.problem = toFaultData(error);
    await this.#tell("policy.refused", { owner: place.owner, by, code, message });
  }

  async #tell(kind: NewEvent["kind"], data: NewEvent["data"]): Promise<void> {
    const { store, clock } = this.#options;
    await store.transaction((journal) =>
      journal.events.append({ kind, atMs: clock.nowMs(), data }),
    );
  }

  async #pollLoop(place: Place): Promise<void> {
    const { source } = place;
    if (source.kind === "folder") return;
    const { signal } = this.#stopped;
    while (!signal.aborted) {
      await inTurn(place, () => this.#look(place, source)).catch((error: unknown) => {
        place.problem = toFaultData(error);
        this.#options.log.warn({ err: error, owner: place.owner }, "policy source");
      });
      await this.#options.clock.sleep(source.pollMs, signal).catch(() => undefined);
    }
  }

  /** Asks the source once; what is new is staged, or activated when its owner said so. */
  async #look(place: Place, source: PolicySource & { readonly kind: "bundle" }): Promise<void> {
    const { owner } = place;
    const { generations, clock } = this.#options;
    place.lastRequestMs = clock.nowMs();
    const fetched = await fetchBundle({ owner, ...source }, place.tag);
    this.#confirm(place);
    if (fetched.kind === "same") return;
    place.lastDownloadMs = clock.nowMs();
    place.tag = fetched.tag;
    const candidate = { packed: fetched.packed, keys: source.keys };
    try {
      const bundle = readBundle(candidate.packed, { owner, keys: candidate.keys });
      if (place.engine !== undefined && isSame(place.engine.bundle, bundle)) return;
      const [newest] = await generations.list(owner);
      const wasLeft = newest?.rolledBackFrom !== undefined && isSame(newest.rolledBackFrom, bundle);
      if (source.activation === "manual" || wasLeft) {
        place.staged = bundle.revision;
        place.problem = undefined;
        return;
      }
      const checked = await this.#check(place, candidate, undefined);
      await this.#putInForce(place, checked, candidate, { by: "source" });
    } catch (error) {
      await this.#refused(place, error, "source");
      throw error;
    }
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

async function inTurn<T>(place: Place, work: () => Promise<T>): Promise<T> {
  const mine = place.turn.then(work);
  place.turn = mine.catch(() => undefined);
  return await mine;
}
