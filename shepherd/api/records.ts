/**
 * Finding, claiming and changing records on behalf of a route: ids or names in, records or faults out.
 * Every function runs inside the caller's transaction.
 */
import { mayAccess, type Principal } from "#api/access";
import { canonicalJson } from "#model/canonical";
import { Fault } from "#model/fault";
import type { AnyObjectRecord, EnvironmentRecord, ObjectKind, ObjectRecord } from "#model/objects";
import type { Operation } from "#model/plan";
import type { MachineId, Ms } from "#model/units";
import type { Journal } from "#ports/store";

const activeStates: readonly Operation["state"][] = ["pending", "running", "undoing"];

/** By id, or by natural key where that has no other parts (environments, images). Fault `object.unknown`. */
export async function find<Kind extends ObjectKind>(
  journal: Journal,
  kind: Kind,
  idOrKey: string,
): Promise<ObjectRecord<Kind>> {
  const found =
    (await journal.objects.get(kind, idOrKey)) ?? (await journal.objects.findByKey(kind, idOrKey));
  if (found === undefined) throw new Fault("object.unknown", { kind, id: idOrKey });
  return found;
}

/** The same, and claims it when it was its id that was presented: from now on only that state manages it. */
export async function findAndClaim<Kind extends ObjectKind>(
  journal: Journal,
  kind: Kind,
  idOrKey: string,
): Promise<ObjectRecord<Kind>> {
  const found = await find(journal, kind, idOrKey);
  if (found.claimed || found.id !== idOrKey) return found;
  return await change(journal, found, { claimed: true });
}

/** What a GET by id does: a caller who may declare claims, one who only looks leaves no trace. */
export async function look<Kind extends ObjectKind>(
  journal: Journal,
  kind: Kind,
  idOrKey: string,
  principal: Principal,
): Promise<ObjectRecord<Kind>> {
  return mayAccess(principal, "declare")
    ? await findAndClaim(journal, kind, idOrKey)
    : await find(journal, kind, idOrKey);
}

/** The objects of a kind, of one environment (id or name) or of all, with one name or any. Fault `object.unknown`. */
export async function listNamed<K extends "constraint" | "network" | "volume">(
  journal: Journal,
  kind: K,
  query: { readonly environment?: string; readonly name?: string },
): Promise<readonly ObjectRecord<K>[]> {
  const { environment, name } = query;
  const filter =
    environment === undefined
      ? {}
      : { environmentId: (await environmentOf(journal, environment)).id };
  const records = await journal.objects.list(kind, filter);
  return records.filter(({ spec }) => name === undefined || spec.name === name);
}

/** Stores the record with these changes and the next version. */
export async function change<Kind extends ObjectKind>(
  journal: Journal,
  record: ObjectRecord<Kind>,
  changes: Partial<Pick<ObjectRecord<Kind>, "spec" | "effective" | "claimed">>,
): Promise<ObjectRecord<Kind>> {
  const next = { ...record, ...changes, version: record.version + 1 };
  await journal.objects.put(next as unknown as AnyObjectRecord); // Kind is one of its members
  return next;
}

export async function environmentOf(
  journal: Journal,
  idOrName: string,
): Promise<EnvironmentRecord> {
  return await find(journal, "environment", idOrName);
}

/** `environment/name`, as `terraform import` takes it. */
export function importId(environment: EnvironmentRecord, name: string): string {
  return `${environment.spec.name}/${name}`;
}

/** PUT on an object that a state manages already. */
export function claimedConflict(
  record: { kind: ObjectKind; key: string; id: string },
  as: string,
): Fault {
  return new Fault("conflict.exists", {
    kind: record.kind,
    key: as,
    existingId: record.id,
    importId: as,
  });
}

/** The newest operation of a machine that has not ended. */
export async function activeOperationOf(
  journal: Journal,
  machineId: MachineId,
): Promise<Operation | undefined> {
  const [operation] = await journal.operations.list({ machineId, states: activeStates, limit: 1 });
  return operation;
}

export async function journalChange(
  journal: Journal,
  record: Pick<AnyObjectRecord, "kind" | "id" | "key" | "environmentId">,
  atMs: Ms,
  kind: "object.changed" | "object.deleted" = "object.changed",
): Promise<void> {
  await journal.events.append({
    kind,
    atMs,
    environmentId: record.kind === "environment" ? `${record.id}` : record.environmentId,
    machineId: record.kind === "machine" ? `${record.id}` : undefined,
    data: { kind: record.kind, id: record.id, key: record.key },
  });
}

/** Equal as data; absent and undefined are the same. */
export function sameData(left: unknown, right: unknown): boolean {
  return canonicalJson(left) === canonicalJson(right);
}
