/**
 * The calls of `tfplugin6.Provider` that this provider answers, each with its messages: all of minor version 10 but the
 * state stores. What is absent is answered UNIMPLEMENTED, which is how Terraform and OpenTofu detect features.
 * Source: tfplugin6.proto.
 */
import * as action from "./action.ts";
import * as dataSource from "./data-source.ts";
import * as ephemeral from "./ephemeral.ts";
import * as functions from "./function.ts";
import * as identity from "./identity.ts";
import * as list from "./list.ts";
import * as provider from "./provider.ts";
import * as resource from "./resource.ts";

export const providerService = "tfplugin6.Provider";

export const calls = {
  GetMetadata: provider.getMetadata,
  GetProviderSchema: provider.getProviderSchema,
  GetResourceIdentitySchemas: identity.getResourceIdentitySchemas,
  GetFunctions: functions.getFunctions,
  ValidateProviderConfig: provider.validateProviderConfig,
  ConfigureProvider: provider.configureProvider,
  StopProvider: provider.stopProvider,
  ValidateResourceConfig: resource.validateResourceConfig,
  UpgradeResourceState: resource.upgradeResourceState,
  ReadResource: resource.readResource,
  PlanResourceChange: resource.planResourceChange,
  ApplyResourceChange: resource.applyResourceChange,
  ImportResourceState: resource.importResourceState,
  MoveResourceState: resource.moveResourceState,
  GenerateResourceConfig: resource.generateResourceConfig,
  UpgradeResourceIdentity: identity.upgradeResourceIdentity,
  ValidateDataResourceConfig: dataSource.validateDataResourceConfig,
  ReadDataSource: dataSource.readDataSource,
  CallFunction: functions.callFunction,
  ValidateEphemeralResourceConfig: ephemeral.validateEphemeralResourceConfig,
  OpenEphemeralResource: ephemeral.openEphemeralResource,
  RenewEphemeralResource: ephemeral.renewEphemeralResource,
  CloseEphemeralResource: ephemeral.closeEphemeralResource,
  ValidateListResourceConfig: list.validateListResourceConfig,
  ListResource: list.listResource,
  ValidateActionConfig: action.validateActionConfig,
  PlanAction: action.planAction,
  InvokeAction: action.invokeAction,
} as const;
export type CallName = keyof typeof calls;
/** Calls that are answered by a stream of events. */
export type StreamName = {
  [Name in CallName]: (typeof calls)[Name] extends { stream: true } ? Name : never;
}[CallName];
