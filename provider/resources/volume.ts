/** `drover_volume`: a data disk that outlives the machine it is attached to. */
import { path } from "@drover/shepherd/api/client";
import type { VolumeBody, VolumePatch, VolumeView } from "@drover/shepherd/api/contract";
import { attributes } from "#schema/attribute";
import { identityById } from "#schema/identity";
import { defineResource } from "#schema/resource";
import { timeoutsAttribute } from "#schema/timeouts";
import { objectName, wholeNumber } from "#schema/validators";
import { declaredObject, refuseProtected, splitImportId } from "./declared-object.ts";
import { findOne } from "./lookup.ts";
import { known } from "./machine-body.ts";
import { onlyStack, waysAttribute } from "./plan-check.ts";

const declared = attributes({
  id: { type: "string", computed: true, neverNull: true, description: "Id of the volume." },
  environment_id: {
    type: "string",
    required: true,
    replaces: true,
    description: "Id of the environment that it belongs to.",
  },
  name: {
    type: "string",
    required: true,
    replaces: true,
    description: "Name, unique in its environment.",
    validators: [objectName],
  },
  size_gib: {
    type: "number",
    required: true,
    description: "Size in GiB. It grows in place, also while its machine runs; it never shrinks.",
    validators: [wholeNumber({ min: 1, max: 65_536 })],
  },
  site: {
    type: "string",
    optional: true,
    description:
      "The one site where it may lie: its machine is then not moved to another. Absent: where its machine is.",
  },
  deletion_protection: {
    type: "bool",
    optional: true,
    computed: true,
    default: false,
    description:
      "Refuses a plan that would destroy or replace it, until this is taken back. Default false.",
  },
  effective: {
    type: {
      nesting: "single",
      attributes: {
        site: {
          type: "string",
          computed: true,
          description: "Site where it is; null: nowhere yet.",
        },
        host: { type: "string", computed: true, description: "Host where it is." },
        machine: {
          type: "string",
          computed: true,
          description: "Name of the machine that it is attached to.",
        },
      },
    },
    computed: true,
    description: "Where it is now.",
  },
  ways: waysAttribute,
  timeouts: timeoutsAttribute({ create: "20m", update: "20m", delete: "20m" }),
});

export const volume = defineResource({
  name: "drover_volume",
  version: 0,
  description:
    "A data disk that outlives its machine. It lies on its machine's host, and goes along, with all that is on it, when that machine is moved.",
  importId: "environment/name or id",
  attributes: declared,
  identity: identityById("volume"),
  plan: ({ prior, planned }, report) => {
    if (prior === null) return {};
    const isPlaced = prior.effective?.host !== null;
    if (isPlaced && typeof planned.size_gib === "number" && planned.size_gib < prior.size_gib)
      report
        .at("size_gib")
        .error(
          "A volume never shrinks",
          `It has ${prior.size_gib} GiB, and what its guest wrote may lie anywhere in them. Keep that, or declare a new volume of ${planned.size_gib} GiB and copy its content in a guest that has both. [object.immutable]`,
        );
    return { effective: prior.effective };
  },
  ...declaredObject<typeof declared, VolumeView>({
    noun: "volume",
    typeName: "drover_volume",
    checkedAs: "volume",
    beforeCheck: refuseProtected,
    attributes: Object.keys(declared),
    put: (planned) => ({
      path: path`/v1/environments/${String(planned.environment_id)}/volumes/${String(planned.name)}`,
      body: {
        size_gib: planned.size_gib as number,
        site: known(planned.site),
        deletion_protection: planned.deletion_protection === true,
      } satisfies VolumeBody,
    }),
    one: (id) => path`/v1/volumes/${id}`,
    lookUp: (client, planned) =>
      findOne<VolumeView>(client, "/v1/volumes", {
        environment: String(planned.environment_id),
        name: String(planned.name),
      }),
    patch: ({ prior, planned }) => {
      const body: VolumePatch = {};
      if (planned.size_gib !== prior.size_gib) body.size_gib = planned.size_gib as number;
      if (planned.site !== prior.site) body.site = known(planned.site);
      if (planned.deletion_protection !== prior.deletion_protection)
        body.deletion_protection = planned.deletion_protection === true;
      return Object.keys(body).length === 0 ? undefined : body;
    },
    state: (view, prior) => ({
      state: {
        id: view.id,
        environment_id: view.environment_id,
        name: view.name,
        size_gib: view.size_gib,
        site: onlyStack(prior?.site),
        deletion_protection: view.deletion_protection,
        effective: view.effective,
        ways: onlyStack(prior?.ways) ?? {},
        timeouts: onlyStack(prior?.timeouts),
      },
    }),
    // Where it is may have changed with its machine meanwhile: the next read shows it.
    settle: (reached, planned) => {
      const effective = known(planned.effective);
      return effective === null ? reached : { ...reached, effective: effective as never };
    },
    idOf: (state) => state.id ?? "",
    nameOf: (state) => String(state.name),
    find: (client, id) => {
      const key = splitImportId(id);
      return key === undefined
        ? client.find(path`/v1/volumes/${id}`)
        : findOne<VolumeView>(client, "/v1/volumes", key);
    },
    importIdOf: (planned) => `${String(planned.environment_id)}/${String(planned.name)}`,
  }),
});
