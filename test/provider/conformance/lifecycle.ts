/**
 * One object of a provider through its life, as Terraform's core leads it: validate, plan, apply, plan again, read,
 * destroy, import; at each step core's own rules are checked. Knows the calls, not the provider.
 */
import {
  applyProblems,
  planProblems,
  proposedNew,
  type SchemaBlock,
  unknownsIn,
} from "./core-rules.ts";
import { diagnosticsOf, type Fields, type PluginHost, type WireDiagnostic } from "./plugin-host.ts";
import { fromValue, toValue } from "./values.ts";

/** The provider broke rules that Terraform enforces. */
export class RuleBroken extends Error {
  override readonly name = "RuleBroken";
}
/** The provider reported errors. */
export class Refused extends Error {
  override readonly name = "Refused";
  readonly diagnostics: readonly WireDiagnostic[];
  constructor(call: string, diagnostics: readonly WireDiagnostic[]) {
    super(
      `${call}: ${diagnostics.map(({ summary, detail }) => `${summary}: ${detail}`).join("\n")}`,
    );
    this.diagnostics = diagnostics;
  }
}

type Values = Readonly<Record<string, unknown>>;
export interface Plan {
  readonly planned: Values | null;
  readonly private: Uint8Array;
  /** First steps of the paths that need a replacement. */
  readonly replaces: readonly string[];
  readonly warnings: readonly WireDiagnostic[];
  readonly identity: unknown;
}

const capabilities = { deferral_allowed: false, write_only_attributes_allowed: true };

export class Lifecycle {
  state: Values | null = null;
  identity: unknown = null;
  private readonly host: PluginHost;
  private readonly type: string;
  private readonly block: SchemaBlock;
  private readonly withIdentity: boolean;
  private kept: Uint8Array = new Uint8Array(0);

  private constructor(
    host: PluginHost,
    type: string,
    schema: { readonly block: SchemaBlock; readonly withIdentity: boolean },
  ) {
    this.host = host;
    this.type = type;
    this.block = schema.block;
    this.withIdentity = schema.withIdentity;
  }

  static async of(host: PluginHost, type: string): Promise<Lifecycle> {
    const { resource_schemas: schemas } = await host.call("GetProviderSchema");
    const block = (schemas as Record<string, { block: SchemaBlock }>)[type]?.block;
    if (block === undefined) throw new TypeError(`the provider has no ${type}`);
    const { identity_schemas: identities } = await host.call("GetResourceIdentitySchemas");
    return new Lifecycle(host, type, { block, withIdentity: type in (identities as object) });
  }

  /** A configuration with everything null that is not given. */
  config(given: Values): Values {
    return {
      ...Object.fromEntries(this.block.attributes.map(({ name }) => [name, null])),
      ...given,
    };
  }

  /** Twice, as core does: in `validate` and in `plan`. @throws Refused */
  async validate(given: Values): Promise<readonly WireDiagnostic[]> {
    const request = {
      type_name: this.type,
      config: toValue(this.config(given)),
      client_capabilities: capabilities,
    };
    await this.call("ValidateResourceConfig", request);
    return diagnosticsOf(await this.call("ValidateResourceConfig", request));
  }

  /** Plans towards this configuration; null plans the removal. @throws Refused, RuleBroken */
  async plan(given: Values | null): Promise<Plan> {
    const config = given && this.config(given);
    const proposed = config && proposedNew(this.block.attributes, this.state, config);
    const answer = await this.call("PlanResourceChange", {
      type_name: this.type,
      prior_state: toValue(this.state),
      proposed_new_state: toValue(proposed),
      config: toValue(config),
      prior_private: this.kept,
      client_capabilities: capabilities,
      ...this.identityField("prior_identity"),
    });
    if (answer["legacy_type_system"] === true) throw new RuleBroken("legacy_type_system is set");
    const planned = fromValue(answer["planned_state"]) as Values | null;
    if (config === null) {
      if (planned !== null) throw new RuleBroken("a planned removal that leaves something");
    } else {
      if (planned === null) throw new RuleBroken("a plan to nothing");
      this.keep(planProblems(this.block.attributes, { prior: this.state, config, planned }));
    }
    return {
      planned,
      private: answer["planned_private"] as Uint8Array,
      replaces: (answer["requires_replace"] as { steps: { attribute_name: string }[] }[]).map(
        ({ steps }) => steps[0]?.attribute_name ?? "",
      ),
      warnings: diagnosticsOf(answer),
      identity: identityIn(answer["planned_identity"]),
    };
  }

