/** Write-only attributes: given in the configuration, null everywhere else. Pure. */
import { type Attribute, type Attributes, isNested } from "#schema/attribute";
import type { Report } from "#schema/report";
import { isList, isObject, type ObjectValue, type Value } from "#schema/value";

/** The values with every write-only one null. */
export function withoutWriteOnly(declared: Attributes, values: ObjectValue): ObjectValue {
  if (!holdsWriteOnly(declared)) return values;
  return Object.fromEntries(
    Object.entries(values).map(([name, value]) => {
      const attribute = declared[name];
      return [name, attribute === undefined ? value : without(attribute, value)];
    }),
  );
}

function without(attribute: Attribute, value: Value): Value {
  const { type, writeOnly } = attribute;
  if (writeOnly === true) return null;
  if (!isNested(type) || value === null) return value;
  const inner = (item: Value) => (isObject(item) ? withoutWriteOnly(type.attributes, item) : item);
  if (type.nesting === "single") return inner(value);
  if (isList(value)) return value.map(inner);
  if (!isObject(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, inner(item)]));
}

function holdsWriteOnly(declared: Attributes): boolean {
  return Object.values(declared).some(
    ({ type, writeOnly }) =>
      writeOnly === true || (isNested(type) && holdsWriteOnly(type.attributes)),
  );
}

/** Refuses write-only values of a client that would keep them in its state. */
export function refuseWriteOnly(declared: Attributes, values: ObjectValue, report: Report): void {
  for (const [name, attribute] of Object.entries(declared)) {
    const value = values[name] ?? null;
    if (value === null) continue;
    if (attribute.writeOnly === true)
      report
        .at(name)
        .error(
          "Write-only attributes need a newer tool",
          "This tool would keep the value in its state. Use Terraform 1.11 or OpenTofu 1.11, or newer.",
        );
    const { type } = attribute;
    if (!isNested(type)) continue;
    const items = isList(value)
      ? value.map((item, i) => [i, item] as const)
      : isObject(value) && type.nesting === "map"
        ? Object.entries(value)
        : [];
    if (type.nesting === "single" && isObject(value))
      refuseWriteOnly(type.attributes, value, report.at(name));
    for (const [step, item] of items)
      if (isObject(item)) refuseWriteOnly(type.attributes, item, report.at(name, step));
  }
}
