/** Where a rule stands: file and line of the Rego that a finding came from, as the bundle carried it. Pure but for the reading. */
import type { Digest } from "#model/units";

export interface RuleSource {
  readonly file: string;
  readonly line: number;
}
export interface SourceText {
  readonly path: string;
  readonly text: string;
}
/** The Rego behind a policy digest; undefined when it was never here. */
export type ReadSources = (policyDigest: Digest) => Promise<readonly SourceText[] | undefined>;

/** Looks up each bundle once, however many findings it made. */
export function ruleLocator(
  read: ReadSources | undefined,
): (of: { readonly policyDigest: Digest; readonly rule: string }) => Promise<RuleSource | null> {
  const texts = new Map<Digest, Promise<readonly SourceText[] | undefined>>();
  return async ({ policyDigest, rule }) => {
    if (read === undefined || policyDigest === "") return null;
    const known = texts.get(policyDigest) ?? read(policyDigest);
    texts.set(policyDigest, known);
    return locateRule((await known) ?? [], rule);
  };
}

/** The rule's `checks`, else its package. Null when no file has the rule. */
export function locateRule(sources: readonly SourceText[], rule: string): RuleSource | null {
  for (const { path, text } of sources) {
    const lines = text.split("\n");
    const at = lines.findIndex((line) => line.trim() === `package drover.rules.${rule}`);
    if (at < 0) continue;
    const checks = lines.findIndex((line) => /^checks\s*(\[|contains\b)/.test(line));
    return { file: path, line: (checks < 0 ? at : checks) + 1 };
  }
  return null;
}