  /** Plans and applies; then a second plan must be empty. @throws Refused, RuleBroken */
  async apply(given: Values): Promise<Plan> {
    await this.validate(given);
    let plan = await this.plan(given);
    if (this.state !== null && plan.replaces.length > 0) {
      await this.destroy();
      plan = await this.plan(given); // core plans a replacement's new object from nothing
    }
    await this.carryOut(plan, this.config(given));
    const again = await this.plan(given);
    this.keep(applyProblems(this.state, again.planned, "second plan"));
    await this.refresh();
    return plan;
  }

  async destroy(): Promise<void> {
    await this.carryOut(await this.plan(null), null);
  }

  /** Reads, through the upgrade of the stored state that core does first. */
  async refresh(): Promise<void> {
    if (this.state === null) return;
    const stored = Buffer.from(JSON.stringify(this.state, (_, value) => plain(value)));
    const upgraded = await this.call("UpgradeResourceState", {
      type_name: this.type,
      version: this.version,
      raw_state: { json: stored },
    });
    this.keep(applyProblems(this.state, fromValue(upgraded["upgraded_state"]), "upgraded"));
    const answer = await this.call("ReadResource", {
      type_name: this.type,
      current_state: upgraded["upgraded_state"],
      private: this.kept,
      client_capabilities: capabilities,
      ...this.identityField("current_identity"),
    });
    this.take(fromValue(answer["new_state"]), answer["private"], answer["new_identity"]);
  }

  /** By what a user types, or by identity. */
  async import(by: string | Values): Promise<void> {
    const answer = await this.call("ImportResourceState", {
      type_name: this.type,
      client_capabilities: capabilities,
      ...(typeof by === "string" ? { id: by } : { identity: { identity_data: toValue(by) } }),
    });
    const [imported, ...more] = answer["imported_resources"] as Fields[];
    if (imported === undefined || more.length > 0)
      throw new RuleBroken(`${more.length + (imported ? 1 : 0)} objects imported instead of one`);
    this.take(fromValue(imported["state"]), imported["private"], imported["identity"]);
    await this.refresh();
  }

  /** Schema version under which states are stored. */
  private get version(): number {
    return (this.block as { version?: number }).version ?? 0;
  }

  private async carryOut(plan: Plan, config: Values | null): Promise<void> {
    const answer = await this.host.call("ApplyResourceChange", {
      type_name: this.type,
      prior_state: toValue(this.state),
      planned_state: toValue(plan.planned),
      config: toValue(config),
      planned_private: plan.private,
      ...this.identityField("planned_identity"),
    });
    const applied = fromValue(answer["new_state"]);
    this.take(applied, answer["private"], answer["new_identity"]); // kept also when it failed half way
    this.refuse("ApplyResourceChange", answer);
    this.keep([...applyProblems(plan.planned, applied), ...unknownsIn(applied, "state")]);
  }

  private take(state: unknown, kept: unknown, identity: unknown): void {
    const before = this.identity;
    this.state = state as Values | null;
    this.kept = kept as Uint8Array;
    this.identity = state === null ? null : identityIn(identity);
    if (state === null || !this.withIdentity) return;
    if (this.identity === null) throw new RuleBroken("an object without its identity");
    if (before !== null) this.keep(applyProblems(before, this.identity, "identity"));
  }

  private identityField(name: string): Fields {
    return this.identity === null ? {} : { [name]: { identity_data: toValue(this.identity) } };
  }

  private async call(name: string, request: Fields): Promise<Fields> {
    const answer = await this.host.call(name, request);
    this.refuse(name, answer);
    return answer;
  }

  private refuse(name: string, answer: Fields): void {
    const errors = diagnosticsOf(answer).filter(({ severity }) => severity === 1);
    if (errors.length > 0) throw new Refused(name, errors);
  }

  private keep(problems: readonly string[]): void {
    if (problems.length > 0) throw new RuleBroken(`${this.type}:\n${problems.join("\n")}`);
  }
}

function identityIn(identity: unknown): unknown {
  const { identity_data = null } = (identity ?? {}) as { identity_data?: unknown };
  return fromValue(identity_data);
}

function plain(value: unknown): unknown {
  return typeof value === "bigint" ? Number(value) : value;
}
