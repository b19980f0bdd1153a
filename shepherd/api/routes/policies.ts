/**
 * Policies of all owners: what is in force, activating and rolling back, trying a candidate on history, and a shadow on
 * live requests. Security, an owner for their own, and whoever stands at the shepherd; only a named person overrides.
 */
import { Readable } from "node:stream";
import { Type } from "typebox";
import { mayAccess, type Principal } from "#api/access";
import type {
  ActivationView,
  ExactnessView,
  GenerationView,
  PolicyDetail,
  PolicyView,
  TrialView,
} from "#api/contract-policies";
import type { ApiRouter } from "#api/server";
import type { ApiPolicies, ApiWorld } from "#api/world";
import { Fault } from "#model/fault";
import { maxPackedBytes } from "#opa/bundle-source";
import type { Generation } from "#opa/generations";
import type { ActivationReport, PolicyState } from "#opa/policies";
import type { Trial } from "#opa/trials";

const closed = { additionalProperties: false };
const Owner = Type.Object({ owner: Type.String({ minLength: 1, maxLength: 128 }) });
const reason = Type.String({ minLength: 1, maxLength: 500 });
const ActivateBody = Type.Object({ override_reason: Type.Optional(reason) }, closed);
const RollbackBody = Type.Object(
  { reason, generation: Type.Optional(Type.Integer({ minimum: 1 })) },
  closed,
);
const digits = Type.Optional(Type.String({ pattern: "^\\d{1,15}$" }));
const Range = Type.Object({ last: digits, since_ms: digits });
const defaultShadowMs = 86_400_000;
const longestShadowMs = 30 * 86_400_000;

export function policyRoutes(router: ApiRouter, world: ApiWorld): void {
  const { policies } = world;
  if (policies === undefined) return;

  router.get("/v1/policies", { config: { access: "read" } }, async ({ principal }) => ({
    items: (await policies.states())
      .filter(({ owner }) => maySee(principal, owner))
      .map(policyView),
  }));

  router.get(
    "/v1/policies/:owner",
    { config: { access: "read" }, schema: { params: Owner } },
    async ({ params: { owner }, principal }) => {
      // to a stack other owners' policies do not exist
      if (!maySee(principal, owner))
        throw new Fault("object.unknown", { kind: "policy", id: owner });
      return policyDetail(await policies.state(owner));
    },
  );

  router.post(
    "/v1/policies/:owner/activate",
    { config: { access: "read" }, schema: { params: Owner, body: ActivateBody } },
    async (request): Promise<ActivationView> => {
      const { principal } = request;
      const { owner } = request.params;
      checkRollsOut(world, principal, owner);
      const overrideReason = request.body.override_reason;
      if (overrideReason !== undefined && principal.role === "local-root")
        throw new Fault("policy.override_unnamed", { principal: principal.name });
      const by = principal.name;
      return activationView(
        await policies.activate(owner, {
          by,
          ...(overrideReason === undefined ? {} : { override: { by, reason: overrideReason } }),
        }),
      );
    },
  );

  router.post(
    "/v1/policies/:owner/rollback",
    { config: { access: "read" }, schema: { params: Owner, body: RollbackBody } },
    async (request): Promise<ActivationView> => {
      const { owner } = request.params;
      checkRollsOut(world, request.principal, owner);
      const by = request.principal.name;
      return activationView(await policies.rollback(owner, { by, ...request.body }));
    },
  );

  trialRoutes(router, world, policies);
}

function trialRoutes(router: ApiRouter, world: ApiWorld, policies: ApiPolicies): void {
  router.post(
    "/v1/policies/:owner/trials",
    { config: { access: "read" }, schema: { params: Owner, querystring: Range } },
    async (request, reply): Promise<TrialView> => {
      const { owner } = request.params;
      checkRollsOut(world, request.principal, owner);
      await policies.state(owner);
      const { last, since_ms } = request.query;
      const trial = await policies.trials.start({
        owner,
        packed: await bytesOf(request.body),
        by: request.principal.name,
        range: {
          last: last === undefined ? undefined : Number(last),
          sinceMs: since_ms === undefined ? undefined : Number(since_ms),
        },
      });
      if (trial === undefined) throw new Fault("policy.trials_busy");
      reply.code(202);
      return trialView(trial);
    },
  );

  router.get(
    "/v1/policy-trials/:id",
    { config: { access: "read" }, schema: { params: Type.Object({ id: Type.String() }) } },
    async (request): Promise<TrialView> => {
      const trial = policies.trials.get(request.params.id);
      if (trial === undefined)
        throw new Fault("object.unknown", { kind: "policy trial", id: request.params.id });
      // what it tells is other people's business
      checkRollsOut(world, request.principal, trial.owner);
      return trialView(trial);
    },
  );

  router.put(
    "/v1/policies/:owner/shadow",
    {
      config: { access: "read" },
      schema: { params: Owner, querystring: Type.Object({ for_ms: digits }) },
    },
    async (request): Promise<PolicyView> => {
      const { owner } = request.params;
      checkRollsOut(world, request.principal, owner);
      const forMs = Math.min(Number(request.query.for_ms ?? defaultShadowMs), longestShadowMs);
      return policyView(
        await policies.shadow(owner, {
          packed: await bytesOf(request.body),
          by: request.principal.name,
          untilMs: world.clock.nowMs() + forMs,
        }),
      );
    },
  );

  router.delete(
    "/v1/policies/:owner/shadow",
    { config: { access: "read" }, schema: { params: Owner } },
    async (request): Promise<PolicyView> => {
      checkRollsOut(world, request.principal, request.params.owner);
      return policyView(await policies.endShadow(request.params.owner));
    },
  );

  router.get(
    "/v1/policy-replay",
    { config: { access: "read" }, schema: { querystring: Range } },
    async (request): Promise<ExactnessView> => {
      // it asks of this shepherd as much as a day's requests
      checkRollsOut(world, request.principal, "operator");
      const { last, since_ms } = request.query;
      const { differing, ...counted } = await policies.verifyReplay({
        last: Number(last ?? 10_000),
        sinceMs: since_ms === undefined ? undefined : Number(since_ms),
      });
      return { ...counted, differing: [...differing] };
    },
  );
}

