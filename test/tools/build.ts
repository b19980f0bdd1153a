/**
 * `make build`: bundles the provider, generates the CDKTF bindings from its schema, compiles the shipped policies.
 * Each part does nothing when its inputs have not changed.
 */
import { buildProvider } from "../../provider/build.ts";
import { buildPolicies } from "./build-policies.ts";

const provider = await buildProvider({ nodePath: process.execPath });
console.log(`provider: ${(provider.bytes / 1024).toFixed(0)} KiB, one script`);
await import("../../stacks/generate.ts");
await buildPolicies();
