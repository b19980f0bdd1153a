/** The noun *provider*: what it offers, its own configuration, its end. */
import { field, message } from "#plugin/protobuf";
import { diagnostic } from "./diagnostic.ts";
import { dynamicValue } from "./dynamic-value.ts";
import { schema } from "./schema.ts";

export const clientCapabilities = message("ClientCapabilities", {
  deferral_allowed: field.bool(1),
  write_only_attributes_allowed: field.bool(2),
});
const serverCapabilities = message("ServerCapabilities", {
  plan_destroy: field.bool(1),
  get_provider_schema_optional: field.bool(2),
  move_resource_state: field.bool(3),
  generate_resource_config: field.bool(4),
});
const typeName = message("TypeName", { type_name: field.string(1) });
const functionName = message("FunctionName", { name: field.string(1) });
const unusedSchema = message("Unused", {});

export const getMetadata = {
  request: message("GetMetadata.Request", {}),
  response: message("GetMetadata.Response", {
    server_capabilities: field.one(1, () => serverCapabilities),
    diagnostics: field.many(2, () => diagnostic),
    data_sources: field.many(3, () => typeName),
    resources: field.many(4, () => typeName),
    functions: field.many(5, () => functionName),
    ephemeral_resources: field.many(6, () => typeName),
  }),
};
export const getProviderSchema = {
  request: message("GetProviderSchema.Request", {}),
  response: message("GetProviderSchema.Response", {
    provider: field.one(1, () => schema),
    resource_schemas: field.map(2, () => schema),
    data_source_schemas: field.map(3, () => schema),
    diagnostics: field.many(4, () => diagnostic),
    provider_meta: field.one(5, () => schema),
    server_capabilities: field.one(6, () => serverCapabilities),
  }),
};
export const getResourceIdentitySchemas = {
  request: message("GetResourceIdentitySchemas.Request", {}),
  response: message("GetResourceIdentitySchemas.Response", {
    identity_schemas: field.map(1, () => unusedSchema),
    diagnostics: field.many(2, () => diagnostic),
  }),
};
export const getFunctions = {
  request: message("GetFunctions.Request", {}),
  response: message("GetFunctions.Response", {
    functions: field.map(1, () => unusedSchema),
    diagnostics: field.many(2, () => diagnostic),
  }),
};
export const validateProviderConfig = {
  request: message("ValidateProviderConfig.Request", { config: field.one(1, () => dynamicValue) }),
  response: message("ValidateProviderConfig.Response", {
    diagnostics: field.many(2, () => diagnostic),
  }),
};
export const configureProvider = {
  request: message("ConfigureProvider.Request", {
    terraform_version: field.string(1),
    config: field.one(2, () => dynamicValue),
    client_capabilities: field.one(3, () => clientCapabilities),
  }),
  response: message("ConfigureProvider.Response", { diagnostics: field.many(1, () => diagnostic) }),
};
export const stopProvider = {
  request: message("StopProvider.Request", {}),
  response: message("StopProvider.Response", { error: field.string(1) }),
};
