/**
 * Checks of a bundle's data.yaml with places: which line, which rule, which instance, and what to write instead. The
 * shapes are policy/data.ts and the rules' own parameter schemas, read from their METADATA, so that nothing has to be
 * compiled or loaded first. The engine checks the same again, on what it loads. Pure.
 */
import { Compile } from "typebox/compile";
import { Compile as CompileJsonSchema } from "typebox/schema";
import { isMap, isNode, isScalar, LineCounter, parseDocument } from "yaml";
import type { SourceProblem } from "#opa/check-sources";
import { codeOf, packageMetadata, packageOf } from "#opa/rego-text";
import type { RegoSource } from "#opa/sources";
import { PolicyData } from "#policy/data";

const shape = Compile(PolicyData);
/** A document that is quite another thing has hundreds; these tell enough. */
const problemLimit = 20;

/** Problems of the data against the contract and against the rules of these sources. */
export function checkData(
  data: { readonly file: string; readonly text: string },
  sources: readonly RegoSource[],
): readonly SourceProblem[] {
  const lines = new LineCounter();
  const document = parseDocument(data.text, { lineCounter: lines, uniqueKeys: true });
  const [broken] = document.errors;
  if (broken !== undefined) {
    const line = lines.linePos(broken.pos[0]).line;
    const problem = broken.message.split("\n")[0] ?? broken.message;
    return [{ file: data.file, line, problem, fix: "mend the YAML" }];
  }
  const value: unknown = document.toJS();
  const at = (path: readonly string[], said: Omit<SourceProblem, "file" | "line">) => ({
    file: data.file,
    line: lineOf(document, lines, path),
    ...said,
  });
  if (!shape.Check(value)) {
    return [...shape.Errors(value)]
      .filter(({ keyword }) => keyword !== "boolean" && keyword !== "anyOf")
      .slice(0, problemLimit)
      .map((error) => at(pathOf(error), shapeProblem(error, value)));
  }
  const rules = ruleSchemas(sources);
  return [
    ...Object.entries(value.drover.constraints).flatMap(([rule, instances]) =>
      Object.entries(instances).flatMap(([instance, constraint]) => {
        const path = ["drover", "constraints", rule, instance];
        const schema = rules.get(rule);
        if (schema === undefined) {
          return [at(path, { rule, instance, ...unknownRule(rule, rules) })];
        }
        return paramsProblems(schema, constraint.params).map(({ problem, below }) => {
          const said = { problem: `${rule}.${instance}.params: ${problem}`, fix: schemaFix(rule) };
          return at([...path, "params", ...below], { rule, instance, ...said });
        });
      }),
    ),
    ...exemptionProblems(value, at),
  ];
}

type At = (path: readonly string[], said: Omit<SourceProblem, "file" | "line">) => SourceProblem;

/** An exemption that excuses nothing looks as if it did. */
function exemptionProblems({ drover }: PolicyData, at: At): SourceProblem[] {
  const seen = new Set<string>();
  return drover.exemptions.flatMap(({ id, rule, instance }, index) => {
    const path = ["drover", "exemptions", String(index)];
    const isTwice = seen.has(id);
    seen.add(id);
    const problems: SourceProblem[] = [];
    if (isTwice) {
      const problem = `two exemptions are called ${id}`;
      problems.push(at(path, { rule, instance, problem, fix: "give each an id of its own" }));
    }
    if (drover.constraints[rule]?.[instance] === undefined) {
      const problem = `exemption ${id} excuses ${rule}.${instance}, which is not in force here`;
      const known = Object.keys(drover.constraints[rule] ?? {}).join(", ");
      const fix = known === "" ? "remove it" : `name one of ${known}, or remove it`;
      problems.push(at(path, { rule, instance, problem, fix }));
    }
    return problems;
  });
}

interface ShapeError {
  readonly instancePath: string;
  readonly message: string;
  readonly keyword: string;
  readonly params: object;
}

function pathOf({ instancePath }: ShapeError): readonly string[] {
  return instancePath.split("/").slice(1).map(unescapePointer);
}

function unescapePointer(part: string): string {
  return part.replaceAll("~1", "/").replaceAll("~0", "~");
}

