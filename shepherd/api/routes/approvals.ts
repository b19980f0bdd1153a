/** Approvals: what waits for named people, their votes, and breaking the glass when nobody can be asked. */
import { Type } from "typebox";
import { approvalView } from "#api/approval-views";
import type { ApprovalView, RequestAnswer } from "#api/contract";
import { planText } from "#api/plan-text";
import { environmentOf } from "#api/records";
import { Params } from "#api/routes/environments";
import { answerOf } from "#api/routes/requests";
import { BreakGlassBody, Reason, VoteBody } from "#api/schemas-people";
import type { ApiRouter } from "#api/server";
import type { ApiWorld } from "#api/world";
import type { Approval } from "#model/consent";
import { Fault } from "#model/fault";
import type { Request } from "#model/request";
import { waitForApproval } from "#policy/approvals";

/** Longest long poll; clients ask again. */
const maxWaitMs = 55_000;
const defaultLimit = 100;

export function approvalRoutes(router: ApiRouter, world: ApiWorld): void {
  const { store, gate } = world;
  const view = async (approval: Approval): Promise<ApprovalView> =>
    await store.read((journal) => approvalView(journal, approval));

  /** Who approves has read a decision as often as a request. */
  const requestIdOf = async (id: string): Promise<string> =>
    (await store.read((journal) => journal.decisions.get(id)))?.requestId ?? id;
  const requestOf = async (id: string): Promise<Request> => {
    const found = await store.read((journal) => journal.requests.get(id));
    if (found === undefined) throw new Fault("object.unknown", { kind: "request", id });
    return found;
  };

  router.get(
    "/v1/approvals",
    {
      config: { access: "read" },
      schema: {
        querystring: Type.Object({
          environment: Type.Optional(Type.String()),
          state: Type.Optional(
            Type.Enum(["pending", "approved", "rejected", "expired", "withdrawn", "denied"]),
          ),
        }),
      },
    },
    async (call): Promise<{ items: ApprovalView[] }> => {
      const { environment, state } = call.query;
      return await store.read(async (journal) => {
        const approvals = await journal.approvals.list({
          ...(environment === undefined
            ? {}
            : { environmentId: (await environmentOf(journal, environment)).id }),
          ...(state === undefined ? {} : { states: [state] }),
          limit: defaultLimit,
        });
        const items: ApprovalView[] = [];
        for (const approval of approvals) items.push(await approvalView(journal, approval));
        return { items };
      });
    },
  );

  router.get(
    "/v1/requests/:id/approval",
    {
      config: { access: "read" },
      schema: {
        params: Params,
        querystring: Type.Object({
          wait_ms: Type.Optional(Type.String({ pattern: "^\\d{1,9}$" })),
        }),
      },
    },
    async (call): Promise<ApprovalView> => {
      const id = await requestIdOf(call.params.id);
      const waitMs = Math.min(Number(call.query.wait_ms ?? 0), maxWaitMs);
      const now = await store.read((journal) => journal.approvals.get(id));
      if (now === undefined) throw new Fault("approval.unknown", { request: id });
      if (now.state !== "pending" || waitMs === 0) return await view(now);
      const gone = new AbortController();
      call.raw.socket.once("close", () => gone.abort());
      return await view(await waitForApproval(world, id, waitMs, gone.signal));
    },
  );

  for (const verdict of ["approve", "reject"] as const) {
    router.post(
      `/v1/requests/:id/${verdict}`,
      { config: { access: "approve" }, schema: { params: Params, body: VoteBody } },
      async (call): Promise<ApprovalView> => {
        const { reason, plan_digest: planDigest } = call.body;
        const { name, human } = call.principal;
        const word = { by: name, ...(human === undefined ? {} : { human }), verdict, reason };
        return await view(
          await gate.vote(
            await requestIdOf(call.params.id),
            planDigest === undefined ? word : { ...word, planDigest },
          ),
        );
      },
    );
  }

  router.post(
    "/v1/requests/:id/withdraw",
    { config: { access: "ask" }, schema: { params: Params, body: Type.Optional(Reason) } },
    async (call): Promise<ApprovalView> =>
      await view(await gate.withdraw(await requestIdOf(call.params.id), call.principal.name)),
  );

  router.post(
    "/v1/requests/:id/plan",
    { config: { access: "operate" }, schema: { params: Params } },
    async (call): Promise<RequestAnswer> => {
      const { id } = call.params;
      const answer = await gate.planRegardless(id);
      const { plan } = answer;
      return {
        ...answerOf(await requestOf(id), answer),
        ...(plan === undefined
          ? {}
          : { plan_text: await store.read((journal) => planText(journal, plan)) }),
      };
    },
  );

  router.post(
    "/v1/requests/:id/break-glass",
    { config: { access: "operate" }, schema: { params: Params, body: BreakGlassBody } },
    async (call, reply): Promise<RequestAnswer> => {
      const { id } = call.params;
      const answer = await gate.breakGlass(id, call.body);
      world.log.warn(
        { request: id, document: call.body.document, as: call.principal.name },
        "the glass was broken",
      );
      const told = answerOf(await requestOf(id), answer);
      reply.code(told.verdict === "pending" ? 202 : 200);
      return told;
    },
  );
}
