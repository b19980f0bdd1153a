/**
 * `drover_site`: another owner's domain, taken in while the shepherd runs. Only who operates the shepherd may; the owner's
 * policy is loaded first. Its hosts are `drover_host`.
 */
import { path } from "@drover/shepherd/api/client";
import type { SiteBody, SiteRegistrationView } from "@drover/shepherd/api/contract-hosts";
import { attributes } from "#schema/attribute";
import { identityById } from "#schema/identity";
import { defineResource } from "#schema/resource";
import { timeoutsAttribute } from "#schema/timeouts";
import { matches, objectName } from "#schema/validators";
import { isUnknown } from "#schema/value";
import { declaredObject } from "./declared-object.ts";
import { findOne } from "./lookup.ts";
import { known } from "./machine-body.ts";
import { onlyStack } from "./plan-check.ts";
import { removeWhenFree } from "./removal.ts";

const folder = matches(/^\//, "an absolute path at the shepherd");

const declared = attributes({
  id: { type: "string", computed: true, neverNull: true, description: "Its name." },
  name: {
    type: "string",
    required: true,
    replaces: true,
    description: "Name, unique at the shepherd.",
    validators: [objectName],
  },
  owner: {
    type: "string",
    required: true,
    replaces: true,
    description: "Who owns it and registers its hosts; their policy has the last word there.",
  },
  policy: {
    type: "string",
    required: true,
    replaces: true,
    description:
      "Folder of the owner's policy at the shepherd. Its content is changed there, and rolled out with `drover policy`.",
    validators: [folder],
  },
  key_dir: {
    type: "string",
    optional: true,
    replaces: true,
    description:
      "Folder at the shepherd whose files the site's hosts may name as their SSH key. Absent: its hosts cannot be reached by SSH.",
    validators: [folder],
  },
  timeouts: timeoutsAttribute({ delete: "2m" }),
});
type Declared = typeof declared;

export const site = defineResource({
  name: "drover_site",
  version: 0,
  description: "A site of another owner, taken in while the shepherd runs.",
  importId: "name",
  attributes: declared,
  identity: identityById("site"),
  plan: ({ planned }) => (isUnknown(planned.name) ? {} : { id: planned.name }),
  ...declaredObject<Declared, SiteRegistrationView>({
    noun: "site",
    typeName: "drover_site",
    attributes: Object.keys(declared),
    put: (planned) => ({
      path: path`/v1/site-registrations/${String(planned.name)}`,
      body: {
        owner: String(planned.owner),
        policy: String(planned.policy),
        key_dir: known(planned.key_dir),
      } satisfies SiteBody,
    }),
    one: (id) => path`/v1/site-registrations/${id}`,
    lookUp: (client, planned) =>
      findOne<SiteRegistrationView>(client, "/v1/site-registrations", {
        name: String(planned.name),
      }),
    state: (view, prior) => ({
      state: {
        id: view.id,
        name: view.id,
        owner: view.owner,
        policy: view.policy,
        key_dir: view.key_dir,
        timeouts: onlyStack(prior?.timeouts),
      },
    }),
    idOf: (state) => state.id ?? "",
    nameOf: (state) => String(state.name),
    find: (client, id) => client.find(path`/v1/site-registrations/${id}`),
    importIdOf: (planned) => String(planned.name),
  }),
  remove: (work, { id }) =>
    removeWhenFree(work, path`/v1/site-registrations/${id ?? ""}`, {
      what: `delete site "${id}"`,
      attributes: [],
    }),
});
