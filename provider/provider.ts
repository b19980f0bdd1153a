/**
 * Answers the calls of protocol 6 from the declared resources: decodes, validates, plans, applies, encodes. Knows no
 * resource by name. Whatever is thrown becomes a diagnostic, so that one bug does not take the whole run down.
 */
import { randomUUID } from "node:crypto";
import { dataSources, providerAttributes, resources } from "./catalogue.ts";
import { type Connection, connect, type ProviderConfig } from "./configuration.ts";
import type { Environment } from "./plugin/handshake.ts";
import type { Log } from "./plugin/log.ts";
import { DecodeError } from "./plugin/protobuf.ts";
import type { Handlers, Provider } from "./plugin/serve.ts";
import { toAttributePath, toDiagnostics } from "./protocol/diagnostic.ts";
import {
  type DynamicValue,
  fromDynamicValue,
  fromRawState,
  toDynamicValue,
} from "./protocol/dynamic-value.ts";
import { toSchema } from "./protocol/schema.ts";
import { type Attributes, objectType } from "./schema/attribute.ts";
import { completePlan, replacements } from "./schema/plan.ts";
import { Report } from "./schema/report.ts";
import {
  asStateOf,
  type DataSourceType,
  type PrivateData,
  type Reached,
  type ResourceType,
  type Work,
} from "./schema/resource.ts";
import { validateValues } from "./schema/validate.ts";
import { isObject, type ObjectValue } from "./schema/value.ts";

const capabilities = { plan_destroy: false, get_provider_schema_optional: true };

