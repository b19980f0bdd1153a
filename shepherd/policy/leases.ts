/**
 * Ends adaptations whose lease is over, by itself: first everything raised goes back to the baseline (the built-in grant
 * `release`), then the machine asks its way home (what is still away from the baseline needs room elsewhere, so policy
 * judges it like any ask). All state is in the journal; after a restart it goes on where it was.
 */
import type { Logger } from "pino";
import type { MachineRecord } from "#model/objects";
import type { Adaptation, MachineAsk, Request } from "#model/request";
import type { AdaptationId, GroupId, Ms } from "#model/units";
import { changeGroup, membersOf } from "#planner/groups";
import { sizingAttributes } from "#planner/target";
import type { Gate, GateOperations } from "#policy/gate";
import { newRequest, shepherdSubject } from "#policy/request";
import type { Clock, Ids } from "#ports/clock";
import type { Store } from "#ports/store";

export interface Leases {
  start(): void;
  stop(): void;
  /** Tries at once what was put off: a host is back. */
  retryNow(): void;
}

/**
 * Until a denied or failed step is tried again, doubled each time. Short at first: a balloon that still deflates looks
 * like a lack of room for some seconds. Each try is a journaled request, hence the upper end.
 */
const firstRetryMs: Ms = 2_000;
const longestRetryMs: Ms = 300_000;
/** Down, home, forgotten: more steps at once than this are the same one again. */
const maxStepsInARow = 4;
/** Longest wait for one release before looking at it again. */
const operationMs: Ms = 600_000;
/** Sleep when nothing is due; also what corrects a clock that was set. */
const longestSleepMs: Ms = 60_000;

export interface LeasesOptions {
  readonly store: Store;
  readonly gate: Pick<Gate, "submit">;
  readonly operations: Pick<GateOperations, "wait">;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly log: Logger;
}

export function createLeases(options: LeasesOptions): Leases {
  return new LeaseTimer(options);
}

class LeaseTimer implements Leases {
  readonly #options: LeasesOptions;
  readonly #busy = new Set<AdaptationId>();
  readonly #later = new Map<AdaptationId, { readonly tries: number; readonly atMs: Ms }>();
  readonly #steps = new Map<AdaptationId, number>();
  #cancelTimer: () => void = () => undefined;
  #unlisten: () => void = () => undefined;
  #stopped = true;

  constructor(options: LeasesOptions) {
    this.#options = options;
  }

