/** An ephemeral resource: a value that exists while Terraform runs and is written to no state and no plan. */
import type { Attributes, PlannedOf, Rule, StateOf } from "#schema/attribute";
import type { Report } from "#schema/report";
import type { ObjectAttributes, PrivateData, Work } from "#schema/resource";

export interface Opened<A> {
  /** Attributes that the configuration set must stand in it as they were set. */
  readonly result: StateOf<A>;
  /** When `renew` is to be called, in ms since the epoch; absent: never. */
  readonly renewAtMs?: number;
  /** Handed to renew and close. */
  readonly private?: PrivateData;
}

export interface EphemeralType<A = ObjectAttributes> {
  readonly name: string;
  readonly description: string;
  readonly attributes: Attributes;
  readonly rules?: readonly Rule[];
  readonly validate?: (config: PlannedOf<A>, report: Report) => void;
  /** `config` is wholly known. Null after an error was reported. */
  readonly open: (work: Work, config: StateOf<A>) => Promise<Opened<A> | null>;
  /** Undefined: not to be renewed again. */
  readonly renew?: (
    work: Work,
    kept: PrivateData,
  ) => Promise<{ readonly renewAtMs: number; readonly private?: PrivateData } | undefined>;
  readonly close?: (work: Work, kept: PrivateData) => Promise<void>;
  readonly deprecated?: string;
}

export function defineEphemeral<const A extends Attributes>(
  declared: { attributes: A } & Omit<EphemeralType<A>, "attributes">,
): EphemeralType {
  // its own attributes type is for its author; the catalogue keeps them all under the uniform one
  return declared as unknown as EphemeralType;
}
