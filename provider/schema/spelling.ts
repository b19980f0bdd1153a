/**
 * Semantic equality: where a new value means what the old one says, the old spelling stays, so that no plan and no
 * state changes by it. What "means" is, each attribute says (`same`). Pure.
 */
import { type Attribute, type Attributes, isNested } from "#schema/attribute";
import { isList, isObject, isUnknown, type ObjectValue, type Value } from "#schema/value";

/** `after` with the spelling of `before` wherever both mean the same. Sets are taken as they are. */
export function keepSpelling(
  declared: Attributes,
  before: ObjectValue,
  after: ObjectValue,
): ObjectValue {
  return Object.fromEntries(
    Object.entries(after).map(([name, value]) => {
      const attribute = declared[name];
      const old = before[name] ?? null;
      return [name, attribute === undefined ? value : spellingOf(attribute, old, value)];
    }),
  );
}

function spellingOf(attribute: Attribute, before: Value, after: Value): Value {
  if (before === null || after === null || isUnknown(before) || isUnknown(after)) return after;
  const { type, same } = attribute;
  if (same !== undefined) return same(before, after) ? before : after;
  if (!isNested(type)) return after;
  const { attributes } = type;
  const inner = (old: Value | undefined, item: Value) =>
    isObject(old) && isObject(item) ? keepSpelling(attributes, old, item) : item;
  if (type.nesting === "single") return inner(before, after);
  if (type.nesting === "list" && isList(before) && isList(after))
    return after.map((item, i) => inner(before[i], item));
  if (type.nesting === "map" && isObject(before) && isObject(after))
    return Object.fromEntries(
      Object.entries(after).map(([key, item]) => [key, inner(before[key], item)]),
    );
  return after;
}
