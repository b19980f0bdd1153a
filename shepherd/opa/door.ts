/**
 * The door of the policy engine: what does not fit the contract is refused, not evaluated, on the way in and on the way
 * out. Answers name the first few places; an empty list means welcome.
 */
import { Compile } from "typebox/compile";
import { Compile as CompileJsonSchema } from "typebox/schema";
import { PolicyData } from "#policy/data";
import { PolicyInput } from "#policy/input";
import { PolicyOutput, PolicySelf } from "#policy/output";
import type { PolicyEntrypoint } from "#ports/policy-engine";

/** Enough to see what is wrong; a broken input can have thousands. */
const problemLimit = 5;

const input = Compile(PolicyInput);
const output = Compile(PolicyOutput);
const data = Compile(PolicyData);
const self = Compile(PolicySelf);

/** Problems of an input at an entrypoint. */
export function inputProblems(entrypoint: PolicyEntrypoint, value: unknown): string[] {
  if (!input.Check(value)) return list(input.Errors(value));
  const known = value as PolicyInput;
  const planning = entrypoint === "plan_check";
  if (
    (known.point === "plan") !== planning ||
    (known.point === "audit") !== (entrypoint === "audit")
  )
    return [`point ${known.point} does not belong to ${entrypoint}`];
  if ((known.plan !== undefined) !== planning)
    return [planning ? "plan is missing" : "plan has no place before planning"];
  return [];
}

export function outputProblems(value: unknown): string[] {
  return output.Check(value) ? [] : list(output.Errors(value));
}

/** Problems of a bundle's data in itself. */
export function dataProblems(value: unknown): string[] {
  return data.Check(value) ? [] : list(data.Errors(value));
}

export function selfProblems(value: unknown): string[] {
  return self.Check(value) ? [] : list(self.Errors(value));
}

/** Problems of the instances against the rules that the bundle holds: unknown rules, parameters that do not fit. */
export function instanceProblems(given: PolicyData, known: PolicySelf): string[] {
  return Object.entries(given.drover.constraints).flatMap(([rule, instances]) => {
    const about = known.rules[rule];
    if (about === undefined)
      return [`${rule}: no such rule; there are ${Object.keys(known.rules).toSorted().join(", ")}`];
    const params = CompileJsonSchema(about.custom.params);
    return Object.entries(instances).flatMap(([id, instance]) =>
      params.Check(instance.params)
        ? []
        : list(params.Errors(instance.params)[1]).map(
            (problem) => `${rule}.${id}.params: ${problem}`,
          ),
    );
  });
}

interface SchemaProblem {
  readonly instancePath: string;
  readonly message: string;
  readonly keyword: string;
  readonly params: object;
}

function list(problems: Iterable<SchemaProblem>): string[] {
  return [...problems]
    .filter(({ keyword }) => keyword !== "boolean")
    .slice(0, problemLimit)
    .map(({ instancePath, message, params }) => {
      const place = instancePath.slice(1).replaceAll("/", ".");
      const detail = Object.values(params).flat().join(", ");
      return `${place}${place === "" ? "" : ": "}${message}${detail === "" ? "" : ` (${detail})`}`;
    });
}
