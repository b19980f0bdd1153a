/**
 * Style as a test: what a linter cannot see. Opening comments, banned calls with their replacement, error codes
 * against docs/errors.md both ways, dead files.
 */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { faultCatalogue } from "@drover/shepherd/model/fault-catalogue";
import { expect, test } from "@jest/globals";

const root = join(import.meta.dirname, "..");
const files = execFileSync("git", ["ls-files", "--cached", "--others", "--exclude-standard"], {
  cwd: root,
  encoding: "utf8",
})
  .split("\n")
  .filter((path) => path !== "");
const sources = files.filter(
  (path) => /^(provider|shepherd|stacks|test)\/.*\.ts$/.test(path) && !path.endsWith(".gen.ts"),
);
const read = (path: string) => readFileSync(join(root, path), "utf8");

test("every source file opens with a comment that says what it is for", () => {
  const silent = sources.filter((path) => {
    const text = read(path).replace(/^#!.*\n/, "");
    return !path.endsWith(".test.ts") && !/^\s*(\/\*\*|\/\/|\/\*)/.test(text);
  });
  expect(silent).toEqual([]);
});

const banned: readonly { call: RegExp; where: RegExp; instead: string }[] = [
  {
    call: /\bDate\.now\(\)|new Date\(\)/,
    where: /^shepherd\/(model|planner|network|policy|operations|evidence)\//,
    instead: "the injected clock (ports/clock)",
  },
  {
    call: /\bMath\.random\(\)/,
    where: /^(shepherd|provider)\//,
    instead: "the injected ids, or node:crypto at an edge",
  },
  {
    call: /\bsetTimeout\(/,
    where: /^shepherd\/(model|planner|network|policy|operations|evidence)\//,
    instead: "clock.sleep or clock.at",
  },
  { call: /\bjest\.mock\(/, where: /^test\//, instead: "the port's in-memory version" },
  {
    call: /\b(test|it|describe)\.(skip|todo|only)\(/,
    where: /^test\//,
    instead: "a test that runs, or no test",
  },
  {
    call: /["'`]virsh\b/,
    where: /^(shepherd|provider|stacks)\//,
    instead: "the RPC client; virsh is only the tests' witness",
  },
];

test.each(banned)("nothing stands where $instead should", ({ call, where }) => {
  const found = sources
    .filter((path) => where.test(path) && path !== "test/tidy.test.ts")
    .flatMap((path) =>
      read(path)
        .split("\n")
        .flatMap((line, index) =>
          call.test(line.replace(/\/\/.*|^\s*\*.*/, "")) ? [`${path}:${index + 1}`] : [],
        ),
    );
  expect(found).toEqual([]);
});

test("docs/errors.md and the fault catalogue name the same codes", () => {
  const documented = [...read("docs/errors.md").matchAll(/^\| `([a-z0-9_.]+)` \|/gm)].map(
    (match) => match[1],
  );
  expect(new Set(documented)).toEqual(new Set(Object.keys(faultCatalogue)));
});

test("no folder is a junk drawer", () => {
  expect(
    files.filter((path) => /(^|\/)(utils?|common|helpers?|misc)(\/|\.ts$)/.test(path)),
  ).toEqual([]);
});

test("the glossary's forbidden words stay out of public names", () => {
  const contract = read("shepherd/api/contract.ts");
  const names = [...contract.matchAll(/^\s+(\w+)\??:/gm)].map((match) => match[1] ?? "");
  const forbidden =
    /(^|_)(domain|node|hypervisor|tenant|project|vm|vde|instance|cluster|zone)(_|$)/;
  expect(names.filter((name) => forbidden.test(name))).toEqual([]);
});

test("every rule folder has its rule, test and vectors", () => {
  const rules = new Set(
    files.flatMap((path) => /^policies\/rules\/([^/]+)\//.exec(path)?.[1] ?? []),
  );
  const incomplete = [...rules].filter(
    (rule) =>
      !files.some((path) => path === `policies/rules/${rule}/${rule}.rego`) ||
      !files.some((path) => path === `policies/rules/${rule}/${rule}_test.rego`),
  );
  expect(incomplete).toEqual([]);
});
