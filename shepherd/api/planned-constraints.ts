/**
 * Constraints that a Terraform run is about to declare: what the run plans after them is judged as if they stood already.
 * Knows what a declaration may say, and whose rules it is held against; keeps nothing.
 */
import type { Static } from "typebox";
import { partial } from "#api/plan-asks";
import type { PlanCheckBody } from "#api/schemas";
import { ConstraintBody } from "#api/schemas-constraints";
import type { ApiWorld } from "#api/world";
import type { Facts } from "#model/facts";
import { Fault } from "#model/fault";
import type { ConstraintRecord, ConstraintSpec, EnvironmentRecord } from "#model/objects";
import type { Ms } from "#model/units";
import { constraintProblems, shippedLevel } from "#policy/constraints";
import type { PolicySelf } from "#policy/output";

/** The rules that speak for this environments' owner. Fault `constraint.no_policy`. */
export async function rulesOfOwner(
  { engines, policies }: Pick<ApiWorld, "engines" | "policies">,
  owner: string,
): Promise<PolicySelf> {
  const own = `owner:${owner}`;
  const speaker = engines.has(own) ? own : "owner:*";
  const state = engines.has(speaker) ? await policies?.state(speaker) : undefined;
  if (state?.self === undefined) throw new Fault("constraint.no_policy", { owner: own });
  return state.self;
}

/** Fault `request.invalid` at the attribute that is wrong. */
export function mustFit(self: PolicySelf, { rule, level, params }: ConstraintSpec): void {
  const [first] = constraintProblems(self, { rule, level, params });
  if (first === undefined) return;
  const { attribute, problem } = first;
  throw new Fault("request.invalid", { where: attribute, attribute, problem });
}

/**
 * Facts in which the environment has declared it. Undefined while rule or parameters are not known yet, and for one that
 * is taken back: that counts from the moment it is gone. Faults `constraint.no_policy`, `request.invalid`.
 */
export async function assumedConstraint(
  world: ApiWorld,
  { verb, id, name, body }: Static<typeof PlanCheckBody>,
  of: { readonly environment: EnvironmentRecord; readonly before: ConstraintRecord | undefined },
): Promise<((facts: Facts) => Facts) | undefined> {
  const { environment, before } = of;
  const said = partial(ConstraintBody, body);
  const called = name ?? before?.spec.name;
  const rule = said.rule ?? before?.spec.rule;
  if (verb === "delete" || called === undefined || rule === undefined || said.params === undefined)
    return undefined;
  const { ids, clock } = world;
  const self = await rulesOfOwner(world, environment.spec.owner);
  const spec: ConstraintSpec = {
    environmentId: environment.id,
    name: called,
    rule,
    level: said.level ?? shippedLevel(self, rule),
    params: said.params,
  };
  mustFit(self, spec);
  return withConstraint(recordOf(spec, id ?? ids.next(), clock.nowMs()));
}

function recordOf(spec: ConstraintSpec, id: string, nowMs: Ms): ConstraintRecord {
  return {
    kind: "constraint",
    id,
    key: `${spec.environmentId}/${spec.name}`,
    environmentId: spec.environmentId,
    spec,
    effective: {},
    version: 1,
    claimed: false,
    createdAtMs: nowMs,
  };
}

/** In the place of the one that has its name now. */
function withConstraint(declared: ConstraintRecord): (facts: Facts) => Facts {
  return (facts) => ({
    ...facts,
    constraints: [...(facts.constraints ?? []).filter(({ key }) => key !== declared.key), declared],
  });
}
