/**
 * `drover_constraint`: a rule that an environment's owner puts upon it beside what operator and sites demand. All owners
 * must agree, so it can only say no more often; exemptions are no resource.
 */
import { path } from "@drover/shepherd/api/client";
import type { ConstraintBody, ConstraintView } from "@drover/shepherd/api/contract";
import { attributes, type PlannedOf, type Validator } from "#schema/attribute";
import { identityById } from "#schema/identity";
import { defineResource } from "#schema/resource";
import { sameJson } from "#schema/same";
import { matches, objectName, oneOf } from "#schema/validators";
import { isUnknown } from "#schema/value";
import { declaredObject, splitImportId } from "./declared-object.ts";
import { findOne } from "./lookup.ts";

const jsonObject: Validator = (value, report) => {
  if (parseObject(String(value)) === undefined)
    report.error("Not a JSON object", `Write it as jsonencode({ max_mib = 2048 }).`);
};

const declared = attributes({
  id: { type: "string", computed: true, description: "Id of the constraint." },
  environment_id: {
    type: "string",
    required: true,
    replaces: true,
    description: "Id of the environment that it tightens.",
  },
  name: {
    type: "string",
    required: true,
    replaces: true,
    description: "Name, unique in its environment; findings are told under it.",
    validators: [objectName],
  },
  rule: {
    type: "string",
    required: true,
    replaces: true,
    description:
      "The rule that it enforces: `environment_quota`. `drover policy catalogue` lists them.",
    validators: [matches(/^[a-z][a-z0-9_]*$/, "the name of a rule, such as environment_quota")],
  },
  level: {
    type: "string",
    optional: true,
    computed: true,
    default: "deny",
    description: "`audit`, `warn`, `approve` or `deny`. Default `deny`.",
    validators: [oneOf(["audit", "warn", "approve", "deny"])],
  },
  params: {
    type: "string",
    required: true,
    description: "Parameters of the rule, as JSON: `jsonencode({ max_mib = 2048 })`.",
    validators: [jsonObject],
    same: sameJson,
  },
});

export const constraint = defineResource({
  name: "drover_constraint",
  version: 0,
  description: "A rule upon one environment, judged beside all owners'. It can only tighten.",
  importId: "environment/name or id",
  attributes: declared,
  identity: identityById("constraint"),
  ...declaredObject<typeof declared, ConstraintView>({
    noun: "constraint",
    typeName: "drover_constraint",
    attributes: Object.keys(declared),
    put: (planned) => ({
      path: path`/v1/environments/${String(planned.environment_id)}/constraints/${String(planned.name)}`,
      body: bodyOf(planned),
    }),
    one: (id) => path`/v1/constraints/${id}`,
    lookUp: (client, planned) =>
      findOne<ConstraintView>(client, "/v1/constraints", {
        environment: String(planned.environment_id),
        name: String(planned.name),
      }),
    patch: ({ prior, planned }) => {
      const { level, params } = bodyOf(planned);
      if (planned.level === prior.level && planned.params === prior.params) return undefined;
      return { level, params } satisfies Partial<ConstraintBody>;
    },
    state: (view) => ({
      state: {
        id: view.id,
        environment_id: view.environment_id,
        name: view.name,
        rule: view.rule,
        level: view.level,
        params: JSON.stringify(view.params),
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
  }),
});

function bodyOf(planned: PlannedOf<typeof declared>): ConstraintBody {
  return {
    rule: String(planned.rule),
    level: (isUnknown(planned.level) ? "deny" : (planned.level ?? "deny")) as "deny",
    params: parseObject(String(planned.params)) ?? {},
  };
}

function parseObject(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
    return isObject ? (value as Record<string, unknown>) : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}
