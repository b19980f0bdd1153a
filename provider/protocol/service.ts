/**
 * The calls of `tfplugin6.Provider` that this provider answers, each with its messages. What is absent is answered
 * UNIMPLEMENTED, which is how Terraform and OpenTofu detect features. Source: tfplugin6.proto, minor version 10.
 */
import * as dataSource from "./data-source.ts";
import * as provider from "./provider.ts";
import * as resource from "./resource.ts";

export const providerService = "tfplugin6.Provider";

export const calls = {
  GetMetadata: provider.getMetadata,
  GetProviderSchema: provider.getProviderSchema,
  GetResourceIdentitySchemas: provider.getResourceIdentitySchemas,
  GetFunctions: provider.getFunctions,
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
  ValidateDataResourceConfig: dataSource.validateDataResourceConfig,
  ReadDataSource: dataSource.readDataSource,
} as const;
export type CallName = keyof typeof calls;
