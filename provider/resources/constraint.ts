/**
 * `drover_constraint`: one more instance of a rule, for the environment's own requests. It only adds to what its owner's
 * policy says, so it can tighten and never loosen; there is no resource that excuses from a rule.
 */
import { path } from "@drover/shepherd/api/client";
import type {
  ConstraintBody,
  ConstraintCheckAnswer,
  ConstraintCheckBody,
  ConstraintPatch,
  ConstraintView,
} from "@drover/shepherd/api/contract-constraints";
import { attributes, type PlannedOf } from "#schema/attribute";
import { identityById } from "#schema/identity";
import type { Report } from "#schema/report";
import { defineResource, type Foreseen, type ForeseenChange, type Work } from "#schema/resource";
import { sameJson } from "#schema/same";
import { jsonObject, objectName, oneOf } from "#schema/validators";
import { isUnknown } from "#schema/value";
import { declaredObject, splitImportId } from "./declared-object.ts";
import { findOne } from "./lookup.ts";
import { tellPlan } from "./plan-check.ts";
import { reportError } from "./problems.ts";

type Level = NonNullable<ConstraintBody["level"]>;

const declared = attributes({
  id: { type: "string", computed: true, neverNull: true, description: "Id of the constraint." },
  environment_id: {
    type: "string",
    required: true,
    replaces: true,
    description: "Id of the environment that binds itself.",
  },
  name: {
    type: "string",
    required: true,
    replaces: true,
    description: "Name, unique in its environment.",
    validators: [objectName],
  },
  rule: {
    type: "string",
    required: true,
    replaces: true,
    description:
      "Rule of the environment's owner; `drover policy catalogue owner:<name>` lists them with their parameters. Rules that judge by numbers of others cannot be declared.",
  },
  level: {
    type: "string",
    optional: true,
    computed: true,
    description:
      "`warn`, `approve` or `deny`, not laxer than what the rule is meant for. Default: what the rule is meant for.",
    validators: [oneOf(["audit", "warn", "approve", "deny"])],
  },
  params: {
    type: "string",
    required: true,
    description: "The rule's parameters as JSON: `jsonencode({ … })`.",
    validators: [jsonObject],
    same: sameJson,
  },
  instance: {
    type: "string",
    computed: true,
    description: "What decisions, `drover explain` and `drover audit` call it.",
  },
});
type Declared = typeof declared;

const object = declaredObject<Declared, ConstraintView>({
  noun: "constraint",
  typeName: "drover_constraint",
  attributes: Object.keys(declared),
  put: (planned) => ({
    path: path`/v1/environments/${String(planned.environment_id)}/constraints/${String(planned.name)}`,
    body: {
      rule: String(planned.rule),
      params: parameters(planned) ?? {},
      ...levelOf(planned),
    } satisfies ConstraintBody,
  }),
  one: (id) => path`/v1/constraints/${id}`,
  lookUp: (client, planned) =>
    findOne<ConstraintView>(client, "/v1/constraints", {
      environment: String(planned.environment_id),
      name: String(planned.name),
    }),
  patch: ({ planned }) =>
    ({
      params: parameters(planned) ?? {},
      ...levelOf(planned),
    }) satisfies ConstraintPatch,
  state: (view) => ({
    state: {
      id: view.id,
      environment_id: view.environment_id,
      name: view.name,
      rule: view.rule,
      level: view.level,
      params: JSON.stringify(view.params),
      instance: view.instance,
    },
  }),
  idOf: (state) => state.id ?? "",
  nameOf: (state) => String(state.name),
  find: (client, id) => {
    const key = splitImportId(id);
    return key === undefined
      ? client.find(path`/v1/constraints/${id}`)
      : findOne<ConstraintView>(client, "/v1/constraints", key);
  },
  importIdOf: (planned) => `${String(planned.environment_id)}/${String(planned.name)}`,
});

export const constraint = defineResource({
  name: "drover_constraint",
  version: 0,
  description:
    "One more rule instance for an environment's own requests: it can only tighten what its owner's policy says. What the same plan declares after it (`depends_on`) is judged by it, too.",
  importId: "environment/name or id",
  attributes: declared,
  identity: identityById("constraint"),
  // The name says what it is called, so it is known before it is there.
  plan: ({ planned }) =>
    typeof planned.name === "string" ? { instance: `stack:${planned.name}` } : {},
  ...object,
  foresee: checked,
});

/** The owner's policy looks at rule, level and parameters at plan time; a level that nobody named is known then. */
async function checked(
  work: Work,
  { prior, planned, config }: ForeseenChange<Declared>,
): Promise<Foreseen<Declared> | undefined> {
  if (planned === null || typeof planned.rule !== "string") return undefined;
  const params = parameters(planned);
  const body: ConstraintCheckBody = {
    rule: planned.rule,
    ...(typeof planned.environment_id === "string" ? { environment: planned.environment_id } : {}),
    ...levelOf(planned),
    ...(params === undefined ? {} : { params }),
  };
  try {
    const answer = await work.client.call<ConstraintCheckAnswer>("POST", "/v1/constraint-checks", {
      body,
      signal: work.signal,
    });
    tell(work.report, answer, planned);
    if (answer.problems.length === 0 && params !== undefined)
      await judgeBy(work, { prior, planned }, { ...body, params });
    // One that the configuration names, but does not know yet, stays what it is to be.
    return answer.level !== null && isUnknown(planned.level) && config?.level === null
      ? { planned: { level: answer.level } }
      : undefined;
  } catch (error) {
    const what = `check constraint "${String(planned.name)}"`;
    reportError(work, error, { what, attributes: Object.keys(declared) });
    return undefined;
  }
}

/** What this plan declares after it is judged as if it stood already; whatever `depends_on` it is after it. */
async function judgeBy(
  work: Work,
  { prior, planned }: Pick<ForeseenChange<Declared>, "prior" | "planned">,
  { environment, ...body }: ConstraintCheckBody,
): Promise<void> {
  const name = String(planned?.name);
  const same = prior !== null && prior.name === planned?.name && prior.rule === planned.rule;
  const what = `judge the rest of the plan by constraint "${name}"`;
  const of = {
    kind: "constraint" as const,
    name,
    body: { ...body },
    ...(environment === undefined ? {} : { environment }),
  };
  await tellPlan(work, { ...of, verb: same ? "update" : "create" }, what);
}

function tell(
  report: Report,
  { problems }: ConstraintCheckAnswer,
  { rule, name, environment_id }: PlannedOf<Declared>,
): void {
  const summaries = {
    rule: "No rule to declare",
    level: "A constraint only tightens",
    params: `Parameters that ${String(rule)} does not take`,
  };
  for (const { attribute, problem } of problems) {
    const detail = `Constraint "${String(name)}": ${problem}. \`drover policy catalogue --rule ${String(rule)}\` shows what it takes. [request.invalid]`;
    // While nobody knows whose environment it will be, its owner's rules may yet be others.
    if (isUnknown(environment_id)) report.at(attribute).warning(summaries[attribute], detail);
    else report.at(attribute).error(summaries[attribute], detail);
  }
}

function levelOf({ level }: PlannedOf<Declared>): { readonly level?: Level } {
  return typeof level === "string" ? { level: level as Level } : {};
}

/** Undefined while they are unknown. */
function parameters({ params }: PlannedOf<Declared>): Record<string, unknown> | undefined {
  return typeof params === "string"
    ? (JSON.parse(params) as Record<string, unknown>) // the validator has seen an object
    : undefined;
}
