/**
 * What a confined principal (a stack) can read: its own environments and what is in them, whatever the route. The journal
 * that a GET sees is a view of the whole one; calls that change something see all of it, because a free address is only
 * free when nobody has it, and are checked by owner where they begin.
 */
import { AsyncLocalStorage } from "node:async_hooks";
import type { Principal } from "#api/access";
import type { Event } from "#model/event";
import type { ObjectKind, ObjectRecord } from "#model/objects";
import type { Decision } from "#model/request";
import { decisionFor } from "#policy/disclose";
import type { Journal, Store } from "#ports/store";

interface Reader {
  readonly principal: Principal;
}
const reading = new AsyncLocalStorage<Reader>();

/** Roles that see only what their own name owns. */
export function isConfined({ role }: Principal): boolean {
  return role === "stack";
}

/** Everything that `work` reads is read as this principal may. */
export function readAs<T>(principal: Principal, work: () => T): T {
  return reading.run({ principal }, work);
}

/** The store for routes: within readAs of a confined principal it shows that principal's environments only. */
export function confinedStore(store: Store): Store {
  const wrap = <T>(work: (journal: Journal) => Promise<T>) => {
    const principal = reading.getStore()?.principal;
    if (principal === undefined || !isConfined(principal)) return work;
    return async (journal: Journal) => work(await confined(journal, principal));
  };
  return {
    ...store,
    transaction: (work) => store.transaction(wrap(work)),
    read: (work) => store.read(wrap(work)),
    // A listener is called by whoever commits; it must go on seeing what its own reader may.
    onCommit: (listener) => store.onCommit(AsyncLocalStorage.bind(listener)),
  };
}

async function confined(journal: Journal, { name: owner, role }: Principal): Promise<Journal> {
  const environments = await journal.objects.list("environment");
  const owned = environments.filter(({ spec }) => spec.owner === owner);
  const own = new Set<string | undefined>(owned.map(({ id }) => id));
  const names = new Set(owned.map(({ spec }) => spec.name));
  const isSeen = (record: ObjectRecord<ObjectKind>): boolean => {
    // Images belong to nobody; an environment is its own.
    if (record.kind === "image") return true;
    if (record.kind === "host" || record.kind === "site") return isSiteOwners(record, owner);
    return own.has(record.kind === "environment" ? record.id : record.environmentId);
  };
  const ifOwn = <T extends { readonly environmentId: string }>(found: T | undefined) =>
    found !== undefined && own.has(found.environmentId) ? found : undefined;
  const onlyOwn = <T extends { readonly environmentId?: string | undefined }>(
    found: readonly T[],
  ) => found.filter(({ environmentId }) => own.has(environmentId));
  // Whose environment it is may read why, but no other owner's numbers.
  const cut = (decision: Decision) => decisionFor({ type: "stack", roles: [role] }, decision);
  const operationOf = async (id: string) => ifOwn(await journal.operations.get(id));
  return {
    ...journal,
    objects: {
      ...journal.objects,
      async get(kind, id) {
        const found = await journal.objects.get(kind, id);
        return found !== undefined && isSeen(found) ? found : undefined;
      },
      async findByKey(kind, key) {
        const found = await journal.objects.findByKey(kind, key);
        return found !== undefined && isSeen(found) ? found : undefined;
      },
      async list(kind, filter) {
        return (await journal.objects.list(kind, filter)).filter(isSeen);
      },
    },
    requests: {
      ...journal.requests,
      get: async (id) => ifOwn(await journal.requests.get(id)),
      since: async (atMs) => onlyOwn(await journal.requests.since(atMs)),
    },
    decisions: {
      ...journal.decisions,
      async get(id) {
        const found = ifOwn(await journal.decisions.get(id));
        return found && cut(found);
      },
      ofRequest: async (id) => onlyOwn(await journal.decisions.ofRequest(id)).map(cut),
      list: async (filter) => onlyOwn(await journal.decisions.list(filter)).map(cut),
    },
    plans: {
      ...journal.plans,
      get: async (id) => ifOwn(await journal.plans.get(id)),
      ofRequest: async (id) => onlyOwn(await journal.plans.ofRequest(id)),
    },
    operations: {
      ...journal.operations,
      get: operationOf,
      list: async (filter) => onlyOwn(await journal.operations.list(filter)),
    },
    steps: {
      ...journal.steps,
      ofOperation: async (id) =>
        (await operationOf(id)) === undefined ? [] : await journal.steps.ofOperation(id),
    },
    adaptations: {
      ...journal.adaptations,
      get: async (id) => ifOwn(await journal.adaptations.get(id)),
      list: async (filter) => onlyOwn(await journal.adaptations.list(filter)),
    },
    approvals: {
      ...journal.approvals,
      get: async (id) => ifOwn(await journal.approvals.get(id)),
      list: async (filter) => onlyOwn(await journal.approvals.list(filter)),
    },
    recalls: {
      ...journal.recalls,
      get: async (id) => ifOwn(await journal.recalls.get(id)),
      list: async () => onlyOwn(await journal.recalls.list()),
    },
    // Whose environment an exemption is for may know of it; not for which others it holds.
    exemptions: {
      ...journal.exemptions,
      list: async () =>
        (await journal.exemptions.list()).flatMap((one) => {
          const mine = one.environments.filter((name) => names.has(name));
          return mine.length === 0 ? [] : [{ ...one, environments: mine }];
        }),
    },
    // A demand of a rule that they may not know is none of their business.
    obligations: {
      ...journal.obligations,
      async get(id) {
        const found = ifOwn(await journal.obligations.get(id));
        return found?.disclose === "owner" ? found : undefined;
      },
      list: async (filter) =>
        onlyOwn(await journal.obligations.list(filter)).filter(
          ({ disclose }) => disclose === "owner",
        ),
    },
    holds: {
      ...journal.holds,
      list: async () =>
        (await journal.holds.list()).filter(
          ({ scope }) =>
            scope === "everything" || !("environmentId" in scope) || own.has(scope.environmentId),
        ),
    },
    events: {
      ...journal.events,
      async since(seq, limit) {
        const found: Event[] = [];
        // Others' events must not fill the page: a reader takes a short one for the end.
        for (let from = seq; ; ) {
          const page = await journal.events.since(from, limit);
          found.push(...onlyOwn(page));
          from = page.at(-1)?.seq ?? from;
          if (page.length < limit || found.length >= limit) return found.slice(0, limit);
        }
      },
    },
  };
}

/** How a host is reached, and where keys are, is the site's owner's to know. */
function isSiteOwners(record: ObjectRecord<ObjectKind>, owner: string): boolean {
  return "owner" in record.spec && record.spec.owner === owner;
}
