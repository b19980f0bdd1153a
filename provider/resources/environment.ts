/** `drover_environment`: the unit of ownership; machines, networks and links belong to one. Nothing of it adapts. */
import { path } from "@drover/shepherd/api/client";
import type {
  EnvironmentBody,
  EnvironmentPatch,
  EnvironmentView,
} from "@drover/shepherd/api/contract";
import { attributes } from "#schema/attribute";
import { defineResource } from "#schema/resource";
import { objectName, size } from "#schema/validators";
import { declaredObject } from "./declared-object.ts";

const declared = attributes({
  id: { type: "string", computed: true, description: "Id of the environment." },
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
});

export const environment = defineResource({
  name: "drover_environment",
  version: 0,
  description: "A private cluster: machines, networks and links of one owner, across sites.",
  importId: "name or id",
  attributes: declared,
  ...declaredObject<typeof declared, EnvironmentView>({
    noun: "environment",
    typeName: "drover_environment",
    attributes: Object.keys(declared),
    put: (planned) => ({
      path: path`/v1/environments/${String(planned.name)}`,
      body: {
        class: String(planned.class),
        sites: planned.sites as string[],
        ...(typeof planned.owner === "string" ? { owner: planned.owner } : {}),
      } satisfies EnvironmentBody,
    }),
    one: (id) => path`/v1/environments/${id}`,
    lookUp: (client, planned) => client.find(path`/v1/environments/${String(planned.name)}`),
    patch: ({ prior, planned }) => {
      const body: EnvironmentPatch = {};
      if (planned.class !== prior.class) body.class = String(planned.class);
      if (JSON.stringify(planned.sites) !== JSON.stringify(prior.sites))
        body.sites = planned.sites as string[];
      if (planned.owner !== prior.owner && typeof planned.owner === "string")
        body.owner = planned.owner;
      return Object.keys(body).length === 0 ? undefined : body;
    },
    state: (view) => ({
      state: {
        id: view.id,
        name: view.name,
        class: view.class,
        sites: view.sites,
        owner: view.owner,
      },
    }),
    idOf: (state) => state.id ?? "",
    nameOf: (state) => String(state.name),
    find: (client, id) => client.find(path`/v1/environments/${id}`),
    importIdOf: (planned) => String(planned.name),
  }),
});
