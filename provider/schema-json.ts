/**
 * The provider's schema in the shape of `terraform providers schema -json`, made from the declarations alone: bindings
 * and documentation are generated from it without a terraform binary.
 */
import { dataSources, providerAttributes, resources } from "./catalogue.ts";
import { providerAddress } from "./plugin/address.ts";
import { type Attribute, type Attributes, isNested } from "./schema/attribute.ts";

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
