/** `drover_image`: what machines' disks start from. Content is named by its hash, so a change of it is another image. */
import { path } from "@drover/shepherd/api/client";
import type { ImageBody, ImageView } from "@drover/shepherd/api/contract";
import { attributes } from "#schema/attribute";
import { identityById } from "#schema/identity";
import { defineResource } from "#schema/resource";
import { objectName, sha256, shepherdFile } from "#schema/validators";
import { declaredObject } from "./declared-object.ts";
import { findOne } from "./lookup.ts";

const declared = attributes({
  id: { type: "string", computed: true, neverNull: true, description: "Id of the image." },
  name: {
    type: "string",
    required: true,
    replaces: true,
    description: "Name, unique at the shepherd.",
    validators: [objectName],
  },
  source: {
    type: "string",
    required: true,
    replaces: true,
    description:
      "qcow2 file at the shepherd, or `blob:<sha256>` of an upload (`drover image push`).",
    validators: [shepherdFile],
  },
  sha256: {
    type: "string",
    required: true,
    replaces: true,
    description: "SHA-256 of the qcow2 file; checked before use.",
    validators: [sha256],
  },
  kernel: {
    type: "string",
    optional: true,
    replaces: true,
    description:
      "Kernel for direct boot: file at the shepherd or `blob:<sha256>`. Absent: the disk boots itself.",
    validators: [shepherdFile],
  },
  initrd: {
    type: "string",
    optional: true,
    replaces: true,
    description: "Initial ram disk for direct boot: file at the shepherd or `blob:<sha256>`.",
    validators: [shepherdFile],
  },
  cmdline: {
    type: "string",
    optional: true,
    replaces: true,
    description: "Kernel command line for direct boot.",
  },
  size_bytes: { type: "number", computed: true, description: "Size of the file." },
  virtual_bytes: {
    type: "number",
    computed: true,
    description: "Size of the disk that a guest sees.",
  },
});

export const image = defineResource({
  name: "drover_image",
  version: 0,
  description: "An image that machines start from, placed on each host at first use.",
  importId: "name or id",
  attributes: declared,
  identity: identityById("image"),
  validate: (config, report) => {
    if (config.kernel === null && typeof config.initrd === "string")
      report
        .at("initrd")
        .error("initrd without kernel", "Direct boot needs both; set kernel, or remove initrd.");
    if (config.kernel === null && typeof config.cmdline === "string")
      report
        .at("cmdline")
        .error(
          "cmdline without kernel",
          "A command line is used at direct boot only; set kernel, or remove cmdline.",
        );
  },
  ...declaredObject<typeof declared, ImageView>({
    noun: "image",
    typeName: "drover_image",
    attributes: Object.keys(declared),
    put: (planned) => ({
      path: path`/v1/images/${String(planned.name)}`,
      body: {
        source: String(planned.source),
        sha256: String(planned.sha256),
        kernel: text(planned.kernel),
        initrd: text(planned.initrd),
        cmdline: text(planned.cmdline),
      } satisfies ImageBody,
    }),
    one: (id) => path`/v1/images/${id}`,
    lookUp: (client, planned) =>
      findOne<ImageView>(client, "/v1/images", { name: String(planned.name) }),
    // An upload's source has become a path at the shepherd: what the user wrote is kept, the hash tells the truth.
    state: (view, prior) => ({
      state: {
        id: view.id,
        name: view.name,
        source: text(prior?.source) ?? view.source,
        sha256: view.sha256,
        kernel: prior === null ? (view.kernel ?? null) : text(prior.kernel),
        initrd: prior === null ? (view.initrd ?? null) : text(prior.initrd),
        cmdline: view.cmdline ?? null,
        size_bytes: view.size_bytes,
        virtual_bytes: view.virtual_bytes,
      },
    }),
    idOf: (state) => state.id ?? "",
    nameOf: (state) => String(state.name),
    find: async (client, id) =>
      (await findOne<ImageView>(client, "/v1/images", { name: id })) ??
      (await client.find<ImageView>(path`/v1/images/${id}`)),
    importIdOf: (planned) => String(planned.name),
  }),
});

function text(value: unknown): string | null {
  return typeof value === "string" ? value : null;
}
