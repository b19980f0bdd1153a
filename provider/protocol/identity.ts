/** The noun *identity*: the values that name an object for good; their schema, and how stored ones are upgraded. */
import { type Decoded, type Encodable, field, message } from "#plugin/protobuf";
import type { ValueType } from "#schema/attribute";
import type { Identity } from "#schema/identity";
import { diagnostic } from "./diagnostic.ts";
import { dynamicValue, rawState } from "./dynamic-value.ts";

export const identityData = message("ResourceIdentityData", {
  identity_data: field.one(1, () => dynamicValue),
});

const identityAttribute = message("ResourceIdentitySchema.IdentityAttribute", {
  name: field.string(1),
  type: field.bytes(2),
  required_for_import: field.bool(3),
  optional_for_import: field.bool(4),
  description: field.string(5),
});
const identitySchema = message("ResourceIdentitySchema", {
  version: field.integer(1),
  identity_attributes: field.many(2, () => identityAttribute),
});

export const getResourceIdentitySchemas = {
  request: message("GetResourceIdentitySchemas.Request", {}),
  response: message("GetResourceIdentitySchemas.Response", {
    identity_schemas: field.map(1, () => identitySchema),
    diagnostics: field.many(2, () => diagnostic),
  }),
};
export const upgradeResourceIdentity = {
  request: message("UpgradeResourceIdentity.Request", {
    type_name: field.string(1),
    version: field.integer(2),
    raw_identity: field.one(3, () => rawState),
  }),
  response: message("UpgradeResourceIdentity.Response", {
    upgraded_identity: field.one(1, () => identityData),
    diagnostics: field.many(2, () => diagnostic),
  }),
};

export function toIdentitySchema({
  version,
  attributes,
}: Pick<Identity<never>, "version" | "attributes">): Encodable<Decoded<typeof identitySchema>> {
  return {
    version,
    identity_attributes: Object.entries(attributes).map(([name, one]) => ({
      name,
      type: Buffer.from(JSON.stringify(one.type)),
      description: one.description,
      required_for_import: one.requiredForImport,
      optional_for_import: one.optionalForImport,
    })),
  };
}

export function identityType({ attributes }: Pick<Identity<never>, "attributes">): ValueType {
  return [
    "object",
    Object.fromEntries(Object.entries(attributes).map(([name, { type }]) => [name, type])),
  ];
}
