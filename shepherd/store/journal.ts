/**
 * The journal's statements inside one transaction. Every record stands as JSON in `body` (objects in `spec` and
 * `effective`); other columns are what we search by. Knows no rule beyond keys, versions and single use.
 */
import type { Transaction } from "kysely";
import type { Event, EventKind } from "#model/event";
import type { Hold } from "#model/facts";
import { Fault } from "#model/fault";
import type { AnyObjectRecord, ObjectKind, ObjectRecord } from "#model/objects";
import type { Operation, Plan, Reservation, StepRecord } from "#model/plan";
import type { Adaptation, Decision, Grant, Request } from "#model/request";
import type { HostMark, TunnelEnd } from "#model/site";
import type { Journal } from "#ports/store";
import { createConsents } from "#store/consents";
import type { Tables } from "#store/schema";

export interface JournalContext {
  readonly epoch: number;
  /** Where the last appended event's sequence is left for the commit. */
  readonly appended: { last: number | undefined };
}

export function createJournal(db: Transaction<Tables>, context: JournalContext): Journal {
  return {
    objects: createObjects(db, context),
    ...createAsks(db, context),
    ...createWork(db, context),
    ...createStanding(db, context),
    ...createConsents(db, context),
    ...createFeeds(db, context),
  };
}

function createObjects(db: Transaction<Tables>, { epoch }: JournalContext): Journal["objects"] {
  const readRow = <Kind extends ObjectKind>(row: ObjectRow): ObjectRecord<Kind> =>
    ({
      kind: row.kind,
      id: row.id,
      key: row.key,
      environmentId: row.environment_id ?? undefined,
      spec: JSON.parse(row.spec),
      effective: JSON.parse(row.effective),
      version: row.version,
      claimed: row.claimed === 1,
      createdAtMs: row.created_at_ms,
    }) as ObjectRecord<Kind>;
  return {
    async get(kind, id) {
      const row = await db
        .selectFrom("objects")
        .selectAll()
        .where("kind", "=", kind)
        .where("id", "=", id)
        .executeTakeFirst();
      return row && readRow(row);
    },
    async findByKey(kind, key) {
      const row = await db
        .selectFrom("objects")
        .selectAll()
        .where("kind", "=", kind)
        .where("key", "=", key)
        .executeTakeFirst();
      return row && readRow(row);
    },
    async list(kind, filter = {}) {
      const { environmentId } = filter;
      const rows = await db
        .selectFrom("objects")
        .selectAll()
        .where("kind", "=", kind)
        .$if(environmentId !== undefined, (query) =>
          query.where("environment_id", "=", environmentId ?? ""),
        )
        .orderBy("key")
        .execute();
      return rows.map((row) => readRow(row));
    },
    async put(record: AnyObjectRecord) {
      const { kind, id, key, version } = record;
      const holder = await db
        .selectFrom("objects")
        .select("id")
        .where("kind", "=", kind)
        .where("key", "=", key)
        .executeTakeFirst();
      if (holder !== undefined && holder.id !== id) {
        throw new Fault("conflict.exists", { kind, key, existingId: holder.id });
      }
      const before = await db
        .selectFrom("objects")
        .select("version")
        .where("kind", "=", kind)
        .where("id", "=", id)
        .executeTakeFirst();
      const stored = before?.version ?? 0;
      if (version !== stored + 1) {
        throw new Fault("conflict.version", { kind, id, expected: version - 1, stored });
      }
      const row = {
        key,
        environment_id: record.environmentId ?? null,
        spec: JSON.stringify(record.spec),
        effective: JSON.stringify(record.effective),
        version,
        claimed: record.claimed ? 1 : 0,
        created_at_ms: record.createdAtMs,
        epoch,
      };
      await db
        .insertInto("objects")
        .values({ kind, id, ...row })
        .onConflict((conflict) => conflict.columns(["kind", "id"]).doUpdateSet(row))
        .execute();
    },
    async remove(kind, id) {
      await db.deleteFrom("objects").where("kind", "=", kind).where("id", "=", id).execute();
    },
  };
}

