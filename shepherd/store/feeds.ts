/** The journal's statements about what only grows: events and the entries of the evidence chain. Knows no proof. */
import { CompiledQuery, type Kysely } from "kysely";
import type { Event, EventKind } from "#model/event";
import { callInHand } from "#ports/calls";
import type { Journal } from "#ports/store";
import { noteCall } from "#store/calls";
import { insert } from "#store/insert";
import type { JournalContext } from "#store/journal";
import type { Tables } from "#store/schema";

/** What only grows: events and evidence. */
export function createFeeds(
  db: Kysely<Tables>,
  { epoch, appended }: JournalContext,
): Pick<Journal, "events" | "evidence"> {
  return {
    events: {
      async append(event) {
        const seq = await insert(db, "events", {
          kind: event.kind,
          at_ms: event.atMs,
          environment_id: event.environmentId ?? null,
          machine_id: event.machineId ?? null,
          data: JSON.stringify(event.data),
          epoch,
        });
        appended.last = seq;
        const call = callInHand();
        if (call !== undefined) await noteCall(db, call, { seq, epoch });
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
        await insert(db, "evidence", {
          seq: entry.seq,
          event_seq: entry.eventSeq,
          at_ms: entry.atMs,
          kind: entry.kind,
          body_digest: entry.bodyDigest,
          previous_hash: entry.previousHash,
          hash: entry.hash,
          epoch,
        });
      },
      async last() {
        const [row] = (await db.executeQuery<Tables["evidence"]>(lastEntry)).rows;
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

/** Asked for in every transaction that leaves evidence, so made once. */
const lastEntry = CompiledQuery.raw("select * from evidence order by seq desc limit 1");

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
