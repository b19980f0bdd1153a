/** Answers about actions and lists: what a user calls or looks up without declaring it. Both answer as they go. */
import { once } from "node:events";
import type { Handlers, ResponseOf } from "#plugin/serve";
import { toDiagnostics } from "#protocol/diagnostic";
import { toDynamicValue } from "#protocol/dynamic-value";
import { identityType } from "#protocol/identity";
import { objectType } from "#schema/attribute";
import type { Listed, ListType } from "#schema/list";
import { Report } from "#schema/report";
import { asStateOf, type ResourceType } from "#schema/resource";
import { validateConfig } from "./data-source.ts";
import { decodeObject, deferral, reportThrown, type Session } from "./session.ts";

export function actionAnswers(session: Session): Handlers {
  return {
    ValidateActionConfig: (request) =>
      session.reporting("ValidateActionConfig", async (report) => {
        const type = session.action(request.action_type);
        validateConfig(type, decodeObject(type.attributes, request.config), report);
        return {};
      }),
    PlanAction: (request) =>
      session.reporting("PlanAction", async (report) => {
        const type = session.action(request.action_type);
        const deferred = deferral(session, request);
        if (deferred !== undefined) return { deferred };
        if (type.plan === undefined || session.configUnknown) return {};
        const work = session.work(report);
        if (work !== undefined)
          await type.plan(work, asStateOf(decodeObject(type.attributes, request.config)));
        return {};
      }),

    async *InvokeAction(request, cancelled) {
      const report = new Report();
      const said: string[] = [];
      const bell = new EventTarget();
      let ended = false;
      const invoke = async () => {
        const type = session.action(request.action_type);
        const config = asStateOf(decodeObject(type.attributes, request.config));
        const work = session.work(report);
        if (work === undefined) return;
        const signal = AbortSignal.any([work.signal, cancelled]);
        await type.invoke({ ...work, signal }, config, (message) => {
          said.push(message);
          bell.dispatchEvent(new Event("ring"));
        });
      };
      const running = invoke()
        .catch((error: unknown) => reportThrown(report, "InvokeAction", error))
        .finally(() => {
          ended = true;
          bell.dispatchEvent(new Event("ring"));
        });
      for (;;) {
        for (const message of said.splice(0)) yield { progress: { message } };
        if (ended) break;
        // nothing can be said between this look and the wait: both are in one turn
        if (said.length === 0) await once(bell, "ring");
      }
      await running;
      yield { completed: { diagnostics: toDiagnostics(report.diagnostics) } };
    },
  };
}

export function listAnswers(session: Session): Handlers {
  return {
    ValidateListResourceConfig: (request) =>
      session.reporting("ValidateListResourceConfig", async (report) => {
        const type = session.list(request.type_name);
        validateConfig(type, decodeObject(type.attributes, request.config), report);
        return {};
      }),

    async *ListResource(request, cancelled) {
      const report = new Report();
      try {
        const list = session.list(request.type_name);
        const work = session.work(report);
        if (work !== undefined) {
          const signal = AbortSignal.any([work.signal, cancelled]);
          yield* events(list, session.resource(list.name), {
            found: list.list(
              { ...work, signal },
              asStateOf(decodeObject(list.attributes, request.config)),
              { limit: limitOf(request) },
            ),
            limit: limitOf(request),
            whole: request.include_resource_object,
          });
        }
      } catch (error) {
        reportThrown(report, "ListResource", error);
      }
      if (report.diagnostics.length > 0) yield { diagnostic: toDiagnostics(report.diagnostics) };
    },
  };
}

/** A client that names no limit takes all. */
function limitOf({ limit }: { readonly limit: number }): number {
  return limit > 0 ? limit : Number.MAX_SAFE_INTEGER;
}

async function* events(
  list: ListType,
  resource: ResourceType,
  options: { found: AsyncIterable<Listed>; limit: number; whole: boolean },
): AsyncIterable<ResponseOf<"ListResource">> {
  const { found, limit, whole } = options;
  const { identity } = resource;
  if (identity === undefined) throw new Error(`${list.name} is listed but has no identity`);
  let count = 0;
  for await (const one of found) {
    const state = whole ? ((await one.state?.()) ?? null) : null;
    yield {
      identity: { identity_data: toDynamicValue(identityType(identity), one.identity) },
      display_name: one.displayName,
      ...(state === null
        ? {}
        : { resource_object: toDynamicValue(objectType(resource.attributes), state) }),
    };
    count += 1;
    if (count >= limit) return;
  }
}
