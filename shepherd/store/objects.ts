/** The journal's statements about declared objects: environments, machines, networks, links. Knows keys and versions. */
import type { Kysely } from "kysely";
import { Fault } from "#model/fault";
import type { AnyObjectRecord, ObjectKind, ObjectRecord } from "#model/objects";
import type { Journal } from "#ports/store";
import type { JournalContext } from "#store/journal";
import type { Tables } from "#store/schema";

export function createObjects(db: Kysely<Tables>, { epoch }: JournalContext): Journal["objects"] {
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
