/**
 * The JSON Schemas in policies/schemas, made from their declarations in shepherd/policy. `--write` rewrites the files;
 * without it this is a module that a test compares them with, so that opa, the door and the types cannot part.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { PolicyData } from "../../shepherd/policy/data.ts";
import { PolicyInput } from "../../shepherd/policy/input.ts";
import { PolicyOutput } from "../../shepherd/policy/output.ts";

export const schemaFolder = join(import.meta.dirname, "../../policies/schemas");

const draft = "http://json-schema.org/draft-07/schema#";

/** Parts of the data that `opa check` is given by their path (policies/main/drover.rego). */
const data = PolicyData.properties.drover.properties;

/** File name -> text. */
export const schemaFiles: Readonly<Record<string, string>> = {
  "input.json": text("Input of drover policies, contract 1", PolicyInput),
  "data.json": text("Data of drover policies, contract 1", PolicyData),
  "constraints.json": text("What stands at data.drover.constraints", data.constraints),
  "exemptions.json": text("What stands at data.drover.exemptions", data.exemptions),
  "output.json": text("Answer of drover policies, contract 1", PolicyOutput),
};

function text(title: string, schema: object): string {
  return `${JSON.stringify({ $schema: draft, title, ...schema }, null, 2)}\n`;
}

if (process.argv.includes("--write"))
  for (const [name, content] of Object.entries(schemaFiles))
    writeFileSync(join(schemaFolder, name), content);
