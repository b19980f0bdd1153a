/**
 * The journal's statements about what was asked, judged, planned and permitted. Requests, decisions and plans are written
 * once, as the very text that the evidence is hashed over. Knows single use of a grant, and no rule beyond it.
 */
import type { Kysely } from "kysely";
import { recordJson } from "#model/canonical";
import { Fault } from "#model/fault";
import type { Plan } from "#model/plan";
import type { Decision, Grant, Request } from "#model/request";
import type { Journal } from "#ports/store";
import { bodyOf } from "#store/body";
import { insert } from "#store/insert";
import type { JournalContext } from "#store/journal";
import type { Tables } from "#store/schema";

/** What was asked, judged, planned and permitted. */
export function createAsks(
  db: Kysely<Tables>,
  { epoch }: JournalContext,
): Pick<Journal, "requests" | "decisions" | "plans" | "grants"> {
  return {
    requests: {
      async add(request) {
        await insert(db, "requests", {
          id: request.id,
          environment_id: request.environmentId,
          subject: request.subject.name,
          idempotency_key: request.idempotencyKey,
          received_at_ms: request.receivedAtMs,
          body: recordJson(request),
          epoch,
        });
      },
      async get(id) {
        const row = await db
          .selectFrom("requests")
          .select("body")
          .where("id", "=", id)
          .executeTakeFirst();
        return row && bodyOf<Request>(row);
      },
      async findByKey(subjectName, idempotencyKey) {
        const row = await db
          .selectFrom("requests")
          .select("body")
          .where("subject", "=", subjectName)
          .where("idempotency_key", "=", idempotencyKey)
          .orderBy("received_at_ms", "desc")
          .limit(1)
          .executeTakeFirst();
        return row && bodyOf<Request>(row);
      },
      async since(atMs) {
        const rows = await db
          .selectFrom("requests")
          .select("body")
          .where("received_at_ms", ">=", atMs)
          .orderBy("received_at_ms")
          .orderBy("id")
          .execute();
        return rows.map((row) => bodyOf<Request>(row));
      },
    },
    decisions: {
      async add(decision) {
        await insert(db, "decisions", {
          id: decision.id,
          request_id: decision.requestId,
          environment_id: decision.environmentId,
          decided_at_ms: decision.decidedAtMs,
          body: recordJson(decision),
          epoch,
        });
      },
      async get(id) {
        const row = await db
          .selectFrom("decisions")
          .select("body")
          .where("id", "=", id)
          .executeTakeFirst();
        return row && bodyOf<Decision>(row);
      },
      async ofRequest(requestId) {
        const rows = await db
          .selectFrom("decisions")
          .select("body")
          .where("request_id", "=", requestId)
          .orderBy("n")
          .execute();
        return rows.map((row) => bodyOf<Decision>(row));
      },
      async page({ before, limit }) {
        const rows = await db
          .selectFrom("decisions")
          .select(["n", "body"])
          .$if(before !== undefined, (query) => query.where("n", "<", before ?? 0))
          .orderBy("n", "desc")
          .limit(limit)
          .execute();
        return rows.map((row) => ({ n: row.n, decision: bodyOf<Decision>(row) }));
      },
      async list({ environmentId, limit }) {
        const rows = await db
          .selectFrom("decisions")
          .select("body")
          .$if(environmentId !== undefined, (query) =>
            query.where("environment_id", "=", environmentId ?? ""),
          )
          .orderBy("n", "desc")
          .limit(limit)
          .execute();
        return rows.map((row) => bodyOf<Decision>(row));
      },
    },
    plans: {
      async add(plan) {
        await insert(db, "plans", {
          id: plan.id,
          digest: plan.digest,
          request_id: plan.requestId,
          body: recordJson(plan),
          epoch,
        });
      },
      async get(id) {
        const row = await db
          .selectFrom("plans")
          .select("body")
          .where("id", "=", id)
          .executeTakeFirst();
        return row && bodyOf<Plan>(row);
      },
      async ofRequest(requestId) {
        const rows = await db
          .selectFrom("plans")
          .select("body")
          .where("request_id", "=", requestId)
          .orderBy("id")
          .execute();
        return rows.map((row) => bodyOf<Plan>(row));
      },
    },
    grants: {
      async add(grant) {
        await insert(db, "grants", {
          id: grant.id,
          plan_id: grant.planId,
          plan_digest: grant.planDigest,
          expires_at_ms: grant.expiresAtMs,
          used_by: grant.usedBy ?? null,
          body: JSON.stringify(grant),
          epoch,
        });
      },
      async get(id) {
        const row = await db
          .selectFrom("grants")
          .select("body")
          .where("id", "=", id)
          .executeTakeFirst();
        return row && bodyOf<Grant>(row);
      },
      async use(id, operationId) {
        const row = await db
          .selectFrom("grants")
          .select("body")
          .where("id", "=", id)
          .executeTakeFirst();
        if (row === undefined) throw new Fault("grant.unknown", { grant: id });
        const grant = bodyOf<Grant>(row);
        if (grant.usedBy === operationId) return;
        if (grant.usedBy !== undefined) {
          throw new Fault("grant.used", { grant: id, usedBy: grant.usedBy });
        }
        const used: Grant = { ...grant, usedBy: operationId };
        await db
          .updateTable("grants")
          .set({ used_by: operationId, body: JSON.stringify(used), epoch })
          .where("id", "=", id)
          .execute();
      },
    },
  };
}
