/** Asks of operators and scripts: the same methods as a guest's, the same gate, with the whole story in the answer. */

import type { Static } from "typebox";
import { Type } from "typebox";
import { checkOwner, subjectOf } from "#api/access";
import { approvalView } from "#api/approval-views";
import type { RequestAnswer } from "#api/contract";
import { environmentOf } from "#api/records";
import { byId } from "#api/routes/environments";
import { newRequest } from "#api/routes/machines";
import { RequestBody } from "#api/schemas";
import type { ApiRouter } from "#api/server";
import type { ApiWorld, GateAnswer } from "#api/world";
import { type Ask, operatorCall } from "#intake/methods";
import { Fault } from "#model/fault";
import type { EnvironmentRecord } from "#model/objects";
import type { Operation } from "#model/plan";
import type { Request } from "#model/request";
import { toWire } from "#model/wire";
import { decisionFor } from "#policy/disclose";
import type { Journal } from "#ports/store";

/** Longest time that one call waits for the operation that it started. */
const maxWaitMs = 60_000;

export function requestRoutes(router: ApiRouter, world: ApiWorld): void {
  const { store, gate, operations } = world;

  router.post(
    "/v1/requests",
    {
      config: { access: "ask", keys: "gate" },
      schema: {
        body: RequestBody,
        querystring: Type.Object({
          dry_run: Type.Optional(Type.String()),
          wait_ms: Type.Optional(Type.String({ pattern: "^\\d+$" })),
        }),
      },
    },
    async (call, reply): Promise<RequestAnswer> => {
      const { principal, body, query } = call;
      const request = await store.read(async (journal): Promise<Request> => {
        const environment = await environmentOf(journal, body.environment);
        checkOwner(principal, environment.spec.owner);
        return {
          ...newRequest(world, { call, principal, kind: "resize", environmentId: environment.id }),
          subject: subjectOf(principal, "operator"),
          ...atSites(world, await askOf(journal, environment, body, () => world.ids.next())),
        };
      });
      if (query.dry_run === "1" || query.dry_run === "true") {
        const given = await gate.preview(request);
        const { plan } = given;
        const answer = answerOf(request, given);
        if (plan === undefined || !plan.actions.some(({ kind }) => kind === "move_machine"))
          return answer;
        const blockers = (await operations.blockersOf?.(plan)) ?? [];
        return {
          ...answer,
          blockers: blockers.map(({ machine, check, problem, fix }) => ({
            machine,
            check,
            problem,
            fix,
          })),
        };
      }
      const given = await gate.submit(request);
      const waitMs = Math.min(Number(query.wait_ms ?? 0), maxWaitMs);
      const operation =
        given.operation !== undefined && waitMs > 0
          ? await operations.wait(given.operation.id, waitMs)
          : given.operation;
      const { approval } = given;
      const answer: RequestAnswer = {
        // A repeated ask is answered by the request that waits, whose id is what people approve.
        ...answerOf({ ...request, id: given.decision.requestId }, { ...given, operation }),
        ...(approval === undefined
          ? {}
          : { approval: await store.read((journal) => approvalView(journal, approval)) }),
      };
      reply.code(answer.verdict === "pending" ? 202 : 200);
      return answer;
    },
  );

  router.get("/v1/requests/:id", byId("read"), async (call) => {
    const found = await store.read((journal) => journal.requests.get(call.params.id));
    if (found === undefined)
      throw new Fault("object.unknown", { kind: "request", id: call.params.id });
    return toWire(found);
  });
}

/** A host that is asked for is at a site, whose owner is asked like for any other move there. */
function atSites(world: ApiWorld, ask: Ask): Ask {
  const hosts = world.sensing.sites().flatMap((site) => site.hosts);
  return {
    ...ask,
    machines: ask.machines.map((one) => {
      if (one.hostId === undefined) return one;
      const host = hosts.find(({ id }) => id === one.hostId);
      if (host === undefined) {
        const problem = "no site has such a host";
        throw new Fault("request.invalid", { where: "params.host", problem });
      }
      return { ...one, siteId: host.siteId };
    }),
  };
}

/** What happened, in the words of a guest's answer. */
export function answerOf(request: Request, given: GateAnswer): RequestAnswer {
  const { plan, operation } = given;
  const decision = decisionFor(request.subject, given.decision);
  return {
    verdict: verdictOf(given),
    request: request.id,
    decision: decision.id,
    operation: operation?.id ?? null,
    code: operation?.fault?.code ?? decision.code,
    message: operation?.fault?.message ?? decision.message,
    findings: toWire(decision.findings) as RequestAnswer["findings"],
    plan: plan === undefined ? null : toWire(plan),
  };
}

function verdictOf({ decision, operation, approval }: GateAnswer): RequestAnswer["verdict"] {
  if (decision.effect === "deny") return "denied";
  if (decision.effect === "approve" && operation === undefined) {
    const isOver = approval !== undefined && approval.state !== "pending";
    return isOver ? "denied" : "pending";
  }
  if (operation === undefined) return "granted";
  const verdicts: Record<Operation["state"], RequestAnswer["verdict"]> = {
    pending: "pending",
    running: "pending",
    undoing: "pending",
    succeeded: "granted",
    partial: "partial",
    // It was allowed and did not come about: the machine is as it was.
    failed: "partial",
    cancelled: "partial",
    stuck: "partial",
  };
  return verdicts[operation.state];
}

/** The call read as a guest's would be: the same names, bounds and refusals. Fault `request.invalid`. */
export async function askOf(
  journal: Journal,
  environment: EnvironmentRecord,
  body: Static<typeof RequestBody>,
  newId: () => string,
): Promise<Ask> {
  const inside = { environmentId: environment.id };
  const read = operatorCall(
    body.method,
    { machine: body.machine, group: body.group },
    body.params,
    {
      environment,
      machines: await journal.objects.list("machine", inside),
      links: await journal.objects.list("link", inside),
      groups: await journal.objects.list("group", inside),
      newId,
    },
  );
  if (read.kind === "request") return read.ask;
  throw new Fault("request.invalid", {
    where: "body.method",
    problem: `${body.method} is nothing that can be granted; ask for what is needed when it is`,
  });
}
