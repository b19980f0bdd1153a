/**
 * Checks of Rego that opa does not make, or makes too late to be understood: what would be undecidable, what compiles
 * into a policy that fails open, what replaces the contract. Works on text, without opa, on folders and on bundles from
 * elsewhere. Each problem names file and line, and what to write instead. Pure.
 */
import { allowedBuiltins } from "#opa/capabilities";
import {
  bracketed,
  codeOf,
  definitionsOf,
  importsOf,
  lineAt,
  packageMetadata,
  packageOf,
} from "#opa/rego-text";
import type { RegoSource } from "#opa/sources";

export interface SourceProblem {
  /** As its owner knows it. */
  readonly file: string;
  /** From 1. */
  readonly line: number;
  readonly rule?: string | undefined;
  readonly instance?: string | undefined;
  readonly problem: string;
  readonly fix: string;
}

/** One line for people. */
export function describeProblem({ file, line, problem, fix }: SourceProblem): string {
  return `${file}:${line}: ${problem}; ${fix}`;
}

/** Entrypoints that every bundle answers: rule name in package drover.main, or the whole package path. */
const entrypoints = ["decision", "plan_check", "audit", "roles", "self"];

interface Read {
  readonly source: RegoSource;
  readonly code: string;
  readonly package: string;
}

/** Problems of an owner's own Rego, beside the library that every bundle has. Empty: nothing to object to. */
export function checkSources(
  library: readonly RegoSource[],
  own: readonly RegoSource[],
): readonly SourceProblem[] {
  const all = [...library, ...own].map(read);
  const owned = all.slice(library.length);
  const taken = new Set(all.slice(0, library.length).map((one) => one.package));
  return [
    ...owned.flatMap((one) => packageProblems(one, taken)),
    ...ruleProblems(owned),
    ...all.flatMap(negationProblems),
    ...builtinProblems(all),
    ...entrypointProblems(all),
  ];
}

/** Problems of a whole bundle from elsewhere, where library and own rules cannot be told apart. */
export function checkBundle(sources: readonly RegoSource[]): readonly SourceProblem[] {
  const all = sources.map(read);
  return [
    ...all.flatMap(negationProblems),
    ...builtinProblems(all),
    ...entrypointProblems(all),
    ...ruleProblems(all.filter((one) => one.package.startsWith("drover.rules."))),
  ];
}

function read(source: RegoSource): Read {
  const code = codeOf(source.text);
  return { source, code, package: packageOf(code) };
}

function problemAt(
  { source, code }: Read,
  offset: number,
  said: { readonly problem: string; readonly fix: string; readonly rule?: string },
): SourceProblem {
  return { file: source.path, line: lineAt(code, offset), ...said };
}

function packageProblems(one: Read, taken: ReadonlySet<string>): SourceProblem[] {
  const offset = Math.max(0, one.code.search(/^[^\S\n]*package\s/m));
  if (!/^drover\.rules\.[a-z][a-z0-9_]*$/.test(one.package)) {
    const problem = `an owner's rule is a package drover.rules.<name>, this is "${one.package}"`;
    return [problemAt(one, offset, { problem, fix: "name the package drover.rules.<name>" })];
  }
  if (!taken.has(one.package)) return [];
  const problem = `${one.package} is a rule of drover's own`;
  return [problemAt(one, offset, { problem, fix: "choose another name" })];
}

/** A rule has METADATA that says what it takes, hands it out as `about`, and gives values as `checks`. */
function ruleProblems(owned: readonly Read[]): SourceProblem[] {
  const packages = Map.groupBy(owned, (one) => one.package);
  return [...packages].flatMap(([name, files]) => {
    const [first] = files;
    if (first === undefined) return [];
    const rule = name.split(".").at(-1) ?? name;
    const defined = new Set(files.flatMap(({ code }) => definitionsOf(code)));
    const missing = (what: string, fix: string) =>
      problemAt(first, 0, { rule, problem: `rule ${rule} has no \`${what}\``, fix });
    return [
      ...(defined.has("checks")
        ? []
        : [missing("checks", 'write checks[id] := {"ok": …, "msg": …, "params": …} if { … }')]),
      ...(defined.has("about")
        ? []
        : [missing("about", "write about := rego.metadata.chain()[1].annotations")]),
      ...metadataProblems(files, rule),
      ...files.flatMap((one) => checkProblems(one, rule)),
    ];
  });
}

