/**
 * `drover_environment`: the unit of ownership; machines, networks and links belong to one. Nothing of it adapts itself;
 * its `adaptation` is what its machines inherit.
 */
import { path } from "@drover/shepherd/api/client";
import type {
  EnvironmentAdaptation,
  EnvironmentBody,
  EnvironmentPatch,
  EnvironmentView,
  RangeBody,
} from "@drover/shepherd/api/contract";
import { attributes, type PlannedOf, type StateOf } from "#schema/attribute";
import { identityById } from "#schema/identity";
import { defineResource } from "#schema/resource";
import { objectName, size, wholeNumber } from "#schema/validators";
import { equal, isUnknown, unknown, type Value } from "#schema/value";
import { boundsAttributes, rateMbps, requiredRange } from "./adaptation-attributes.ts";
import { declaredObject } from "./declared-object.ts";
import { planEnvironmentMode } from "./environment-modes.ts";
import { known } from "./machine-body.ts";

const declared = attributes({
  id: { type: "string", computed: true, neverNull: true, description: "Id of the environment." },
  name: {
    type: "string",
    required: true,
    replaces: true,
    description: "Name, unique at the shepherd.",
    validators: [objectName],
  },
  class: {
    type: "string",
    required: true,
    description:
      "What its machines are, for policy, unless they say otherwise: `batch`, `sensitive`.",
    validators: [objectName],
  },
  sites: {
    type: ["list", "string"],
    required: true,
    description: "Sites that it may use, in order of preference.",
    validators: [size({ min: 1, max: 64 }, "at least one site")],
  },
  owner: {
    type: "string",
    optional: true,
    computed: true,
    description:
      "Who answers for it; the owner's policies are asked too. Default: the principal that applies.",
  },
  adaptation: {
    type: {
      nesting: "single",
      attributes: {
        ...boundsAttributes({
          mode: "`auto`",
          range: "what a machine says nothing of does not adapt",
          sites: "a machine lives at its baseline site only",
        }),
        links: {
          type: {
            nesting: "single",
            attributes: {
              max_added: {
                type: "number",
                required: true,
                description: "How many links its guests may add to those of the stack.",
                validators: [wholeNumber({ min: 0, max: 10_000 })],
              },
              rate_mbps: requiredRange("the rate of an added link in Mbit/s", rateMbps),
            },
          },
          optional: true,
          description: "Links that its guests may add. Absent: none.",
        },
      },
    },
    optional: true,
    description: "What its machines inherit where they say nothing themselves.",
  },
});
type Planned = PlannedOf<typeof declared>;
type Adaptation = NonNullable<StateOf<typeof declared>["adaptation"]>;

export const environment = defineResource({
  name: "drover_environment",
  version: 0,
  description: "A private cluster: machines, networks and links of one owner, across sites.",
  importId: "name or id",
  attributes: declared,
  identity: identityById("environment"),
  plan: ({ prior, planned }) => {
    const adaptation = isUnknown(planned.adaptation) ? unknown : planned.adaptation?.mode;
    planEnvironmentMode(prior?.id, adaptation);
    return {};
  },
  ...declaredObject<typeof declared, EnvironmentView>({
    noun: "environment",
    checkedAs: "environment",
    typeName: "drover_environment",
    attributes: Object.keys(declared),
    put: (planned) => ({
      path: path`/v1/environments/${String(planned.name)}`,
      body: {
        class: planned.class as string,
        sites: planned.sites as string[],
        adaptation: adaptationBody(planned.adaptation),
        ...(typeof planned.owner === "string" ? { owner: planned.owner } : {}),
      } satisfies EnvironmentBody,
    }),
    one: (id) => path`/v1/environments/${id}`,
    lookUp: (client, planned) => client.find(path`/v1/environments/${String(planned.name)}`),
    patch: ({ prior, planned }) => {
      const body: EnvironmentPatch = {};
      if (planned.class !== prior.class) body.class = String(planned.class);
      if (!equal(planned.sites as Value, prior.sites as Value))
        body.sites = planned.sites as string[];
      if (!equal(planned.adaptation as Value, prior.adaptation as Value))
        body.adaptation = adaptationBody(planned.adaptation);
      if (planned.owner !== prior.owner && typeof planned.owner === "string")
        body.owner = planned.owner;
      return Object.keys(body).length === 0 ? undefined : body;
    },
    state: (view, prior) => ({
      state: {
        id: view.id,
        name: view.name,
        class: view.class,
        sites: view.sites,
        owner: view.owner,
        adaptation: adaptationOf(view.adaptation, prior),
      },
    }),
    idOf: (state) => state.id ?? "",
    nameOf: (state) => String(state.name),
    find: (client, id) => client.find(path`/v1/environments/${id}`),
    importIdOf: (planned) => String(planned.name),
  }),
});

function adaptationBody(adaptation: Planned["adaptation"]): EnvironmentAdaptation | null {
  const given = known(adaptation);
  if (given === null) return null;
  const links = known(given.links);
  return {
    mode: known(given.mode) as EnvironmentAdaptation["mode"] & string,
    vcpus: known(given.vcpus) as RangeBody | null,
    cpu_percent: known(given.cpu_percent) as RangeBody | null,
    memory_mib: known(given.memory_mib) as RangeBody | null,
    sites: known(given.sites) as string[] | null,
    links: links as EnvironmentAdaptation["links"] & object,
  };
}

/** An object that says nothing stays one where the user wrote it so. */
function adaptationOf(
  adaptation: EnvironmentAdaptation | null,
  prior: Planned | null,
): Adaptation | null {
  const said = adaptation ?? {};
  const own: Adaptation = {
    mode: said.mode ?? null,
    vcpus: said.vcpus ?? null,
    cpu_percent: said.cpu_percent ?? null,
    memory_mib: said.memory_mib ?? null,
    sites: said.sites ?? null,
    links: said.links ?? null,
  };
  const before = prior?.adaptation;
  const isWritten = before !== undefined && before !== null && !isUnknown(before);
  const silent = Object.values(own).every((value) => value === null);
  return silent && !isWritten ? null : own;
}
