/**
 * Constraints: rule instances that an environment declares for itself. Nothing runs by them, so no operation is needed;
 * the policy of the environment's owner judges with them from the next request on. They only add to what stands in
 * bundles, so whoever may declare in an environment may declare them, and take them back.
 */
import { Type } from "typebox";
import { checkOwner, type Principal } from "#api/access";
import type { Mutation } from "#api/contract";
import type { ConstraintCheckAnswer, ConstraintView } from "#api/contract-constraints";
import { mustFit, rulesOfOwner } from "#api/planned-constraints";
import {
  change,
  claimedConflict,
  environmentOf,
  find,
  findAndClaim,
  importId,
  listNamed,
  look,
  sameData,
} from "#api/records";
import { byId, ownEnvironment, status } from "#api/routes/environments";
import { Name } from "#api/schemas";
import { ConstraintBody, ConstraintCheckBody, ConstraintPatch } from "#api/schemas-constraints";
import type { ApiRouter } from "#api/server";
import type { ApiWorld } from "#api/world";
import { Fault } from "#model/fault";
import type { ConstraintRecord, ConstraintSpec } from "#model/objects";
import { constraintProblems, instanceOf, maxConstraints, shippedLevel } from "#policy/constraints";
import type { PolicySelf } from "#policy/output";
import type { Journal } from "#ports/store";

export function constraintRoutes(router: ApiRouter, world: ApiWorld): void {
  const { store, clock, ids, policies } = world;
  if (policies === undefined) return;

  router.put(
    "/v1/environments/:environment/constraints/:name",
    {
      config: { access: "declare" },
      schema: {
        params: Type.Object({ environment: Type.String(), name: Name }),
        body: ConstraintBody,
      },
    },
    async (request, reply): Promise<Mutation<ConstraintView>> => {
      const { principal, body } = request;
      const { name } = request.params;
      const owner = await store.read(
        async (journal) =>
          (await ownEnvironment(journal, request.params.environment, principal)).spec.owner,
      );
      const self = await rulesOf(owner);
      const { record, created } = await store.transaction(async (journal) => {
        const environment = await ownEnvironment(journal, request.params.environment, principal);
        const environmentId = environment.id;
        const spec: ConstraintSpec = {
          environmentId,
          name,
          rule: body.rule,
          level: body.level ?? shippedLevel(self, body.rule),
          params: body.params,
        };
        mustFit(self, spec);
        const key = `${environmentId}/${name}`;
        const existing = await journal.objects.findByKey("constraint", key);
        if (existing !== undefined) {
          if (existing.claimed) throw claimedConflict(existing, importId(environment, name));
          return { record: await changed(journal, existing, spec, principal), created: false };
        }
        const others = await journal.objects.list("constraint", { environmentId });
        if (others.length >= maxConstraints) {
          const { name: environmentName } = environment.spec;
          throw new Fault("constraint.too_many", { environment: environmentName, maxConstraints });
        }
        const fresh: ConstraintRecord = {
          kind: "constraint",
          id: ids.next(),
          key,
          environmentId,
          spec,
          effective: {},
          version: 1,
          claimed: false,
          createdAtMs: clock.nowMs(),
        };
        await journal.objects.put(fresh);
        await tell(journal, fresh, principal);
        return { record: fresh, created: true };
      });
      status(reply, created);
      return { object: constraintView(record), operation: null };
    },
  );

  router.get(
    "/v1/constraints",
    {
      config: { access: "read" },
      schema: {
        querystring: Type.Object({
          environment: Type.Optional(Type.String()),
          name: Type.Optional(Type.String()),
        }),
      },
    },
    async (request) => {
      const records = await store.read((journal) =>
        listNamed(journal, "constraint", request.query),
      );
      return { items: records.map(constraintView) };
    },
  );

  router.get("/v1/constraints/:id", byId("read"), async (request) =>
    constraintView(
      await store.transaction((journal) =>
        look(journal, "constraint", request.params.id, request.principal),
      ),
    ),
  );

  router.patch(
    "/v1/constraints/:id",
    { ...byId("declare"), schema: { ...byId("declare").schema, body: ConstraintPatch } },
    async (request): Promise<Mutation<ConstraintView>> => {
      const { id } = request.params;
      const { principal, body } = request;
      const owner = await store.read(async (journal) => (await own(journal, id, principal)).owner);
      const self = await rulesOf(owner);
      const record = await store.transaction(async (journal) => {
        await own(journal, id, principal);
        const found = await findAndClaim(journal, "constraint", id);
        const spec: ConstraintSpec = {
          ...found.spec,
          level: body.level ?? found.spec.level,
          params: body.params ?? found.spec.params,
        };
        mustFit(self, spec);
        return await changed(journal, found, spec, principal);
      });
      return { object: constraintView(record), operation: null };
    },
  );

  router.delete(
    "/v1/constraints/:id",
    byId("declare"),
    async (request): Promise<Mutation<ConstraintView>> => {
      await store.transaction(async (journal) => {
        const { record } = await own(journal, request.params.id, request.principal);
        await journal.objects.remove("constraint", record.id);
        await tell(journal, record, request.principal, "object.deleted");
      });
      return { object: null, operation: null };
    },
  );

  router.post(
    "/v1/constraint-checks",
    { config: { access: "declare", keys: "none" }, schema: { body: ConstraintCheckBody } },
    async (request): Promise<ConstraintCheckAnswer> => {
      const { environment, rule, level, params } = request.body;
      const owner =
        environment === undefined
          ? request.principal.name
          : await store.read(
              async (journal) =>
                (await ownEnvironment(journal, environment, request.principal)).spec.owner,
            );
      const self = await rulesOf(owner);
      const problems = constraintProblems(self, { rule, level, params });
      const isRule = problems.every(({ attribute }) => attribute !== "rule");
      return { level: isRule ? shippedLevel(self, rule) : null, problems: [...problems] };
    },
  );

  function rulesOf(owner: string): Promise<PolicySelf> {
    return rulesOfOwner(world, owner);
  }

  async function own(
    journal: Journal,
    id: string,
    principal: Principal,
  ): Promise<{ readonly record: ConstraintRecord; readonly owner: string }> {
    const record = await find(journal, "constraint", id);
    const { owner } = (await environmentOf(journal, record.spec.environmentId)).spec;
    checkOwner(principal, owner);
    return { record, owner };
  }

  async function changed(
    journal: Journal,
    record: ConstraintRecord,
    spec: ConstraintSpec,
    principal: Principal,
  ): Promise<ConstraintRecord> {
    if (sameData(spec, record.spec)) return record;
    const next = await change(journal, record, { spec });
    await tell(journal, next, principal);
    return next;
  }

  /** Whole, and with who did it: what policy judged by must be found in the log. */
  async function tell(
    journal: Journal,
    { id, key, environmentId, spec }: ConstraintRecord,
    principal: Principal,
    kind: "object.changed" | "object.deleted" = "object.changed",
  ): Promise<void> {
    const { rule, level, params } = spec;
    const data = { kind: "constraint", id, key, by: principal.name, rule, level, params };
    await journal.events.append({ kind, atMs: clock.nowMs(), environmentId, data });
  }
}

function constraintView({ id, spec, version }: ConstraintRecord): ConstraintView {
  const { environmentId, name, rule, level, params } = spec;
  const instance = instanceOf(name);
  return { id, environment_id: environmentId, name, rule, level, params, instance, version };
}
