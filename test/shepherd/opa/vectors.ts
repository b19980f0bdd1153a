/**
 * The vectors of the rules: changes to the example input, one instance, and what must come out. Read by the tests that
 * compare engines, and by the ones that mutate. A path is a JSON pointer.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { libraryFolder } from "@drover/shepherd/opa/sources";
import type { PolicyData } from "@drover/shepherd/policy/data";
import type { PolicyInput } from "@drover/shepherd/policy/input";
import type { PolicyEntrypoint } from "@drover/shepherd/ports/policy-engine";

export interface Vector {
  readonly name: string;
  readonly rule: string;
  readonly entrypoint: PolicyEntrypoint;
  readonly input: PolicyInput;
  readonly data: PolicyData;
  readonly expected: {
    readonly effect: "allow" | "approve" | "deny";
    readonly msg?: string;
    readonly fix?: Readonly<Record<string, number | string>>;
    readonly code?: string;
    readonly path?: string;
    readonly limits?: object;
    /** Without the rule and instance that want them. */
    readonly obligations?: readonly object[];
  };
}

interface WrittenVector {
  readonly name: string;
  readonly entrypoint: Vector["entrypoint"];
  readonly set: Readonly<Record<string, unknown>>;
  readonly params: Record<string, unknown>;
  readonly level?: "audit" | "warn" | "approve";
  readonly match?: NonNullable<PolicyData["drover"]["constraints"][string][string]["match"]>;
  readonly expected: Vector["expected"];
}

/** A folder with data and no Rego of its own: its sources are the library. */
export const operatorFolder = join(libraryFolder, "data/operator");

export const exampleInput = readJson("schemas/example-input.json") as PolicyInput;

export const vectors: readonly Vector[] = readdirSync(join(libraryFolder, "rules"))
  .toSorted()
  .flatMap((rule) =>
    (readJson(`rules/${rule}/vectors.json`) as WrittenVector[]).map((written) => ({
      name: `${rule}: ${written.name}`,
      rule,
      entrypoint: written.entrypoint,
      input: changed(exampleInput, written.set),
      data: oneInstance(rule, {
        level: written.level ?? "deny",
        params: written.params,
        ...(written.match === undefined ? {} : { match: written.match }),
      }),
      expected: written.expected,
    })),
  );

/** A copy with the values at these JSON pointers replaced. */
export function changed<T>(value: T, set: Readonly<Record<string, unknown>>): T {
  const copy = structuredClone(value);
  for (const [pointer, item] of Object.entries(set)) {
    const keys = pointer.slice(1).split("/");
    const last = keys.pop() ?? "";
    let place = copy as Record<string, unknown>;
    for (const key of keys) place = place[key] as Record<string, unknown>;
    place[last] = structuredClone(item);
  }
  return copy;
}

export function oneInstance(
  rule: string,
  instance: PolicyData["drover"]["constraints"][string][string],
): PolicyData {
  return { drover: { constraints: { [rule]: { i: instance } }, exemptions: [] } };
}

function readJson(path: string): unknown {
  return JSON.parse(readFileSync(join(libraryFolder, path), "utf8"));
}
