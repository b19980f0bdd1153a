/**
 * The provider's schema in the shape of `terraform providers schema -json`, made from the declarations alone: bindings
 * are generated from it without a terraform binary.
 */
import { dataSources, functions, providerAttributes, resources } from "./catalogue.ts";
import { providerAddress } from "./plugin/address.ts";
import { type Attribute, type Attributes, isNested } from "./schema/attribute.ts";
import type { FunctionType, Parameter } from "./schema/function.ts";

export interface SchemaJson {
  readonly format_version: "1.0";
  readonly provider_schemas: Readonly<Record<string, unknown>>;
}

export function providerSchemaJson(): SchemaJson {
  return {
    format_version: "1.0",
    provider_schemas: {
      [providerAddress]: {
        provider: schemaJson({ version: 0, description: "", attributes: providerAttributes }),
        resource_schemas: byName(resources),
        data_source_schemas: byName(dataSources),
        functions: Object.fromEntries(
          functions
            .toSorted((left, right) => (left.name < right.name ? -1 : 1))
            .map((type) => [type.name, functionJson(type)]),
        ),
      },
    },
  };
}

interface Declared {
  readonly version?: number;
  readonly description: string;
  readonly attributes: Attributes;
}

function byName(types: readonly (Declared & { readonly name: string })[]) {
  return Object.fromEntries(
    types
      .toSorted((left, right) => (left.name < right.name ? -1 : 1))
      .map((type) => [type.name, schemaJson(type)]),
  );
}

function schemaJson({ version = 0, description, attributes }: Declared) {
  return {
    version,
    block: {
      attributes: attributesJson(attributes),
      ...(description === "" ? {} : { description }),
      description_kind: description === "" ? "plain" : "markdown",
    },
  };
}

function functionJson({ description, summary, returns, parameters, variadic }: FunctionType) {
  const one = ({ name, description: words, type, nullable }: Parameter) => ({
    name,
    description: words,
    ...(nullable ? { is_nullable: true } : {}),
    type,
  });
  return {
    description,
    summary,
    return_type: returns,
    parameters: parameters.map(one),
    ...(variadic === undefined ? {} : { variadic_parameter: one(variadic) }),
  };
}

function attributesJson(declared: Attributes): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(declared)
      .toSorted(([left], [right]) => (left < right ? -1 : 1))
      .map(([name, attribute]) => [name, attributeJson(attribute)]),
  );
}

function attributeJson(attribute: Attribute) {
  const { type, description, required, optional, computed, sensitive, writeOnly } = attribute;
  return {
    ...(isNested(type)
      ? { nested_type: { attributes: attributesJson(type.attributes), nesting_mode: type.nesting } }
      : { type }),
    description,
    description_kind: "markdown",
    ...(required ? { required } : {}),
    ...(optional ? { optional } : {}),
    ...(computed ? { computed } : {}),
    ...(sensitive ? { sensitive } : {}),
    ...(writeOnly ? { write_only: true } : {}),
    ...(attribute.deprecated === undefined ? {} : { deprecated: true }),
  };
}
