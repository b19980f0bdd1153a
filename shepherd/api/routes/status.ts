/** The whole picture on one page, and the sites: what `drover status` shows. */
import type { SiteView, Status } from "#api/contract";
import { createMachineViews } from "#api/machine-views";
import { byId } from "#api/routes/environments";
import type { ApiRouter } from "#api/server";
import { operationView } from "#api/views";
import type { ApiWorld } from "#api/world";
import { Fault } from "#model/fault";
import { toWire } from "#model/wire";
import { isActive } from "#policy/hold";

export function statusRoutes(router: ApiRouter, world: ApiWorld): void {
  const { store, sensing, clock } = world;
  const views = createMachineViews(world);
  const sites = (): SiteView[] => sensing.sites().map((site) => toWire(site));

  router.get("/v1/status", { config: { access: "read" } }, async (): Promise<Status> => {
    const known = await store.read(async (journal) => ({
      environments: await journal.objects.list("environment"),
      machines: await journal.objects.list("machine"),
      operations: await journal.operations.list({
        states: ["pending", "running", "undoing", "stuck"],
      }),
      holds: await journal.holds.list(),
      approvals: await journal.approvals.list({ states: ["pending"] }),
      exemptions: await journal.exemptions.list(),
      recalls: await journal.recalls.list(),
      owed: await journal.obligations.list({ states: ["waiting"] }),
    }));
    const machines = await views.ofAll(known.machines);
    return {
      version: world.version,
      world: world.world,
      now_ms: clock.nowMs(),
      sites: sites(),
      environments: known.environments.map(({ id, spec }) => ({
        name: spec.name,
        owner: spec.owner,
        class: spec.class,
        machines: machines.filter((machine) => machine.environment_id === id),
      })),
      operations: known.operations.map(operationView),
      holds: known.holds
        .filter((hold) => isActive(hold, clock.nowMs()))
        .map((hold) => toWire(hold)),
      waiting: {
        approvals: known.approvals.length,
        exemptions: known.exemptions.filter(
          ({ approvedBy, expiresAtMs }) => approvedBy === undefined && clock.nowMs() < expiresAtMs,
        ).length,
        overdue_recalls: known.recalls.filter(({ overdueSinceMs }) => overdueSinceMs !== undefined)
          .length,
        reviews: known.owed.filter(({ demand }) => demand.id === "review").length,
      },
    };
  });

  router.get("/v1/sites", { config: { access: "read" } }, async () => ({ items: sites() }));

  router.get("/v1/sites/:id", byId("read"), async (request): Promise<SiteView> => {
    const found = sites().find((site) => site.id === request.params.id);
    if (found === undefined)
      throw new Fault("object.unknown", { kind: "site", id: request.params.id });
    return found;
  });
}
