/**
 * Resource identity: the few values that name an object for good, beside its state. Terraform 1.12 and OpenTofu 1.12 keep
 * it, check that it never changes, and import by it. Knows no wire.
 */
import type { Primitive, StateOf } from "#schema/attribute";
import type { JsonObject } from "#schema/upgrade";
import type { ObjectValue } from "#schema/value";

export interface IdentityAttribute {
  readonly type: Primitive | readonly ["list", Primitive];
  readonly description: string;
  /** Exactly one of the two: must, or may, be given in an import block. */
  readonly requiredForImport?: true;
  readonly optionalForImport?: true;
}

export interface Identity<A> {
  readonly version: number;
  readonly attributes: Readonly<Record<string, IdentityAttribute>>;
  /** Wholly known for any state that create, read or import returned. */
  readonly of: (state: StateOf<A>) => ObjectValue;
  /** The identity as `import` takes it typed; what is optional may be null. */
  readonly importId: (identity: ObjectValue) => string;
  /** As a resource's `upgrades`. */
  readonly upgrades?: Readonly<Record<number, (identity: JsonObject) => JsonObject>>;
}

/** For objects that are known by the shepherd's id alone. `noun` is for the description: `machine`. */
export function identityById<A extends { readonly id: { readonly type: "string" } }>(
  noun: string,
): Identity<A> {
  return {
    version: 0,
    attributes: {
      id: { type: "string", description: `Id of the ${noun}.`, requiredForImport: true },
    },
    of: (state) => ({ id: (state as { readonly id: string | null }).id }),
    importId: ({ id }) => String(id),
  };
}
