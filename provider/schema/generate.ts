/**
 * The configuration that an existing object would have been declared with (`terraform query -generate-config-out`):
 * what a user may set and what is not simply the default. Pure.
 */
import { type Attribute, type Attributes, isNested } from "#schema/attribute";
import { equal, isList, isObject, type ObjectValue, type Value } from "#schema/value";

/** A value of the same type as the state: what is left out is null. */
export function configurationOf(declared: Attributes, state: ObjectValue): ObjectValue {
  return Object.fromEntries(
    Object.entries(declared).map(([name, attribute]) => [
      name,
      configured(attribute, state[name] ?? null),
    ]),
  );
}

function configured(attribute: Attribute, value: Value): Value {
  const { required, optional, writeOnly, deprecated, type } = attribute;
  if (value === null || writeOnly === true || deprecated !== undefined) return null;
  if (required !== true && optional !== true) return null;
  if (required !== true && attribute.default !== undefined && equal(value, attribute.default))
    return null;
  if (!isNested(type)) return value;
  const inner = (item: Value) => (isObject(item) ? configurationOf(type.attributes, item) : item);
  if (type.nesting === "single") return inner(value);
  if (isList(value)) return value.map(inner);
  if (!isObject(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, inner(item)]));
}
