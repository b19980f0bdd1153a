/**
 * Generates the CDKTF bindings of the provider into stacks/.gen, offline, from the provider's own schema tables.
 * No terraform binary and no registry take part. Run by `make build`; skipped when the schema has not changed.
 */
import { createHash } from "node:crypto";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { providerAddress } from "@drover/provider/plugin/address";
import { providerSchemaJson } from "@drover/provider/schema-json";

// The generator asks a terraform binary for its version; a missing CLI configuration would clutter the output.
process.env["TF_CLI_CONFIG_FILE"] = "/dev/null";
const { TerraformProviderGenerator } = await import("@cdktn/provider-generator");
const { CodeMaker } = await import("codemaker");

const out = join(import.meta.dirname, ".gen");
const stamp = join(out, "schema.sha256");
const schema = providerSchemaJson();
const digest = createHash("sha256").update(JSON.stringify(schema)).digest("hex");

if (!existsSync(stamp) || readFileSync(stamp, "utf8") !== digest) {
  rmSync(out, { recursive: true, force: true });
  const code = new CodeMaker();
  code.indentation = 2;
  // `never`: the generator bundles its own copy of the CodeMaker type, equal in shape
  const generator = new TerraformProviderGenerator(code as never, schema as never, {
    importExtension: ".ts",
  });
  generator.versions[providerAddress] = "0.1.0";
  generator.generateAll();
  await code.save(out);
  writeFileSync(stamp, digest);
  console.log("stacks: bindings generated from the provider's schema");
}
