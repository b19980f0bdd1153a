/**
 * The hand-written documents against what they speak of: links and anchors lead somewhere, every attribute of an HCL
 * example is in the provider's schema, every `drover` command that is shown exists, drover.yaml's table is complete.
 */
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { resources } from "@drover/provider/catalogue";
import { runCommand } from "@drover/shepherd/cli/main";
import { expect, test } from "@jest/globals";

const root = join(import.meta.dirname, "..");
const documents = execFileSync(
  "git",
  ["ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
  { cwd: root, encoding: "utf8" },
)
  .split("\n")
  .filter((path) => path !== "" && existsSync(join(root, path)));
const read = (path: string) => readFileSync(join(root, path), "utf8");
/** Without code: what looks like a link there is none. */
const prose = (text: string) =>
  text.replaceAll(/^```[\s\S]*?^```/gm, "").replaceAll(/`[^`\n]*`/g, "");

test.each(documents)("every link of %s leads somewhere", (path) => {
  const text = prose(read(path));
  const broken = [...text.matchAll(/\]\(([^)\s]+)\)/g)]
    .map((match) => match[1] ?? "")
    .filter((link) => !/^[a-z]+:/.test(link) && !leads(path, link));
  expect(broken).toEqual([]);
});

function leads(from: string, link: string): boolean {
  const [file = "", anchor] = link.split("#");
  const target = file === "" ? from : relative(root, join(root, dirname(from), file));
  if (!existsSync(join(root, target))) return false;
  return anchor === undefined || !target.endsWith(".md") || anchorsOf(read(target)).has(anchor);
}

/** As GitHub names headings; plus anchors that are written out. */
function anchorsOf(text: string): ReadonlySet<string> {
  const headings = [...text.matchAll(/^#+ (.+)$/gm)].map((match) =>
    (match[1] ?? "")
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N}\s_-]/gu, "")
      .trim()
      .replaceAll(" ", "-"),
  );
  return new Set([
    ...headings,
    ...[...text.matchAll(/id="([^"]+)"/g)].map((match) => match[1] ?? ""),
  ]);
}

/** What a walk tells its reader to write; test/simulation/security-engineer.test.ts writes them. */
const readersOwn = new Set(["rules/largest_step.rego", "rules/largest_step_test.rego"]);

test("every file and function that the documents name exists", () => {
  const missing = documents.flatMap((path) => {
    const text = read(path).replaceAll(/^```[\s\S]*?^```/gm, "");
    const named = [
      ...text.matchAll(/`([\w.-]+(?:\/[\w.-]+)+\.(?:ts|rego|sh|yaml))`(?: `#?(\w+)`)?/g),
    ];
    return named.flatMap(([, file = "", word]) => {
      if (readersOwn.has(file)) return [];
      const found = placesOf(file, path).find((place) => existsSync(join(root, place)));
      if (found === undefined) return [`${path}: ${file}`];
      return word === undefined || read(found).includes(word)
        ? []
        : [`${path}: ${file} has no ${word}`];
    });
  });
  expect(missing).toEqual([]);
});

/** Rooms are named from their package's folder, neighbours from the document's own. */
function placesOf(file: string, document: string): readonly string[] {
  return ["", "shepherd", "provider", "shepherd/libvirt", dirname(document)].map((folder) =>
    join(folder, file),
  );
}

test("every attribute of an HCL example is in the schema", () => {
  const declared = new Map(
    resources.map(({ name, attributes }) => [name as string, Object.keys(attributes)]),
  );
  const meta = ["count", "for_each", "depends_on", "lifecycle", "provider"];
  const unknown = documents.flatMap((path) =>
    blocksOf(read(path), "hcl").flatMap((block) =>
      [...block.matchAll(/^resource "(\w+)" "\w+" \{\n([\s\S]*?)^\}/gm)].flatMap(
        ([, type = "", body = ""]) =>
          [...body.matchAll(/^ {2}(?:# )?(\w+) +=/gm)]
            .map((match) => match[1] ?? "")
            .filter((name) => ![...(declared.get(type) ?? []), ...meta].includes(name))
            .map((name) => `${path}: ${type}.${name}`),
      ),
    ),
  );
  expect(unknown).toEqual([]);
});

test("the README's stack is the example's, line by line", () => {
  const lines = (text: string) => text.split("\n").map((line) => line.trim());
  const example = new Set(lines(read("stacks/examples/ring/main.ts")));
  const [shown = ""] = blocksOf(read("README.md"), "ts");
  expect(lines(shown).length).toBeGreaterThan(10);
  expect(lines(shown).filter((line) => !example.has(line))).toEqual([]);
});

test("every drover command that is shown exists", async () => {
  const shown = new Set(
    documents.flatMap((path) =>
      blocksOf(read(path), "").flatMap((block) =>
        [...block.matchAll(/^(?:\$ )?drover ([a-z]+)((?: [a-z]+)?)(?= |$)/gm)].map(
          ([, command = "", word = ""]) => `${command}${word}`,
        ),
      ),
    ),
  );
  expect(shown.size).toBeGreaterThan(5);
  const missing: string[] = [];
  for (const words of shown) {
    let help = "";
    const streams = {
      out: (text: string) => (help += text),
      err: (text: string) => (help += text),
    };
    const code = await runCommand([...words.split(" "), "--help"], streams);
    const usage = /^Usage: drover ([a-z ]+?)(?= \[|\n| <)/m.exec(help)?.[1] ?? "";
    // The second word may be an argument: then the usage names the first only, and no further commands.
    const found =
      usage === words || (words.startsWith(`${usage} `) && !help.includes("\nCommands:"));
    if (code !== 0 || !found) missing.push(words);
  }
  expect(missing).toEqual([]);
});

test("docs/operating.md names every key of drover.yaml", () => {
  const source = read("shepherd/configuration/configuration.ts");
  const keys = new Set(
    [...source.matchAll(/^\s+(\w+): (?:required|optional)\(/gm)].map((match) => match[1] ?? ""),
  );
  const table = read("docs/operating.md")
    .split("\n")
    .filter((line) => line.startsWith("| `"));
  const text = table.join("\n");
  expect(keys.size).toBeGreaterThan(20);
  expect([...keys].filter((key) => !new RegExp(`\\b${key}\\b`).test(text))).toEqual([]);
});

/** The text of fenced blocks of this language. */
function blocksOf(text: string, language: string): readonly string[] {
  return [...text.matchAll(/^```(\w*)\n([\s\S]*?)^```/gm)]
    .filter((match) => match[1] === language)
    .map((match) => match[2] ?? "");
}
