/** The journal's statements about what runs: operations, their steps, what they hold. Knows no kind of operation. */
import type { Kysely } from "kysely";
import type { Operation, Reservation, StepRecord } from "#model/plan";
import type { Journal } from "#ports/store";
import { bodyOf } from "#store/body";
import { insert, run } from "#store/insert";
import type { JournalContext } from "#store/journal";
import type { Tables } from "#store/schema";

const putStep = `insert into steps (operation_id, n, state, body, epoch) values (?, ?, ?, ?, ?)
on conflict (operation_id, n) do update set state = excluded.state, body = excluded.body, epoch = excluded.epoch`;

/** What runs: operations, their steps and what they hold. */
export function createWork(
  db: Kysely<Tables>,
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
        return rows.map((row) => bodyOf<Reservation>(row));
      },
      async removeOf(operationId) {
        await db.deleteFrom("reservations").where("operation_id", "=", operationId).execute();
      },
    },
    operations: {
      async put(operation) {
        const { id, state, machineIds } = operation;
        const body = JSON.stringify(operation);
        // most puts are of one that is there: what it is about was written with it and never changes
        const known = await run(
          db,
          "update operations set state = ?, body = ?, epoch = ? where id = ?",
          [state, body, epoch, id],
        );
        if (known > 0) return;
        const { environmentId: environment_id, requestId: request_id } = operation;
        await insert(db, "operations", { id, environment_id, request_id, state, body, epoch });
        for (const machine_id of machineIds) {
          await insert(db, "operation_machines", { operation_id: id, machine_id });
        }
      },
      async get(id) {
        const row = await db
          .selectFrom("operations")
          .select("body")
          .where("id", "=", id)
          .executeTakeFirst();
        return row && bodyOf<Operation>(row);
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
        return rows.map((row) => bodyOf<Operation>(row)).toReversed();
      },
    },
    steps: {
      async put(step) {
        const { operationId, n, state } = step;
        await run(db, putStep, [operationId, n, state, JSON.stringify(step), epoch]);
      },
      async ofOperation(operationId) {
        const rows = await db
          .selectFrom("steps")
          .select("body")
          .where("operation_id", "=", operationId)
          .orderBy("n")
          .execute();
        return rows.map((row) => bodyOf<StepRecord>(row));
      },
    },
  };
}
