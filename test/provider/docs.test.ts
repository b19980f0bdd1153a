/** The reference matches the schema, and its examples are valid for the real Terraform. */
import { spawnSync } from "node:child_process";
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { dataSources, resources } from "@drover/provider/catalogue";
import { providerDocs } from "@drover/provider/docs";
import { installProvider } from "@drover/provider/install";
import { afterAll, beforeAll, expect, test } from "@jest/globals";

const docs = join(import.meta.dirname, "..", "..", "docs", "provider");
const examples = join(docs, "examples");
let directory = "";
beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "drover-docs-"));
  await installProvider(join(directory, "mirror"));
  const mirror = JSON.stringify(join(directory, "mirror"));
  writeFileSync(
    join(directory, "cli.tfrc"),
    `provider_installation {\n  filesystem_mirror {\n    path = ${mirror}\n  }\n}\n`,
  );
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

test.each([...providerDocs()])(
  "%s is what the schema says (else: node provider/docs.ts)",
  (path, text) => {
    expect(readFileSync(join(docs, path), "utf8")).toBe(text);
  },
);

test("every resource and data source has an example, and every resource says how to import it", () => {
  const has = (folder: string, name: string) =>
    readdirSync(join(examples, folder, name)).toSorted();
  for (const { name } of resources)
    expect(has("resources", name)).toEqual(["import.sh", "resource.tf"]);
  for (const { name } of dataSources) expect(has("data-sources", name)).toEqual(["data-source.tf"]);
});

test.each([
  ...resources.map(({ name }) => `resources/${name}/resource.tf`),
  ...dataSources.map(({ name }) => `data-sources/${name}/data-source.tf`),
])("terraform validate accepts %s", (path) => {
  const working = join(directory, path.replaceAll("/", "-"));
  mkdirSync(working);
  cpSync(join(examples, "provider/provider.tf"), join(working, "provider.tf"));
  cpSync(join(examples, path), join(working, "main.tf"));
  for (const command of ["init", "validate"]) {
    const run = spawnSync("terraform", [command, "-no-color"], {
      cwd: working,
      encoding: "utf8",
      env: {
        ...process.env,
        TF_CLI_CONFIG_FILE: join(directory, "cli.tfrc"),
        CHECKPOINT_DISABLE: "1",
      },
    });
    expect(run.stderr).toBe("");
    expect(run.status).toBe(0);
  }
});
