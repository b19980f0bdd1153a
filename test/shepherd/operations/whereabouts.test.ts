import { type Answer, whereabouts } from "@drover/shepherd/operations/whereabouts";
import { expect, test } from "@jest/globals";

const answers: readonly Answer[] = [
  "running",
  "paused",
  "paused_migrating",
  "shut_off",
  "crashed",
  "other",
  "absent",
  "silent",
];
const letters: Record<string, string> = {
  running_here: "here",
  running_there: "there",
  both_suspected: "BOTH",
  none: "none",
  unknown: "?",
};

test("every pair of answers has one verdict: rows the source, columns the destination", () => {
  const rows = answers.map((source) => {
    const cells = answers.map((destination) => {
      const found = whereabouts(source, destination);
      const paused = found.verdict === "running_here" && found.paused ? "*" : "";
      return `${letters[found.verdict]}${paused}`.padEnd(6);
    });
    return `${source.padEnd(17)}${cells.join("")}`.trimEnd();
  });
  // * paused since the hand-over: to be resumed, because the destination itself said that it has none.
  expect(rows).toEqual([
    "running          BOTH  ?     ?     here  here  here  here  here",
    "paused           there ?     ?     none  none  none  here* ?",
    "paused_migrating there ?     ?     none  none  none  here* ?",
    "shut_off         there none  none  none  none  none  none  ?",
    "crashed          there none  none  none  none  none  none  ?",
    "other            there none  none  none  none  none  none  ?",
    "absent           there none  none  none  none  none  none  ?",
    "silent           there ?     ?     ?     ?     ?     ?     ?",
  ]);
});
