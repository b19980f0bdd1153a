/** Data source `drover_site`: an owner's site and what its hosts lend. Facts of the moment: they change between plans. */
import { path } from "@drover/shepherd/api/client";
import type { SiteView } from "@drover/shepherd/api/contract";
import { attributes } from "#schema/attribute";
import { defineDataSource } from "#schema/resource";
import { reportError } from "../resources/mutation.ts";

const declared = attributes({
  id: { type: "string", required: true, description: "Name of the site." },
  owner: {
    type: "string",
    computed: true,
    description: "Who owns it; their policy has the last word.",
  },
  hosts: {
    type: {
      nesting: "list",
      attributes: {
        id: { type: "string", computed: true, description: "Name of the host." },
        state: {
          type: "string",
          computed: true,
          description: "`up`, or `degraded` while it does not answer.",
        },
        lend_cpu_percent: {
          type: "number",
          computed: true,
          description: "CPU that its owner lends, in percent of one core.",
        },
        lend_memory_mib: {
          type: "number",
          computed: true,
          description: "Memory that its owner lends, in MiB.",
        },
        lend_disk_gib: {
          type: "number",
          computed: true,
          description: "Disk space that its owner lends, in GiB.",
        },
      },
    },
    computed: true,
    description: "Its hosts, by name.",
  },
});

export const site = defineDataSource({
  name: "drover_site",
  description: "A site: its owner and what its hosts lend.",
  attributes: declared,
  read: async (work, config) => {
    try {
      const view = await work.client.get<SiteView>(path`/v1/sites/${config.id}`, {
        signal: work.signal,
      });
      return {
        id: view.id,
        owner: view.owner,
        hosts: view.hosts
          .toSorted((left, right) => (left.id < right.id ? -1 : 1))
          .map(({ id, state, lend }) => ({
            id,
            state,
            lend_cpu_percent: lend.cpu_percent,
            lend_memory_mib: lend.memory_mib,
            lend_disk_gib: lend.disk_gib,
          })),
      };
    } catch (error) {
      reportError(work, error, { what: `read site "${config.id}"`, attributes: ["id"] });
      return null;
    }
  },
});