/** Instances and shadows tell of other people's numbers: a stack reads its own owner's policy only. */
function maySee({ role, name }: Principal, owner: string): boolean {
  return role !== "stack" || owner === `owner:${name}`;
}

/** Fault `access.denied`. An owner rolls out their own bundle: it is their signature that counts, and their site. */
function checkRollsOut(world: ApiWorld, principal: Principal, owner: string): void {
  if (principal.role === "local-root" || mayAccess(principal, "secure")) return;
  const [kind, name = ""] = owner.split(":");
  const speaker = kind === "site" ? siteOwner(world, name) : name;
  if (kind !== "operator" && principal.name === speaker) return;
  throw new Fault("access.denied", {
    principal: principal.name,
    role: principal.role,
    access: `roll out policies of ${owner}`,
  });
}

function siteOwner(world: ApiWorld, siteId: string): string | undefined {
  return world.sensing.sites().find(({ id }) => id === siteId)?.owner;
}

/** Faults `request.too_large`, `request.invalid`. */
async function bytesOf(body: unknown): Promise<Uint8Array> {
  if (!(body instanceof Readable)) {
    const problem = "a packed bundle is sent as application/octet-stream";
    throw new Fault("request.invalid", { where: "body", problem });
  }
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const chunk of body) {
    sizeBytes += (chunk as Uint8Array).length;
    if (sizeBytes > maxPackedBytes)
      throw new Fault("request.too_large", { limit_bytes: maxPackedBytes });
    chunks.push(chunk as Uint8Array);
  }
  return Buffer.concat(chunks);
}

function policyView(state: PolicyState): PolicyView {
  const { active, problem, shadow } = state;
  return {
    owner: state.owner,
    source: state.source,
    activation: state.activation,
    active: active === undefined ? null : generationView(active),
    generations: state.generations.map(generationView),
    is_stale: state.isStale,
    staged: state.staged ?? null,
    problem: problem === undefined ? null : { code: problem.code, message: problem.message },
    last_request_ms: state.lastRequestMs ?? null,
    last_download_ms: state.lastDownloadMs ?? null,
    shadow:
      shadow === undefined
        ? null
        : {
            revision: shadow.revision,
            by: shadow.by,
            since_ms: shadow.sinceMs,
            until_ms: shadow.untilMs,
            missed: shadow.missed,
            report: shadow.report,
          },
  };
}

function policyDetail(state: PolicyState): PolicyDetail {
  const constraints = state.data?.drover.constraints ?? {};
  return {
    ...policyView(state),
    rules: Object.entries(state.self?.rules ?? {})
      .toSorted(([left], [right]) => (left < right ? -1 : 1))
      .map(([rule, { title, description, custom }]) => ({
        rule,
        title,
        description,
        disclose: custom.disclose,
        params: custom.params,
        instances: Object.entries(constraints[rule] ?? {}).map(([id, { level, params }]) => ({
          id,
          level,
          params,
        })),
      })),
  };
}

function generationView(generation: Generation): GenerationView {
  return {
    n: generation.n,
    revision: generation.revision,
    policy_digest: generation.policyDigest,
    data_digest: generation.dataDigest,
    activated_at_ms: generation.activatedAtMs,
    by: generation.by,
    reason: generation.reason ?? null,
  };
}

function activationView(report: ActivationReport): ActivationView {
  return {
    owner: report.owner,
    generation: generationView(report.generation),
    steps: report.steps.map(({ step, told, durationMs }) => ({
      step,
      told,
      duration_ms: durationMs,
    })),
    flips: report.flips ?? null,
    overridden: report.overridden,
  };
}

function trialView(trial: Trial): TrialView {
  const { problem } = trial;
  return {
    id: trial.id,
    owner: trial.owner,
    by: trial.by,
    state: trial.state,
    begun_at_ms: trial.begunAtMs,
    duration_ms: trial.durationMs,
    recorded: trial.recorded,
    progress: { ...trial.progress },
    report: trial.report ?? null,
    problem:
      problem === undefined
        ? null
        : { code: problem.code, message: problem.message, hint: problem.hint },
  };
}
