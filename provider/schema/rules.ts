/**
 * Ready-made rules between the attributes of one object. What is unknown may yet be null, so a rule speaks only when no
 * value could make it right. Pure.
 */
import type { Rule } from "#schema/attribute";
import { isUnknown, type ObjectValue } from "#schema/value";

const given = (values: ObjectValue, names: readonly string[]) =>
  names.filter(
    (name) => values[name] !== null && values[name] !== undefined && !isUnknown(values[name]),
  );
const open = (values: ObjectValue, names: readonly string[]) =>
  names.some((name) => isUnknown(values[name]));
const list = (names: readonly string[]) => names.join(", ");

/** At most one of these. */
export function conflicting(...names: readonly string[]): Rule {
  return (values, report) => {
    const [first, second, ...more] = given(values, names);
    if (first === undefined || second === undefined) return;
    report
      .at(second)
      .error(
        "Attributes exclude each other",
        `${list([first, second, ...more])} are set; keep one of ${list(names)}.`,
      );
  };
}

/** One of these, and only one. */
export function exactlyOneOf(...names: readonly string[]): Rule {
  return (values, report) => {
    conflicting(...names)(values, report);
    atLeastOneOf(...names)(values, report);
  };
}

export function atLeastOneOf(...names: readonly string[]): Rule {
  return (values, report) => {
    if (given(values, names).length === 0 && !open(values, names))
      report.error("An attribute is missing", `Set one of ${list(names)}.`);
  };
}

/** All of these, or none. */
export function together(...names: readonly string[]): Rule {
  return (values, report) => {
    const present = given(values, names);
    const absent = names.filter((name) => values[name] === null || values[name] === undefined);
    const [first] = present;
    if (first !== undefined && absent.length > 0)
      report
        .at(first)
        .error(
          "Attributes belong together",
          `${first} is set; set ${list(absent)} too, or none of them.`,
        );
  };
}

/** `name` makes sense only beside `other`. `why` continues "because": a clause. */
export function needs(name: string, other: string, why: string): Rule {
  return (values, report) => {
    if (given(values, [name]).length > 0 && (values[other] === null || values[other] === undefined))
      report.at(name).error(`${name} needs ${other}`, `Set ${other}, or remove ${name}: ${why}.`);
  };
}
