/**
 * `drover_site`: registers an owner's site at the shepherd, for those who keep their fleet in Terraform instead of
 * drover.yaml. The owner's policy has the last word over what happens there.
 */
import { path } from "@drover/shepherd/api/client";
import type { SiteBody, SiteView } from "@drover/shepherd/api/contract";
import { attributes } from "#schema/attribute";
import { identityById } from "#schema/identity";
import { defineResource } from "#schema/resource";
import { objectName, size } from "#schema/validators";
import { onlyStack } from "./plan-check.ts";
import { registeredObject } from "./registered-object.ts";

const declared = attributes({
  id: {
    type: "string",
    required: true,
    replaces: true,
    description: "Name of the site.",
    validators: [objectName],
  },
  owner: {
    type: "string",
    required: true,
    description: "Who owns it; their policy has the last word.",
  },
  policy: {
    type: "string",
    required: true,
    description: "Folder or bundle of its owner's policy, at the shepherd.",
  },
  raw_xml_paths: {
    type: ["list", "string"],
    optional: true,
    description: "Paths that `raw_xml_patch` of machines at this site may use. Absent: none.",
    validators: [size({ min: 0, max: 64 }, "at most 64 paths")],
  },
});

export const site = defineResource({
  name: "drover_site",
  version: 0,
  description: "An owner's site, registered at the shepherd.",
  importId: "its name",
  attributes: declared,
  identity: identityById("site"),
  ...registeredObject<typeof declared, SiteView>({
    noun: "site",
    attributes: Object.keys(declared),
    one: ({ id }) => ({
      write: path`/v1/sites/${String(id)}`,
      read: path`/v1/sites/${String(id)}`,
    }),
    body: (planned) =>
      ({
        owner: String(planned.owner),
        policy: String(planned.policy),
        ...(Array.isArray(planned.raw_xml_paths)
          ? { raw_xml_paths: planned.raw_xml_paths.map(String) }
          : {}),
      }) satisfies SiteBody,
    state: (view, prior) => ({
      id: view.id,
      owner: view.owner,
      policy: onlyStack<string>(prior?.policy) ?? "",
      raw_xml_paths: onlyStack(prior?.raw_xml_paths),
    }),
    nameOf: ({ id }) => String(id),
    find: (work, id) => work.client.find<SiteView>(path`/v1/sites/${id}`, { signal: work.signal }),
  }),
});
