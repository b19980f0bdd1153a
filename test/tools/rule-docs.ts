/**
 * The pages docs/rules/<rule>.md, made from each rule's METADATA and vectors, so that they cannot say what the rule does
 * not. `--write` rewrites them; without it this is a module that a test compares them with.
 */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { stringify } from "yaml";
import { packageMetadata } from "../../shepherd/opa/rego-text.ts";

const root = join(import.meta.dirname, "../..");
export const rulesFolder = join(root, "docs/rules");
const source = join(root, "policies/rules");

interface About {
  readonly title: string;
  readonly description: string;
  readonly custom: {
    readonly disclose: "owner" | "operator";
    readonly level: string;
    /** When a denial has no nearest allowed value, and why; absent: each has one. */
    readonly no_fix?: string;
    readonly params: Schema;
    readonly example: object;
  };
}
interface Schema {
  readonly type?: string;
  readonly additionalProperties?: boolean;
  readonly enum?: readonly string[];
  readonly minimum?: number;
  readonly maximum?: number;
  readonly description?: string;
  readonly items?: Schema;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
}
interface WrittenVector {
  readonly name: string;
  readonly expected: { readonly effect: string; readonly msg?: string };
}

export const rules: readonly string[] = readdirSync(source).toSorted();

/** What a rule says of itself. */
export function aboutOf(rule: string): About {
  const text = readFileSync(join(source, rule, `${rule}.rego`), "utf8");
  return packageMetadata(text)?.value as About; // tests demand METADATA of this shape
}

/** File name -> text, with an index. */
export function ruleDocs(): Readonly<Record<string, string>> {
  const pages = rules.map((rule) => [`${rule}.md`, pageOf(rule)] as const);
  return Object.fromEntries([["README.md", index()], ...pages]);
}

function index(): string {
  const rows = rules.map((rule) => {
    const { title, description, custom } = aboutOf(rule);
    const first = description.trim().split(/(?<=\.) /)[0];
    return `| [\`${rule}\`](${rule}.md) | ${title} | ${first} | ${custom.disclose} |`;
  });
  return `# Rules that ship

One page each, made by \`node test/tools/rule-docs.ts --write\` from the rule's METADATA and vectors. How rules are put in force is told in [policy](../policy.md).

| rule | title | in short | told to |
| --- | --- | --- | --- |
${rows.join("\n")}
`;
}

function pageOf(rule: string): string {
  const { title, description, custom } = aboutOf(rule);
  const vectors = JSON.parse(
    readFileSync(join(source, rule, "vectors.json"), "utf8"),
  ) as WrittenVector[];
  const instance = stringify(
    { drover: { constraints: { [rule]: { "my-instance": custom.example } } } },
    { flowCollectionPadding: true, lineWidth: 0 },
  );
  const told =
    custom.disclose === "owner"
      ? "The environment's owner and its guests are told what it said, with its numbers."
      : "Its numbers are for operators: a guest or an environment's owner learns that there is no room.";
  const nearest =
    custom.no_fix === undefined
      ? ""
      : `\nA no comes without a nearest allowed value: ${custom.no_fix}.\n`;
  const params = parameters(custom.params);
  return `# ${title}: \`${rule}\`

${description.trim()}

${told} Its level is meant to be \`${custom.level}\`; an instance says its own. Source: [${rule}.rego](../../policies/rules/${rule}/${rule}.rego).
${nearest}
## Parameters

${params.length === 0 ? "None." : `| parameter | what | |\n| --- | --- | --- |\n${params.join("\n")}`}

## An instance

\`\`\`yaml
${instance}\`\`\`

## What it answers

Each line is a test: an edit of the example input, one instance, what must come out, under native OPA and under the WebAssembly host ([vectors.json](../../policies/rules/${rule}/vectors.json)).

| case | verdict | it says |
| --- | --- | --- |
${vectors.map(({ name, expected: { effect, msg } }) => `| ${cell(name)} | ${effect} | ${cell(msg ?? "")} |`).join("\n")}
`;
}

function parameters(schema: Schema, path = ""): string[] {
  return Object.entries(schema.properties ?? {}).flatMap(([name, one]) => {
    const place = `${path}${name}`;
    const needed = schema.required?.includes(name) === true ? "" : "optional";
    const row = `| \`${place}\` | ${cell(kindOf(one))} | ${[needed, cell(one.description ?? "")].filter((part) => part !== "").join("; ")} |`;
    const nested = one.items?.properties === undefined ? one : one.items;
    const below = one.items?.properties === undefined ? `${place}.` : `${place}[].`;
    return [row, ...parameters(nested, below)];
  });
}

function kindOf(schema: Schema): string {
  if (schema.enum !== undefined) return schema.enum.map((one) => `\`${one}\``).join(", ");
  if (schema.type === "array") return `list of ${kindOf(schema.items ?? {})}`;
  const { minimum, maximum } = schema;
  const range = [
    minimum === undefined ? "" : `from ${minimum}`,
    maximum === undefined ? "" : `to ${maximum}`,
  ].filter((part) => part !== "");
  return [schema.type ?? "anything", ...range].join(" ");
}

function cell(text: string): string {
  return text.replaceAll("|", "\\|").replaceAll("\n", " ");
}

if (process.argv.includes("--write")) {
  mkdirSync(rulesFolder, { recursive: true });
  for (const [name, text] of Object.entries(ruleDocs()))
    writeFileSync(join(rulesFolder, name), text);
}
