/**
 * Answers about managed resources while they live: validated, read, planned, applied. Whatever goes wrong, the answer
 * holds the state that was reached: an answer without one would make Terraform forget the object.
 */
import type { Handlers, RequestOf, ResponseOf } from "#plugin/serve";
import { toAttributePath } from "#protocol/diagnostic";
import { fromDynamicValue, toDynamicValue } from "#protocol/dynamic-value";
import { type Attributes, objectType } from "#schema/attribute";
import { completePlan, replacements } from "#schema/plan";
import type { Report } from "#schema/report";
import {
  asStateOf,
  type Foreseen,
  type ForeseenChange,
  type PrivateData,
  type Reached,
  type ResourceType,
  type Work,
} from "#schema/resource";
import { keepSpelling } from "#schema/spelling";
import type { Verb } from "#schema/timeouts";
import { equal, isObject, type ObjectValue } from "#schema/value";
import { refuseWriteOnly } from "#schema/write-only";
import { validateConfig } from "./data-source.ts";
import { checkIdentity, identityOf } from "./identity.ts";
import {
  decodeObject,
  deferral,
  encodeState,
  readPrivate,
  type Session,
  writePrivate,
} from "./session.ts";

export function resourceAnswers(session: Session): Handlers {
  return {
    ValidateResourceConfig: (request) =>
      session.reporting("ValidateResourceConfig", async (report) => {
        const type = session.resource(request.type_name);
        const values = decodeObject(type.attributes, request.config);
        if (request.client_capabilities?.write_only_attributes_allowed !== true)
          refuseWriteOnly(type.attributes, values, report);
        validateConfig(type, values, report);
        return {};
      }),

    ReadResource: (request) => {
      const { current_state, private: kept, current_identity } = request;
      const asItWas = { new_state: current_state, private: kept, new_identity: current_identity };
      return session.reporting(
        "ReadResource",
        async (report) => {
          const deferred = deferral(session, request);
          return deferred === undefined
            ? await readResource(session, request, report)
            : { ...asItWas, deferred };
        },
        asItWas,
      );
    },

    PlanResourceChange: (request) =>
      session.reporting("PlanResourceChange", async (report) =>
        planResource(session, request, report),
      ),

    ApplyResourceChange: (request) =>
      session.reporting(
        "ApplyResourceChange",
        async (report) => applyResource(session, request, report),
        {
          new_state: request.prior_state,
          private: request.planned_private,
          new_identity: request.planned_identity,
        },
      ),
  };
}

async function readResource(
  session: Session,
  request: RequestOf<"ReadResource">,
  report: Report,
): Promise<ResponseOf<"ReadResource">> {
  const type = session.resource(request.type_name);
  const { attributes } = type;
  const current = decodeObject(attributes, request.current_state);
  const kept = readPrivate(request.private);
  const reached = await session.within(
    { attributes, values: current, verb: "read" },
    async (signal): Promise<Reached<Attributes>> => {
      const work = session.work(report, signal);
      return work === undefined
        ? { state: asStateOf(current) }
        : await type.read(work, asStateOf(current), kept);
    },
  );
  const state = reached.state as ObjectValue | null;
  const spelled = state && keepSpelling(attributes, current, state);
  checkIdentity(type, { before: request.current_identity, after: spelled }, report);
  return {
    new_state: encodeState(attributes, spelled),
    private: writePrivate(reached.private ?? kept),
    ...identityOf(type, spelled, (new_identity) => ({ new_identity })),
  };
}

