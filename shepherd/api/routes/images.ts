/**
 * Images: a qcow2 file at the shepherd with its digest, perhaps a kernel and an initrd. Checked whole when declared,
 * placed on a host when a machine first needs it there (operations).
 */
import { Type } from "typebox";
import type { Principal } from "#api/access";
import { digestFile } from "#api/blobs";
import type { ImageBody as ImageBodyContract, ImageView, Mutation } from "#api/contract";
import { readQcow2Header } from "#api/qcow2";
import { change, claimedConflict, findAndClaim, journalChange, look, sameData } from "#api/records";
import { byId, status } from "#api/routes/environments";
import { ImageBody, Name } from "#api/schemas";
import type { ApiRouter } from "#api/server";
import { imageView } from "#api/views";
import type { ApiWorld } from "#api/world";
import { Fault } from "#model/fault";
import type { ImageEffective, ImageRecord, ImageSpec } from "#model/objects";

const Blob = Type.Object({ sha256: Type.String({ pattern: "^[0-9a-f]{64}$" }) });

export function imageRoutes(router: ApiRouter, world: ApiWorld): void {
  const { store, clock, ids, blobs } = world;

  /** Digest and header of everything the image names. Faults `image.*`, `blob.unknown`. */
  async function inspect(
    name: string,
    declared: ImageBodyContract,
  ): Promise<{ spec: ImageSpec; effective: ImageEffective }> {
    const source = blobs.resolve(declared.source);
    const header = await readQcow2Header(source);
    const { sha256, sizeBytes } = await digestFile(source);
    if (sha256 !== declared.sha256) {
      throw new Fault("image.digest_mismatch", {
        path: source,
        found: sha256,
        expected: declared.sha256,
        attribute: "sha256",
      });
    }
    const kernel = typeof declared.kernel !== "string" ? undefined : blobs.resolve(declared.kernel);
    const initrd = typeof declared.initrd !== "string" ? undefined : blobs.resolve(declared.initrd);
    return {
      spec: {
        name,
        source,
        sha256,
        kernel,
        initrd,
        cmdline: declared.cmdline ?? undefined,
      },
      effective: {
        sizeBytes,
        virtualBytes: header.virtualBytes,
        kernelSha256: kernel === undefined ? undefined : (await digestFile(kernel)).sha256,
        initrdSha256: initrd === undefined ? undefined : (await digestFile(initrd)).sha256,
      },
    };
  }

  router.put(
    "/v1/images/:name",
    {
      config: { access: "declare" },
      schema: { params: Type.Object({ name: Name }), body: ImageBody },
    },
    async (request, reply): Promise<Mutation<ImageView>> => {
      const { name } = request.params;
      checkPaths(request.principal, request.body);
      const found = await inspect(name, request.body);
      const { record, created } = await store.transaction(async (journal) => {
        const existing = await journal.objects.findByKey("image", name);
        if (existing !== undefined) {
          if (existing.claimed) throw claimedConflict(existing, name);
          if (sameData(existing.spec, found.spec)) return { record: existing, created: false };
          return { record: await change(journal, existing, found), created: false };
        }
        const fresh: ImageRecord = {
          kind: "image",
          id: ids.next(),
          key: name,
          environmentId: undefined,
          ...found,
          version: 1,
          claimed: false,
          createdAtMs: clock.nowMs(),
        };
        await journal.objects.put(fresh);
        await journalChange(journal, fresh, clock.nowMs());
        return { record: fresh, created: true };
      });
      status(reply, created);
      return { object: imageView(record), operation: null };
    },
  );

  router.get(
    "/v1/images",
    {
      config: { access: "read" },
      schema: { querystring: Type.Object({ name: Type.Optional(Type.String()) }) },
    },
    async (request) => {
      const { name } = request.query;
      const records = await store.read((journal) => journal.objects.list("image"));
      return {
        items: records.filter((one) => name === undefined || one.spec.name === name).map(imageView),
      };
    },
  );

  router.get("/v1/images/:id", byId("read"), async (request) =>
    imageView(
      await store.transaction((journal) =>
        look(journal, "image", request.params.id, request.principal),
      ),
    ),
  );

  router.delete(
    "/v1/images/:id",
    byId("declare"),
    async (request): Promise<Mutation<ImageView>> => {
      await store.transaction(async (journal) => {
        const found = await findAndClaim(journal, "image", request.params.id);
        const machines = await journal.objects.list("machine");
        const volumes = await journal.objects.list("volume");
        const users = [...machines, ...volumes].filter(({ spec }) => spec.imageId === found.id);
        if (users.length > 0) {
          throw new Fault("object.in_use", {
            kind: "image",
            key: found.spec.name,
            users: users.map(({ spec }) => spec.name).join(", "),
          });
        }
        await journal.objects.remove("image", found.id);
        await journalChange(journal, found, clock.nowMs(), "object.deleted");
      });
      return { object: null, operation: null };
    },
  );

  router.route({
    method: "PUT",
    url: "/v1/blobs/:sha256",
    config: { access: "declare", keys: "none" },
    schema: { params: Blob },
    handler: async (request, reply) => {
      const { sha256 } = request.params;
      if (blobs.has(sha256)) {
        request.raw.resume(); // there already; the sender need not be told to stop
        return await reply.code(200).send({ source: `blob:${sha256}` });
      }
      const { sizeBytes } = await blobs.put(sha256, request.raw);
      return await reply.code(201).send({ source: `blob:${sha256}`, size_bytes: sizeBytes });
    },
  });

  router.head(
    "/v1/blobs/:sha256",
    { config: { access: "declare" }, schema: { params: Blob } },
    async (request, reply) => reply.code(blobs.has(request.params.sha256) ? 200 : 404).send(),
  );
}

/** Files of the shepherd's own machine are for who runs it: a stack's guest could read them. Uploads are for everybody. */
function checkPaths(principal: Principal, body: ImageBodyContract): void {
  if (principal.role !== "stack") return;
  for (const source of [body.source, body.kernel, body.initrd]) {
    if (typeof source !== "string" || source.startsWith("blob:")) continue;
    throw new Fault("access.path", { principal: principal.name, path: source });
  }
}
