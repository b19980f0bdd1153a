/** Rules between attributes, spellings that mean the same, durations: what each accepts and what it says. */
import type { Rule } from "@drover/provider/schema/attribute";
import { Report } from "@drover/provider/schema/report";
import {
  atLeastOneOf,
  conflicting,
  exactlyOneOf,
  needs,
  together,
} from "@drover/provider/schema/rules";
import { sameCidr, sameJson, sameLetters, sameMac } from "@drover/provider/schema/same";
import {
  formatDuration,
  parseDuration,
  timeoutMs,
  timeoutsAttribute,
} from "@drover/provider/schema/timeouts";
import { type ObjectValue, unknown } from "@drover/provider/schema/value";
import { expect, test } from "@jest/globals";
import fc from "fast-check";

const none = { a: null, b: null, c: null };
test.each<[string, Rule, ObjectValue, string[]]>([
  ["none of those that exclude each other", conflicting("a", "b"), none, []],
  ["one of them", conflicting("a", "b"), { ...none, a: 1 }, []],
  [
    "two of them",
    conflicting("a", "b", "c"),
    { ...none, a: 1, c: 2 },
    ["c: Attributes exclude each other"],
  ],
  ["one, and one that may yet be null", conflicting("a", "b"), { a: 1, b: unknown }, []],
  ["none of which one must be", exactlyOneOf("a", "b"), none, [": An attribute is missing"]],
  ["an unknown that may be the one", exactlyOneOf("a", "b"), { a: null, b: unknown }, []],
  [
    "both of which one must be",
    exactlyOneOf("a", "b"),
    { a: 1, b: 1 },
    ["b: Attributes exclude each other"],
  ],
  ["one of at least one", atLeastOneOf("a", "b"), { a: null, b: 1 }, []],
  [
    "half of what belongs together",
    together("a", "b"),
    { a: 1, b: null },
    ["a: Attributes belong together"],
  ],
  ["all of it", together("a", "b"), { a: 1, b: 2 }, []],
  ["half, the other unknown", together("a", "b"), { a: 1, b: unknown }, []],
  ["what it needs is absent", needs("a", "b", "so it is"), { a: 1, b: null }, ["a: a needs b"]],
  ["what it needs is unknown", needs("a", "b", "so it is"), { a: 1, b: unknown }, []],
])("%s", (_, rule, values, said) => {
  const report = new Report();
  rule(values, report);
  expect(report.diagnostics.map(({ path, summary }) => `${path.join(".")}: ${summary}`)).toEqual(
    said,
  );
});

test.each<[string, (left: string, right: string) => boolean, string, string, boolean]>([
  ["letters", sameLetters, "ABC", "abc", true],
  ["letters", sameLetters, "ABC", "abd", false],
  ["MAC addresses", sameMac, "52:54:00:AB:CD:EF", "5254.00ab.cdef", true],
  ["MAC addresses", sameMac, "52:54:00:ab:cd:ef", "52:54:00:ab:cd:ee", false],
  ["what is no MAC address", sameMac, "x", "x:", false],
  ["networks", sameCidr, "10.42.0.9/24", "10.42.0.0/24", true],
  ["networks", sameCidr, "10.42.0.0/24", "10.42.0.0/25", false],
  ["what is no network", sameCidr, "10.42.0.999/24", "10.42.0.999/24", false],
  ["JSON", sameJson, '{"a": 1, "b": [1, 2]}', '{"b":[1,2],"a":1}', true],
  ["JSON", sameJson, "[1,2]", "[2,1]", false],
  ["what is no JSON", sameJson, "{", "{", false],
])("%s: %s %s and %s", (_, same, left, right, equal) => {
  expect([same(left, right), same(right, left)]).toEqual([equal, equal]);
});

test("durations are read as Go writes them, and written back", () => {
  expect([
    parseDuration("90s"),
    parseDuration("1h30m"),
    parseDuration("1.5h"),
    parseDuration("50ms"),
  ]).toEqual([90_000, 5_400_000, 5_400_000, 50]);
  for (const wrong of ["", "10", "s", "-5s", "0s", "5 m", "1d"])
    expect(parseDuration(wrong)).toBeUndefined();
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 10 ** 10 }), (ms) => {
      expect(parseDuration(formatDuration(ms))).toBe(ms);
    }),
  );
});

test("a verb's time is what the user gave, else the default, else none", () => {
  const declared = { timeouts: timeoutsAttribute({ create: "20m", delete: "5m" }) };
  const given = { timeouts: { create: "1h", delete: null } };
  expect([
    timeoutMs(declared, given, "create"),
    timeoutMs(declared, given, "delete"),
    timeoutMs(declared, { timeouts: null }, "create"),
    timeoutMs(declared, given, "update"),
    timeoutMs({}, given, "create"),
  ]).toEqual([3_600_000, 300_000, 1_200_000, undefined, undefined]);
});
