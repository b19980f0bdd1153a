/** The schemas of the policy contract, as `opa check --schema` and an editor take them, of the version that runs here. */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { Type } from "typebox";
import type { ApiRouter } from "#api/server";
import { Fault } from "#model/fault";
import { libraryFolder } from "#opa/sources";

const folder = join(libraryFolder, "schemas");

export function policySchemaRoutes(router: ApiRouter): void {
  router.get("/v1/policy-schemas", { config: { access: "read" } }, async () => ({
    items: (await names()).map((name) => ({ name, path: `/v1/policy-schemas/${name}` })),
  }));

  router.get(
    "/v1/policy-schemas/:name",
    { config: { access: "read" }, schema: { params: Type.Object({ name: Type.String() }) } },
    async ({ params: { name } }): Promise<unknown> => {
      // never a path of the caller's
      if (!(await names()).includes(name)) {
        throw new Fault("object.unknown", { kind: "schema", id: name });
      }
      return JSON.parse(await readFile(join(folder, name), "utf8"));
    },
  );
}

async function names(): Promise<readonly string[]> {
  return (await readdir(folder)).filter((name) => name.endsWith(".json")).toSorted();
}
