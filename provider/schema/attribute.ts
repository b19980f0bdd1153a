/**
 * Declares an attribute once: type, flags, words, validators, plan behaviour. Everything else is derived from it:
 * the protocol's schema, validation, plans, documentation, and the TypeScript type of state and plan.
 */
import type { Report } from "#schema/report";
import type { ObjectValue, Unknown, Value } from "#schema/value";

export type Primitive = "string" | "number" | "bool";
/** Terraform's type constraints, in the shape of their JSON. */
export type ValueType =
  | Primitive
  | "dynamic"
  | readonly ["list" | "set" | "map", ValueType]
  | readonly ["object", Readonly<Record<string, ValueType>>];

/** An object (or a list of objects) whose attributes carry their own flags and words. */
export interface Nested {
  readonly nesting: "single" | "list" | "set" | "map";
  readonly attributes: Attributes;
  /** Rules between the attributes of one such object. */
  readonly rules?: readonly Rule[];
}

/** Looks at the attributes of one object together; each may be unknown or null. Reports at `report`'s path. */
export type Rule = (values: ObjectValue, report: Report) => void;

/** Looks at one known, non-null value; reports what is wrong with it at `report`'s path. */
export type Validator = (value: Value, report: Report) => void;

export interface Attribute {
  readonly type: ValueType | Nested;
  /** First line is the summary, in documentation and in generated bindings. */
  readonly description: string;
  readonly required?: true;
  readonly optional?: true;
  readonly computed?: true;
  readonly sensitive?: true;
  /** Given at apply, kept nowhere: null in every plan and state. Needs Terraform 1.11 or OpenTofu 1.11. */
  readonly writeOnly?: true;
  /** What to use instead, as a sentence; Terraform warns with it. */
  readonly deprecated?: string;
  /** Planned when the configuration is silent; needs optional and computed. */
  readonly default?: Value;
  /** A change of it cannot be made in place: never, or where the function says so (both values are known). */
  readonly replaces?:
    | true
    | ((change: { readonly prior: Value; readonly planned: Value }) => boolean);
  readonly validators?: readonly Validator[];
  /** Whether two spellings mean the same value: then the one that stands in the state stays, and nothing is planned. */
  readonly same?: (left: Value, right: Value) => boolean;
  /** Computed: has a value once it is applied, so that a plan already knows that it will not be null. */
  readonly neverNull?: true;
  /** Computed: known only after apply once one of these attributes beside it changes. */
  readonly follows?: readonly string[];
}
export type Attributes = Readonly<Record<string, Attribute>>;

/** Declares attributes with their literal types kept, so that `StateOf` can be derived. */
export function attributes<const A extends Attributes>(declared: A): A {
  return declared;
}

/** The type of one attribute's value when known and not null. */
export type KnownOf<T> = T extends "string"
  ? string
  : T extends "number"
    ? number
    : T extends "bool"
      ? boolean
      : T extends readonly ["list" | "set", infer Item]
        ? readonly KnownOf<Item>[]
        : T extends { nesting: "single"; attributes: infer A }
          ? StateOf<A>
          : T extends { nesting: "list" | "set"; attributes: infer A }
            ? readonly StateOf<A>[]
            : T extends readonly ["map", infer Item]
              ? Readonly<Record<string, KnownOf<Item>>>
              : T extends { nesting: "map"; attributes: infer A }
                ? Readonly<Record<string, StateOf<A>>>
                : Value;

/** A resource's state: everything known; null where an attribute that is not required is unset. */
export type StateOf<A> = {
  readonly [K in keyof A]: A[K] extends { type: infer T; required: true }
    ? KnownOf<T>
    : A[K] extends { type: infer T }
      ? KnownOf<T> | null
      : never;
};

type PartlyKnownOf<T> = T extends { nesting: "single"; attributes: infer A }
  ? PlannedOf<A>
  : T extends { nesting: "list" | "set"; attributes: infer A }
    ? readonly (PlannedOf<A> | Unknown)[]
    : T extends readonly ["list" | "set", infer Item]
      ? readonly (PartlyKnownOf<Item> | Unknown)[]
      : KnownOf<T>;

/** A configuration or a plan: any part may be unknown or null. */
export type PlannedOf<A> = {
  readonly [K in keyof A]: A[K] extends { type: infer T }
    ? PartlyKnownOf<T> | Unknown | null
    : never;
};

export function isNested(type: Attribute["type"]): type is Nested {
  return typeof type === "object" && "nesting" in type;
}

/** The plain type constraint of an attribute; nested attributes become objects. */
export function typeOf(attribute: Attribute): ValueType {
  const { type } = attribute;
  if (!isNested(type)) return type;
  const object = objectType(type.attributes);
  return type.nesting === "single" ? object : [type.nesting, object];
}

/** Declarations never change, so each type is made once: it is needed some ten times a resource and plan. */
const objectTypes = new WeakMap<Attributes, ValueType>();

export function objectType(declared: Attributes): ValueType {
  const made = objectTypes.get(declared);
  if (made !== undefined) return made;
  const types = Object.entries(declared).map(([name, one]) => [name, typeOf(one)] as const);
  const type: ValueType = ["object", Object.fromEntries(types)];
  objectTypes.set(declared, type);
  return type;
}