function metadataProblems(files: readonly Read[], rule: string): SourceProblem[] {
  const found = files.flatMap((one) => {
    const metadata = packageMetadata(one.source.text);
    return metadata === undefined ? [] : [{ one, metadata }];
  });
  const [first] = files;
  const [given] = found;
  if (first === undefined) return [];
  if (given === undefined) {
    const fix = "write a METADATA comment with title, description, custom.disclose, level, params";
    const problem = `rule ${rule} has no METADATA above its package`;
    return [problemAt(first, 0, { rule, problem, fix })];
  }
  const { line, value, problem } = given.metadata;
  const at = (said: { problem: string; fix: string }): SourceProblem => ({
    file: given.one.source.path,
    line,
    rule,
    ...said,
  });
  if (problem !== undefined) {
    return [at({ problem: `METADATA is no YAML: ${problem}`, fix: "mend it" })];
  }
  const about = fieldsOf(value);
  const custom = fieldsOf(about["custom"]);
  const params = custom["params"];
  return [
    ...["title", "description"]
      .filter((key) => typeof about[key] !== "string")
      .map((key) =>
        at({ problem: `METADATA has no ${key}`, fix: `say it in one line: ${key}: …` }),
      ),
    ...(["owner", "operator"].includes(String(custom["disclose"]))
      ? []
      : [
          at({
            problem: "custom.disclose does not say who may read the rule's numbers",
            fix: "write owner (about the environment alone) or operator",
          }),
        ]),
    ...(["off", "audit", "warn", "approve", "deny"].includes(String(custom["level"]))
      ? []
      : [at({ problem: "custom.level is no level", fix: "write audit, warn, approve or deny" })]),
    ...(typeof params === "object" && params !== null && fieldsOf(params)["type"] === "object"
      ? []
      : [
          at({
            problem: "custom.params is no JSON Schema of an object",
            fix: "write {type: object, additionalProperties: false, required: […], properties: {…}}",
          }),
        ]),
  ];
}

function fieldsOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null ? { ...value } : {};
}

/** Heads of `checks` whose value cannot be one: without a value, or an object without what a check must have. */
function checkProblems(one: Read, rule: string): SourceProblem[] {
  return [...one.code.matchAll(/^(?:default\s+)?checks\b([^\n]*)/gm)].flatMap(
    ({ index, 0: head, 1: rest = "" }): SourceProblem[] => {
      const fix = 'write checks[id] := {"ok": …, "msg": …, "params": …} if { … }';
      const at = (problem: string) => [problemAt(one, index, { rule, problem, fix })];
      if (/^\s+contains\b/.test(rest)) return at("a check is a member of a set, not a value");
      const assigned = /:?=\s*/.exec(head);
      const isDefault = head.startsWith("default");
      const body = /\bif\b/.exec(head);
      if (assigned === null || (body !== null && body.index < assigned.index)) {
        return at("a check has no value: true alone decides nothing");
      }
      const open = index + assigned.index + assigned[0].length;
      const value = valueAt(one.code, open);
      if (value === undefined) return isDefault ? at("a default makes up a value") : [];
      const written = one.source.text.slice(open, open + value.length);
      const missing = ["ok", "msg", "params"].filter((key) => !written.includes(`"${key}"`));
      return missing.length === 0
        ? []
        : at(`a check has no ${missing.map((key) => `"${key}"`).join(", ")}`);
    },
  );
}

