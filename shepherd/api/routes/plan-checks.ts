/** Plan checks: a dry decision on each change that a Terraform plan is about to make. */
import type { PlanCheckAnswer } from "#api/contract";
import { PlanChecks } from "#api/plan-checks";
import { PlanCheckBody } from "#api/schemas";
import type { ApiRouter } from "#api/server";
import type { ApiWorld } from "#api/world";

export function planCheckRoutes(router: ApiRouter, world: ApiWorld): void {
  const checks = new PlanChecks(world);
  router.post(
    "/v1/plan-checks",
    { config: { access: "declare", keys: "none" }, schema: { body: PlanCheckBody } },
    (request): Promise<PlanCheckAnswer> => checks.check(request.body, request.principal),
  );
}
