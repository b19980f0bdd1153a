import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { checkData } from "@drover/shepherd/opa/check-data";
import { describeProblem } from "@drover/shepherd/opa/check-sources";
import { collectSources, libraryFolder, type RegoSource } from "@drover/shepherd/opa/sources";
import { beforeAll, expect, test } from "@jest/globals";
import { operatorFolder } from "./vectors.ts";

let sources: readonly RegoSource[];

beforeAll(async () => {
  sources = await collectSources({ owner: "test", folder: operatorFolder });
});

const whole = `drover:
  constraints:
    lease_length:
      hours:
        level: deny
        levels: { points: { stack: warn }, environments: { ring: approve } }
        params: { max_ms: 3600000, longer: cut }
  exemptions:
    - id: x-17
      rule: lease_length
      instance: hours
      environments: [ring]
      expires_ms: 1798761600000
      approved_by: sam
      ticket: SEC-1042
`;

test("whole data passes, and so does all that ships", () => {
  expect(checkData({ file: "data.yaml", text: whole }, sources)).toEqual([]);
  for (const name of readdirSync(join(libraryFolder, "data"))) {
    const file = join(libraryFolder, "data", name, "data.yaml");
    expect(checkData({ file, text: readFileSync(file, "utf8") }, sources)).toEqual([]);
  }
});

test.each<readonly [what: string, text: string, line: number, said: RegExp, fix: RegExp]>([
  [
    "an exemption without expiry",
    whole.replace(/ {6}expires_ms.*\n/, ""),
    9,
    /exemption x-17 has no expires_ms/,
    /milliseconds since 1970/,
  ],
  ["one without a ticket", whole.replace(/ {6}ticket.*\n/, ""), 9, /no ticket/, /discussed/],
  ["one without approver", whole.replace(/ {6}approved_by.*\n/, ""), 9, /no approved_by/, /who/],
  [
    "one that excuses nothing in force",
    whole.replace("instance: hours", "instance: days"),
    9,
    /lease_length\.days, which is not in force/,
    /one of hours/,
  ],
  [
    "a parameter that breaks its schema",
    whole.replace("max_ms: 3600000", "max_ms: soon"),
    7,
    /lease_length\.hours\.params: max_ms/,
    /METADATA of lease_length/,
  ],
  ["a parameter too few", whole.replace(", longer: cut", ""), 7, /longer/, /METADATA/],
  ["a parameter too many", whole.replace("cut }", "cut, x: 1 }"), 7, /x/, /METADATA/],
  [
    "a rule that is misspelt",
    whole.replaceAll("lease_length", "lease_lenght"),
    4,
    /no such rule/,
    /there are|did you mean/,
  ],
  [
    "a rule that lacks a letter",
    whole.replaceAll("lease_length", "lease_lengt"),
    4,
    /no such rule/,
    /did you mean lease_length/,
  ],
  ["a level that is none", whole.replace("level: deny", "level: hard"), 5, /level/, /off, audit/],
  ["an override that is none", whole.replace("stack: warn", "stack: no"), 6, /level/, /off, audit/],
  ["a point that is none", whole.replace("stack:", "later:"), 6, /later/, /off, audit/],
  ["text that is no YAML", `${whole}  - [`, 16, /./, /mend the YAML/],
  ["a key twice", `${whole}drover: {}\n`, 16, /unique/, /mend the YAML/],
  ["quite another document", "hello: world\n", 1, /drover/, /constraints, exemptions/],
])("%s is refused with its line and what to write instead", (_, text, line, said, fix) => {
  const problems = checkData({ file: "data.yaml", text }, sources);
  const found = problems.find(({ problem }) => said.test(problem));
  expect(problems.map(describeProblem).join("\n")).toMatch(said);
  expect(found?.line).toBe(line);
  expect(found?.fix).toMatch(fix);
});
