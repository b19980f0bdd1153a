/**
 * Data source `drover_hosts`: the hosts that owners lend, with what they lend and what others use of it. Host attributes
 * stand here once; the data sources of sites show the same.
 */
import type { SiteView } from "@drover/shepherd/api/contract";
import { attributes, type StateOf } from "#schema/attribute";
import { defineDataSource } from "#schema/resource";
import { reading } from "./reading.ts";

export const hostAttributes = attributes({
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
});

const declared = attributes({
  site: { type: "string", optional: true, description: "Only hosts of this site. Absent: of all." },
  hosts: {
    type: {
      nesting: "list",
      attributes: {
        ...hostAttributes,
        site: { type: "string", computed: true, description: "Site that it belongs to." },
        owner: { type: "string", computed: true, description: "Who owns that site." },
      },
    },
    computed: true,
    description: "The hosts, by site and name.",
  },
});

export const hosts = defineDataSource({
  name: "drover_hosts",
  description: "The hosts that owners lend, of one site or of all.",
  attributes: declared,
  read: (work, { site }) =>
    reading(work, "read the hosts", ["site"], async () => {
      const { items } = await work.client.get<{ items: readonly SiteView[] }>("/v1/sites", {
        signal: work.signal,
      });
      if (site !== null && !items.some(({ id }) => id === site)) {
        work.report
          .at("site")
          .error(
            "No such site",
            `The shepherd knows no site "${site}"; it has: ${items.map(({ id }) => id).join(", ")}.`,
          );
        return null;
      }
      return {
        site,
        hosts: byId(items)
          .filter(({ id }) => site === null || id === site)
          .flatMap(({ id, owner, hosts: own }) =>
            hostStates(own).map((host) => ({ ...host, site: id, owner })),
          ),
      };
    }),
});

/** Hosts of a site as a data source shows them, by name. */
export function hostStates(own: SiteView["hosts"]): StateOf<typeof hostAttributes>[] {
  return byId(own).map(({ id, state, lend }) => ({
    id,
    state,
    lend_cpu_percent: lend.cpu_percent,
    lend_memory_mib: lend.memory_mib,
    lend_disk_gib: lend.disk_gib,
  }));
}

/** Sorted by name, so that the order in which they were declared makes no difference to a plan. */
export function byId<Item extends { readonly id: string }>(items: readonly Item[]): Item[] {
  return items.toSorted((left, right) => (left.id < right.id ? -1 : 1));
}
