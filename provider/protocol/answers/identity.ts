/** A resource's identity in an answer, and the check that it never changes. */
import { type Encodable } from "#plugin/protobuf";
import { type DynamicValue, fromDynamicValue, toDynamicValue } from "#protocol/dynamic-value";
import { identityType } from "#protocol/identity";
import type { Report } from "#schema/report";
import { asStateOf, type ResourceType } from "#schema/resource";
import { equal, isObject, isWhollyKnown, type ObjectValue } from "#schema/value";

interface WireIdentity {
  readonly identity_data: Encodable<DynamicValue>;
}

/**
 * What `field` makes of the identity of this state; nothing where the type has none, or the state is of an object that
 * was made half and is not known by its identity yet.
 */
export function identityOf<Fields extends object>(
  type: ResourceType,
  state: ObjectValue | null,
  field: (identity: WireIdentity) => Fields,
): Fields | Record<never, never> {
  const values = identityValues(type, state);
  return type.identity === undefined || values === undefined
    ? {}
    : field({ identity_data: toDynamicValue(identityType(type.identity), values) });
}

/** Tells a bug of ours before Terraform does, in words that name the resource. */
export function checkIdentity(
  type: ResourceType,
  change: {
    readonly before: { readonly identity_data: DynamicValue | undefined } | undefined;
    readonly after: ObjectValue | null;
  },
  report: Report,
): void {
  const after = identityValues(type, change.after);
  if (type.identity === undefined || after === undefined) return;
  const before = fromDynamicValue(identityType(type.identity), change.before?.identity_data);
  if (isObject(before) && isWhollyKnown(before) && !equal(before, after))
    report.error(
      "The identity changed",
      `A ${type.name} was known as ${JSON.stringify(before)} and now is ${JSON.stringify(after)}; identities never change. This is a bug in the provider, please report it.`,
    );
}

function identityValues(type: ResourceType, state: ObjectValue | null): ObjectValue | undefined {
  if (type.identity === undefined || state === null) return undefined;
  const values = type.identity.of(asStateOf(state));
  const named = Object.values(values).every((value) => value !== null);
  return named && isWhollyKnown(values) ? values : undefined;
}
