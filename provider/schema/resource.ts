/**
 * What a resource and a data source are made of: attributes and what happens to them at each of Terraform's verbs.
 * `defineResource` keeps the derived types inside each file and hands the provider a uniform shape.
 */
import type { ShepherdClient } from "@drover/shepherd/api/client";
import type { Attributes, PlannedOf, Rule, StateOf } from "#schema/attribute";
import type { Identity } from "#schema/identity";
import type { PathStep, Report } from "#schema/report";
import type { JsonObject } from "#schema/upgrade";
import type { ObjectValue } from "#schema/value";

/** Kept beside the state by Terraform, invisible to users; small JSON. */
export type PrivateData = Readonly<Record<string, unknown>>;

/** What a verb may use of the world. */
export interface Work {
  readonly client: ShepherdClient;
  /** Why the client looks where it looks: `DROVER_ENDPOINT is set to it`. */
  readonly endpointOrigin: string;
  readonly report: Report;
  /**
   * Aborted when the user interrupts Terraform, and, with a `timeouts` attribute, when the verb's time is over: then its
   * reason is a `TimeoutReached` of schema/timeouts.
   */
  readonly signal: AbortSignal;
  readonly log: (message: string, fields?: Readonly<Record<string, unknown>>) => void;
  /** One for each provider process, so one for each plan and one for each apply. */
  readonly runId: string;
}

/** State after a verb; null = there is no such object. With an error in the report: what was reached. */
export interface Reached<A> {
  readonly state: StateOf<A> | null;
  readonly private?: PrivateData;
}

/** An update or create while it is planned; `planned` is already filled with prior values, defaults and unknowns. */
export interface PlannedChange<A> {
  /** Null at create. */
  readonly prior: StateOf<A> | null;
  readonly config: PlannedOf<A>;
  readonly planned: PlannedOf<A>;
  readonly private: PrivateData;
}

/** A change as it will be shown to the user, before it is: see `foresee`. */
export interface ForeseenChange<A> {
  /** Null at create. */
  readonly prior: StateOf<A> | null;
  /** Both null at removal. */
  readonly planned: PlannedOf<A> | null;
  readonly config: PlannedOf<A> | null;
  readonly private: PrivateData;
  /** Attributes whose change needs a replacement; Terraform asks once more, with `prior` null, what it would create. */
  readonly replacing: readonly string[];
}

/** What a look ahead found out. */
export interface Foreseen<A> {
  /** Replaces the private data that apply gets. */
  readonly private?: PrivateData;
  /** Computed attributes that are known now. Not used at removal. */
  readonly planned?: Partial<PlannedOf<A>>;
}

export interface ResourceBehaviour<A> {
  /** Rules between attributes. Anything in `config` may still be unknown. */
  readonly validate?: (config: PlannedOf<A>, report: Report) => void;
  /** Adjusts the plan; returns the attributes that it plans otherwise. Pure: `private` is what read kept. */
  readonly plan?: (change: PlannedChange<A>, report: Report) => Partial<PlannedOf<A>>;
  /**
   * Looks ahead with the shepherd once a change is planned, a removal too; not for a plan without change, and not while
   * the provider's own configuration is unknown. Reports warnings and errors, and may tell what it now knows.
   */
  readonly foresee?: (work: Work, change: ForeseenChange<A>) => Promise<Foreseen<A> | undefined>;
  readonly read: (work: Work, state: StateOf<A>, kept: PrivateData) => Promise<Reached<A>>;
  /** `config` holds write-only values, which `planned` never does. `private` is what `foresee` returned. */
  readonly create: (
    work: Work,
    change: { planned: PlannedOf<A>; config: PlannedOf<A>; private: PrivateData },
  ) => Promise<Reached<A>>;
  readonly update: (
    work: Work,
    change: {
      prior: StateOf<A>;
      planned: PlannedOf<A>;
      config: PlannedOf<A>;
      private: PrivateData;
    },
  ) => Promise<Reached<A>>;
  /** Resolves when the object is gone, also when it was gone before. Reports an error otherwise. */
  readonly remove: (work: Work, state: StateOf<A>, kept: PrivateData) => Promise<void>;
  /** State of the object that a user named, or null. `id` is what was typed. */
  readonly import: (work: Work, id: string) => Promise<StateOf<A> | null>;
}

/** Where a state of another type, or of this type at another provider, comes from: see `moved` blocks. Pure. */
export interface Move<A> {
  /** End of the source's provider address: `dmacvicar/libvirt`. */
  readonly provider: string;
  /** `libvirt_domain` */
  readonly type: string;
  /** What can be told from the source's state alone; read fills in the rest. Null after an error was reported. */
  readonly state: (
    source: { readonly state: JsonObject; readonly schemaVersion: number },
    report: Report,
  ) => Partial<StateOf<A>> | null;
}

export interface ResourceType<A = ObjectAttributes> extends ResourceBehaviour<A> {
  /** Full type name: `drover_machine`. */
  readonly name: string;
  /** Schema version; raised with an upgrade only when stored states change shape. */
  readonly version: number;
  readonly description: string;
  /** What `terraform import` takes, for documentation and errors. */
  readonly importId: string;
  readonly attributes: Attributes;
  /** Ready-made rules of schema/rules; `validate` is for what they cannot say. */
  readonly rules?: readonly Rule[];
  /** `upgrades[n]` makes a state of schema version n into one of n + 1; chained. Adding and dropping attributes needs none. */
  readonly upgrades?: Readonly<Record<number, (state: JsonObject) => JsonObject>>;
  /** What the object is known by everywhere: never a place, and it never changes. */
  readonly identity?: Identity<A>;
  readonly moves?: readonly Move<A>[];
  /** Corrects a generated configuration, for example of attributes that exclude each other. */
  readonly configFrom?: (config: ObjectValue, state: StateOf<A>) => ObjectValue;
  /** What to use instead, as a sentence. */
  readonly deprecated?: string;
}

export interface DataSourceType<A = ObjectAttributes> {
  readonly name: string;
  readonly description: string;
  readonly attributes: Attributes;
  readonly rules?: readonly Rule[];
  readonly validate?: (config: PlannedOf<A>, report: Report) => void;
  /** `config` is wholly known. Null after an error was reported. */
  readonly read: (work: Work, config: StateOf<A>) => Promise<StateOf<A> | null>;
  readonly deprecated?: string;
}

/** Stands for "some attributes" where all resources are treated alike; `StateOf` of it is any object value. */
export type ObjectAttributes = Attributes;

/** Hides the derived types behind the uniform ones: the provider checks values against `attributes` at run time. */
export function defineResource<const A extends Attributes>(
  declared: { attributes: A } & Omit<ResourceType<A>, "attributes">,
): ResourceType {
  // its own attributes type is for its author; the catalogue keeps them all under the uniform one
  return declared as unknown as ResourceType;
}

export function defineDataSource<const A extends Attributes>(
  declared: { attributes: A } & Omit<DataSourceType<A>, "attributes">,
): DataSourceType {
  // its own attributes type is for its author; the catalogue keeps them all under the uniform one
  return declared as unknown as DataSourceType;
}

/** A uniform state or plan as a resource's own type; shapes were checked when they were decoded. */
export function asStateOf(value: ObjectValue): StateOf<Attributes> {
  return value as unknown as StateOf<Attributes>;
}

export type RequiredReplacement = readonly PathStep[];
