/**
 * The journal's statements about declared objects: environments, machines, networks, links. Reads are answered from memory
 * (kept-objects.ts), writes go to the table and then there. Knows keys and versions.
 */
import type { Kysely } from "kysely";
import { Fault } from "#model/fault";
import type { AnyObjectRecord, ObjectKind, ObjectRecord } from "#model/objects";
import type { Journal } from "#ports/store";
import { run } from "#store/insert";
import type { JournalContext } from "#store/journal";
import type { Tables } from "#store/schema";

const upsert = `insert into objects (kind, id, key, environment_id, spec, effective, version, claimed, created_at_ms, epoch)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
on conflict (kind, id) do update set key = excluded.key, environment_id = excluded.environment_id, spec = excluded.spec,
effective = excluded.effective, version = excluded.version, claimed = excluded.claimed,
created_at_ms = excluded.created_at_ms, epoch = excluded.epoch`;

export function createObjects(
  db: Kysely<Tables>,
  { epoch, kept }: JournalContext,
): Journal["objects"] {
  return {
    async get<Kind extends ObjectKind>(kind: Kind, id: string) {
      return (await kept.shelf(kind)).get(id) as ObjectRecord<Kind> | undefined;
    },
    async findByKey<Kind extends ObjectKind>(kind: Kind, key: string) {
      return (await kept.shelf(kind)).findByKey(key) as ObjectRecord<Kind> | undefined;
    },
    async list<Kind extends ObjectKind>(kind: Kind, filter = {}) {
      return (await kept.shelf(kind)).list(filter) as unknown as readonly ObjectRecord<Kind>[];
    },
    async put(record: AnyObjectRecord) {
      const { kind, id, key, version } = record;
      const shelf = await kept.shelf(kind);
      const holder = shelf.findByKey(key);
      if (holder !== undefined && holder.id !== id) {
        throw new Fault("conflict.exists", { kind, key, existingId: holder.id });
      }
      const stored = shelf.get(id)?.version ?? 0;
      if (version !== stored + 1) {
        throw new Fault("conflict.version", { kind, id, expected: version - 1, stored });
      }
      const row = {
        kind,
        id,
        key,
        environment_id: record.environmentId ?? null,
        spec: JSON.stringify(record.spec),
        effective: JSON.stringify(record.effective),
        version,
        claimed: record.claimed ? 1 : 0,
        created_at_ms: record.createdAtMs,
      };
      await run(db, upsert, [...Object.values(row), epoch]);
      await kept.wrote(kind, id, row);
    },
    async remove(kind, id) {
      // before the statement: what is read first must still be whole
      await kept.shelf(kind);
      await run(db, "delete from objects where kind = ? and id = ?", [kind, id]);
      await kept.wrote(kind, id, undefined);
    },
  };
}
