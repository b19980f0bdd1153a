/**
 * A schema as text, in the words and order of the registries' pages: required, optional and read-only attributes, then a
 * section for each nested one. Pure.
 */
import { type Attribute, type Attributes, isNested, type ValueType } from "./schema/attribute.ts";
import type { FunctionType, Parameter } from "./schema/function.ts";

/** Required, optional and read-only attributes, then a section for each nested one. */
export function schemaText(declared: Attributes): string {
  const sections: string[] = [];
  const text = groups(declared, [], sections);
  return [text, ...sections].join("\n");
}

function groups(declared: Attributes, path: readonly string[], sections: string[]): string {
  const all = Object.entries(declared).toSorted(([left], [right]) => (left < right ? -1 : 1));
  const groupOf = ({ required, optional }: Attribute) =>
    required ? "Required" : optional ? "Optional" : "Read-Only";
  const parts = ["Required", "Optional", "Read-Only"].flatMap((group) => {
    const members = all.filter(([, attribute]) => groupOf(attribute) === group);
    if (members.length === 0) return [];
    const lines = members.map(([name, attribute]) => line(name, attribute, path));
    const title = path.length === 0 ? `### ${group}` : `${group}:`;
    return [`${title}\n\n${lines.join("\n")}\n`];
  });
  for (const [name, { type }] of all) {
    if (!isNested(type)) continue;
    const inner = [...path, name];
    const at = sections.push("") - 1; // its own text comes before that of what it nests
    const body = groups(type.attributes, inner, sections);
    sections[at] =
      `<a id="${anchor(inner)}"></a>\n### Nested Schema for \`${inner.join(".")}\`\n\n${body}`;
  }
  return parts.join("\n");
}

function line(name: string, attribute: Attribute, path: readonly string[]): string {
  const { type, description } = attribute;
  const flags = [
    typeText(type),
    ...(attribute.sensitive ? ["Sensitive"] : []),
    ...(attribute.writeOnly
      ? [
          "[Write-only](https://developer.hashicorp.com/terraform/language/resources/ephemeral#write-only-arguments)",
        ]
      : []),
    ...(attribute.deprecated === undefined ? [] : ["Deprecated"]),
  ];
  const notes = [
    description,
    ...(attribute.replaces === true ? ["Changing it makes a new object."] : []),
    ...(attribute.deprecated === undefined ? [] : [attribute.deprecated]),
    ...(isNested(type) ? [`(see [below](#${anchor([...path, name])}))`] : []),
  ];
  return `- \`${name}\` (${flags.join(", ")}) ${notes.join(" ")}`;
}

function anchor(path: readonly string[]): string {
  return `nestedatt--${path.join("--")}`;
}

const nestedNames = { list: "List", set: "Set", map: "Map" };
function typeText(type: Attribute["type"]): string {
  if (!isNested(type)) return plainTypeText(type);
  return type.nesting === "single" ? "Attributes" : `Attributes ${nestedNames[type.nesting]}`;
}

const typeNames = { string: "String", number: "Number", bool: "Boolean", dynamic: "Dynamic" };
export function plainTypeText(type: ValueType): string {
  if (typeof type === "string") return typeNames[type];
  const [kind, inner] = type;
  if (kind === "object") return "Object";
  return `${kind[0]?.toUpperCase()}${kind.slice(1)} of ${plainTypeText(inner)}`;
}

/** `ring(machines list of string) list of list of string`, as the registries write it. */
export function signatureText({ name, parameters, variadic, returns }: FunctionType): string {
  const one = ({ name: parameter, type }: Parameter) => `${parameter} ${constraint(type)}`;
  const all = [...parameters.map(one), ...(variadic ? [`${one(variadic)}...`] : [])];
  return `${name}(${all.join(", ")}) ${constraint(returns)}`;
}

export function argumentsText({ parameters, variadic }: FunctionType): string {
  const all = variadic === undefined ? parameters : [...parameters, variadic];
  return all
    .map((one, i) => {
      const flags = [
        plainTypeText(one.type),
        ...(one.nullable ? ["Nullable"] : []),
        ...(one === variadic ? ["Variadic"] : []),
      ];
      return `${i + 1}. \`${one.name}\` (${flags.join(", ")}) ${one.description}\n`;
    })
    .join("");
}

function constraint(type: ValueType): string {
  if (typeof type === "string") return type;
  const [kind, inner] = type;
  return kind === "object" ? "object" : `${kind} of ${constraint(inner)}`;
}