/** A provider that is not configured yet. `environment` is where DROVER_ENDPOINT and the like are looked up. */
export function createProvider(options: {
  readonly log: Log;
  readonly environment: Environment;
}): Provider {
  const stop = new AbortController();
  const runId = randomUUID();
  let config: ProviderConfig = { endpoint: null, token: null, ca_file: null };
  let toolVersion = "";
  let connection: Connection | undefined;

  /** What a verb works with; undefined after it was reported why there is no shepherd to ask. */
  function work(report: Report): Work | undefined {
    const { environment } = options;
    connection ??= connect(config, { environment, toolVersion, report });
    return (
      connection && {
        ...connection,
        report,
        signal: stop.signal,
        runId,
        log: (message, fields) => options.log("info", message, fields),
      }
    );
  }

  /** Runs the body with a fresh report; what it throws is reported too. */
  async function reporting<Answer extends object>(
    call: string,
    body: (report: Report) => Promise<Answer>,
  ) {
    const report = new Report();
    let answer: Partial<Answer> = {};
    try {
      answer = await body(report);
    } catch (error) {
      const message = error instanceof Error ? (error.stack ?? error.message) : String(error);
      if (error instanceof DecodeError)
        report.error("A value could not be read", `${error.message} (in ${call}).`);
      else
        report.error(
          "The drover provider failed",
          `An unexpected error in ${call}; this is a bug in the provider, please report it with this text.\n${message}`,
        );
    }
    return { ...answer, diagnostics: toDiagnostics(report.diagnostics) };
  }

  const handlers: Handlers = {
    GetMetadata: async () => ({
      server_capabilities: capabilities,
      resources: resources.map(({ name }) => ({ type_name: name })),
      data_sources: dataSources.map(({ name }) => ({ type_name: name })),
    }),
    GetProviderSchema: async () => ({
      provider: toSchema({ description: "", attributes: providerAttributes }),
      resource_schemas: Object.fromEntries(resources.map((type) => [type.name, toSchema(type)])),
      data_source_schemas: Object.fromEntries(
        dataSources.map((type) => [type.name, toSchema(type)]),
      ),
      server_capabilities: capabilities,
    }),
    GetResourceIdentitySchemas: async () => ({}),
    GetFunctions: async () => ({}),

    ValidateProviderConfig: (request) =>
      reporting("ValidateProviderConfig", async (report) => {
        validateValues(
          providerAttributes,
          decodeObject(providerAttributes, request.config),
          report,
        );
        return {};
      }),
    // The client is made at first use, so that a plan with an unknown endpoint and nothing to read goes through.
    ConfigureProvider: (request) =>
      reporting("ConfigureProvider", async () => {
        config = decodeObject(providerAttributes, request.config) as unknown as ProviderConfig;
        toolVersion = request.terraform_version;
        return {};
      }),
    StopProvider: async () => {
      options.log("warn", "interrupted: running work stops waiting, the shepherd goes on");
      stop.abort(new Error("interrupted"));
      return {};
    },

    ValidateResourceConfig: (request) =>
      reporting("ValidateResourceConfig", async (report) => {
        const type = resourceNamed(request.type_name);
        const values = decodeObject(type.attributes, request.config);
        validateValues(type.attributes, values, report);
        type.validate?.(asStateOf(values), report);
        return {};
      }),

    UpgradeResourceState: (request) =>
      reporting("UpgradeResourceState", async (report) => {
        const type = resourceNamed(request.type_name);
        if (request.version > type.version) {
          report.error(
            "State of a newer provider",
            `This ${type.name} was written with schema version ${request.version}, this provider knows ${type.version}. Use the provider version that wrote it, or a newer one.`,
          );
          return {};
        }
        const of = objectType(type.attributes);
        const json = request.raw_state?.json ?? new Uint8Array(0);
        return { upgraded_state: toDynamicValue(of, fromRawState(of, json)) };
      }),

    ReadResource: (request) =>
      reporting("ReadResource", async (report) => {
        const type = resourceNamed(request.type_name);
        const current = decodeObject(type.attributes, request.current_state);
        const working = work(report);
        if (working === undefined) return {};
        const kept = readPrivate(request.private);
        const reached = await type.read(working, asStateOf(current), kept);
        return {
          new_state: encodeState(type.attributes, reached.state),
          private: writePrivate(reached.private ?? kept),
        };
      }),

    PlanResourceChange: (request) =>
      reporting("PlanResourceChange", async (report) => {
        const type = resourceNamed(request.type_name);
        const of = objectType(type.attributes);
        const prior = fromDynamicValue(of, request.prior_state);
        const proposed = fromDynamicValue(of, request.proposed_new_state);
        const config = fromDynamicValue(of, request.config);
        const planned_private = request.prior_private;
        if (!isObject(proposed) || !isObject(config))
          return { planned_state: toDynamicValue(of, null), planned_private };
        const before = isObject(prior) ? prior : null;
        const completed = completePlan(type.attributes, { prior: before, proposed, config });
        const adjusted = type.plan?.(
          {
            prior: before === null ? null : asStateOf(before),
            config: asStateOf(config),
            planned: asStateOf(completed),
            private: readPrivate(request.prior_private),
          },
          report,
        );
        const planned = { ...completed, ...(adjusted as ObjectValue | undefined) };
        const replaced = before === null ? [] : replacements(type.attributes, before, planned);
        return {
          planned_state: toDynamicValue(of, planned),
          requires_replace: replaced.map(toAttributePath),
          planned_private,
        };
      }),

    ApplyResourceChange: (request) =>
      reporting("ApplyResourceChange", async (report) => {
        const type = resourceNamed(request.type_name);
        const of = objectType(type.attributes);
        const prior = fromDynamicValue(of, request.prior_state);
        const planned = fromDynamicValue(of, request.planned_state);
        const config = fromDynamicValue(of, request.config);
        const kept = readPrivate(request.planned_private);
        const working = work(report);
        const reached =
          working === undefined
            ? { state: isObject(prior) ? asStateOf(prior) : null }
            : await apply(type, working, { prior, planned, config, kept });
        return {
          new_state: encodeState(type.attributes, reached.state),
          private: writePrivate(reached.private ?? kept),
        };
      }),

    ImportResourceState: (request) =>
      reporting("ImportResourceState", async (report) => {
        const type = resourceNamed(request.type_name);
        const working = work(report);
        if (working === undefined) return {};
        const state = await type.import(working, request.id);
        if (state === null) {
          if (!report.failed)
            report.error(
              "Nothing to import",
              `The shepherd at ${working.client.endpoint} knows no ${type.name.replace("drover_", "")} "${request.id}". Name it by ${type.importId}.`,
            );
          return {};
        }
        return {
          imported_resources: [
            { type_name: type.name, state: encodeState(type.attributes, state) },
          ],
        };
      }),
    MoveResourceState: (request) =>
      reporting("MoveResourceState", async (report) => {
        report.error(
          "Cannot move this state",
          `A ${request.source_type_name} of ${request.source_provider_address} cannot become a ${request.target_type_name}. Remove it from the state and import it instead.`,
        );
        return {};
      }),

    ValidateDataResourceConfig: (request) =>
      reporting("ValidateDataResourceConfig", async (report) => {
        const type = dataSourceNamed(request.type_name);
        const values = decodeObject(type.attributes, request.config);
        validateValues(type.attributes, values, report);
        type.validate?.(asStateOf(values), report);
        return {};
      }),
    ReadDataSource: (request) =>
      reporting("ReadDataSource", async (report) => {
        const type = dataSourceNamed(request.type_name);
        const working = work(report);
        if (working === undefined) return {};
        const values = decodeObject(type.attributes, request.config);
        const state = await type.read(working, asStateOf(values));
        return state === null ? {} : { state: encodeState(type.attributes, state) };
      }),
  };
  return { handlers };
}

