/**
 * Rule instances that an environment declares for itself (`drover_constraint`): which may be declared, how they reach the
 * policy of the environment's owner, and that they only ever tighten. They travel in the input, so that replay is exact,
 * and stand beside the bundle's own instances for one question. Pure; knows no journal and no engine.
 */
import { Compile } from "typebox/schema";
import { type ConstraintLevel, type ConstraintSpec, constraintLevels } from "#model/objects";
import type { PolicyData } from "#policy/data";
import type { PolicyConstraint } from "#policy/input";
import type { PolicySelf } from "#policy/output";

/** An environment that needs more has a policy of its own to write. */
export const maxConstraints = 32;

/** No name of a bundle's own instance holds a colon, so none of them can be replaced. */
const declaredPrefix = "stack:";

/** What a finding calls the instance. */
export function instanceOf(name: string): string {
  return `${declaredPrefix}${name}`;
}

/** The name under which the environment declared a finding's instance; undefined: it is the bundle's own. */
export function declaredName(instance: string): string | undefined {
  return instance.startsWith(declaredPrefix) ? instance.slice(declaredPrefix.length) : undefined;
}

export function constraintInput(spec: ConstraintSpec): PolicyConstraint {
  const { rule, name, level, params } = spec;
  return { rule, id: instanceOf(name), level, params: { ...params } };
}

/**
 * The data of a bundle with an environment's instances beside its own. Each adds a check, a limit or a place to avoid;
 * none can take the place of another, so the answer is never laxer than without.
 */
export function withConstraints(
  data: PolicyData,
  declared: readonly PolicyConstraint[],
): PolicyData {
  const constraints: Record<string, PolicyData["drover"]["constraints"][string]> = {
    ...data.drover.constraints,
  };
  for (const { rule, id, level, params } of declared) {
    const own = constraints[rule];
    // A name that is taken all the same keeps what stands there.
    constraints[rule] = { [id]: { level, params }, ...own };
  }
  return { drover: { ...data.drover, constraints } };
}

/** A rule that an environment may declare an instance of: one that judges by numbers which its owner may see. */
export function isDeclarable({ custom }: PolicySelf["rules"][string]): boolean {
  return custom.disclose === "owner";
}

/** What is wrong with a declaration, by the attribute that it concerns. */
export interface ConstraintProblem {
  readonly attribute: "rule" | "level" | "params";
  readonly problem: string;
}

/** Against the rules that are loaded for the environment's owner. `params` that are not known yet are not looked at. */
export function constraintProblems(
  self: Pick<PolicySelf, "rules">,
  asked: {
    readonly rule: string;
    readonly level?: ConstraintLevel | undefined;
    readonly params?: Readonly<Record<string, unknown>> | undefined;
  },
): readonly ConstraintProblem[] {
  const about = self.rules[asked.rule];
  if (about === undefined || !isDeclarable(about)) {
    const names = Object.entries(self.rules)
      .filter(([, one]) => isDeclarable(one))
      .map(([name]) => name)
      .toSorted();
    const why =
      about === undefined
        ? `there is no rule ${asked.rule}`
        : `${asked.rule} judges by numbers of others and is not an environment's to declare`;
    return [{ attribute: "rule", problem: `${why}; there are ${names.join(", ")}` }];
  }
  const problems: ConstraintProblem[] = [];
  const { level: least, params: schema } = about.custom;
  if (asked.level !== undefined && rank(asked.level) < rank(least)) {
    const problem = `${asked.level} is laxer than the ${least} that ${asked.rule} is meant for; a constraint only tightens`;
    problems.push({ attribute: "level", problem });
  }
  if (asked.params !== undefined) {
    const compiled = Compile(schema);
    if (!compiled.Check(asked.params)) {
      for (const error of compiled.Errors(asked.params)[1].slice(0, shownProblems)) {
        if (error.keyword === "boolean") continue;
        const detail = Object.values(error.params).flat().join(", ");
        const place = error.instancePath.slice(1).replaceAll("/", ".");
        const where = place === "" ? "" : `${place}: `;
        problems.push({
          attribute: "params",
          problem: `${where}${error.message}${detail === "" ? "" : ` (${detail})`}`,
        });
      }
    }
  }
  return problems;
}

/** Enough to see what is wrong. */
const shownProblems = 5;

/** The level that the rule is meant for. */
export function shippedLevel(self: Pick<PolicySelf, "rules">, rule: string): ConstraintLevel {
  return self.rules[rule]?.custom.level ?? "deny";
}

function rank(level: ConstraintLevel): number {
  return constraintLevels.indexOf(level);
}
