/** Answers about data sources and ephemeral resources: both are read by their configuration. */
import type { Handlers } from "#plugin/serve";
import { toDynamicValue } from "#protocol/dynamic-value";
import { toTimestamp } from "#protocol/ephemeral";
import { type Attributes, objectType, type PlannedOf, type Rule } from "#schema/attribute";
import type { Report } from "#schema/report";
import { asStateOf } from "#schema/resource";
import { validateValues } from "#schema/validate";
import { type ObjectValue, unknown } from "#schema/value";
import {
  decodeObject,
  deferral,
  encodeState,
  readPrivate,
  type Session,
  writePrivate,
} from "./session.ts";

/** What every kind of configuration is checked by. */
interface Checked {
  readonly attributes: Attributes;
  readonly rules?: readonly Rule[];
  readonly validate?: (config: PlannedOf<Attributes>, report: Report) => void;
}

export function validateConfig(type: Checked, values: ObjectValue, report: Report): void {
  validateValues(type.attributes, values, report);
  for (const rule of type.rules ?? []) rule(values, report);
  type.validate?.(asStateOf(values), report);
}

export function dataSourceAnswers(session: Session): Handlers {
  return {
    ValidateDataResourceConfig: (request) =>
      session.reporting("ValidateDataResourceConfig", async (report) => {
        const type = session.dataSource(request.type_name);
        validateConfig(type, decodeObject(type.attributes, request.config), report);
        return {};
      }),
    ReadDataSource: (request) =>
      session.reporting("ReadDataSource", async (report) => {
        const type = session.dataSource(request.type_name);
        const deferred = deferral(session, request);
        if (deferred !== undefined) return { deferred, state: allUnknown(type.attributes) };
        const work = session.work(report);
        if (work === undefined) return {};
        const state = await type.read(
          work,
          asStateOf(decodeObject(type.attributes, request.config)),
        );
        return state === null ? {} : { state: encodeState(type.attributes, state) };
      }),
  };
}

export function ephemeralAnswers(session: Session): Handlers {
  return {
    ValidateEphemeralResourceConfig: (request) =>
      session.reporting("ValidateEphemeralResourceConfig", async (report) => {
        const type = session.ephemeral(request.type_name);
        validateConfig(type, decodeObject(type.attributes, request.config), report);
        return {};
      }),
    OpenEphemeralResource: (request) =>
      session.reporting("OpenEphemeralResource", async (report) => {
        const type = session.ephemeral(request.type_name);
        const deferred = deferral(session, request);
        if (deferred !== undefined) return { deferred, result: allUnknown(type.attributes) };
        const work = session.work(report);
        if (work === undefined) return {};
        const config = decodeObject(type.attributes, request.config);
        const opened = await type.open(work, asStateOf(config));
        if (opened === null) return {};
        return { result: encodeState(type.attributes, opened.result), ...continued(opened) };
      }),
    RenewEphemeralResource: (request) =>
      session.reporting("RenewEphemeralResource", async (report) => {
        const type = session.ephemeral(request.type_name);
        const work = session.work(report);
        if (work === undefined) return {};
        const kept = readPrivate(request.private);
        const renewed = await type.renew?.(work, kept);
        return continued({ private: kept, ...renewed }); // what is not sent back is lost
      }),
    CloseEphemeralResource: (request) =>
      session.reporting("CloseEphemeralResource", async (report) => {
        const type = session.ephemeral(request.type_name);
        if (type.close === undefined) return {};
        const work = session.work(report);
        if (work !== undefined) await type.close(work, readPrivate(request.private));
        return {};
      }),
  };
}

function continued(open: {
  readonly renewAtMs?: number;
  readonly private?: Readonly<Record<string, unknown>>;
}) {
  return {
    ...(open.renewAtMs === undefined ? {} : { renew_at: toTimestamp(open.renewAtMs) }),
    ...(open.private === undefined ? {} : { private: writePrivate(open.private) }),
  };
}

function allUnknown(declared: Attributes) {
  return toDynamicValue(objectType(declared), unknown);
}
