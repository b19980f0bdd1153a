/** From drover.yaml to where each owner's policy comes from; public keys are read once, at the start. */
import { readFileSync } from "node:fs";
import type { Configuration } from "#configuration/configuration";
import { Fault } from "#model/fault";
import type { PolicySource } from "#opa/policies";

/** By owner. Fault `config.unreadable` for a key that is not there. */
export function policySources({
  file,
  policies,
  sites,
}: Pick<Configuration, "file" | "policies" | "sites">): ReadonlyMap<string, PolicySource> {
  const folder = (name: string): PolicySource => ({ kind: "folder", folder: name });
  const sources = new Map<string, PolicySource>([
    ["operator", folder(policies.operator)],
    ...sites.map((site): [string, PolicySource] => [`site:${site.id}`, folder(site.policy)]),
    ...Object.entries(policies.owners).map(([name, where]): [string, PolicySource] => [
      `owner:${name}`,
      folder(where),
    ]),
  ]);
  for (const [owner, bundle] of Object.entries(policies.bundles ?? {})) {
    const keys = bundle.keys.map(({ id, algorithm, file: keyFile }) => ({
      id,
      algorithm,
      publicKey: readKey(keyFile, file),
    }));
    sources.set(owner, { ...bundle, kind: "bundle", keys });
  }
  return sources;
}

function readKey(keyFile: string, namedIn: string): string {
  try {
    return readFileSync(keyFile, "utf8");
  } catch (cause) {
    const problem = cause instanceof Error ? cause.message : String(cause);
    throw new Fault("config.unreadable", { file: keyFile, problem, named_in: namedIn }, { cause });
  }
}
