/** Data source `drover_site`: an owner's site and what its hosts lend. Facts of the moment: they change between plans. */
import { path } from "@drover/shepherd/api/client";
import type { SiteView } from "@drover/shepherd/api/contract";
import { attributes } from "#schema/attribute";
import { defineDataSource } from "#schema/resource";
import { hostAttributes, hostStates } from "./hosts.ts";
import { reading } from "./reading.ts";

const declared = attributes({
  id: { type: "string", required: true, description: "Name of the site." },
  owner: {
    type: "string",
    computed: true,
    description: "Who owns it; their policy has the last word.",
  },
  hosts: {
    type: { nesting: "list", attributes: hostAttributes },
    computed: true,
    description: "Its hosts, by name.",
  },
});

export const site = defineDataSource({
  name: "drover_site",
  description: "A site: its owner and what its hosts lend.",
  attributes: declared,
  read: (work, { id }) =>
    reading(work, `read site "${id}"`, ["id"], async () => {
      const view = await work.client.get<SiteView>(path`/v1/sites/${id}`, { signal: work.signal });
      return { id: view.id, owner: view.owner, hosts: hostStates(view.hosts) };
    }),
});
