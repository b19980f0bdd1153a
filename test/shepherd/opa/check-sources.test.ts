import {
  checkBundle,
  checkSources,
  describeProblem,
  type SourceProblem,
} from "@drover/shepherd/opa/check-sources";
import { codeOf } from "@drover/shepherd/opa/rego-text";
import { collectSources, type RegoSource } from "@drover/shepherd/opa/sources";
import { beforeAll, expect, test } from "@jest/globals";
import fc from "fast-check";
import { operatorFolder } from "./vectors.ts";

let library: readonly RegoSource[];

beforeAll(async () => {
  library = await collectSources({ owner: "test", folder: operatorFolder });
});

const metadata = `# METADATA
# title: Own
# description: A rule that a site wrote
# custom:
#   disclose: owner
#   level: deny
#   params: {type: object, additionalProperties: false}
`;

/** A rule of a site's own with this text below its head, which is 12 lines long. */
function own(body: string, head = metadata): RegoSource {
  const text = `${head}package drover.rules.own

about := rego.metadata.chain()[1].annotations

${body}
`;
  return { path: "rules/own.rego", text };
}

const sound = `checks.i := {"ok": true, "msg": "fine", "params": {}}`;

function told(source: RegoSource): string[] {
  return checkSources(library, [source]).map(describeProblem);
}

test("what ships is sound, as library and as a whole bundle", () => {
  expect(checkSources(library, []).map(describeProblem)).toEqual([]);
  expect(checkBundle(library).map(describeProblem)).toEqual([]);
});

test("a sound rule of an owner's own passes", () => {
  expect(told(own(sound))).toEqual([]);
});

test.each<readonly [what: string, source: RegoSource, line: number, said: RegExp, fix: RegExp]>([
  [
    "a forbidden built-in",
    own(`${sound}\n\nnow := time.now_ns()`),
    14,
    /time\.now_ns/,
    /input\.now_ms/,
  ],
  ["sprintf", own(`${sound}\n\nx := sprintf("%d", [1])`), 14, /sprintf/, /template string/],
  [
    "I/O",
    own(`${sound}\n\nx := http.send({"url": "http://x"})`),
    14,
    /http\.send/,
    /input and data alone/,
  ],
  [
    "a forbidden built-in within a template string",
    own(`${sound}\n\nx := $"now {opa.runtime()}"`),
    14,
    /opa\.runtime/,
    /input and data alone/,
  ],
  [
    "an inline not over a dynamic package",
    own(`${sound}\n\nx if not data.drover.rules[input.request.id].about`),
    14,
    /fails open/,
    /bind the value first/,
  ],
  [
    "one behind a string that looks like a comment",
    own(`${sound}\n\nx if { "#" == "#"; not data.drover.rules[input.request.id].about }`),
    14,
    /fails open/,
    /bind/,
  ],
  [
    "one with a space in it",
    own(
      `${sound}\n\nx if not data.drover.rules [input.request.id].about`.replace(
        "rules [",
        "rules[ ",
      ),
    ),
    14,
    /fails open/,
    /bind/,
  ],
  [
    "one over an imported package",
    own(`import data.drover.rules as all\n\n${sound}\n\nx if not all[input.request.id].about`),
    16,
    /fails open/,
    /bind/,
  ],
  ["a check without a value", own("checks[id] if some id in [1]"), 12, /no value/, /"ok"/],
  ["a check that is a set", own('checks contains "i"'), 12, /member of a set/, /"ok"/],
  [
    "a check without ok",
    own(`checks.i := {"allowed": true, "msg": "fine", "params": {}}`),
    12,
    /no "ok"/,
    /"ok"/,
  ],
  [
    "a check built by a union without msg",
    own(`checks[id] := object.union({"ok": true, "params": {}}, {}) if some id in ["a"]`),
    12,
    /no "msg"/,
    /"msg"/,
  ],
  ["no checks at all", own("x := 1"), 1, /no `checks`/, /checks\[id\]/],
  ["no METADATA", own(sound, ""), 1, /no METADATA/, /title, description/],
  ["METADATA that is no YAML", own(sound, "# METADATA\n# title: [\n"), 1, /no YAML/, /mend/],
  [
    "METADATA that does not say who may read it",
    own(sound, metadata.replace("owner", "everybody")),
    1,
    /who may read/,
    /owner .* operator/,
  ],
  [
    "parameters without a schema",
    own(sound, metadata.replace(/# {3}params.*\n/, "")),
    1,
    /JSON Schema/,
    /additionalProperties/,
  ],
  [
    "a package outside the rules",
    { path: "rules/main.rego", text: "package drover.main\n\ndecision := 1\n" },
    1,
    /drover\.rules\.<name>/,
    /drover\.rules\.<name>/,
  ],
  [
    "a rule of drover's own",
    { path: "rules/e.rego", text: own(sound).text.replace("rules.own", "rules.envelope") },
    8,
    /drover's own/,
    /another name/,
  ],
])("%s is refused with its line and what to write instead", (_, source, line, said, fix) => {
  const problems = checkSources(library, [source]);
  const found = problems.find((one) => said.test(one.problem));
  expect(problems.map(describeProblem).join("\n")).toMatch(said);
  expect({ file: found?.file, line: found?.line }).toEqual({ file: source.path, line });
  expect(found?.fix).toMatch(fix);
});

test("a bundle from elsewhere without an entrypoint is refused", () => {
  const without = library.filter(({ path }) => !path.endsWith("mask.rego"));
  const problems = checkBundle(without).map(({ problem }: SourceProblem) => problem);
  expect(problems).toEqual(["entrypoint system/log/mask is missing"]);
  expect(checkBundle([]).map(({ problem }) => problem)).toContain(
    "entrypoint drover/main/decision is missing",
  );
});

test("code keeps its offsets whatever the text, and its strings say nothing", () => {
  const piece = fc.constantFrom(
    '"',
    "`",
    "#",
    "\n",
    "{",
    "}",
    "$",
    "\\",
    "a",
    "not data.r[x]",
    " ",
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 40 }), (pieces) => {
      const text = pieces.join("");
      const code = codeOf(text);
      expect(code).toHaveLength(text.length);
      expect(code.split("\n")).toHaveLength(text.split("\n").length);
    }),
  );
  expect(codeOf('a := "not data.r[x]" # not data.r[x]\nb')).toBe(
    `a := "${" ".repeat(13)}" ${" ".repeat(15)}\nb`,
  );
  expect(codeOf('$"x {not_blank} {"inner"} y"')).toBe('$"  {not_blank} {"     "}  "');
});
