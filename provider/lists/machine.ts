/**
 * List of `drover_machine` for `terraform query`: every machine that the shepherd knows, or every machine that another
 * tool made on its hosts, each ready to be imported. What is imported runs on as it is.
 */
import { path } from "@drover/shepherd/api/client";
import type {
  EnvironmentView,
  ForeignMachineView,
  MachineView,
} from "@drover/shepherd/api/contract";
import { attributes } from "#schema/attribute";
import { defineList, type Listed } from "#schema/list";
import type { Work } from "#schema/resource";
import { needs } from "#schema/rules";
import type { ObjectValue } from "#schema/value";
import { stateOf } from "../resources/machine-state.ts";

const declared = attributes({
  environment: {
    type: "string",
    optional: true,
    description:
      "Name or id of an environment. Absent: all. With `foreign`: the environment that is to take them.",
  },
  group: { type: "string", optional: true, description: "Only machines of this group." },
  foreign: {
    type: "bool",
    optional: true,
    description:
      "Lists the running machines that another tool made, at the sites of `environment`, instead of its own. Needs the right to operate.",
  },
  host: { type: "string", optional: true, description: "Only what runs on this host." },
});

export const machines = defineList({
  name: "drover_machine",
  description:
    "The machines of an environment, or of all, or those that other tools made, each with its identity.",
  attributes: declared,
  rules: [needs("foreign", "environment", "an imported machine belongs to one")],
  async *list(work, { environment, group, foreign, host }) {
    if (foreign === true) {
      yield* foreignMachines(work, { into: environment ?? "", host });
      return;
    }
    const { items } = await work.client.get<{ items: readonly MachineView[] }>("/v1/machines", {
      query: { environment: environment ?? undefined },
      signal: work.signal,
    });
    for (const view of items) {
      if (group !== null && view.group !== group) continue;
      if (host !== null && view.effective.host !== host) continue;
      yield {
        identity: { id: view.id },
        displayName: `${view.environment}/${view.name}`,
        state: () => asValue(stateOf(view, null).state),
      };
    }
  },
});

async function* foreignMachines(
  { client, signal }: Work,
  { into, host }: { readonly into: string; readonly host: string | null },
): AsyncIterable<Listed> {
  const environment = await client.get<EnvironmentView>(path`/v1/environments/${into}`, { signal });
  const { items } = await client.get<{ items: readonly ForeignMachineView[] }>(
    "/v1/foreign-machines",
    { query: { host: host ?? undefined }, signal },
  );
  const taken = new Set<string>();
  for (const foreign of items) {
    const { id, state, site } = foreign;
    // Only what runs is taken over, and only where its environment may be.
    if (state !== "running" || !environment.sites.includes(site)) continue;
    const name = freeName(foreign.name, taken);
    yield {
      // as `terraform import` takes it; imported, it is known by its id
      identity: { id: `${environment.name}/${name}=${id}` },
      displayName: `${foreign.name} on ${foreign.host}`,
      state: () => asValue(stateOf(viewOf(foreign, { environment, name }), null).state),
    };
  }
}

/** Its own name as a machine may be called, told apart from others that come to the same. */
function freeName(name: string, taken: Set<string>): string {
  const plain = name.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-");
  const stem =
    plain
      .replaceAll(/^-+|-+$/g, "")
      .slice(0, 30)
      .replace(/-+$/, "") || "machine";
  let free = stem;
  for (let n = 2; taken.has(free); n += 1) free = `${stem}-${n}`;
  taken.add(free);
  return free;
}

/** What the shepherd will say of it once it is imported: its sizes of now are its baselines, and nothing of it adapts. */
function viewOf(
  foreign: ForeignMachineView,
  of: { readonly environment: EnvironmentView; readonly name: string },
): MachineView {
  const sizes = {
    vcpus: foreign.vcpus,
    cpu_percent: foreign.cpu_percent ?? foreign.vcpus * 100,
    memory_mib: foreign.memory_mib,
  };
  return {
    ...sizes,
    id: foreign.id,
    environment_id: of.environment.id,
    environment: of.environment.name,
    name: of.name,
    group: null,
    speaker: false,
    class: of.environment.class,
    image_id: "",
    site: foreign.site,
    host: null,
    adaptation: { mode: "auto" },
    declared_adaptation: null,
    disks: [],
    user_data_sha256: null,
    cpu_weight: foreign.cpu_weight,
    stop_timeout_s: 20,
    deletion_protection: false,
    allow_restart: false,
    raw_xml_patch: [],
    origin: "import",
    managed_by: foreign.managed_by,
    restart_needed: [],
    networks: [],
    ceiling: { vcpus: foreign.vcpus, memory_mib: foreign.memory_max_mib },
    guest_seen: null,
    effective: {
      ...sizes,
      cpu_weight: foreign.cpu_weight,
      site: foreign.site,
      host: foreign.host,
      state: "running",
      adaptation_id: null,
      lease_until_ms: null,
      reason: null,
    },
    drift: [],
    version: 0,
  };
}

/** A state is an object of wire values; its named type has no index signature. */
function asValue(state: object | null): ObjectValue | null {
  return state as unknown as ObjectValue | null;
}
