/** Data source `drover_sites`: every site that the shepherd knows, of one owner or of all. */
import type { SiteView } from "@drover/shepherd/api/contract";
import { attributes } from "#schema/attribute";
import { defineDataSource } from "#schema/resource";
import { byId, hostAttributes, hostStates } from "./hosts.ts";
import { reading } from "./reading.ts";

const declared = attributes({
  owner: {
    type: "string",
    optional: true,
    description: "Only sites of this owner. Absent: all sites.",
  },
  sites: {
    type: {
      nesting: "list",
      attributes: {
        id: { type: "string", computed: true, description: "Name of the site." },
        owner: { type: "string", computed: true, description: "Who owns it." },
        hosts: {
          type: { nesting: "list", attributes: hostAttributes },
          computed: true,
          description: "Its hosts, by name.",
        },
      },
    },
    computed: true,
    description: "The sites, by name.",
  },
});

export const sites = defineDataSource({
  name: "drover_sites",
  description: "The sites that the shepherd knows, with their owners and hosts.",
  attributes: declared,
  read: (work, { owner }) =>
    reading(work, "read the sites", ["owner"], async () => {
      const { items } = await work.client.get<{ items: readonly SiteView[] }>("/v1/sites", {
        signal: work.signal,
      });
      return {
        owner,
        sites: byId(items)
          .filter((view) => owner === null || view.owner === owner)
          .map((view) => ({ id: view.id, owner: view.owner, hosts: hostStates(view.hosts) })),
      };
    }),
});
