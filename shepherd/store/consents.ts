/**
 * The journal's statements about what people add to decisions: approvals, recalls, exemptions; and what policies demand with a
 * yes. Records stand as JSON in
 * `body`; other columns are what we search by. Knows no rule: who may vote, and when one ends, policy/ says.
 */
import type { Kysely } from "kysely";
import type { Approval, Exemption, Recall } from "#model/consent";
import type { OwedObligation } from "#model/obligation";
import type { Journal } from "#ports/store";
import type { Tables } from "#store/schema";

export function createConsents(
  db: Kysely<Tables>,
  { epoch }: { readonly epoch: number },
): Pick<Journal, "approvals" | "recalls" | "exemptions" | "obligations"> {
  return {
    approvals: {
      async put(approval) {
        const row = {
          environment_id: approval.environmentId,
          state: approval.state,
          ask_digest: approval.askDigest,
          asked_at_ms: approval.askedAtMs,
          body: JSON.stringify(approval),
          epoch,
        };
        await db
          .insertInto("approvals")
          .values({ request_id: approval.requestId, ...row })
          .onConflict((conflict) => conflict.column("request_id").doUpdateSet(row))
          .execute();
      },
      async get(requestId) {
        const row = await db
          .selectFrom("approvals")
          .select("body")
          .where("request_id", "=", requestId)
          .executeTakeFirst();
        return row && parse<Approval>(row);
      },
      async findPending(askDigest) {
        const row = await db
          .selectFrom("approvals")
          .select("body")
          .where("ask_digest", "=", askDigest)
          .where("state", "=", "pending")
          .orderBy("asked_at_ms", "desc")
          .limit(1)
          .executeTakeFirst();
        return row && parse<Approval>(row);
      },
      async list({ environmentId, states, limit }) {
        let query = db.selectFrom("approvals").select("body");
        if (environmentId !== undefined) query = query.where("environment_id", "=", environmentId);
        if (states !== undefined) query = query.where("state", "in", [...states]);
        query = query.orderBy("asked_at_ms", "desc").orderBy("request_id", "desc");
        if (limit !== undefined) query = query.limit(limit);
        return (await query.execute()).map((row) => parse<Approval>(row));
      },
    },
    recalls: {
      async put(recall) {
        const row = { site_id: recall.siteId, body: JSON.stringify(recall), epoch };
        await db
          .insertInto("recalls")
          .values({ id: recall.id, ...row })
          .onConflict((conflict) => conflict.column("id").doUpdateSet(row))
          .execute();
      },
      async get(id) {
        const row = await db
          .selectFrom("recalls")
          .select("body")
          .where("id", "=", id)
          .executeTakeFirst();
        return row && parse<Recall>(row);
      },
      async list() {
        const rows = await db.selectFrom("recalls").select("body").orderBy("id").execute();
        return rows.map((row) => parse<Recall>(row));
      },
      async remove(id) {
        await db.deleteFrom("recalls").where("id", "=", id).execute();
      },
    },
    exemptions: {
      async put(exemption) {
        const row = {
          expires_at_ms: exemption.expiresAtMs,
          body: JSON.stringify(exemption),
          epoch,
        };
        await db
          .insertInto("exemptions")
          .values({ id: exemption.id, ...row })
          .onConflict((conflict) => conflict.column("id").doUpdateSet(row))
          .execute();
      },
      async get(id) {
        const row = await db
          .selectFrom("exemptions")
          .select("body")
          .where("id", "=", id)
          .executeTakeFirst();
        return row && parse<Exemption>(row);
      },
      async list() {
        const rows = await db.selectFrom("exemptions").select("body").orderBy("id").execute();
        return rows.map((row) => parse<Exemption>(row));
      },
      async remove(id) {
        await db.deleteFrom("exemptions").where("id", "=", id).execute();
      },
    },
    obligations: {
      async put(owed) {
        const row = {
          request_id: owed.requestId,
          environment_id: owed.environmentId,
          state: owed.state,
          body: JSON.stringify(owed),
          epoch,
        };
        await db
          .insertInto("obligations")
          .values({ id: owed.id, ...row })
          .onConflict((conflict) => conflict.column("id").doUpdateSet(row))
          .execute();
      },
      async get(id) {
        const row = await db
          .selectFrom("obligations")
          .select("body")
          .where("id", "=", id)
          .executeTakeFirst();
        return row && parse<OwedObligation>(row);
      },
      async list({ states, requestId, environmentId, limit }) {
        let query = db.selectFrom("obligations").select("body");
        if (states !== undefined) query = query.where("state", "in", [...states]);
        if (requestId !== undefined) query = query.where("request_id", "=", requestId);
        if (environmentId !== undefined) query = query.where("environment_id", "=", environmentId);
        query = query.orderBy("id", "desc");
        if (limit !== undefined) query = query.limit(limit);
        return (await query.execute()).map((row) => parse<OwedObligation>(row));
      },
    },
  };
}

function parse<T>(row: { readonly body: string }): T {
  return JSON.parse(row.body) as T;
}
