/** Answers about the provider itself: what it offers, its configuration, its end; and its functions. */
import { providerAttributes } from "#catalogue";
import type { ProviderConfig } from "#configuration";
import { DecodeError } from "#plugin/protobuf";
import type { Handlers } from "#plugin/serve";
import { fromDynamicValue, toDynamicValue } from "#protocol/dynamic-value";
import { toSignature } from "#protocol/function";
import { toIdentitySchema } from "#protocol/identity";
import { toSchema } from "#protocol/schema";
import type { Attributes } from "#schema/attribute";
import { ArgumentError, type FunctionType } from "#schema/function";
import { validateValues } from "#schema/validate";
import { decodeObject, type Session } from "./session.ts";

const capabilities = {
  plan_destroy: true, // what protects a machine from its removal is said in the plan
  get_provider_schema_optional: true,
  move_resource_state: true,
  generate_resource_config: true,
};

export function providerAnswers(session: Session): Handlers {
  const { resources, dataSources, functions, ephemerals, lists, actions } = session.catalogue;
  return {
    GetMetadata: async () => ({
      server_capabilities: capabilities,
      resources: typeNames(resources),
      data_sources: typeNames(dataSources),
      functions: functions.map(({ name }) => ({ name })),
      ephemeral_resources: typeNames(ephemerals),
      list_resources: typeNames(lists),
      actions: typeNames(actions),
    }),
    GetProviderSchema: async () => ({
      provider: toSchema({ description: "", attributes: providerAttributes }),
      resource_schemas: schemas(resources),
      data_source_schemas: schemas(dataSources),
      functions: signatures(functions),
      ephemeral_resource_schemas: schemas(ephemerals),
      list_resource_schemas: schemas(lists),
      action_schemas: Object.fromEntries(
        actions.map((type) => [type.name, { schema: toSchema(type) }]),
      ),
      server_capabilities: capabilities,
    }),
    GetResourceIdentitySchemas: async () => ({
      identity_schemas: Object.fromEntries(
        resources.flatMap(({ name, identity }) =>
          identity === undefined ? [] : [[name, toIdentitySchema(identity)] as const],
        ),
      ),
    }),

    ValidateProviderConfig: (request) =>
      session.reporting("ValidateProviderConfig", async (report) => {
        const values = decodeObject(providerAttributes, request.config);
        validateValues(providerAttributes, values, report);
        return {};
      }),
    ConfigureProvider: (request) =>
      session.reporting("ConfigureProvider", async () => {
        const config = decodeObject(providerAttributes, request.config);
        // decoded by providerAttributes, of which ProviderConfig is the type
        session.configure(config as unknown as ProviderConfig, request.terraform_version);
        return {};
      }),
    StopProvider: async () => {
      session.log("warn", "interrupted: running work stops waiting, the shepherd goes on");
      session.interrupt();
      return {};
    },

    GetFunctions: async () => ({ functions: signatures(functions) }),
    CallFunction: async ({ name, arguments: given }) => {
      const type = functions.find((one) => one.name === name);
      if (type === undefined)
        return {
          error: { text: `this provider has no function ${name}`, function_argument: undefined },
        };
      try {
        const values = given.map((value, i) => {
          const parameter = type.parameters[i] ?? type.variadic;
          if (parameter === undefined)
            throw new ArgumentError(i, `${name} takes ${type.parameters.length} arguments`);
          return fromDynamicValue(parameter.type, value);
        });
        if (values.length < type.parameters.length)
          throw new ArgumentError(undefined, `${name} takes ${type.parameters.length} arguments`);
        return { result: toDynamicValue(type.returns, type.call(values)) };
      } catch (error) {
        return { error: functionError(name, error) };
      }
    },
  };
}

function functionError(name: string, error: unknown) {
  if (error instanceof ArgumentError)
    return { text: error.message, function_argument: error.argument };
  const text =
    error instanceof DecodeError
      ? error.message
      : `${name} failed; this is a bug in the provider, please report it: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`;
  return { text, function_argument: undefined };
}

function typeNames(types: readonly { readonly name: string }[]) {
  return types.map(({ name }) => ({ type_name: name }));
}

interface Declared {
  readonly name: string;
  readonly version?: number;
  readonly description: string;
  readonly attributes: Attributes;
  readonly deprecated?: string;
}
function schemas(types: readonly Declared[]) {
  return Object.fromEntries(types.map((type) => [type.name, toSchema(type)]));
}
function signatures(types: readonly FunctionType[]) {
  return Object.fromEntries(types.map((type) => [type.name, toSignature(type)]));
}