/** What was asked, judged, planned and permitted. */
function createAsks(
  db: Transaction<Tables>,
  { epoch }: JournalContext,
): Pick<Journal, "requests" | "decisions" | "plans" | "grants"> {
  return {
    requests: {
      async add(request) {
        await db
          .insertInto("requests")
          .values({
            id: request.id,
            environment_id: request.environmentId,
            subject: request.subject.name,
            idempotency_key: request.idempotencyKey,
            received_at_ms: request.receivedAtMs,
            body: JSON.stringify(request),
            epoch,
          })
          .execute();
      },
      async get(id) {
        const row = await db
          .selectFrom("requests")
          .select("body")
          .where("id", "=", id)
          .executeTakeFirst();
        return row && parse<Request>(row);
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
        return row && parse<Request>(row);
      },
      async since(atMs) {
        const rows = await db
          .selectFrom("requests")
          .select("body")
          .where("received_at_ms", ">=", atMs)
          .orderBy("received_at_ms")
          .orderBy("id")
          .execute();
        return rows.map((row) => parse<Request>(row));
      },
    },
    decisions: {
      async add(decision) {
        await db
          .insertInto("decisions")
          .values({
            id: decision.id,
            request_id: decision.requestId,
            environment_id: decision.environmentId,
            decided_at_ms: decision.decidedAtMs,
            body: JSON.stringify(decision),
            epoch,
          })
          .execute();
      },
      async get(id) {
        const row = await db
          .selectFrom("decisions")
          .select("body")
          .where("id", "=", id)
          .executeTakeFirst();
        return row && parse<Decision>(row);
      },
      async ofRequest(requestId) {
        const rows = await db
          .selectFrom("decisions")
          .select("body")
          .where("request_id", "=", requestId)
          .orderBy("n")
          .execute();
        return rows.map((row) => parse<Decision>(row));
      },
      async page({ before, limit }) {
        const rows = await db
          .selectFrom("decisions")
          .select(["n", "body"])
          .$if(before !== undefined, (query) => query.where("n", "<", before ?? 0))
          .orderBy("n", "desc")
          .limit(limit)
          .execute();
        return rows.map((row) => ({ n: row.n, decision: parse<Decision>(row) }));
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
        return rows.map((row) => parse<Decision>(row));
      },
    },
    plans: {
      async add(plan) {
        await db
          .insertInto("plans")
          .values({
            id: plan.id,
            digest: plan.digest,
            request_id: plan.requestId,
            body: JSON.stringify(plan),
            epoch,
          })
          .execute();
      },
      async get(id) {
        const row = await db
          .selectFrom("plans")
          .select("body")
          .where("id", "=", id)
          .executeTakeFirst();
        return row && parse<Plan>(row);
      },
      async ofRequest(requestId) {
        const rows = await db
          .selectFrom("plans")
          .select("body")
          .where("request_id", "=", requestId)
          .orderBy("id")
          .execute();
        return rows.map((row) => parse<Plan>(row));
      },
    },
    grants: {
      async add(grant) {
        await db
          .insertInto("grants")
          .values({
            id: grant.id,
            plan_id: grant.planId,
            plan_digest: grant.planDigest,
            expires_at_ms: grant.expiresAtMs,
            used_by: grant.usedBy ?? null,
            body: JSON.stringify(grant),
            epoch,
          })
          .execute();
      },
      async get(id) {
        const row = await db
          .selectFrom("grants")
          .select("body")
          .where("id", "=", id)
          .executeTakeFirst();
        return row && parse<Grant>(row);
      },
      async use(id, operationId) {
        const row = await db
          .selectFrom("grants")
          .select("body")
          .where("id", "=", id)
          .executeTakeFirst();
        if (row === undefined) throw new Fault("grant.unknown", { grant: id });
        const grant = parse<Grant>(row);
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

/** What runs: operations, their steps and what they hold. */
function createWork(
  db: Transaction<Tables>,
  { epoch }: JournalContext,
): Pick<Journal, "reservations" | "operations" | "steps"> {
  return {
    reservations: {
      async add(reservation) {
        const row = { body: JSON.stringify(reservation), epoch };
        await db
          .insertInto("reservations")
          .values({
            operation_id: reservation.operationId,
            host_id: reservation.hostId,
            machine_id: reservation.machineId,
            ...row,
          })
          .onConflict((conflict) =>
            conflict.columns(["operation_id", "host_id", "machine_id"]).doUpdateSet(row),
          )
          .execute();
      },
      async list() {
        const rows = await db
          .selectFrom("reservations")
          .select("body")
          .orderBy("operation_id")
          .orderBy("machine_id")
          .orderBy("host_id")
          .execute();
        return rows.map((row) => parse<Reservation>(row));
      },
      async removeOf(operationId) {
        await db.deleteFrom("reservations").where("operation_id", "=", operationId).execute();
      },
    },
    operations: {
      async put(operation) {
        const row = { state: operation.state, body: JSON.stringify(operation), epoch };
        await db
          .insertInto("operations")
          .values({
            id: operation.id,
            environment_id: operation.environmentId,
            request_id: operation.requestId,
            ...row,
          })
          .onConflict((conflict) => conflict.column("id").doUpdateSet(row))
          .execute();
        for (const machineId of operation.machineIds) {
          await db
            .insertInto("operation_machines")
            .values({ operation_id: operation.id, machine_id: machineId })
            .onConflict((conflict) => conflict.doNothing())
            .execute();
        }
      },
      async get(id) {
        const row = await db
          .selectFrom("operations")
          .select("body")
          .where("id", "=", id)
          .executeTakeFirst();
        return row && parse<Operation>(row);
      },
      /** Oldest first; a limit keeps the newest. */
      async list(filter) {
        let query = db.selectFrom("operations").select("body");
        if (filter.states !== undefined) query = query.where("state", "in", [...filter.states]);
        if (filter.environmentId !== undefined) {
          query = query.where("environment_id", "=", filter.environmentId);
        }
        if (filter.requestId !== undefined)
          query = query.where("request_id", "=", filter.requestId);
        const { machineId } = filter;
        if (machineId !== undefined) {
          query = query.where("id", "in", (inner) =>
            inner
              .selectFrom("operation_machines")
              .select("operation_id")
              .where("machine_id", "=", machineId),
          );
        }
        query = query.orderBy("n", "desc");
        if (filter.limit !== undefined) query = query.limit(filter.limit);
        const rows = await query.execute();
        return rows.map((row) => parse<Operation>(row)).toReversed();
      },
    },
    steps: {
      async put(step) {
        const row = { state: step.state, body: JSON.stringify(step), epoch };
        await db
          .insertInto("steps")
          .values({ operation_id: step.operationId, n: step.n, ...row })
          .onConflict((conflict) => conflict.columns(["operation_id", "n"]).doUpdateSet(row))
          .execute();
      },
      async ofOperation(operationId) {
        const rows = await db
          .selectFrom("steps")
          .select("body")
          .where("operation_id", "=", operationId)
          .orderBy("n")
          .execute();
        return rows.map((row) => parse<StepRecord>(row));
      },
    },
  };
}

/** What stands until it ends: adaptations, holds, addresses. */
function createStanding(
  db: Transaction<Tables>,
  { epoch }: JournalContext,
): Pick<Journal, "adaptations" | "holds" | "hostMarks" | "tunnelEnds" | "addresses"> {
  return {
    adaptations: {
      async put(adaptation) {
        const row = {
          environment_id: adaptation.environmentId,
          machine_id: adaptation.machineId ?? null,
          link_id: adaptation.linkId ?? null,
          body: JSON.stringify(adaptation),
          epoch,
        };
        await db
          .insertInto("adaptations")
          .values({ id: adaptation.id, ...row })
          .onConflict((conflict) => conflict.column("id").doUpdateSet(row))
          .execute();
      },
      async get(id) {
        const row = await db
          .selectFrom("adaptations")
          .select("body")
          .where("id", "=", id)
          .executeTakeFirst();
        return row && parse<Adaptation>(row);
      },
      async list(filter = {}) {
        let query = db.selectFrom("adaptations").select("body");
        if (filter.environmentId !== undefined) {
          query = query.where("environment_id", "=", filter.environmentId);
        }
        if (filter.machineId !== undefined) {
          query = query.where("machine_id", "=", filter.machineId);
        }
        if (filter.linkId !== undefined) query = query.where("link_id", "=", filter.linkId);
        const rows = await query.orderBy("id").execute();
        return rows.map((row) => parse<Adaptation>(row));
      },
      async remove(id) {
        await db.deleteFrom("adaptations").where("id", "=", id).execute();
      },
    },
    hostMarks: {
      async list() {
        const rows = await db
          .selectFrom("host_marks")
          .select("body")
          .orderBy("host_id")
          .orderBy("kind")
          .execute();
        return rows.map((row) => parse<HostMark>(row));
      },
      async put(mark) {
        const row = { body: JSON.stringify(mark), epoch };
        await db
          .insertInto("host_marks")
          .values({ host_id: mark.hostId, kind: mark.kind, ...row })
          .onConflict((conflict) => conflict.columns(["host_id", "kind"]).doUpdateSet(row))
          .execute();
      },
      async remove(hostId, kind) {
        await db
          .deleteFrom("host_marks")
          .where("host_id", "=", hostId)
          .where("kind", "=", kind)
          .execute();
      },
    },
    tunnelEnds: {
      async list() {
        const rows = await db.selectFrom("tunnel_ends").select("body").orderBy("host_id").execute();
        return rows.map((row) => parse<TunnelEnd>(row));
      },
      async put(end) {
        const row = { body: JSON.stringify(end), epoch };
        await db
          .insertInto("tunnel_ends")
          .values({ host_id: end.hostId, ...row })
          .onConflict((conflict) => conflict.column("host_id").doUpdateSet(row))
          .execute();
      },
      async remove(hostId) {
        await db.deleteFrom("tunnel_ends").where("host_id", "=", hostId).execute();
      },
    },
    holds: {
      async list() {
        const rows = await db.selectFrom("holds").select("body").orderBy("scope").execute();
        return rows.map((row) => parse<Hold>(row));
      },
      async put(hold) {
        const row = { body: JSON.stringify(hold), epoch };
        await db
          .insertInto("holds")
          .values({ scope: scopeKey(hold.scope), ...row })
          .onConflict((conflict) => conflict.column("scope").doUpdateSet(row))
          .execute();
      },
      async remove(scope) {
        await db.deleteFrom("holds").where("scope", "=", scopeKey(scope)).execute();
      },
    },
    addresses: {
      async list(networkId) {
        const rows = await db
          .selectFrom("addresses")
          .selectAll()
          .where("network_id", "=", networkId)
          .orderBy("address")
          .execute();
        return rows.map((row) => ({
          address: row.address,
          machineId: row.machine_id,
          freeFromMs: row.free_from_ms ?? undefined,
        }));
      },
      async put({ networkId, address, machineId, freeFromMs }) {
        const row = { machine_id: machineId, free_from_ms: freeFromMs ?? null, epoch };
        await db
          .insertInto("addresses")
          .values({ network_id: networkId, address, ...row })
          .onConflict((conflict) => conflict.columns(["network_id", "address"]).doUpdateSet(row))
          .execute();
      },
      async remove(networkId, address) {
        await db
          .deleteFrom("addresses")
          .where("network_id", "=", networkId)
          .where("address", "=", address)
          .execute();
      },
    },
  };
}

/** What only grows: events and evidence. */
function createFeeds(
  db: Transaction<Tables>,
  { epoch, appended }: JournalContext,
): Pick<Journal, "events" | "evidence"> {
  return {
    events: {
      async append(event) {
        const { seq } = await db
          .insertInto("events")
          .values({
            kind: event.kind,
            at_ms: event.atMs,
            environment_id: event.environmentId ?? null,
            machine_id: event.machineId ?? null,
            data: JSON.stringify(event.data),
            epoch,
          })
          .returning("seq")
          .executeTakeFirstOrThrow();
        appended.last = seq;
        return { seq, ...event };
      },
      async since(seq, limit) {
        const rows = await db
          .selectFrom("events")
          .selectAll()
          .where("seq", ">", seq)
          .orderBy("seq")
          .limit(limit)
          .execute();
        return rows.map(
          (row): Event => ({
            seq: row.seq,
            kind: row.kind as EventKind,
            atMs: row.at_ms,
            environmentId: row.environment_id ?? undefined,
            machineId: row.machine_id ?? undefined,
            data: JSON.parse(row.data),
          }),
        );
      },
      async last() {
        const row = await db
          .selectFrom("events")
          .select((query) => query.fn.max("seq").as("seq"))
          .executeTakeFirst();
        return row?.seq ?? 0;
      },
    },
    evidence: {
      async append(entry) {
        await db
          .insertInto("evidence")
          .values({
            seq: entry.seq,
            event_seq: entry.eventSeq,
            at_ms: entry.atMs,
            kind: entry.kind,
            body_digest: entry.bodyDigest,
            previous_hash: entry.previousHash,
            hash: entry.hash,
            epoch,
          })
          .execute();
      },
      async last() {
        const row = await db
          .selectFrom("evidence")
          .selectAll()
          .orderBy("seq", "desc")
          .limit(1)
          .executeTakeFirst();
        return row && readEntry(row);
      },
      async since(seq, limit) {
        const rows = await db
          .selectFrom("evidence")
          .selectAll()
          .where("seq", ">", seq)
          .orderBy("seq")
          .limit(limit)
          .execute();
        return rows.map(readEntry);
      },
    },
  };
}

interface ObjectRow {
  readonly kind: string;
  readonly id: string;
  readonly key: string;
  readonly environment_id: string | null;
  readonly spec: string;
  readonly effective: string;
  readonly version: number;
  readonly claimed: number;
  readonly created_at_ms: number;
}

function readEntry(row: {
  seq: number;
  event_seq: number;
  at_ms: number;
  kind: string;
  body_digest: string;
  previous_hash: string;
  hash: string;
}) {
  return {
    seq: row.seq,
    eventSeq: row.event_seq,
    atMs: row.at_ms,
    kind: row.kind,
    bodyDigest: row.body_digest,
    previousHash: row.previous_hash,
    hash: row.hash,
  };
}

function parse<T>(row: { readonly body: string }): T {
  return JSON.parse(row.body) as T;
}

function scopeKey(scope: Hold["scope"]): string {
  if (scope === "everything") return "everything";
  return "siteId" in scope ? `site:${scope.siteId}` : `environment:${scope.environmentId}`;
}
