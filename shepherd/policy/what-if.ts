/**
 * What a decision would be if something were otherwise: edits what policy saw at a decision, asks every owner's policy of
 * now again, and tells which findings differ. Pure but for the engines; grants nothing and cannot.
 */
import { canonicalJson } from "#model/canonical";
import { Fault } from "#model/fault";
import type { Decision, Finding, Request } from "#model/request";
import type { Verdict } from "#policy/combine";
import { consult, type Engines } from "#policy/consult";
import type { PolicyInput } from "#policy/input";

export type Value = string | number | boolean;
export interface Flip {
  readonly owner: string;
  readonly rule: string;
  readonly id: string;
  readonly before: string;
  readonly after: string;
  readonly msg: string;
  /** Who may be told of it. */
  readonly disclose: Finding["disclose"];
}

/** Fault `request.invalid` when a path leads nowhere, or when the decision was none of policy. */
export async function reconsider(
  engines: Engines,
  of: {
    readonly decision: Decision;
    readonly kind: Request["kind"];
    readonly set: Readonly<Record<string, Value>>;
  },
): Promise<{ readonly verdict: Verdict; readonly flips: readonly Flip[] }> {
  const { decision, kind } = of;
  if (decision.consents.length === 0) {
    throw new Fault("request.invalid", {
      where: "id",
      problem: `code made decision ${decision.id} (${decision.code}), not policy; there is no input to change`,
    });
  }
  const input = edited(decision.input, of.set) as PolicyInput;
  const verdict = await consult(engines, {
    entrypoint: decision.point === "plan" ? "plan_check" : "decision",
    owners: decision.consents.map(({ owner }) => owner),
    input,
    kind,
  });
  return { verdict, flips: flipsOf(decision.findings, verdict.findings) };
}

/** A copy with these paths set. Members of lists are named by index, `name` or `id`: `environment.machines.rank-0.class`. */
export function edited(input: unknown, set: Readonly<Record<string, Value>>): unknown {
  const copy: unknown = structuredClone(input);
  for (const [path, value] of Object.entries(set)) put(copy, path, value);
  return copy;
}

function put(input: unknown, path: string, value: Value): void {
  const keys = path.split(".");
  const last = keys.pop() ?? "";
  let at = input;
  for (const key of keys) at = member(at, key, path);
  if (Array.isArray(at) || typeof at !== "object" || at === null || !(last in at)) {
    throw nowhere(path, last);
  }
  const holder = at as Record<string, unknown>;
  const before = holder[last];
  if (typeof before !== typeof value) {
    throw new Fault("request.invalid", {
      where: path,
      problem: `it is ${Array.isArray(before) ? "a list" : typeof before} there, ${canonicalJson(before)}`,
    });
  }
  holder[last] = value;
}

function member(of: unknown, key: string, path: string): unknown {
  if (Array.isArray(of)) {
    const items = of as readonly unknown[];
    const named = items.find(
      (item) =>
        typeof item === "object" &&
        item !== null &&
        (("name" in item && item.name === key) || ("id" in item && item.id === key)),
    );
    const found = named ?? items[Number(key)];
    if (found === undefined) throw nowhere(path, key);
    return found;
  }
  if (typeof of !== "object" || of === null || !(key in of)) throw nowhere(path, key);
  return (of as Record<string, unknown>)[key];
}

function nowhere(path: string, key: string): Fault {
  return new Fault("request.invalid", {
    where: path,
    problem: `policy saw no ${key} there; drover explain --json shows the input`,
  });
}

function flipsOf(before: readonly Finding[], after: readonly Finding[]): readonly Flip[] {
  const keyOf = ({ owner, rule, id }: Finding) => `${owner} ${rule} ${id}`;
  const then = new Map(before.map((one) => [keyOf(one), one]));
  const now = new Map(after.map((one) => [keyOf(one), one]));
  return [...new Set([...then.keys(), ...now.keys()])].toSorted().flatMap((key) => {
    const [was, is] = [then.get(key), now.get(key)];
    const [left, right] = [wordOf(was), wordOf(is)];
    const one = is ?? was;
    if (left === right || one === undefined) return [];
    return [
      {
        owner: one.owner,
        rule: one.rule,
        id: one.id,
        before: left,
        after: right,
        msg: one.msg,
        disclose: one.disclose,
      },
    ];
  });
}

function wordOf(finding: Finding | undefined): string {
  if (finding === undefined) return "not asked";
  if (finding.ok) return "ok";
  return finding.code === "policy.exempt" ? "exempt" : finding.level;
}
