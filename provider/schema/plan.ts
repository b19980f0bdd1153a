/**
 * What every resource's plan has in common: defaults, what is known only after apply, what needs a replacement. Terraform
 * proposes prior values for what the configuration leaves open, so "keep it" is the rule and unknown the exception. Pure.
 */
import { type Attribute, type Attributes, isNested } from "#schema/attribute";
import type { PathStep } from "#schema/report";
import { equal, isList, isObject, type ObjectValue, unknown, type Value } from "#schema/value";

/** The proposed state with defaults and unknowns filled in. `prior` is null at create. */
export function completePlan(
  declared: Attributes,
  states: {
    readonly prior: ObjectValue | null;
    readonly proposed: ObjectValue;
    readonly config: ObjectValue;
  },
): ObjectValue {
  return Object.fromEntries(
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
  if (config === null) {
    if (attribute.default !== undefined) return attribute.default;
    return attribute.computed === true && isNew ? unknown : proposed;
  }
  const { type } = attribute;
  if (!isNested(type)) return proposed;
  const complete = (item: Value, before: Value, wanted: Value): Value =>
    isObject(item) && isObject(wanted)
      ? completePlan(type.attributes, {
          prior: isObject(before) ? before : null,
          proposed: item,
          config: wanted,
        })
      : item;
  if (type.nesting === "single") return complete(proposed, prior, config);
  if (type.nesting === "list" && isList(proposed) && isList(config))
    return proposed.map((item, i) =>
      complete(item, isList(prior) ? (prior[i] ?? null) : null, config[i] ?? null),
    );
  return proposed;
}

/** Paths of the attributes whose change cannot be made in place. */
export function replacements(
  declared: Attributes,
  prior: ObjectValue,
  planned: ObjectValue,
): readonly (readonly PathStep[])[] {
  return Object.entries(declared)
    .filter(
      ([name, attribute]) =>
        attribute.replaces === true && !equal(prior[name] ?? null, planned[name] ?? null),
    )
    .map(([name]) => [name]);
}
