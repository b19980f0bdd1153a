/** Named tokens: made by whoever operates, shown once, kept as hashes. */
import type { TokenAnswer } from "#api/contract";
import { TokenBody } from "#api/schemas";
import type { ApiRouter } from "#api/server";
import type { ApiWorld } from "#api/world";
import { Fault } from "#model/fault";
import { callInHand } from "#ports/calls";

export function tokenRoutes(router: ApiRouter, world: ApiWorld): void {
  router.post(
    "/v1/tokens",
    { config: { access: "operate", keys: "secret" }, schema: { body: TokenBody } },
    async (request, reply): Promise<TokenAnswer> => {
      const { name, role, human } = request.body;
      // An operator's token must not be able to make itself a second pair of eyes.
      if ((role === "approver" || role === "security") && request.principal.role !== "local-root") {
        throw new Fault("access.denied", {
          principal: request.principal.name,
          role: request.principal.role,
          access: `make tokens of role ${role}`,
        });
      }
      reply.code(201);
      const given = { name, role, ...(human === undefined ? {} : { human }) };
      return { ...given, token: world.tokens.create(given, callInHand()?.id) };
    },
  );

  router.get("/v1/tokens", { config: { access: "operate" } }, async () => ({
    items: world.tokens.list(),
  }));
}
