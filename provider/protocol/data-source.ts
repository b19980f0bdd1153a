/** The noun *data source*: validated and read. */
import { field, message } from "#plugin/protobuf";
import { clientCapabilities, deferred } from "./capability.ts";
import { diagnostic } from "./diagnostic.ts";
import { dynamicValue } from "./dynamic-value.ts";

export const validateDataResourceConfig = {
  request: message("ValidateDataResourceConfig.Request", {
    type_name: field.string(1),
    config: field.one(2, () => dynamicValue),
  }),
  response: message("ValidateDataResourceConfig.Response", {
    diagnostics: field.many(1, () => diagnostic),
  }),
};
export const readDataSource = {
  request: message("ReadDataSource.Request", {
    type_name: field.string(1),
    config: field.one(2, () => dynamicValue),
    provider_meta: field.one(3, () => dynamicValue),
    client_capabilities: field.one(4, () => clientCapabilities),
  }),
  response: message("ReadDataSource.Response", {
    state: field.one(1, () => dynamicValue),
    diagnostics: field.many(2, () => diagnostic),
    deferred: field.one(3, () => deferred),
  }),
};
