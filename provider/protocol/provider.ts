/** The noun *provider*: what it offers, its own configuration, its end. */
import { field, message } from "#plugin/protobuf";
import { actionSchema } from "./action.ts";
import { clientCapabilities, serverCapabilities } from "./capability.ts";
import { diagnostic } from "./diagnostic.ts";
import { dynamicValue } from "./dynamic-value.ts";
import { functionSignature } from "./function.ts";
import { schema } from "./schema.ts";

const typeName = message("TypeName", { type_name: field.string(1) });
const functionName = message("FunctionName", { name: field.string(1) });

export const getMetadata = {
  request: message("GetMetadata.Request", {}),
  response: message("GetMetadata.Response", {
    server_capabilities: field.one(1, () => serverCapabilities),
    diagnostics: field.many(2, () => diagnostic),
    data_sources: field.many(3, () => typeName),
    resources: field.many(4, () => typeName),
    functions: field.many(5, () => functionName),
    ephemeral_resources: field.many(6, () => typeName),
    list_resources: field.many(7, () => typeName),
    actions: field.many(9, () => typeName),
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
    functions: field.map(7, () => functionSignature),
    ephemeral_resource_schemas: field.map(8, () => schema),
    list_resource_schemas: field.map(9, () => schema),
    action_schemas: field.map(11, () => actionSchema),
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
