/** Runs the validators of a configuration over every value that is known, and warns of what is deprecated. Pure. */
import { type Attribute, type Attributes, isNested } from "#schema/attribute";
import type { Report } from "#schema/report";
import { isList, isObject, isUnknown, type ObjectValue, type Value } from "#schema/value";

/** Reports at `report`'s path. What is unknown or null is left to later, and to Terraform itself. */
export function validateValues(declared: Attributes, values: ObjectValue, report: Report): void {
  for (const [name, attribute] of Object.entries(declared))
    validateValue(attribute, values[name] ?? null, report.at(name));
}

function validateValue(attribute: Attribute, value: Value, report: Report): void {
  if (value === null) return;
  if (attribute.deprecated !== undefined)
    report.warning("Deprecated attribute", attribute.deprecated); // no tool says it by itself
  if (isUnknown(value)) return;
  for (const validate of attribute.validators ?? []) validate(value, report);
  const { type } = attribute;
  if (!isNested(type)) return;
  const inner = (item: Value, at: Report) => {
    if (!isObject(item)) return;
    validateValues(type.attributes, item, at);
    for (const rule of type.rules ?? []) rule(item, at);
  };
  if (isList(value)) value.forEach((item, i) => inner(item, report.at(i)));
  else if (type.nesting === "single") inner(value, report);
  else if (isObject(value))
    for (const [key, item] of Object.entries(value)) inner(item, report.at(key));
}