function shapeProblem(error: ShapeError, value: unknown): Omit<SourceProblem, "file" | "line"> {
  const path = pathOf(error);
  const [, kind, first, second] = path;
  const detail = Object.values(error.params).flat().join(", ");
  const place = path.join(".");
  const plain = `${place}${place === "" ? "" : ": "}${error.message}${detail === "" ? "" : ` (${detail})`}`;
  if (kind === "exemptions" && first !== undefined) {
    const one = at(value, path.slice(0, 3));
    const name = String(at(one, ["id"]) ?? first);
    const where = { rule: text(at(one, ["rule"])), instance: text(at(one, ["instance"])) };
    if (error.keyword === "required") {
      const problem = `exemption ${name} has no ${detail}`;
      return { ...where, problem, fix: `add ${detail}: ${exemptionWords(detail)}` };
    }
    return { ...where, problem: `exemption ${name}: ${plain}`, fix: "docs/policy.md shows one" };
  }
  if (kind === "constraints") {
    const isLevel = path.includes("level") || path.includes("levels");
    const fix = isLevel
      ? "a level is off, audit, warn, approve or deny"
      : "an instance is { level, params } and may have match and levels";
    return { rule: first, instance: second, problem: plain, fix };
  }
  return { problem: plain, fix: "data.yaml is { drover: { constraints, exemptions } }" };
}

function exemptionWords(fields: string): string {
  if (fields.includes("expires_ms")) return "when it ends, in milliseconds since 1970";
  if (fields.includes("approved_by")) return "who approved it";
  if (fields.includes("ticket")) return "where it was discussed";
  return "it says what is excused, for whom and until when";
}

function at(value: unknown, path: readonly string[]): unknown {
  return path.reduce<unknown>(
    (place, key) =>
      typeof place === "object" && place !== null
        ? (place as Readonly<Record<string, unknown>>)[key]
        : undefined,
    value,
  );
}

function text(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}

/** Parameter schemas by rule, from METADATA. */
function ruleSchemas(sources: readonly RegoSource[]): ReadonlyMap<string, object> {
  const schemas = new Map<string, object>();
  for (const source of sources) {
    const name = /^drover\.rules\.(\w+)$/.exec(packageOf(codeOf(source.text)))?.[1];
    const schema = at(packageMetadata(source.text)?.value, ["custom", "params"]);
    if (name !== undefined && typeof schema === "object" && schema !== null)
      schemas.set(name, schema);
  }
  return schemas;
}

function unknownRule(
  rule: string,
  rules: ReadonlyMap<string, object>,
): { readonly problem: string; readonly fix: string } {
  const near = [...rules.keys()].find((name) => isNear(name, rule));
  const fix =
    near === undefined
      ? `there are ${[...rules.keys()].toSorted().join(", ")}`
      : `did you mean ${near}?`;
  return { problem: `${rule}: no such rule`, fix };
}

/** A shorter one is part of too many. */
const minPartLength = 5;

/** A letter more, less or other, or one name within the other. */
function isNear(name: string, written: string): boolean {
  const isPart = name.length >= minPartLength && written.length >= minPartLength;
  if (isPart && (name.includes(written) || written.includes(name))) return true;
  if (Math.abs(name.length - written.length) > 1) return false;
  let start = 0;
  while (start < name.length && name[start] === written[start]) start += 1;
  const [rest, other] = [name.slice(start), written.slice(start)];
  return rest.slice(1) === other || rest === other.slice(1) || rest.slice(1) === other.slice(1);
}

function paramsProblems(
  schema: object,
  params: unknown,
): readonly { readonly problem: string; readonly below: readonly string[] }[] {
  const compiled = CompileJsonSchema(schema);
  if (compiled.Check(params)) return [];
  const errors: Iterable<ShapeError> = compiled.Errors(params)[1];
  return [...errors]
    .filter(({ keyword }) => keyword !== "boolean")
    .slice(0, problemLimit)
    .map((error) => {
      const below = pathOf(error);
      const detail = Object.values(error.params).flat().join(", ");
      const place = below.length === 0 ? "" : `${below.join(".")}: `;
      return { problem: `${place}${error.message}${detail === "" ? "" : ` (${detail})`}`, below };
    });
}

function schemaFix(rule: string): string {
  return `the METADATA of ${rule} says what it takes, and gives an example`;
}

/** The line of the deepest part of the path that is there. */
function lineOf(
  document: ReturnType<typeof parseDocument>,
  lines: LineCounter,
  path: readonly string[],
): number {
  for (let length = path.length; length > 0; length -= 1) {
    const keys = path.slice(0, length).map((key) => (/^\d+$/.test(key) ? Number(key) : key));
    const parent: unknown = document.getIn(keys.slice(0, -1), true);
    const last = keys.at(-1);
    const pair = isMap(parent)
      ? parent.items.find(({ key }) => isScalar(key) && key.value === last)
      : undefined;
    const node: unknown = pair?.key ?? document.getIn(keys, true);
    if (isNode(node) && node.range) return lines.linePos(node.range[0]).line;
  }
  return 1;
}
