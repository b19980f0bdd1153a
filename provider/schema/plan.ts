/**
 * What every resource's plan has in common: defaults, what is known only after apply, what needs a replacement. Terraform
 * proposes prior values for what the configuration leaves open, so "keep it" is the rule and unknown the exception. Pure.
 */
import { type Attribute, type Attributes, isNested, type Nested } from "#schema/attribute";
import type { PathStep } from "#schema/report";
import {
  equal,
  isList,
  isObject,
  isUnknown,
  type ObjectValue,
  unknown,
  type Value,
} from "#schema/value";

/** The proposed state with defaults and unknowns filled in. `prior` is null at create. */
export function completePlan(
  declared: Attributes,
  states: {
    readonly prior: ObjectValue | null;
    readonly proposed: ObjectValue;
    readonly config: ObjectValue;
  },
): ObjectValue {
  const planned: ObjectValue = Object.fromEntries(
    Object.entries(declared).map(([name, attribute]) => [
      name,
      completeValue(attribute, {
        isNew: states.prior === null,
        prior: states.prior?.[name] ?? null,
        proposed: states.proposed[name] ?? null,
        config: states.config[name] ?? null,
      }),
    ]),
  );
  const { prior } = states;
  if (prior === null) return planned;
  const changed = (name: string) => !equal(prior[name] ?? null, planned[name] ?? null);
  const following = Object.entries(declared).filter(
    ([name, { follows }]) => states.config[name] === null && follows?.some(changed) === true,
  );
  return following.length === 0
    ? planned
    : { ...planned, ...Object.fromEntries(following.map(([name]) => [name, unknown])) };
}

interface Values {
  /** The object around it is created by this plan. */
  readonly isNew: boolean;
  readonly prior: Value;
  readonly proposed: Value;
  readonly config: Value;
}

function completeValue(attribute: Attribute, values: Values): Value {
  const { isNew, prior, proposed, config } = values;
  if (attribute.writeOnly === true) return null;
  if (config === null) {
    if (attribute.default !== undefined) return attribute.default;
    return attribute.computed === true && isNew ? unknown : proposed;
  }
  const known = prior !== null && !isUnknown(config);
  if (known && attribute.same?.(prior, config) === true) return prior;
  const { type } = attribute;
  return isNested(type) ? completeNested(type, values) : proposed;
}

function completeNested({ nesting, attributes }: Nested, values: Values): Value {
  const { prior, proposed, config } = values;
  const complete = (item: Value, before: Value | undefined, wanted: Value | undefined): Value =>
    isObject(item) && isObject(wanted)
      ? completePlan(attributes, {
          prior: isObject(before) ? before : null,
          proposed: item,
          config: wanted,
        })
      : item;
  if (nesting === "single") return complete(proposed, prior, config);
  if (nesting === "map" && isObject(proposed) && isObject(config)) {
    const before = isObject(prior) ? prior : {};
    return Object.fromEntries(
      Object.entries(proposed).map(([key, item]) => [
        key,
        complete(item, before[key], config[key]),
      ]),
    );
  }
  if (!isList(proposed) || !isList(config)) return proposed;
  const before = isList(prior) ? prior : [];
  if (nesting === "list") return proposed.map((item, i) => complete(item, before[i], config[i]));
  // Items of a set have no place: each belongs to what says the same in everything that the user wrote.
  return proposed.map((item) => {
    const wanted = config.find((one) => covers(item, one));
    return complete(item, wanted && before.find((one) => covers(one, wanted)), wanted);
  });
}

/** Whether everything that `wanted` sets stands in `item`. */
function covers(item: Value, wanted: Value): boolean {
  return (
    isObject(item) &&
    isObject(wanted) &&
    Object.entries(wanted).every(
      ([name, value]) => value === null || equal(item[name] ?? null, value),
    )
  );
}

/** Paths of the attributes whose change cannot be made in place. */
export function replacements(
  declared: Attributes,
  prior: ObjectValue,
  planned: ObjectValue,
): readonly (readonly PathStep[])[] {
  return Object.entries(declared)
    .filter(([name, { replaces }]) => {
      const [before, after] = [prior[name] ?? null, planned[name] ?? null];
      if (replaces === undefined || equal(before, after)) return false;
      return (
        replaces === true || (!isUnknown(after) && replaces({ prior: before, planned: after }))
      );
    })
    .map(([name]) => [name]);
}