async function planResource(
  session: Session,
  request: RequestOf<"PlanResourceChange">,
  report: Report,
): Promise<ResponseOf<"PlanResourceChange">> {
  const type = session.resource(request.type_name);
  const of = objectType(type.attributes);
  const prior = fromDynamicValue(of, request.prior_state);
  const proposed = fromDynamicValue(of, request.proposed_new_state);
  const config = fromDynamicValue(of, request.config);
  const kept = readPrivate(request.prior_private);
  const before = isObject(prior) ? prior : null;
  const deferred = deferral(session, request);
  const postponed = deferred === undefined ? {} : { deferred };
  if (!isObject(proposed) || !isObject(config)) {
    const change = { prior: before, planned: null, config: null, private: kept, replacing: [] };
    const foreseen = await foresee(session, type, change, report);
    return {
      planned_state: toDynamicValue(of, null),
      planned_private: writePrivate(foreseen.private ?? kept),
      ...postponed,
    };
  }
  const completed = completePlan(type.attributes, { prior: before, proposed, config });
  const adjusted = type.plan?.(
    {
      prior: before && asStateOf(before),
      config: asStateOf(config),
      planned: asStateOf(completed),
      private: kept,
    },
    report,
  );
  const planned = { ...completed, ...(adjusted as ObjectValue | undefined) };
  const replaced = before === null ? [] : replacements(type.attributes, before, planned);
  const change = {
    prior: before,
    planned,
    config,
    private: kept,
    replacing: replaced.map(([name]) => String(name)),
  };
  const foreseen = report.failed ? {} : await foresee(session, type, change, report);
  return {
    planned_state: encodeState(type.attributes, { ...planned, ...foreseen.planned }),
    requires_replace: replaced.map(toAttributePath),
    planned_private: writePrivate(foreseen.private ?? kept),
    ...postponed,
    ...identityOf(type, before, (planned_identity) => ({ planned_identity })),
  };
}

/** Asks the resource to look ahead, where there is a change and a shepherd to ask. */
async function foresee(
  session: Session,
  type: ResourceType,
  change: {
    readonly prior: ObjectValue | null;
    readonly planned: ObjectValue | null;
    readonly config: ObjectValue | null;
    readonly private: PrivateData;
    readonly replacing: readonly string[];
  },
  report: Report,
): Promise<Foreseen<Attributes>> {
  const { prior, planned } = change;
  if (type.foresee === undefined || session.configUnknown || equal(prior, planned)) return {};
  const work = session.work(report);
  if (work === undefined) return {};
  // uniform values; their shapes were checked when they were decoded
  return (await type.foresee(work, change as unknown as ForeseenChange<Attributes>)) ?? {};
}

async function applyResource(
  session: Session,
  request: RequestOf<"ApplyResourceChange">,
  report: Report,
): Promise<ResponseOf<"ApplyResourceChange">> {
  const type = session.resource(request.type_name);
  const { attributes } = type;
  const of = objectType(attributes);
  const prior = fromDynamicValue(of, request.prior_state);
  const planned = fromDynamicValue(of, request.planned_state);
  const config = fromDynamicValue(of, request.config);
  const change: Change = {
    prior: isObject(prior) ? prior : null,
    planned: isObject(planned) ? planned : null,
    config: isObject(config) ? config : {},
    kept: readPrivate(request.planned_private),
  };
  const verb: Verb =
    change.planned === null ? "delete" : change.prior === null ? "create" : "update";
  const values = change.planned ?? change.prior ?? {};
  const reached = await session.within({ attributes, values, verb }, async (signal) => {
    const work = session.work(report, signal);
    return work === undefined
      ? { state: change.prior && asStateOf(change.prior) }
      : await carryOut(type, work, change);
  });
  const state = reached.state as ObjectValue | null;
  const spelled = state && keepSpelling(attributes, change.planned ?? {}, state);
  if (verb === "update")
    checkIdentity(type, { before: request.planned_identity, after: spelled }, report);
  return {
    new_state: encodeState(attributes, spelled),
    private: writePrivate(reached.private ?? change.kept),
    ...identityOf(type, spelled, (new_identity) => ({ new_identity })),
  };
}

interface Change {
  readonly prior: ObjectValue | null;
  readonly planned: ObjectValue | null;
  readonly config: ObjectValue;
  readonly kept: PrivateData;
}

async function carryOut(
  type: ResourceType,
  work: Work,
  { prior, planned, config, kept }: Change,
): Promise<Reached<Attributes>> {
  if (planned === null) {
    if (prior === null) return { state: null };
    const state = asStateOf(prior);
    await type.remove(work, state, kept);
    return { state: work.report.failed ? state : null };
  }
  const wanted = { planned: asStateOf(planned), config: asStateOf(config), private: kept };
  if (prior === null) return await type.create(work, wanted);
  return await type.update(work, { ...wanted, prior: asStateOf(prior) });
}
