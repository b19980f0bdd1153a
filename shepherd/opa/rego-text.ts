/**
 * Reads Rego as text, as far as checks that must work without opa need it: what is code and what is comment or string,
 * which package and imports a file has, its METADATA, its calls. Not a parser: opa check is, and runs as well. Pure.
 */
import { parseDocument } from "yaml";

/**
 * The same text with comments and the contents of strings blanked: every offset and line stays. Expressions inside of
 * template strings are code and stay.
 */
export function codeOf(text: string): string {
  const out: string[] = [];
  // what we are in: code, or the expression of a template that ends at the matching brace
  const templates: { depth: number; quote: string }[] = [];
  let at = 0;
  const blank = (count: number): void => {
    for (const char of text.slice(at, at + count)) out.push(char === "\n" ? "\n" : " ");
    at += count;
  };
  const keep = (): void => {
    out.push(text.charAt(at));
    at += 1;
  };
  const readString = (quote: string, isTemplate: boolean): void => {
    while (at < text.length) {
      const char = text.charAt(at);
      if (char === "\\" && quote === '"') blank(2);
      else if (char === quote) return keep();
      else if (isTemplate && char === "{") {
        templates.push({ depth: 0, quote });
        return keep();
      } else if (char === "\n" && quote === '"') return;
      else blank(1);
    }
  };
  while (at < text.length) {
    const char = text.charAt(at);
    const inside = templates.at(-1);
    if (char === "#") {
      const end = text.indexOf("\n", at);
      blank((end === -1 ? text.length : end) - at);
    } else if (char === "$" && /["`]/.test(text.charAt(at + 1))) {
      keep();
      const quote = text.charAt(at);
      keep();
      readString(quote, true);
    } else if (char === '"' || char === "`") {
      keep();
      readString(char, false);
    } else if (inside !== undefined && char === "}" && inside.depth === 0) {
      templates.pop();
      keep();
      readString(inside.quote, true);
    } else {
      if (inside !== undefined && char === "{") inside.depth += 1;
      if (inside !== undefined && char === "}") inside.depth -= 1;
      keep();
    }
  }
  return out.join("");
}

/** From 1. */
export function lineAt(text: string, offset: number): number {
  return text.slice(0, offset).split("\n").length;
}

/** "" when it names none. */
export function packageOf(code: string): string {
  return /^\s*package\s+([\w.]+)/m.exec(code)?.[1] ?? "";
}

/** Names under which a file reads other packages of data. */
export function importsOf(code: string): readonly string[] {
  return [...code.matchAll(/^\s*import\s+data\.([\w.]+)(?:\s+as\s+(\w+))?/gm)].map(
    ([, path = "", alias]) => alias ?? path.split(".").at(-1) ?? "",
  );
}

/** Names that rule heads of a file define at the beginning of a line: rules and functions. */
export function definitionsOf(code: string): readonly string[] {
  return [...code.matchAll(/^(?:default\s+)?([a-zA-Z_]\w*)/gm)].map(([, name = ""]) => name);
}

export interface Metadata {
  /** Line of `# METADATA`. */
  readonly line: number;
  /** Undefined when the YAML is broken. */
  readonly value: unknown;
  readonly problem: string | undefined;
}

/** The METADATA of the package: the comment block right above its `package` line. */
export function packageMetadata(text: string): Metadata | undefined {
  const lines = text.split("\n");
  const packageLine = lines.findIndex((line) => /^package\s/.test(line));
  let first = packageLine;
  while (first > 0 && lines[first - 1]?.startsWith("#")) first -= 1;
  const block = lines.slice(first, Math.max(packageLine, 0));
  const start = block.findIndex((line) => /^#\s*METADATA\s*$/.test(line));
  if (start === -1) return undefined;
  const yaml = block.slice(start + 1).map((line) => line.replace(/^# ?/, ""));
  const document = parseDocument(yaml.join("\n"));
  const [broken] = document.errors;
  return {
    line: first + start + 1,
    value: broken === undefined ? document.toJS() : undefined,
    problem: broken?.message.split("\n")[0],
  };
}

/** The text from an opening bracket to the one that closes it; undefined when none does. */
export function bracketed(code: string, open: number): string | undefined {
  const closing: Readonly<Record<string, string>> = { "{": "}", "(": ")", "[": "]" };
  const expected: string[] = [];
  for (let at = open; at < code.length; at += 1) {
    const char = code.charAt(at);
    const close = closing[char];
    if (close !== undefined) expected.push(close);
    else if (char === expected.at(-1)) expected.pop();
    if (expected.length === 0) return code.slice(open, at + 1);
  }
  return undefined;
}
