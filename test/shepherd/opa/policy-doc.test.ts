import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { checkData } from "@drover/shepherd/opa/check-data";
import { describeProblem } from "@drover/shepherd/opa/check-sources";
import { openPolicy } from "@drover/shepherd/opa/engine";
import { collectSources, libraryFolder } from "@drover/shepherd/opa/sources";
import { expect, test } from "@jest/globals";
import { stringify } from "yaml";
import { aboutOf, ruleDocs, rules, rulesFolder } from "../../tools/rule-docs.ts";
import { changed, exampleInput, operatorFolder, vectors } from "./vectors.ts";

const doc = readFileSync(join(import.meta.dirname, "../../../docs/policy.md"), "utf8");

test("the rule that docs/policy.md writes can be loaded and judges as it says", async () => {
  const [rule] = [...doc.matchAll(/^```rego\n(.*?)^```/gms)].map(([, text = ""]) => text);
  const folder = mkdtempSync(join(tmpdir(), "drover-doc-"));
  try {
    mkdirSync(join(folder, "rules"));
    writeFileSync(join(folder, "rules/largest_step.rego"), rule ?? "");
    const params = "{ max_step_mib: 64 }";
    writeFileSync(
      join(folder, "data.yaml"),
      `drover: { constraints: { largest_step: { n: { level: deny, params: ${params} } } }, exemptions: [] }`,
    );
    const engine = await openPolicy({ owner: "site:south", folder });
    const grownTo = async (mib: number) => {
      const set = { "/environment/machines/0/proposed/memory_mib": mib };
      return (await engine.evaluate("decision", changed(exampleInput, set))).effect;
    };
    const seen = [await grownTo(320), await grownTo(321), await grownTo(200)];
    await engine.close();
    expect(seen).toEqual(["allow", "deny", "allow"]);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("docs/policy.md has every rule that ships in its table, told to whom its METADATA says", () => {
  const documented = [...doc.matchAll(/^\| `(\w+)` \|.*\| (owner|operator) \|$/gm)].map(
    ([, name, disclose]) => `${name} ${disclose}`,
  );
  const shipped = readdirSync(join(libraryFolder, "rules")).map((name) => {
    const text = readFileSync(join(libraryFolder, `rules/${name}/${name}.rego`), "utf8");
    return `${name} ${/^# {3}disclose: (\w+)$/m.exec(text)?.[1]}`;
  });
  expect(documented.toSorted()).toEqual(shipped.toSorted());
});

test("docs/rules is what METADATA and vectors say (node test/tools/rule-docs.ts --write)", () => {
  const written = Object.fromEntries(
    readdirSync(rulesFolder).map((name) => [name, readFileSync(join(rulesFolder, name), "utf8")]),
  );
  expect(written).toEqual(ruleDocs());
});

test("every rule's example is an instance of it, and can be loaded", async () => {
  const sources = await collectSources({ owner: "test", folder: operatorFolder });
  const constraints = Object.fromEntries(
    rules.map((rule) => [rule, { example: aboutOf(rule).custom.example }]),
  );
  const text = stringify({ drover: { constraints, exemptions: [] } });
  expect(checkData({ file: "examples", text }, sources).map(describeProblem)).toEqual([]);
});

test("every rule has vectors that pass and vectors that do not, or that demand or limit something", () => {
  const onesided = rules.filter((rule) => {
    const ends = new Set(
      vectors.flatMap(({ rule: of, expected: { effect, obligations = [], limits = {} } }) =>
        of === rule
          ? [effect === "allow" && obligations.length === 0 && Object.keys(limits).length === 0]
          : [],
      ),
    );
    return ends.size < 2;
  });
  expect(onesided).toEqual([]);
});
