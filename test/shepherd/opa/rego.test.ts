import { execFileSync, spawnSync } from "node:child_process";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findOpa, fits, pinnedOpaVersion } from "@drover/shepherd/opa/binary";
import { restrictCapabilities } from "@drover/shepherd/opa/capabilities";
import { collectSources, libraryFolder } from "@drover/shepherd/opa/sources";
import { expect, test } from "@jest/globals";
import { schemaFiles, schemaFolder } from "../../tools/policy-schemas.ts";
import { aboutOf } from "../../tools/rule-docs.ts";
import { exampleInput, operatorFolder } from "./vectors.ts";

const folders = ["main", "lib", "rules"];
const ignored = ["--ignore", "*.json"];

async function opa(...args: string[]): Promise<string> {
  const { path } = await findOpa();
  const { status, stdout, stderr } = spawnSync(path, args, {
    cwd: libraryFolder,
    encoding: "utf8",
    maxBuffer: 64 << 20,
  });
  return status === 0 ? stdout : `failed with ${status}:\n${stderr}${stdout}`;
}

test("the Rego is formatted", async () => {
  expect(await opa("fmt", "--list", ...folders)).toBe("");
});

test("it passes the strict check with the schemas of input and data and only the allowed built-ins", async () => {
  const { path } = await findOpa();
  const folder = await mkdtemp(join(tmpdir(), "drover-check-"));
  try {
    const current = execFileSync(path, ["capabilities", "--current"], { encoding: "utf8" });
    writeFileSync(join(folder, "capabilities.json"), restrictCapabilities(current));
    const checked = await opa(
      "check",
      "--strict",
      "--schema",
      "schemas",
      "--capabilities",
      join(folder, "capabilities.json"),
      ...ignored,
      ...folders,
    );
    expect(checked).toBe("");
  } finally {
    await rm(folder, { recursive: true });
  }
});

test("its own tests pass and reach at least 90 % of its lines", async () => {
  expect(await opa("test", ...ignored, ...folders)).toMatch(/^PASS: (\d+)\/\1\n$/);
  const report = JSON.parse(await opa("test", "--coverage", ...ignored, ...folders)) as {
    files: Record<string, { covered_lines?: number; not_covered_lines?: number }>;
  };
  const rules = Object.entries(report.files).filter(([file]) => !file.endsWith("_test.rego"));
  const covered = rules.reduce((sum, [, file]) => sum + (file.covered_lines ?? 0), 0);
  const missed = rules.reduce((sum, [, file]) => sum + (file.not_covered_lines ?? 0), 0);
  expect(rules.length).toBeGreaterThan(10);
  expect(covered / (covered + missed)).toBeGreaterThanOrEqual(0.9);
  const little = rules
    .filter(([file]) => file.startsWith("rules/"))
    .map(([file, { covered_lines: reached = 0, not_covered_lines: not = 0 }]) => ({
      file,
      percent: Math.round((100 * reached) / (reached + not)),
    }))
    .filter(({ percent }) => percent < 90);
  expect(little).toEqual([]);
}, 60_000);

test("every rule is one file with tests and vectors beside it, whose parameters admit nothing else", () => {
  const folder = join(libraryFolder, "rules");
  const names = readdirSync(folder).toSorted();
  expect(names.map((name) => readdirSync(join(folder, name)).toSorted())).toEqual(
    names.map((name) => [`${name}.rego`, `${name}_test.rego`, "vectors.json"]),
  );
  const open = names.filter((name) => {
    const { type, additionalProperties } = aboutOf(name).custom.params;
    return type !== "object" || additionalProperties !== false;
  });
  expect(open).toEqual([]);
});

test("every rule and library tells what it is, and rules who may read them and what they take", async () => {
  const sources = await collectSources({ owner: "test", folder: operatorFolder });
  const silent = sources.filter(
    ({ text }) => !text.startsWith("# METADATA\n# title: ") || !/^# description: /m.test(text),
  );
  expect(silent.map(({ path }) => path)).toEqual([]);
  const incomplete = sources.filter(
    ({ path, text }) =>
      path.startsWith("rules/") &&
      !["disclose: (owner|operator)", "level: \\w+", "params:"].every((line) =>
        new RegExp(`^#   ${line}`, "m").test(text),
      ),
  );
  expect(incomplete.map(({ path }) => path)).toEqual([]);
});

test.each(Object.keys(schemaFiles))("schemas/%s is what the declarations say", (name) => {
  const written = JSON.parse(readFileSync(join(schemaFolder, name), "utf8"));
  expect(written).toEqual(JSON.parse(schemaFiles[name] ?? ""));
});

test("the example of the Rego tests is the example of the vectors", async () => {
  const example = await opa(
    "eval",
    "-f",
    "raw",
    "-d",
    "lib",
    "data.drover.lib.example_test.request",
  );
  expect(JSON.parse(example)).toEqual(exampleInput);
});

test("the opa that is looked for is the one that the Go module pins", () => {
  const pins = readFileSync(join(import.meta.dirname, "../../tools/go.mod"), "utf8");
  expect(pins).toContain(`github.com/open-policy-agent/opa v${pinnedOpaVersion}\n`);
});

test.each([
  ["1.20.2", true],
  ["1.21.0", true],
  ["1.19.9", false],
  ["0.70.0", false],
  ["2.0.0", false],
])("opa %s fits: %s", (version, expected) => {
  expect(fits(version)).toBe(expected);
});
