import { Recent } from "@drover/shepherd/model/recent";
import { expect, test } from "@jest/globals";

test("the last few are known by identity, older ones are forgotten", () => {
  const [a, b, c] = [{ n: 1 }, { n: 1 }, { n: 1 }];
  const recent = new Recent<object, string>(2);
  expect(recent.get(a)).toBeUndefined();
  recent.set(a, "a");
  recent.set(b, "b");
  expect([recent.get(a), recent.get(b), recent.get(c)]).toEqual(["a", "b", undefined]);
  recent.set(c, "c");
  expect([recent.get(a), recent.get(b), recent.get(c)]).toEqual([undefined, "b", "c"]);
});
