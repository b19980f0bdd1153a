/** The noun *managed resource*: validated, read, planned, applied, imported, moved, upgraded. */
import { field, message } from "#plugin/protobuf";
import { clientCapabilities, deferred } from "./capability.ts";
import { attributePath, diagnostic } from "./diagnostic.ts";
import { dynamicValue, rawState } from "./dynamic-value.ts";
import { identityData } from "./identity.ts";

const diagnostics = (number: number) => field.many(number, () => diagnostic);
const value = (number: number) => field.one(number, () => dynamicValue);
const identity = (number: number) => field.one(number, () => identityData);

export const validateResourceConfig = {
  request: message("ValidateResourceConfig.Request", {
    type_name: field.string(1),
    config: value(2),
    client_capabilities: field.one(3, () => clientCapabilities),
  }),
  response: message("ValidateResourceConfig.Response", { diagnostics: diagnostics(1) }),
};
export const upgradeResourceState = {
  request: message("UpgradeResourceState.Request", {
    type_name: field.string(1),
    version: field.integer(2),
    raw_state: field.one(3, () => rawState),
  }),
  response: message("UpgradeResourceState.Response", {
    upgraded_state: value(1),
    diagnostics: diagnostics(2),
  }),
};
export const readResource = {
  request: message("ReadResource.Request", {
    type_name: field.string(1),
    current_state: value(2),
    private: field.bytes(3),
    provider_meta: value(4),
    client_capabilities: field.one(5, () => clientCapabilities),
    current_identity: identity(6),
  }),
  response: message("ReadResource.Response", {
    new_state: value(1),
    diagnostics: diagnostics(2),
    private: field.bytes(3),
    deferred: field.one(4, () => deferred),
    new_identity: identity(5),
  }),
};
export const planResourceChange = {
  request: message("PlanResourceChange.Request", {
    type_name: field.string(1),
    prior_state: value(2),
    proposed_new_state: value(3),
    config: value(4),
    prior_private: field.bytes(5),
    provider_meta: value(6),
    client_capabilities: field.one(7, () => clientCapabilities),
    prior_identity: identity(8),
  }),
  response: message("PlanResourceChange.Response", {
    planned_state: value(1),
    requires_replace: field.many(2, () => attributePath),
    planned_private: field.bytes(3),
    diagnostics: diagnostics(4),
    deferred: field.one(6, () => deferred),
    planned_identity: identity(7),
  }),
};
export const applyResourceChange = {
  request: message("ApplyResourceChange.Request", {
    type_name: field.string(1),
    prior_state: value(2),
    planned_state: value(3),
    config: value(4),
    planned_private: field.bytes(5),
    provider_meta: value(6),
    planned_identity: identity(7),
  }),
  response: message("ApplyResourceChange.Response", {
    new_state: value(1),
    private: field.bytes(2),
    diagnostics: diagnostics(3),
    new_identity: identity(5),
  }),
};
const importedResource = message("ImportedResource", {
  type_name: field.string(1),
  state: value(2),
  private: field.bytes(3),
  identity: identity(4),
});
export const importResourceState = {
  request: message("ImportResourceState.Request", {
    type_name: field.string(1),
    id: field.string(2),
    client_capabilities: field.one(3, () => clientCapabilities),
    identity: identity(4),
  }),
  response: message("ImportResourceState.Response", {
    imported_resources: field.many(1, () => importedResource),
    diagnostics: diagnostics(2),
    deferred: field.one(3, () => deferred),
  }),
};
export const moveResourceState = {
  request: message("MoveResourceState.Request", {
    source_provider_address: field.string(1),
    source_type_name: field.string(2),
    source_schema_version: field.integer(3),
    source_state: field.one(4, () => rawState),
    target_type_name: field.string(5),
    source_private: field.bytes(6),
    source_identity: field.one(7, () => rawState),
    source_identity_schema_version: field.integer(8),
  }),
  response: message("MoveResourceState.Response", {
    target_state: value(1),
    diagnostics: diagnostics(2),
    target_private: field.bytes(3),
    target_identity: identity(4),
  }),
};
export const generateResourceConfig = {
  request: message("GenerateResourceConfig.Request", {
    type_name: field.string(1),
    state: value(2),
  }),
  response: message("GenerateResourceConfig.Response", {
    config: value(1),
    diagnostics: diagnostics(2),
  }),
};
