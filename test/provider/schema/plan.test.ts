/** What all plans have in common: defaults, unknowns, spellings, what follows, replacements; and configurations made of states. */
import { attributes } from "@drover/provider/schema/attribute";
import { configurationOf } from "@drover/provider/schema/generate";
import { completePlan, replacements } from "@drover/provider/schema/plan";
import { sameLetters } from "@drover/provider/schema/same";
import { type ObjectValue, unknown } from "@drover/provider/schema/value";
import { withoutWriteOnly } from "@drover/provider/schema/write-only";
import { expect, test } from "@jest/globals";

const part = {
  name: { type: "string", required: true, description: "" },
  serial: { type: "string", computed: true, description: "" },
  speed: { type: "number", optional: true, computed: true, default: 7, description: "" },
  key_wo: { type: "string", optional: true, writeOnly: true, description: "" },
} as const;
const declared = attributes({
  id: { type: "string", computed: true, description: "" },
  hash: { type: "string", optional: true, same: sameLetters, description: "" },
  stamp: { type: "string", computed: true, follows: ["hash"], description: "" },
  place: {
    type: "string",
    optional: true,
    replaces: ({ prior }) => prior === "sea",
    description: "",
  },
  parts: { type: { nesting: "set", attributes: part }, optional: true, description: "" },
  shelves: { type: { nesting: "map", attributes: part }, optional: true, description: "" },
  old: { type: "string", optional: true, deprecated: "Use hash.", description: "" },
});
const nothing = {
  id: null,
  hash: null,
  stamp: null,
  place: null,
  parts: null,
  shelves: null,
  old: null,
};
const prior: ObjectValue = { ...nothing, id: "1", hash: "ABC", stamp: "s1", place: "sea" };
const plan = (before: ObjectValue | null, config: ObjectValue, proposed: ObjectValue = {}) =>
  completePlan(declared, {
    prior: before,
    config: { ...nothing, ...config },
    proposed: {
      ...nothing,
      ...(before && { id: before["id"] ?? null, stamp: before["stamp"] ?? null }),
      ...config,
      ...proposed,
    },
  });

test("what is computed is unknown at create and stays afterwards", () => {
  expect(plan(null, { hash: "abc" })).toEqual({
    ...nothing,
    id: unknown,
    hash: "abc",
    stamp: unknown,
  });
  expect(plan(prior, { hash: "ABC", place: "sea" })).toEqual(prior);
});

test("another spelling is no change, and nothing follows it; another value is, and it does", () => {
  expect(plan(prior, { hash: "abc", place: "sea" })).toEqual(prior);
  expect(plan(prior, { hash: "abd", place: "sea" })).toEqual({
    ...prior,
    hash: "abd",
    stamp: unknown,
  });
});

test("items of a set are known by what the user wrote of them", () => {
  const [a, b] = [
    { name: "a", serial: "1", speed: 7, key_wo: null },
    { name: "b", serial: null, speed: null, key_wo: "k" },
  ];
  const config = { parts: [{ ...a, serial: null, speed: null }, b] };
  const planned = plan({ ...prior, parts: [a] }, config, { parts: [b, a] });
  expect(planned["parts"]).toEqual([{ ...b, serial: unknown, speed: 7, key_wo: null }, a]);
});

test("items of a map are known by their key", () => {
  const shelf = { name: "x", serial: "1", speed: 9, key_wo: null };
  const empty = { name: "x", serial: null, speed: null, key_wo: null };
  const config = { shelves: { top: empty, low: { ...empty, speed: 3 } } };
  const planned = plan({ ...prior, shelves: { top: shelf } }, config, {
    shelves: { top: { ...shelf, speed: 9 }, low: { ...empty, speed: 3 } },
  });
  expect(planned["shelves"]).toEqual({
    top: { ...shelf, speed: 7 },
    low: { name: "x", serial: unknown, speed: 3, key_wo: null },
  });
});

test("a replacement is asked for where the function says so, never for what is not known", () => {
  expect(replacements(declared, prior, { ...prior, place: "land" })).toEqual([["place"]]);
  expect(replacements(declared, { ...prior, place: "land" }, { ...prior, place: "sea" })).toEqual(
    [],
  );
  expect(replacements(declared, prior, { ...prior, place: unknown })).toEqual([]);
});

test("write-only values leave no trace, however deep", () => {
  const item = { name: "a", serial: "1", speed: 1, key_wo: "secret" };
  const values = { ...prior, parts: [item], shelves: { top: item } };
  expect(JSON.stringify(withoutWriteOnly(declared, values))).not.toContain("secret");
  expect(withoutWriteOnly(declared, values)).toMatchObject({
    parts: [{ name: "a" }],
    shelves: { top: { name: "a" } },
  });
});

test("a configuration made of a state sets what a user would", () => {
  const item = { name: "a", serial: "1", speed: 7, key_wo: "secret" };
  expect(configurationOf(declared, { ...prior, parts: [item], old: "o" })).toEqual({
    ...nothing,
    hash: "ABC",
    place: "sea",
    parts: [{ name: "a", serial: null, speed: null, key_wo: null }],
  });
});
