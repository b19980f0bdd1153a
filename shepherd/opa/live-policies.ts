/**
 * The policies of all owners while the shepherd runs: each owner's own (owner-policy.ts), trials of candidates, and the
 * exact repetition of what was decided. Knows which owner speaks for whom.
 */
import { Fault } from "#model/fault";
import { speaksFor } from "#opa/activation";
import { DecidedEngines } from "#opa/decided-engines";
import type { Generations } from "#opa/generations";
import { OwnerPolicy } from "#opa/owner-policy";
import type {
  ActivationReport,
  Policies,
  PoliciesOptions,
  PolicySource,
  PolicyState,
} from "#opa/policies";
import { createTrials, type Trials } from "#opa/trials";
import { type ExactnessReport, type ReplayRange, verifyReplay } from "#policy/replay";
import type { PolicyEngine } from "#ports/policy-engine";

export class LivePolicies implements Policies {
  readonly trials: Trials;
  readonly #options: PoliciesOptions;
  readonly #owners = new Map<string, OwnerPolicy>();
  readonly #engines = new Map<string, PolicyEngine>();
  readonly #stopped = new AbortController();
  #watching: Promise<unknown> = Promise.resolve();

  constructor(options: PoliciesOptions) {
    this.#options = options;
    for (const [owner, source] of options.sources) this.#enter(this.#policyOf(owner, source));
    this.trials = createTrials({
      store: options.store,
      ids: options.ids,
      nowMs: () => options.clock.nowMs(),
      speaksFor: (owner) => this.#speaksFor(owner),
    });
  }

  get engines(): ReadonlyMap<string, PolicyEngine> {
    return this.#engines;
  }

  get sources(): Generations["sources"] {
    return this.#options.generations.sources;
  }

  /** One after the other: equal sources compile once and then come from the cache. */
  async open(): Promise<void> {
    for (const policy of this.#owners.values()) await policy.open();
  }

  async add(owner: string, folder: string): Promise<void> {
    if (this.#owners.has(owner))
      throw new Fault("conflict.exists", { kind: "policy", key: owner, existingId: owner });
    const policy = this.#policyOf(owner, { kind: "folder", folder });
    try {
      await policy.load();
    } catch (error) {
      await policy.close();
      throw error;
    }
    this.#enter(policy);
  }

  async remove(owner: string): Promise<void> {
    const policy = this.#owners.get(owner);
    this.#owners.delete(owner);
    this.#engines.delete(owner);
    await policy?.close();
  }

  async states(): Promise<readonly PolicyState[]> {
    return await Promise.all([...this.#owners.values()].map((policy) => policy.state()));
  }

  async state(owner: string): Promise<PolicyState> {
    return await this.#of(owner).state();
  }

  async activate(
    owner: string,
    who: Parameters<Policies["activate"]>[1],
  ): Promise<ActivationReport> {
    return await this.#of(owner).activate(who);
  }

  async rollback(
    owner: string,
    who: Parameters<Policies["rollback"]>[1],
  ): Promise<ActivationReport> {
    return await this.#of(owner).rollback(who);
  }

  async shadow(owner: string, order: Parameters<Policies["shadow"]>[1]): Promise<PolicyState> {
    return await this.#of(owner).shadow(order);
  }

  async endShadow(owner: string): Promise<PolicyState> {
    return await this.#of(owner).endShadow();
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
    const { signal } = this.#stopped;
    this.#watching = Promise.all([...this.#owners.values()].map((policy) => policy.watch(signal)));
  }

  async stop(): Promise<void> {
    this.#stopped.abort();
    await this.trials.stop();
    await this.#watching;
    for (const policy of this.#owners.values()) await policy.close();
  }

  #policyOf(owner: string, source: PolicySource): OwnerPolicy {
    const speaks = (asked: string): boolean => this.#speaksFor(owner)(asked);
    return new OwnerPolicy(this.#options, { owner, source, speaksFor: speaks });
  }

  #enter(policy: OwnerPolicy): void {
    this.#owners.set(policy.owner, policy);
    this.#engines.set(policy.owner, policy.slot);
  }

  /** By the owners that there are at this moment. */
  #speaksFor(owner: string): (asked: string) => boolean {
    return speaksFor(owner, this.#owners.keys());
  }

  #of(owner: string): OwnerPolicy {
    const policy = this.#owners.get(owner);
    if (policy === undefined) throw new Fault("object.unknown", { kind: "policy", id: owner });
    return policy;
  }
}
