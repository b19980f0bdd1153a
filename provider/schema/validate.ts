/** Runs the validators of a configuration over every value that is known. Pure. */
import { type Attribute, type Attributes, isNested } from "#schema/attribute";
import type { Report } from "#schema/report";
import { isList, isObject, isUnknown, type ObjectValue, type Value } from "#schema/value";

/** Reports at `report`'s path. What is unknown or null is left to later, and to Terraform itself. */
export function validateValues(declared: Attributes, values: ObjectValue, report: Report): void {
  for (const [name, attribute] of Object.entries(declared))
    validateValue(attribute, values[name] ?? null, report.at(name));
}

function validateValue(attribute: Attribute, value: Value, report: Report): void {
  if (value === null || isUnknown(value)) return;
  for (const validate of attribute.validators ?? []) validate(value, report);
  const { type } = attribute;
  if (!isNested(type)) return;
  if (isList(value))
    value.forEach((item, i) => {
      if (isObject(item)) validateValues(type.attributes, item, report.at(i));
    });
  else if (isObject(value) && type.nesting === "single")
    validateValues(type.attributes, value, report);
  else if (isObject(value))
    for (const [key, item] of Object.entries(value))
      if (isObject(item)) validateValues(type.attributes, item, report.at(key));
}
