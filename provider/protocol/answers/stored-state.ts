/**
 * Answers about stored states: upgraded from an older schema version, moved from another type, imported, and written
 * back as configuration.
 */
import { DecodeError } from "#plugin/protobuf";
import type { Handlers, RequestOf } from "#plugin/serve";
import {
  fromDynamicValue,
  fromRawState,
  stateFromJson,
  toDynamicValue,
} from "#protocol/dynamic-value";
import { identityType } from "#protocol/identity";
import { type Attributes, objectType } from "#schema/attribute";
import { configurationOf } from "#schema/generate";
import type { Report } from "#schema/report";
import { asStateOf, type Move, type ResourceType, type Work } from "#schema/resource";
import { type JsonObject, upgrade } from "#schema/upgrade";
import { isObject, type ObjectValue } from "#schema/value";
import { identityOf } from "./identity.ts";
import { decodeObject, deferral, encodeState, type Session } from "./session.ts";

export function storedStateAnswers(session: Session): Handlers {
  return {
    UpgradeResourceState: (request) =>
      session.reporting("UpgradeResourceState", async (report) => {
        const type = session.resource(request.type_name);
        const state = upgraded(type, fromRawState(request.raw_state), request.version, report);
        return state === undefined
          ? {}
          : { upgraded_state: toDynamicValue(objectType(type.attributes), state) };
      }),

    UpgradeResourceIdentity: (request) =>
      session.reporting("UpgradeResourceIdentity", async (report) => {
        const { name, identity } = session.resource(request.type_name);
        if (identity === undefined) throw new DecodeError(`${name} has no identity`);
        if (isNewer(report, name, request.version, identity.version)) return {};
        const of = identityType(identity);
        const versions = { from: request.version, to: identity.version };
        const json = upgrade(fromRawState(request.raw_identity), versions, identity.upgrades);
        return {
          upgraded_identity: { identity_data: toDynamicValue(of, stateFromJson(of, json)) },
        };
      }),

    MoveResourceState: (request) =>
      session.reporting("MoveResourceState", async (report) => {
        const type = session.resource(request.target_type_name);
        const state = moved(type, request, report);
        if (state === undefined) return {};
        return {
          target_state: encodeState(type.attributes, state),
          ...identityOf(type, state, (target_identity) => ({ target_identity })),
        };
      }),

    ImportResourceState: (request) =>
      session.reporting("ImportResourceState", async (report) => {
        const type = session.resource(request.type_name);
        const deferred = deferral(session, request);
        if (deferred !== undefined) return { deferred };
        const work = session.work(report);
        const id = importId(type, request, report);
        if (work === undefined || id === undefined) return {};
        const state = await imported(type, work, id);
        if (state === null) return {};
        // an upgrader gives an object of wire values; it is encoded by the schema next
        const values = state as unknown as ObjectValue;
        return {
          imported_resources: [
            {
              type_name: type.name,
              state: encodeState(type.attributes, state),
              ...identityOf(type, values, (identity) => ({ identity })),
            },
          ],
        };
      }),

    GenerateResourceConfig: (request) =>
      session.reporting("GenerateResourceConfig", async () => {
        const type = session.resource(request.type_name);
        const state = decodeObject(type.attributes, request.state);
        const config = configurationOf(type.attributes, state);
        const corrected = type.configFrom?.(config, asStateOf(state)) ?? config;
        return { config: toDynamicValue(objectType(type.attributes), corrected) };
      }),
  };
}

/** True after it was reported. */
function isNewer(report: Report, name: string, stored: number, ours: number): boolean {
  if (stored <= ours) return false;
  report.error(
    "State of a newer provider",
    `This ${name} was written with schema version ${stored}, this provider knows ${ours}. Use the provider version that wrote it, or a newer one.`,
  );
  return true;
}

function upgraded(
  type: ResourceType,
  stored: JsonObject,
  from: number,
  report: Report,
): ObjectValue | undefined {
  if (isNewer(report, type.name, from, type.version)) return undefined;
  const json = upgrade(stored, { from, to: type.version }, type.upgrades);
  return stateFromJson(objectType(type.attributes), json) as ObjectValue;
}

/** A state of ours that stood at another address of this provider, or one that the type knows how to take over. */
function moved(
  type: ResourceType,
  request: RequestOf<"MoveResourceState">,
  report: Report,
): ObjectValue | undefined {
  const { source_provider_address: address, source_type_name: source } = request;
  const version = request.source_schema_version;
  const stored = fromRawState(request.source_state);
  if (source === type.name && isProvider(address, "drover/drover"))
    return upgraded(type, stored, version, report);
  const move = type.moves?.find((one) => one.type === source && isProvider(address, one.provider));
  if (move === undefined) {
    const known = (type.moves ?? []).map((one: Move<Attributes>) => one.type);
    const others = known.length === 0 ? "" : ` It can be moved from ${known.join(", ")}.`;
    report.error(
      "Cannot move this state",
      `A ${source} of ${address} cannot become a ${type.name}.${others} Remove it from the state and import it instead.`,
    );
    return undefined;
  }
  const state = move.state({ state: stored, schemaVersion: version }, report);
  if (state === null) return undefined;
  // an upgrader gives an object of wire values; it is encoded by the schema next
  const values = state as unknown as ObjectValue;
  return Object.fromEntries(
    Object.keys(type.attributes).map((name) => [name, values[name] ?? null]),
  );
}

/** Terraform sends the whole address, OpenTofu (1.11) only its last part. */
function isProvider(address: string, provider: string): boolean {
  return `/${address}`.endsWith(`/${provider}`) || address === provider.split("/").at(-1);
}

/** What to look up: as typed, or made of an identity. Undefined after an error was reported. */
function importId(
  type: ResourceType,
  request: RequestOf<"ImportResourceState">,
  report: Report,
): string | undefined {
  if (request.identity === undefined || request.id !== "") return request.id;
  const { identity } = type;
  if (identity === undefined) {
    report.error("No identity", `A ${type.name} has no identity; import it by ${type.importId}.`);
    return undefined;
  }
  const given = fromDynamicValue(identityType(identity), request.identity.identity_data);
  const values = isObject(given) ? given : {};
  const missing = Object.entries(identity.attributes)
    .filter(([name, one]) => one.requiredForImport === true && (values[name] ?? null) === null)
    .map(([name]) => name);
  if (missing.length === 0) return identity.importId(values);
  report.error(
    "Identity is not whole",
    `Set ${missing.join(", ")} in the import block's identity.`,
  );
  return undefined;
}

/** Null after an error was reported. */
async function imported(type: ResourceType, work: Work, id: string) {
  const state = await type.import(work, id);
  if (state === null && !work.report.failed)
    work.report.error(
      "Nothing to import",
      `The shepherd at ${work.client.endpoint} knows no ${type.name.replace("drover_", "")} "${id}". Name it by ${type.importId}.`,
    );
  return state;
}
