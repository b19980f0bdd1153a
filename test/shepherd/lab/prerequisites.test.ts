import { type Facts, judge, labPackages } from "@drover/shepherd/lab/prerequisites";
import { expect, test } from "@jest/globals";

const fine: Facts = {
  platform: "linux",
  arch: "x64",
  uid: 0,
  node: "24.21.0",
  tools: { terraform: "1.11.4", go: "1.21.0" },
  debian: true,
  installed: new Set(Object.keys(labPackages)),
  kernel: [],
};
const problems = (facts: Partial<Facts>) =>
  judge({ ...fine, ...facts }).checks.flatMap(({ what, problem }) =>
    problem === undefined ? [] : [`${what}: ${problem}`],
  );

test("a machine with everything has no problem and nothing to install", () => {
  expect({ problems: problems({}), packages: judge(fine).packages }).toEqual({
    problems: [],
    packages: [],
  });
});

test.each<[string, Partial<Facts>, RegExp]>([
  ["another system", { platform: "darwin" }, /this is darwin/],
  ["a plain user", { uid: 1000 }, /as root, or with sudo/],
  ["an old Node", { node: "20.19.0" }, /Node 20\.19\.0/],
  [
    "an old Terraform",
    { tools: { terraform: "1.9.8", go: "1.22.0" } },
    /terraform 1\.9\.8 is too old/,
  ],
  ["no Terraform", { tools: { go: "1.22.0" } }, /neither is on PATH; install Terraform/],
  ["neither opa nor Go", { tools: { tofu: "1.11.0" } }, /install opa 1\.20/],
  ["a Go too old to build opa", { tools: { tofu: "1.11.0", go: "1.20.9" } }, /install opa 1\.20/],
  ["no apt", { debian: false }, /Debian 12/],
  [
    "a kernel without bridges",
    { kernel: [{ what: "bridges", problem: "RTNETLINK answers: Operation not supported" }] },
    /kernel: bridges: RTNETLINK/,
  ],
])("says one clear thing about %s", (_what, facts, message) => {
  expect(problems(facts)).toEqual([expect.stringMatching(message)]);
});

test.each<[string, Facts["tools"]]>([
  ["OpenTofu instead of Terraform", { tofu: "1.11.2", go: "1.21.0" }],
  ["an old Terraform beside a new OpenTofu", { terraform: "1.5.7", tofu: "1.12.0", opa: "1.20.2" }],
  ["opa instead of Go", { terraform: "1.14.0", opa: "1.20.2" }],
])("accepts %s", (_what, tools) => {
  expect(problems({ tools })).toEqual([]);
});

test("missing packages are listed, sorted", () => {
  const installed = new Set(
    Object.keys(labPackages).filter((name) => name !== "nftables" && name !== "busybox-static"),
  );
  expect(judge({ ...fine, installed }).packages).toEqual(["busybox-static", "nftables"]);
});
