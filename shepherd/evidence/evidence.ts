/**
 * The evidence log: an entry for every event of weight, in the event's own transaction, and the proof that nothing of
 * it was changed, removed or put in between. Wraps the store; whoever appends an event need not know of it.
 */
import { follows, genesisHash, leavesEvidence, nextEntry } from "#evidence/chain";
import {
  type CheckpointProblem,
  type Checkpoints,
  compare,
  conflicting,
  type Found,
  type Gathered,
  gather,
  type LogFacts,
  newestOfEach,
  noCheckpoints,
  type WitnessReport,
} from "#evidence/checkpoints";
import {
  type AcceptedRestore,
  acceptedRestore,
  isGivenUp,
  restoreEvent,
  restoreOf,
} from "#evidence/restores";
import type { Event, NewEvent } from "#model/event";
import { Fault } from "#model/fault";
import type { Digest } from "#model/units";
import type { EvidenceEntry, Journal, Store } from "#ports/store";

/** The same store, whose events leave evidence. */
export function withEvidence<Wrapped extends Store>(store: Wrapped): Wrapped {
  return {
    ...store,
    transaction: (work: Parameters<Store["transaction"]>[0]) =>
      store.transaction((journal) => work(recording(journal))),
  };
}

function recording(journal: Journal): Journal {
  // what an event tells of was mostly written in the same transaction: it need not be read back
  const written = new Map<string, object>();
  let previous: EvidenceEntry | undefined;
  const remember = async (
    record: { readonly id: string },
    adding: Promise<void>,
  ): Promise<void> => {
    await adding;
    written.set(record.id, record);
  };
  return {
    ...journal,
    requests: {
      ...journal.requests,
      add: (request) => remember(request, journal.requests.add(request)),
    },
    decisions: {
      ...journal.decisions,
      add: (decision) => remember(decision, journal.decisions.add(decision)),
    },
    plans: { ...journal.plans, add: (plan) => remember(plan, journal.plans.add(plan)) },
    events: {
      ...journal.events,
      async append(event: NewEvent) {
        const appended = await journal.events.append(event);
        if (leavesEvidence(appended)) {
          const subject = await subjectOf(journal, appended, written);
          const entry = nextEntry(previous ?? (await journal.evidence.last()), appended, subject);
          await journal.evidence.append(entry);
          previous = entry;
        }
        return appended;
      },
    },
  };
}

/** Records that are written once and never changed are covered whole; others by what their events say. */
async function subjectOf(
  journal: Journal,
  event: Event,
  written?: ReadonlyMap<string, object>,
): Promise<object | undefined> {
  const id = (key: string) => String(event.data[key] ?? "");
  switch (event.kind) {
    case "request.received":
      return written?.get(id("requestId")) ?? (await journal.requests.get(id("requestId")));
    case "decision.made":
      return written?.get(id("decisionId")) ?? (await journal.decisions.get(id("decisionId")));
    case "plan.made":
      return written?.get(id("planId")) ?? (await journal.plans.get(id("planId")));
    default:
      return undefined;
  }
}

export interface Evidence {
  /** Walks the whole log beside the journal, and holds it against every checkpoint that can be read. */
  verify(): Promise<EvidenceVerdict>;
  /** Holds only the newest checkpoints against the log: quick enough for every start. */
  verifyHeads(): Promise<readonly CheckpointProblem[]>;
  /**
   * Journals that an old database was put back on purpose: checkpoints of what was given up count no more. Faults
   * `evidence.broken` (an edited log is nothing that can be accepted), `evidence.nothing_to_accept`.
   */
  acceptRestore(about: Pick<AcceptedRestore, "by" | "reason" | "atMs">): Promise<AcceptedRestore>;
  /** Entries after `since`, oldest first. */
  list(since: number, limit: number): Promise<readonly EvidenceEntry[]>;
}
export interface EvidenceVerdict {
  /** The chain holds, and no checkpoint speaks against it. Sites that do not answer do not count against it. */
  readonly ok: boolean;
  readonly entries: number;
  readonly head: Digest;
  /** The first entry that does not fit, or is missing. */
  readonly brokenAt: number | undefined;
  readonly problems: readonly CheckpointProblem[];
  readonly witnesses: readonly WitnessReport[];
  /** Restores that people owned up to, oldest first: always told. */
  readonly restores: readonly AcceptedRestore[];
}

/** Rows read at once: other work gets its turn between pages. */
const pageSize = 500;

