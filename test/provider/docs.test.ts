/** The reference matches the schema, and its examples are valid for the real Terraform and OpenTofu. */
import { spawnSync } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { actions, lists, resources } from "@drover/provider/catalogue";
import { exampleFiles, providerDocs } from "@drover/provider/docs";
import { installProvider } from "@drover/provider/install";
import type { Attributes } from "@drover/provider/schema/attribute";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { findTofu } from "../tools/opentofu.ts";

const docs = join(import.meta.dirname, "..", "..", "docs", "provider");
const examples = join(docs, "examples");
const read = (path: string) => readFileSync(join(examples, path), "utf8");
let directory = "";
beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "drover-docs-"));
  await installProvider(join(directory, "mirror"));
  const mirror = JSON.stringify(join(directory, "mirror"));
  writeFileSync(
    join(directory, "cli.tfrc"),
    `provider_installation {\n  filesystem_mirror {\n    path = ${mirror}\n  }\n}\n`,
  );
}, 30_000);
afterAll(() => rmSync(directory, { recursive: true, force: true }));

test.each([...providerDocs()])(
  "%s is what the schema says (else: node provider/docs.ts)",
  (path, text) => {
    expect(readFileSync(join(docs, path), "utf8")).toBe(text);
  },
);

test("there is a page for each thing of the schema and no other, and an example for each page", () => {
  const pages = [...providerDocs().keys()];
  const folders = [...new Set(pages.map((path) => dirname(path)))].filter((one) => one !== ".");
  const present = folders.flatMap((folder) =>
    readdirSync(join(docs, folder)).map((file) => `${folder}/${file}`),
  );
  expect(present.toSorted()).toEqual(pages.filter((path) => path.includes("/")).toSorted());
  const files = (folder: string): string[] =>
    existsSync(join(examples, folder))
      ? readdirSync(join(examples, folder), { recursive: true, withFileTypes: true })
          .filter((entry) => entry.isFile())
          .map((entry) => join(entry.parentPath, entry.name).slice(examples.length + 1))
      : [];
  const expected = [
    ...exampleFiles(),
    ...resources.map(({ name }) => `resources/${name}/import.sh`),
  ];
  expect(folders.flatMap(files).toSorted()).toEqual(expected.toSorted());
});

test.each(resources.map(({ name }) => name))(
  "%s: its import names the example's address",
  (name) => {
    const command = read(`resources/${name}/import.sh`).trim().split("\n").at(-1) ?? "";
    const [, label] = new RegExp(`^terraform import ${name}\\.(\\w+) \\S+`).exec(command) ?? [];
    expect(read(`resources/${name}/resource.tf`)).toContain(`resource "${name}" "${label}"`);
  },
);

/** Every example as a module of one configuration: one init and one validate see them all. */
function everyExample(): string {
  const working = mkdtempSync(join(directory, "all-"));
  cpSync(join(examples, "provider/provider.tf"), join(working, "provider.tf"));
  const modules = exampleFiles()
    .filter((path) => !newer(path))
    .map((path) => {
      const name = dirname(path).replaceAll(/\W/g, "_");
      mkdirSync(join(working, name));
      cpSync(join(examples, path), join(working, name, basename(path)));
      writeFileSync(
        join(working, name, "versions.tf"),
        'terraform {\n  required_providers {\n    drover = { source = "drover.dev/drover/drover" }\n  }\n}\n',
      );
      const variables = [...read(path).matchAll(/^variable "(\w+)"/gm)];
      const given = variables.map(([, variable]) => `\n  ${variable} = null`).join("");
      return `module "${name}" {\n  source = "./${name}"\n${given}\n}\n`;
    });
  writeFileSync(join(working, "main.tf"), modules.join("\n"));
  return working;
}

/** What only Terraform 1.14 reads. */
const newer = (path: string) => path.startsWith("actions/") || path.startsWith("list-resources/");

test.each([
  ["terraform", "terraform"],
  ["tofu", findTofu() ?? "tofu"],
])(
  "%s accepts every example",
  (_, binary) => {
    const working = everyExample();
    for (const args of [["init"], ["validate"], ["fmt", "-check", "-recursive", examples]]) {
      const run = spawnSync(binary, [...args, ...(args[0] === "fmt" ? [] : ["-no-color"])], {
        cwd: working,
        encoding: "utf8",
        env: {
          ...process.env,
          TF_CLI_CONFIG_FILE: join(directory, "cli.tfrc"),
          CHECKPOINT_DISABLE: "1",
        },
      });
      expect({ args, stderr: run.stderr, stdout: run.status === 0 ? "" : run.stdout }).toEqual({
        args,
        stderr: "",
        stdout: "",
      });
    }
  },
  60_000,
);

test.each(exampleFiles().filter(newer))(
  "%s sets what the schema has, and all it requires",
  (path) => {
    const [folder, name] = path.split("/");
    const types: readonly { name: string; attributes: Attributes }[] =
      folder === "actions" ? actions : lists;
    const { attributes = {} } = types.find((type) => type.name === name) ?? {};
    const text = read(path);
    const label = folder === "actions" ? "action" : "list";
    expect(text).toMatch(new RegExp(`^${label} "${name}" "\\w+" \\{`, "m"));
    const config = /\n {2}config \{\n([\s\S]*?)\n {2}\}\n/.exec(text)?.[1] ?? "";
    const set = [...config.matchAll(/^ {4}(\w+)\s+=/gm)].map(([, attribute]) => attribute ?? "");
    expect(Object.keys(attributes)).toEqual(expect.arrayContaining(set));
    const required = Object.entries(attributes).filter(([, one]) => one.required === true);
    expect(set).toEqual(expect.arrayContaining(required.map(([attribute]) => attribute)));
  },
);