async function apply(
  type: ResourceType,
  working: Work,
  change: { prior: unknown; planned: unknown; config: unknown; kept: PrivateData },
): Promise<Reached<Attributes>> {
  const { prior, planned, config, kept } = change;
  if (!isObject(planned)) {
    if (!isObject(prior)) return { state: null };
    const state = asStateOf(prior);
    await type.remove(working, state, kept);
    return { state: working.report.failed ? state : null };
  }
  const wanted = {
    planned: asStateOf(planned),
    config: asStateOf(isObject(config) ? config : {}),
    private: kept,
  };
  if (!isObject(prior)) return await type.create(working, wanted);
  return await type.update(working, { ...wanted, prior: asStateOf(prior) });
}

function resourceNamed(name: string): ResourceType {
  return named(resources, name, "resource");
}
function dataSourceNamed(name: string): DataSourceType {
  return named(dataSources, name, "data source");
}
function named<T extends { readonly name: string }>(
  types: readonly T[],
  name: string,
  noun: string,
): T {
  const found = types.find((type) => type.name === name);
  if (found === undefined) throw new DecodeError(`this provider has no ${noun} ${name}`);
  return found;
}

/** A configuration or state; a null one (an empty provider block) has every attribute null. */
function decodeObject(declared: Attributes, value: DynamicValue | undefined): ObjectValue {
  const decoded = fromDynamicValue(objectType(declared), value);
  return isObject(decoded)
    ? decoded
    : Object.fromEntries(Object.keys(declared).map((name) => [name, null]));
}

function encodeState(declared: Attributes, state: object | null) {
  return toDynamicValue(objectType(declared), state as ObjectValue | null);
}

function readPrivate(bytes: Uint8Array): PrivateData {
  if (bytes.length === 0) return {};
  try {
    const data: unknown = JSON.parse(Buffer.from(bytes).toString());
    return typeof data === "object" && data !== null ? (data as PrivateData) : {};
  } catch (cause) {
    throw new DecodeError("private state that is not ours", { cause });
  }
}

function writePrivate(data: PrivateData): Uint8Array {
  return Object.keys(data).length === 0 ? new Uint8Array(0) : Buffer.from(JSON.stringify(data));
}
