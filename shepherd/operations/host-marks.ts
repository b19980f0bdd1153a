/**
 * A person's word about hosts, kept in memory beside the journal: "dead" and "draining". Saying that a host is dead is
 * the way out when a host never answers again; it is refused while the host answers, and it is evidence. What a dead
 * host holds counts as gone, so that what waited for it goes on. Knows the journal; asks no host.
 */
import type { HostFacts } from "#model/facts";
import { Fault } from "#model/fault";
import type { HostMark } from "#model/site";
import type { HostId, Ms } from "#model/units";
import { changeMachine } from "#operations/records";
import type { Clock } from "#ports/clock";
import type { Journal, Store } from "#ports/store";

export interface HostMarks {
  list(): readonly HostMark[];
  markOf(hostId: HostId): HostFacts["mark"];
  isDead(hostId: HostId): boolean;
  /**
   * Nothing of ours runs there any more and never will by itself. Its machines have failed, and operations that wait for
   * it go on as if it had answered "nothing here". Faults `host.unknown`, `host.answers`.
   */
  confirmDead(asked: {
    readonly hostId: HostId;
    readonly by: string;
    readonly reason: string;
    /** How it was made sure that it cannot come back by itself. */
    readonly fencedBy: string;
  }): Promise<HostMark>;
  /** It takes nothing more; a second word replaces the first. Faults `host.unknown`, `host.dead`. */
  drain(asked: {
    readonly hostId: HostId;
    readonly by: string;
    readonly reason: string;
  }): Promise<HostMark>;
  /** It is back and being cleaned: asked again, and used only after `lift` of "returning". Fault `host.not_dead`. */
  welcome(hostId: HostId, by: string): Promise<void>;
  /** Taking back what nobody said is no error. */
  lift(hostId: HostId, kind: HostMark["kind"], by: string): Promise<void>;
  /** Called after each change. */
  onChange(listener: () => void): () => void;
}

export async function openHostMarks(world: {
  readonly store: Store;
  readonly clock: Clock;
  readonly hostIds: readonly HostId[];
  /** Whether the host answered at the last look. */
  readonly answers: (hostId: HostId) => boolean;
}): Promise<HostMarks> {
  const { store, clock } = world;
  let marks = await store.read((journal) => journal.hostMarks.list());
  const listeners = new Set<() => void>();
  const has = (hostId: HostId, kind: HostMark["kind"]) =>
    marks.some((mark) => mark.hostId === hostId && mark.kind === kind);

  const change = async (
    work: (journal: Journal) => Promise<void>,
    event: { readonly hostId: HostId } & Readonly<Record<string, unknown>>,
  ) => {
    marks = await store.transaction(async (journal) => {
      await work(journal);
      await journal.events.append({ kind: "host.marked", atMs: clock.nowMs(), data: event });
      return journal.hostMarks.list();
    });
    for (const listener of listeners) listener();
  };
  const needKnown = (hostId: HostId) => {
    if (!world.hostIds.includes(hostId)) throw new Fault("host.unknown", { host: hostId });
  };

  return {
    list: () => marks,
    isDead: (hostId) => has(hostId, "dead"),
    markOf: (hostId) =>
      has(hostId, "dead")
        ? "dead"
        : has(hostId, "draining") || has(hostId, "returning")
          ? "draining"
          : undefined,
    async confirmDead(asked) {
      needKnown(asked.hostId);
      if (world.answers(asked.hostId)) throw new Fault("host.answers", { host: asked.hostId });
      const mark: HostMark = { ...asked, kind: "dead", sinceMs: clock.nowMs() };
      await change(
        async (journal) => {
          await journal.hostMarks.put(mark);
          await loseMachines(journal, asked.hostId, clock.nowMs());
        },
        { ...mark, active: true },
      );
      return mark;
    },
    async welcome(hostId, by) {
      if (!has(hostId, "dead")) throw new Fault("host.not_dead", { host: hostId });
      const mark: HostMark = {
        hostId,
        kind: "returning",
        by,
        reason: "welcomed back",
        sinceMs: clock.nowMs(),
      };
      await change(
        async (journal) => {
          await journal.hostMarks.put(mark);
          await journal.hostMarks.remove(hostId, "dead");
        },
        { ...mark, active: true },
      );
    },
    async drain(asked) {
      needKnown(asked.hostId);
      if (has(asked.hostId, "dead")) throw new Fault("host.dead", { host: asked.hostId });
      const mark: HostMark = { ...asked, kind: "draining", sinceMs: clock.nowMs() };
      await change((journal) => journal.hostMarks.put(mark), { ...mark, active: true });
      return mark;
    },
    async lift(hostId, kind, by) {
      // Of a host that was taken away a word may still stand.
      if (!has(hostId, kind)) return needKnown(hostId);
      await change((journal) => journal.hostMarks.remove(hostId, kind), {
        hostId,
        kind,
        by,
        active: false,
      });
    },
    onChange(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}

/** Those in an operation that has begun are its own to judge: a move may have saved one. */
async function loseMachines(journal: Journal, hostId: HostId, nowMs: Ms): Promise<void> {
  for (const { id, effective } of await journal.objects.list("machine")) {
    if (effective.hostId !== hostId || effective.state === "destroying") continue;
    const open = await journal.operations.list({
      states: ["running", "undoing", "stuck"],
      machineId: id,
    });
    if (open.length > 0) continue;
    await changeMachine(journal, id, nowMs, {
      state: "failed",
      reason: `its host ${hostId} is dead`,
    });
  }
}
