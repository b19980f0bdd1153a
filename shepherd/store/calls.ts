/** The journal's statements about calls that came with a key: that they happened, and what they were answered. */
import { CompiledQuery, type Kysely } from "kysely";
import type { CallInHand } from "#ports/calls";
import type { Journal, KeptCall } from "#ports/store";
import type { JournalContext } from "#store/journal";
import type { Tables } from "#store/schema";

export function createCalls(db: Kysely<Tables>, { epoch }: JournalContext): Pick<Journal, "calls"> {
  return {
    calls: {
      async get(id) {
        const row = await db
          .selectFrom("calls")
          .selectAll()
          .where("id", "=", id)
          .executeTakeFirst();
        if (row === undefined) return undefined;
        const { digest, at_ms: atMs, first_event, last_event, status, answer } = row;
        return {
          id,
          digest,
          atMs,
          events:
            first_event === null
              ? undefined
              : { first: first_event, last: last_event ?? first_event },
          told: status === null ? undefined : { status, body: answer },
        } satisfies KeptCall;
      },
      async put({ id, digest, atMs, told }) {
        const row = {
          digest,
          at_ms: atMs,
          status: told?.status ?? null,
          answer: told?.body ?? null,
          epoch,
        };
        await db
          .insertInto("calls")
          .values({ id, ...row })
          .onConflict((conflict) => conflict.column("id").doUpdateSet(row))
          .execute();
      },
      async remove(id) {
        await db.deleteFrom("calls").where("id", "=", id).execute();
      },
      async removeBefore(atMs) {
        await db.deleteFrom("calls").where("at_ms", "<", atMs).execute();
      },
    },
  };
}

/** That an event is this call's, in the transaction of the event. */
export async function noteCall(
  db: Kysely<Tables>,
  call: CallInHand,
  { seq, epoch }: { readonly seq: number; readonly epoch: number },
): Promise<void> {
  call.noted = true;
  await db.executeQuery(
    CompiledQuery.raw(note, [call.id, call.digest, call.atMs, seq, seq, epoch]),
  );
}

const note =
  "insert into calls (id, digest, at_ms, first_event, last_event, epoch) values (?, ?, ?, ?, ?, ?) " +
  "on conflict (id) do update set last_event = excluded.last_event, epoch = excluded.epoch";
