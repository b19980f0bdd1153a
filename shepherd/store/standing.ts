/** The journal's statements about what stands until it ends: adaptations, holds, marks of hosts, tunnels, addresses. */
import type { Kysely } from "kysely";
import type { Hold } from "#model/facts";
import type { Adaptation } from "#model/request";
import type { HostMark, TunnelEnd } from "#model/site";
import type { Journal } from "#ports/store";
import { bodyOf } from "#store/body";
import type { JournalContext } from "#store/journal";
import type { Tables } from "#store/schema";

/** What stands until it ends: adaptations, holds, addresses. */
export function createStanding(
  db: Kysely<Tables>,
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
        return row && bodyOf<Adaptation>(row);
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
        return rows.map((row) => bodyOf<Adaptation>(row));
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
        return rows.map((row) => bodyOf<HostMark>(row));
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
        return rows.map((row) => bodyOf<TunnelEnd>(row));
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
        return rows.map((row) => bodyOf<Hold>(row));
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

function scopeKey(scope: Hold["scope"]): string {
  if (scope === "everything") return "everything";
  return "siteId" in scope ? `site:${scope.siteId}` : `environment:${scope.environmentId}`;
}
