import { canonicalJson, digestOf } from "@drover/shepherd/model/canonical";
import { expect, test } from "@jest/globals";
import fc from "fast-check";

test.each<[string, unknown, string]>([
  ["keys are sorted by code unit", { b: 1, a: 2, B: 3, é: 4 }, '{"B":3,"a":2,"b":1,"é":4}'],
  ["undefined fields are dropped", { a: undefined, b: [undefined, null] }, '{"b":[null,null]}'],
  ["empty things stay", { a: {}, b: [], c: "" }, '{"a":{},"b":[],"c":""}'],
  ["empty texts in lists", ["", "", ["", []]], '["","",["",[]]]'],
  ["what is no number", [Number.NaN, -0, 1e21], "[null,0,1e+21]"],
  ["keys that look like numbers", { b: { 2: 1, 10: 2, a: 3 } }, '{"b":{"10":2,"2":1,"a":3}}'],
  [
    "a key that every object has",
    JSON.parse('{"z":1,"__proto__":{"b":2,"a":1}}'),
    '{"__proto__":{"a":1,"b":2},"z":1}',
  ],
  ["what would write itself", { at: new Date(0) }, '{"at":{}}'],
  ["nothing", undefined, "null"],
])("%s", (_, value, text) => {
  expect(canonicalJson(value)).toBe(text);
});

test("the same before it was written as JSON and after it was read, whatever the order of keys", () => {
  const value = fc.anything({ withBigInt: false, withObjectString: true, maxDepth: 4 });
  fc.assert(
    fc.property(fc.record({ value }), (given) => {
      const text = canonicalJson(given);
      const read = JSON.parse(JSON.stringify(given)) as object;
      expect(canonicalJson(read)).toBe(text);
      expect(JSON.parse(text)).toEqual(read);
      const reversed = Object.fromEntries(Object.entries(read).toReversed());
      expect(digestOf(reversed)).toBe(digestOf(given));
    }),
    { seed: 11, numRuns: 500 },
  );
});