  start(): void {
    if (!this.#stopped) return;
    this.#stopped = false;
    this.#unlisten = this.#options.store.onCommit(() => void this.#look());
    void this.#look();
  }

  stop(): void {
    this.#stopped = true;
    this.#unlisten();
    this.#cancelTimer();
  }

  retryNow(): void {
    this.#later.clear();
    void this.#look();
  }

  /** Starts what is due and sleeps until the next one is. */
  async #look(): Promise<void> {
    if (this.#stopped) return;
    const { store, clock, log } = this.#options;
    try {
      const leased = (await store.read((journal) => journal.adaptations.list())).filter(
        ({ leaseUntilMs }) => leaseUntilMs !== undefined,
      );
      if (this.#stopped) return;
      this.#forget(leased);
      const nowMs = clock.nowMs();
      let nextMs = nowMs + longestSleepMs;
      for (const adaptation of leased) {
        if (this.#busy.has(adaptation.id)) continue;
        const dueMs = Math.max(
          adaptation.leaseUntilMs ?? 0,
          this.#later.get(adaptation.id)?.atMs ?? 0,
        );
        if (dueMs <= nowMs) void this.#end(adaptation);
        else nextMs = Math.min(nextMs, dueMs);
      }
      this.#cancelTimer();
      this.#cancelTimer = clock.at(nextMs, () => void this.#look());
    } catch (error) {
      log.error({ err: error }, "leases were not read; trying again");
      this.#cancelTimer();
      this.#cancelTimer = clock.at(clock.nowMs() + firstRetryMs, () => void this.#look());
    }
  }

  #forget(leased: readonly Adaptation[]): void {
    const live = new Set(leased.map(({ id }) => id));
    for (const id of this.#later.keys()) if (!live.has(id)) this.#later.delete(id);
    for (const id of this.#steps.keys()) if (!live.has(id)) this.#steps.delete(id);
  }

  #stepsInARow({ id }: Adaptation): number {
    const steps = (this.#steps.get(id) ?? 0) + 1;
    this.#steps.set(id, steps);
    return steps;
  }

  #tryLater({ id }: Adaptation): void {
    const tries = this.#later.get(id)?.tries ?? 0;
    const waitMs = Math.min(firstRetryMs * 2 ** tries, longestRetryMs);
    this.#later.set(id, { tries: tries + 1, atMs: this.#options.clock.nowMs() + waitMs });
  }

  async #end(adaptation: Adaptation): Promise<void> {
    const { log } = this.#options;
    this.#busy.add(adaptation.id);
    try {
      const done = await this.#step(adaptation);
      // A step that succeeds and is due again at once did not help: no hot loop out of it.
      if (!done || this.#stepsInARow(adaptation) > maxStepsInARow) this.#tryLater(adaptation);
    } catch (error) {
      log.error({ err: error, adaptation: adaptation.id }, "a lease was not ended; trying again");
      this.#tryLater(adaptation);
    } finally {
      this.#busy.delete(adaptation.id);
      void this.#look();
    }
  }

  /** One step towards the baseline; false when it must be tried again later. */
  async #step(adaptation: Adaptation): Promise<boolean> {
    const { store } = this.#options;
    const now = await store.read((journal) => journal.adaptations.get(adaptation.id));
    // Replaced or renewed since the list was read: nothing of this one is left to end.
    if (now === undefined || now.leaseUntilMs !== adaptation.leaseUntilMs) return true;
    const group = adaptation.groupId;
    if (group !== undefined) return await this.#shrink(adaptation, group);
    const link =
      adaptation.linkId === undefined
        ? undefined
        : await store.read((journal) => journal.objects.get("link", adaptation.linkId ?? ""));
    const machine =
      adaptation.machineId === undefined
        ? undefined
        : await store.read((journal) => journal.objects.get("machine", adaptation.machineId ?? ""));
    if (link !== undefined && link.effective.rateMbps !== link.spec.rateMbps) {
      const raised = link.effective.rateMbps > link.spec.rateMbps;
      return await this.#submit(adaptation, raised ? "release" : "rate", {
        links: [{ linkId: link.id, rateMbps: link.spec.rateMbps }],
      });
    }
    if (machine !== undefined && isRaised(machine)) {
      return await this.#submit(adaptation, "release", {
        machines: [{ machineId: machine.id }],
      });
    }
    const home = machine && wayHome(machine);
    if (home !== undefined) {
      return await this.#submit(adaptation, home.siteId === undefined ? "resize" : "move", {
        machines: [home],
      });
    }
    return await this.#remove(adaptation);
  }

  /** The machines that were added for a time go; the stack's stay. */
  async #shrink(adaptation: Adaptation, groupId: GroupId): Promise<boolean> {
    const { store, ids } = this.#options;
    const { environmentId } = adaptation;
    const about = await store.read(async (journal) => {
      const group = await journal.objects.get("group", groupId);
      const environment = await journal.objects.get("environment", environmentId);
      if (group === undefined || environment === undefined) return undefined;
      const machines = await journal.objects.list("machine", { environmentId });
      const links = await journal.objects.list("link", { environmentId });
      const { machineCount, name } = group.spec;
      if (membersOf(group.spec, machines).length <= machineCount) return undefined;
      const scope = { environment, machines, links, newId: () => ids.next() };
      const change = changeGroup(group.spec, machineCount, scope);
      return { ...change, group: name, scale: { groupId, machineCount } };
    });
    if (about === undefined) return await this.#remove(adaptation);
    return await this.#submit(adaptation, "release", about);
  }

  async #submit(
    adaptation: Adaptation,
    kind: Request["kind"],
    about: Partial<Pick<Request, "machines" | "links" | "declares" | "scale" | "group">>,
  ): Promise<boolean> {
    const { gate, operations } = this.#options;
    const { environmentId } = adaptation;
    const { decision, operation } = await gate.submit(
      newRequest(this.#options, {
        kind,
        environmentId,
        subject: shepherdSubject,
        ...about,
        reason: "lease ended",
      }),
    );
    if (decision.effect !== "allow" || operation === undefined) return false;
    const ended = await operations.wait(operation.id, operationMs);
    return ended.state === "succeeded";
  }

  /** Nothing departs any more, or the object is gone: the record is all that is left. */
  async #remove(adaptation: Adaptation): Promise<boolean> {
    const { store, clock } = this.#options;
    await store.transaction(async (journal) => {
      if ((await journal.adaptations.get(adaptation.id)) === undefined) return;
      await journal.adaptations.remove(adaptation.id);
      await journal.events.append({
        kind: "adaptation.ended",
        atMs: clock.nowMs(),
        environmentId: adaptation.environmentId,
        ...(adaptation.machineId === undefined ? {} : { machineId: adaptation.machineId }),
        data: { adaptationId: adaptation.id, reason: "lease ended" },
      });
    });
    return true;
  }
}

function isRaised({ spec, effective }: MachineRecord): boolean {
  return sizingAttributes.some((attribute) => effective[attribute] > spec.baseline[attribute]);
}

/** What would bring a machine back to its baseline after everything raised was lowered; undefined when it is there. */
function wayHome({ id, spec, effective }: MachineRecord): MachineAsk | undefined {
  const lowered = sizingAttributes.filter(
    (attribute) => effective[attribute] < spec.baseline[attribute],
  );
  const away = effective.siteId !== spec.baseline.siteId;
  if (lowered.length === 0 && !away) return undefined;
  return {
    machineId: id,
    ...Object.fromEntries(lowered.map((attribute) => [attribute, spec.baseline[attribute]])),
    ...(away ? { siteId: spec.baseline.siteId } : {}),
  };
}
