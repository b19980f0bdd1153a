/** The noun *list resource*: what exists already, one event an object. */
import { field, message } from "#plugin/protobuf";
import { diagnostic } from "./diagnostic.ts";
import { dynamicValue } from "./dynamic-value.ts";
import { identityData } from "./identity.ts";

export const listResource = {
  request: message("ListResource.Request", {
    type_name: field.string(1),
    config: field.one(2, () => dynamicValue),
    include_resource_object: field.bool(3),
    limit: field.integer(4),
  }),
  response: message("ListResource.Event", {
    identity: field.one(1, () => identityData),
    display_name: field.string(2),
    resource_object: field.one(3, () => dynamicValue),
    diagnostic: field.many(4, () => diagnostic),
  }),
  stream: true,
} as const;
export const validateListResourceConfig = {
  request: message("ValidateListResourceConfig.Request", {
    type_name: field.string(1),
    config: field.one(2, () => dynamicValue),
    include_resource_object: field.one(3, () => dynamicValue),
    limit: field.one(4, () => dynamicValue),
  }),
  response: message("ValidateListResourceConfig.Response", {
    diagnostics: field.many(1, () => diagnostic),
  }),
};
