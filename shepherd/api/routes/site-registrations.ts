/**
 * Sites that an operator registers while the shepherd runs: another owner, with a policy that is loaded before the site
 * is written down. It has no hosts at first; its owner registers those. It goes when nothing names it any more.
 */
import { Type } from "typebox";
import type { Mutation } from "#api/contract";
import type { SiteRegistrationView } from "#api/contract-hosts";
import { claimedConflict, findAndClaim, look, sameData } from "#api/records";
import { byId, Params, status } from "#api/routes/environments";
import { HostName, SiteBody } from "#api/schemas-hosts";
import type { ApiRouter } from "#api/server";
import type { ApiWorld } from "#api/world";
import { Fault, isFault } from "#model/fault";
import type { SiteRegistration, SiteRegistrationSpec } from "#model/objects";
import { siteOwner } from "#policy/owners";
import type { Journal } from "#ports/store";

export function siteRegistrationRoutes(router: ApiRouter, world: ApiWorld): void {
  const { store, clock, fleet, policies } = world;
  if (fleet === undefined || policies === undefined) return;

  router.put(
    "/v1/site-registrations/:name",
    {
      config: { access: "operate" },
      schema: { params: Type.Object({ name: HostName }), body: SiteBody },
    },
    async (request, reply): Promise<Mutation<SiteRegistrationView>> => {
      const { name } = request.params;
      const { owner, policy, key_dir: keyDirectory } = request.body;
      const spec: SiteRegistrationSpec = {
        name,
        owner,
        policy,
        keyDirectory: keyDirectory ?? undefined,
      };
      if (fleet.isSiteInFile(name)) throw new Fault("site.in_file", { site: name });
      const existing = await store.read((journal) => journal.objects.findByKey("site", name));
      if (existing !== undefined) {
        if (existing.claimed || !sameData(existing.spec, spec))
          throw claimedConflict(existing, name);
        return { object: view(existing), operation: null };
      }
      // Without its owner's policy nothing could ever be decided there.
      await policies.add(siteOwner(name), policy).catch((cause: unknown) => {
        if (!isFault(cause)) throw cause;
        const problem = cause.message;
        const about = { owner: siteOwner(name), attribute: "policy", problem };
        throw new Fault("policy.not_loaded", about, { cause });
      });
      const fresh: SiteRegistration = {
        kind: "site",
        id: name,
        key: name,
        environmentId: undefined,
        spec,
        effective: {},
        version: 1,
        claimed: false,
        createdAtMs: clock.nowMs(),
      };
      try {
        await store.transaction(async (journal) => {
          await journal.objects.put(fresh);
          await journal.events.append({
            kind: "object.changed",
            atMs: clock.nowMs(),
            data: { kind: "site", id: name, key: name, by: request.principal.name, spec },
          });
        });
      } catch (error) {
        await policies.remove(siteOwner(name));
        throw error;
      }
      fleet.enterSite(spec);
      status(reply, true);
      return { object: view(fresh), operation: null };
    },
  );

  router.get(
    "/v1/site-registrations",
    {
      config: { access: "read" },
      schema: { querystring: Type.Object({ name: Type.Optional(Type.String()) }) },
    },
    async (request) => {
      const { name } = request.query;
      const records = await store.read((journal) => journal.objects.list("site"));
      return {
        items: records.filter(({ spec }) => name === undefined || spec.name === name).map(view),
      };
    },
  );

  router.get("/v1/site-registrations/:id", byId("read"), async (request) =>
    view(
      await store.transaction((journal) =>
        look(journal, "site", request.params.id, request.principal),
      ),
    ),
  );

  router.delete(
    "/v1/site-registrations/:id",
    { config: { access: "operate" }, schema: { params: Params } },
    async (request): Promise<Mutation<SiteRegistrationView>> => {
      const { id } = request.params;
      if (fleet.isSiteInFile(id)) throw new Fault("site.in_file", { site: id });
      await store.transaction(async (journal) => {
        await findAndClaim(journal, "site", id);
        await refuseWhileUsed(journal, id);
        await journal.objects.remove("site", id);
        await journal.events.append({
          kind: "object.deleted",
          atMs: clock.nowMs(),
          data: { kind: "site", id, key: id, by: request.principal.name },
        });
      });
      fleet.leaveSite(id);
      await policies.remove(siteOwner(id));
      return { object: null, operation: null };
    },
  );
}

/** Fault `object.in_use`. */
async function refuseWhileUsed(journal: Journal, id: string): Promise<void> {
  const users = [
    ...(await journal.objects.list("host"))
      .filter(({ spec }) => spec.siteId === id)
      .map(({ spec }) => `host ${spec.name}`),
    ...(await journal.objects.list("environment"))
      .filter(({ spec }) => spec.sites.includes(id))
      .map(({ spec }) => `environment ${spec.name}`),
  ];
  if (users.length === 0) return;
  throw new Fault("object.in_use", { kind: "site", key: id, users: users.slice(0, 5).join(", ") });
}

function view({ id, spec, version }: SiteRegistration): SiteRegistrationView {
  const { owner, policy, keyDirectory } = spec;
  return { id, owner, policy, key_dir: keyDirectory ?? null, version };
}