export function createEvidence(store: Store, checkpoints?: Checkpoints): Evidence {
  /** The whole log, and what is held against it. */
  async function look(): Promise<{
    readonly walked: Walked;
    readonly kept: Gathered;
    readonly standing: readonly Found[];
    readonly log: LogFacts;
  }> {
    const kept = checkpoints === undefined ? noCheckpoints : await gather(checkpoints);
    const wanted = new Set(kept.found.map(({ checkpoint }) => checkpoint.seq));
    const walked = await walk(store, wanted);
    const { entries: head, brokenAt, hashes, restores } = walked;
    const standing = kept.found.filter(({ checkpoint }) => !isGivenUp(checkpoint, restores));
    return { walked, kept, standing, log: { hashes, head, brokenAt } };
  }
  return {
    list: (since, limit) => store.read((journal) => journal.evidence.since(since, limit)),
    async verify() {
      const { walked, kept, standing, log } = await look();
      const { entries, head, brokenAt, restores } = walked;
      const problems = [...kept.problems, ...compare(standing, log)];
      return {
        ok: brokenAt === undefined && problems.length === 0,
        entries,
        head,
        brokenAt,
        problems,
        witnesses: kept.reports,
        restores,
      };
    },
    async verifyHeads() {
      if (checkpoints === undefined) return [];
      const kept = await gather(checkpoints);
      const newest = newestOfEach(kept.found);
      const log = await store.read(async (journal) => {
        const hashes = new Map<number, Digest>();
        for (const { checkpoint } of newest) {
          const [entry] = await journal.evidence.since(checkpoint.seq - 1, 1);
          if (entry !== undefined) hashes.set(entry.seq, entry.hash);
        }
        const head = (await journal.evidence.last())?.seq ?? 0;
        return { hashes, head, brokenAt: undefined };
      });
      const found = compare(newest, log);
      if (found.length === 0) return kept.problems;
      // only now is it worth reading who accepted what
      const restores = await restoresOf(store);
      const standing = newest.filter(({ checkpoint }) => !isGivenUp(checkpoint, restores));
      return [...kept.problems, ...compare(standing, log)];
    },
    async acceptRestore(about) {
      const { walked, standing, log } = await look();
      if (walked.brokenAt !== undefined)
        throw new Fault("evidence.broken", { entry: walked.brokenAt });
      const restore = acceptedRestore(
        standing.map(({ checkpoint }) => checkpoint),
        new Set(conflicting(standing, log).map(({ checkpoint }) => checkpoint)),
        about,
      );
      if (restore === undefined) throw new Fault("evidence.nothing_to_accept", {});
      await store.transaction((journal) => journal.events.append(restoreEvent(restore)));
      return restore;
    },
  };
}

async function restoresOf(store: Store): Promise<readonly AcceptedRestore[]> {
  const restores: AcceptedRestore[] = [];
  let last = 0;
  for (;;) {
    const since = last;
    const events = await store.read((journal) => journal.events.since(since, pageSize));
    restores.push(...events.flatMap((event) => restoreOf(event) ?? []));
    last = events.at(-1)?.seq ?? last;
    if (events.length < pageSize) return restores;
  }
}

interface Walked {
  /** Up to the break, if there is one. */
  readonly entries: number;
  readonly head: Digest;
  readonly brokenAt: number | undefined;
  /** Of the entries that were wanted. */
  readonly hashes: ReadonlyMap<number, Digest>;
  readonly restores: readonly AcceptedRestore[];
}

async function walk(store: Store, wanted: ReadonlySet<number>): Promise<Walked> {
  const hashes = new Map<number, Digest>();
  const restores: AcceptedRestore[] = [];
  const onEntry = (entry: EvidenceEntry, event: Event): void => {
    if (wanted.has(entry.seq)) hashes.set(entry.seq, entry.hash);
    const restore = restoreOf(event);
    if (restore !== undefined) restores.push(restore);
  };
  const end = await store.read(async (journal) =>
    Math.max(await journal.events.last(), (await journal.evidence.last())?.eventSeq ?? 0),
  );
  let previous: EvidenceEntry | undefined;
  let eventSeq = 0;
  for (;;) {
    const page = await store.read((journal) =>
      verifyPage(journal, { previous, afterEvent: eventSeq, end }, onEntry),
    );
    previous = page.previous;
    eventSeq = page.lastEvent;
    if (page.brokenAt !== undefined || page.finished) {
      return {
        entries: previous?.seq ?? 0,
        head: previous?.hash ?? genesisHash,
        brokenAt: page.brokenAt,
        hashes,
        restores,
      };
    }
  }
}

/** One page of events, each of weight against the entry that must be its own. */
async function verifyPage(
  journal: Journal,
  from: {
    readonly previous: EvidenceEntry | undefined;
    readonly afterEvent: number;
    readonly end: number;
  },
  onEntry: (entry: EvidenceEntry, event: Event) => void,
): Promise<{
  previous: EvidenceEntry | undefined;
  lastEvent: number;
  brokenAt: number | undefined;
  finished: boolean;
}> {
  let { previous } = from;
  const events = await journal.events.since(from.afterEvent, pageSize);
  const entries = (await journal.evidence.since(previous?.seq ?? 0, pageSize + 1)).values();
  let lastEvent = from.afterEvent;
  for (const event of events) {
    if (event.seq > from.end) break;
    lastEvent = event.seq;
    if (!leavesEvidence(event)) continue;
    const next = entries.next();
    const expected = (previous?.seq ?? 0) + 1;
    const broken = { previous, lastEvent, brokenAt: expected, finished: true };
    if (next.done === true) return broken;
    const entry = next.value;
    if (!follows(entry, previous, event, await subjectOf(journal, event))) return broken;
    onEntry(entry, event);
    previous = entry;
  }
  const finished = events.length < pageSize || lastEvent >= from.end;
  // An entry of an event that is gone.
  const surplus = finished ? entries.next().value : undefined;
  const orphaned = surplus !== undefined && surplus.eventSeq <= from.end;
  return { previous, lastEvent, brokenAt: orphaned ? surplus.seq : undefined, finished };
}