/** The literal object, or the call that builds it; undefined for anything else, which only running can tell. */
function valueAt(code: string, open: number): string | undefined {
  const start = /^(?:object\.union(?:_n)?\()?[\s[]*(?=\{)|^object\.union(?:_n)?\(/.exec(
    code.slice(open),
  );
  if (start === null) return undefined;
  const bracket = open + code.slice(open).search(/[({]/);
  const value = bracketed(code, bracket);
  // brackets that do not close are the compiler's to tell
  return value === undefined ? undefined : code.slice(open, bracket) + value;
}

/**
 * OPA 1.20.2 miscompiles an inline `not` over data with a variable part, imported names included, for WASM: an absent
 * value passes.
 */
function negationProblems(one: Read): SourceProblem[] {
  const roots = ["data", ...importsOf(one.code)].join("|");
  const path = String.raw`(?:\s*\.\s*\w+|\[\s*"[^"]*"\s*\])*`;
  const negation = new RegExp(String.raw`\bnot\s+\(?\s*(?:${roots})\b${path}\[(?!\s*")`, "g");
  return [...one.code.matchAll(negation)].map(({ index }) =>
    problemAt(one, index, {
      problem: "inline `not` over a dynamic data path compiles into a rule that fails open",
      fix: "bind the value first (v := data.x[y]; not v.ok), or ask a helper rule",
    }),
  );
}

const keywords = new Set(
  "as contains default else every false if import in not null package set some true with".split(
    " ",
  ),
);

/** Calls of anything that is neither allowed nor written in these files. */
function builtinProblems(all: readonly Read[]): SourceProblem[] {
  const defined = new Map<string, Set<string>>();
  for (const one of all) {
    const names = defined.get(one.package) ?? new Set();
    for (const name of definitionsOf(one.code)) names.add(name);
    defined.set(one.package, names);
  }
  return all.flatMap((one) => {
    const near = new Set(["data", "input", "rego", ...importsOf(one.code)]);
    const own = defined.get(one.package) ?? new Set();
    return [...one.code.matchAll(/(?<![\w.])([a-zA-Z_]\w*(?:\.\w+)*)\(/g)].flatMap(
      ({ index, 1: name = "" }) => {
        const root = name.split(".")[0] ?? name;
        const isKnown =
          allowedBuiltins.has(name) ||
          keywords.has(name) ||
          own.has(root) ||
          (root !== name && near.has(root) && root !== "rego");
        if (isKnown) return [];
        const problem = `${name} is no built-in that policies may use`;
        return [problemAt(one, index, { problem, fix: insteadOf(name) })];
      },
    );
  });
}

function insteadOf(builtin: string): string {
  if (builtin === "sprintf") return 'write a template string: $"{value} MiB"';
  if (builtin === "print" || builtin === "trace") return "put it into msg or params";
  if (builtin.startsWith("time.")) return "compute with input.now_ms, integer milliseconds";
  if (/^(?:http|net|opa|rand|uuid)\./.test(builtin)) {
    return "a decision depends on input and data alone; put what you need into params";
  }
  return "docs/policy.md lists what is allowed; for the rest write a function";
}

/** Without them a module loads and answers nothing. */
function entrypointProblems(all: readonly Read[]): SourceProblem[] {
  const mains = all.filter((one) => one.package === "drover.main");
  const [main] = mains;
  const defined = new Set(mains.flatMap(({ code }) => definitionsOf(code)));
  const masks = all.filter((one) => one.package === "system.log");
  const missing = [
    ...entrypoints.filter((name) => !defined.has(name)).map((name) => `drover/main/${name}`),
    ...(masks.some(({ code }) => definitionsOf(code).includes("mask")) ? [] : ["system/log/mask"]),
  ];
  return missing.map((name) => ({
    file: main?.source.path ?? "main/main.rego",
    line: 1,
    problem: `entrypoint ${name} is missing`,
    fix: "build the bundle with the policies of this drover (drover policy publish)",
  }));
}
