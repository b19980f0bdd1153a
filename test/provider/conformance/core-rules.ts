/**
 * What Terraform's core computes and demands around a provider: the proposed new state, what a plan may say, what an
 * apply must keep. Pure; schemas as GetProviderSchema answers them, values as `fromValue` gives them.
 * Source: Terraform's objchange package, read at 1.11 (ProposedNew, AssertPlanValid, AssertObjectCompatible).
 */
import { isDeepStrictEqual } from "node:util";
import { UnknownValue } from "./values.ts";

export interface SchemaAttribute {
  readonly name: string;
  readonly required: boolean;
  readonly optional: boolean;
  readonly computed: boolean;
  readonly write_only: boolean;
  readonly nested_type: {
    readonly attributes: readonly SchemaAttribute[];
    readonly nesting: number;
  } | null;
}
export interface SchemaBlock {
  readonly attributes: readonly SchemaAttribute[];
}
type Values = Readonly<Record<string, unknown>>;

const nestings = { single: 1, list: 2, set: 3, map: 4 } as const;
const isValues = (value: unknown): value is Values =>
  typeof value === "object" &&
  value !== null &&
  !Array.isArray(value) &&
  !(value instanceof UnknownValue);

/** What core proposes: the configuration, and prior values for what is computed and left open. */
export function proposedNew(
  attributes: readonly SchemaAttribute[],
  prior: Values | null,
  config: Values,
): Values {
  return Object.fromEntries(
    attributes.map((attribute) => [
      attribute.name,
      proposedValue(attribute, prior?.[attribute.name] ?? null, config[attribute.name] ?? null),
    ]),
  );
}

function proposedValue(attribute: SchemaAttribute, prior: unknown, config: unknown): unknown {
  if (config === null) return attribute.computed ? prior : null;
  const { nested_type: nested } = attribute;
  if (nested === null) return config;
  const inner = (before: unknown, wanted: unknown) =>
    isValues(wanted)
      ? proposedNew(nested.attributes, isValues(before) ? before : null, wanted)
      : wanted;
  if (nested.nesting === nestings.single) return inner(prior, config);
  if (nested.nesting === nestings.list && Array.isArray(config))
    return config.map((item, i) => inner(Array.isArray(prior) ? prior[i] : null, item));
  if (nested.nesting === nestings.map && isValues(config))
    return Object.fromEntries(
      Object.entries(config).map(([key, item]) => [
        key,
        inner(isValues(prior) ? prior[key] : null, item),
      ]),
    );
  return config;
}

/** What core would call "Provider produced invalid plan"; empty when it is content. */
export function planProblems(
  attributes: readonly SchemaAttribute[],
  states: { readonly prior: Values | null; readonly config: Values; readonly planned: Values },
  path = "",
): readonly string[] {
  const { prior, config, planned } = states;
  return attributes.flatMap((attribute) => {
    const { name } = attribute;
    return planProblem(attribute, `${path}${name}`, {
      prior: prior?.[name] ?? null,
      config: config[name] ?? null,
      planned: planned[name] ?? null,
    });
  });
}

function planProblem(
  attribute: SchemaAttribute,
  path: string,
  values: { prior: unknown; config: unknown; planned: unknown },
): readonly string[] {
  const { prior, config, planned } = values;
  const { computed, nested_type: nested, write_only } = attribute;
  if (write_only) return planned === null ? [] : [`${path}: write-only, but planned`];
  if (isDeepStrictEqual(planned, config)) return [];
  if (planned instanceof UnknownValue && config instanceof UnknownValue) return []; // what is known of one may be left out
  if (config === null) return computed ? [] : [`${path}: planned, but neither set nor computed`];
  if (prior !== null && isDeepStrictEqual(planned, prior)) return [];
  const inside = nested === null ? undefined : pairs(nested.nesting, values);
  if (nested === null || inside === undefined)
    return [`${path}: planned ${show(planned)}, but set to ${show(config)}`];
  return inside.flatMap(({ step, ...states }) =>
    planProblems(nested.attributes, states, `${path}${step}.`),
  );
}

/** Items that belong together; undefined where the plan's shape is not the configuration's. */
function pairs(
  nesting: number,
  { prior, config, planned }: { prior: unknown; config: unknown; planned: unknown },
) {
  const pair = (step: string, before: unknown, wanted: unknown, will: unknown) =>
    isValues(wanted) && isValues(will)
      ? [{ step, prior: isValues(before) ? before : null, config: wanted, planned: will }]
      : undefined;
  if (nesting === nestings.single) return pair("", prior, config, planned);
  if (Array.isArray(config) && Array.isArray(planned)) {
    if (config.length !== planned.length) return undefined;
    if (nesting === nestings.set) return []; // items of a set are not compared one by one
    const all = config.map((item, i) =>
      pair(`[${i}]`, Array.isArray(prior) ? prior[i] : null, item, planned[i]),
    );
    return all.every((one) => one !== undefined) ? all.flat() : undefined;
  }
  if (!isValues(config) || !isValues(planned)) return undefined;
  if (!isDeepStrictEqual(Object.keys(config).toSorted(), Object.keys(planned).toSorted()))
    return undefined;
  const all = Object.entries(config).map(([key, item]) =>
    pair(`.${key}`, isValues(prior) ? prior[key] : null, item, planned[key]),
  );
  return all.every((one) => one !== undefined) ? all.flat() : undefined;
}

/** What core would call "Provider produced inconsistent result after apply"; empty when it is content. */
export function applyProblems(
  planned: unknown,
  applied: unknown,
  path = "state",
): readonly string[] {
  if (planned instanceof UnknownValue)
    return planned.refinements?.notNull === true && applied === null
      ? [`${path}: null, but planned to have a value`]
      : unknownsIn(applied, path);
  if (Array.isArray(planned) && Array.isArray(applied)) {
    if (planned.length !== applied.length)
      return [`${path}: ${applied.length} items, but ${planned.length} were planned`];
    return planned.flatMap((item, i) => applyProblems(item, applied[i], `${path}[${i}]`));
  }
  if (isValues(planned) && isValues(applied))
    return [...new Set([...Object.keys(planned), ...Object.keys(applied)])].flatMap((name) =>
      applyProblems(planned[name] ?? null, applied[name] ?? null, `${path}.${name}`),
    );
  return isDeepStrictEqual(planned, applied)
    ? []
    : [`${path}: ${show(applied)}, but ${show(planned)} was planned`];
}

/** Places that are still unknown where everything must be known. */
export function unknownsIn(value: unknown, path: string): readonly string[] {
  if (value instanceof UnknownValue) return [`${path}: still unknown`];
  if (Array.isArray(value)) return value.flatMap((item, i) => unknownsIn(item, `${path}[${i}]`));
  if (!isValues(value)) return [];
  return Object.entries(value).flatMap(([name, item]) => unknownsIn(item, `${path}.${name}`));
}

function show(value: unknown): string {
  return value instanceof UnknownValue ? "(unknown)" : JSON.stringify(value);
}
