import { sarifOf } from "@drover/shepherd/cli/sarif";
import { momentMs } from "@drover/shepherd/cli/when";
import { expect, test } from "@jest/globals";

const nowMs = Date.parse("2026-11-23T14:30:00Z");

test.each([
  ["90s", "2026-11-23T14:31:30Z"],
  ["2h", "2026-11-23T16:30:00Z"],
  ["7d", "2026-11-30T14:30:00Z"],
  ["15:00", "2026-11-23T15:00:00Z"],
  ["08:00", "2026-11-24T08:00:00Z"],
  ["14:30", "2026-11-24T14:30:00Z"],
  ["2026-12-01", "2026-12-01T00:00:00Z"],
  ["2026-12-01T08:15Z", "2026-12-01T08:15:00Z"],
])("%s is %s", (text, expected) => {
  expect(momentMs(text, nowMs)).toBe(Date.parse(expected));
});

test.each(["", "8:00", "24:00", "tomorrow", "2026-13-01", "2026-11-23", "0s", "2026-12-01T08:15"])(
  "%j is refused",
  (text) => {
    expect(() => momentMs(text, nowMs)).toThrow("Write a time to come");
  },
);

test("an audit report as SARIF: levels, lines, and a fingerprint that stays", () => {
  const finding = {
    environment: "ring",
    owner: "operator",
    rule: "environment_quota",
    id: "default",
    level: "deny",
    code: "policy.denied",
    msg: "memory_mib of the environment: 999 of 900",
    path: "environment.machines",
    source: { file: "rules/environment_quota/environment_quota.rego", line: 28 },
    first_seen_ms: nowMs,
  };
  expect(
    sarifOf({
      at_ms: nowMs,
      environments: 1,
      checks: 2,
      findings: [finding, { ...finding, level: "unheard-of", source: null, path: null }],
    }),
  ).toMatchObject({
    version: "2.1.0",
    runs: [
      {
        tool: { driver: { rules: [{ id: "environment_quota" }] } },
        results: [
          {
            level: "error",
            locations: [
              {
                physicalLocation: {
                  artifactLocation: { uri: finding.source.file },
                  region: { startLine: 28 },
                },
              },
            ],
            partialFingerprints: { "drover/v1": "ring/operator/environment_quota/default" },
          },
          { level: "error", ruleIndex: 0 },
        ],
      },
    ],
  });
});
