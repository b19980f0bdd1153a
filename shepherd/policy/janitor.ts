/**
 * The sweep: looks at every host, again and again, at all that is there, keeps what differs from the journal, and answers
 * by rule. Networks that stay different are repaired; litter is removed when a person says so, and when a host that was
 * thought dead is welcomed back; all else is an alert. Level-triggered: it looks at what is, whatever events said.
 */
import type { Logger } from "pino";
import { digestOf } from "#model/canonical";
import { Fault, toFaultData } from "#model/fault";
import type { LitterItem, Operation, Plan, PlanAction } from "#model/plan";
import type { Grant, Request } from "#model/request";
import type { HostRecord } from "#model/site";
import type { HostId, MachineId, Ms } from "#model/units";
import { derive } from "#network/derive";
import {
  type Difference,
  differencesOf,
  type HostHolds,
  type KnownObjects,
} from "#operations/differences";
import { dataVolume, imageParts, overlayVolume } from "#operations/domain-spec";
import type { HostMarks } from "#operations/host-marks";
import { expiredLayers } from "#operations/kept-layers";
import { readNetworkState } from "#operations/network-state";
import { changeMachine } from "#operations/records";
import { hasVolume } from "#operations/volumes";
import type { GateOperations } from "#policy/gate";
import { shepherdSubject } from "#policy/request";
import type { Clock, Ids } from "#ports/clock";
import type { Hosts } from "#ports/host";
import type { Journal, Store } from "#ports/store";

export interface Janitor {
  start(): void;
  stop(): void;
  /** What the last sweep found, hosts by name. */
  differences(): readonly Difference[];
  /** Looks at all hosts now. */
  sweep(): Promise<readonly Difference[]>;
  /** Sweeps, and removes the litter found; one operation a host. Running machines are never litter. */
  clean(by: string): Promise<readonly Operation[]>;
  /**
   * A host that was confirmed dead is back: what of it lives elsewhere now is stopped and removed there first, then the
   * mark is lifted, and machines that still run there are machines again. Faults `host.unreachable`, `host.not_dead`.
   */
  welcome(hostId: HostId, by: string): Promise<readonly LitterItem[]>;
}

/** A sweep costs a host three questions; foreign changes of sizes are seen within seconds by sensing. */
const sweepEveryMs: Ms = 60_000;
const lookMs: Ms = 30_000;
const operationMs: Ms = 600_000;
/** A network that differs in two sweeps running is not an operation's doing. */
const repairAfterSweeps = 2;
const grantMs: Ms = 60_000;

export interface JanitorOptions {
  readonly store: Store;
  /** Real ones: the dead must be asked when they come back. */
  readonly hosts: Hosts;
  readonly fleet: readonly HostRecord[];
  readonly marks: HostMarks;
  readonly answers: (hostId: HostId) => boolean;
  readonly operations: GateOperations;
  /** Brings networks back to the journal. */
  readonly repair: () => void;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly log: Logger;
}

export function createJanitor(options: JanitorOptions): Janitor {
  return new SweepingJanitor(options);
}

class SweepingJanitor implements Janitor {
  readonly #options: JanitorOptions;
  #found: readonly Difference[] = [];
  readonly #networkSweeps = new Map<HostId, number>();
  #cancelTimer: () => void = () => undefined;
  #stopped = true;

  constructor(options: JanitorOptions) {
    this.#options = options;
  }

  start(): void {
    if (!this.#stopped) return;
    this.#stopped = false;
    this.#schedule();
  }

  stop(): void {
    this.#stopped = true;
    this.#cancelTimer();
  }

  differences(): readonly Difference[] {
    return this.#found;
  }

  async sweep(): Promise<readonly Difference[]> {
    const { marks, answers, fleet } = this.#options;
    const held = await this.#look(
      fleet.map(({ id }) => id).filter((id) => answers(id) && !marks.isDead(id)),
    );
    const known = await this.#options.store.read((journal) => knownObjects(journal, held));
    const found = held.flatMap((host) => differencesOf(host, known));
    await this.#tell(found);
    this.#found = found;
    this.#repairNetworks(found);
    this.#expire(held, known);
    return found;
  }

  async clean(by: string): Promise<readonly Operation[]> {
    const found = await this.sweep();
    const byHost = Map.groupBy(
      found.filter((one) => one.litter !== undefined),
      ({ hostId }) => hostId,
    );
    const ended: Operation[] = [];
    for (const [hostId, differences] of byHost) {
      const litter = differences.flatMap((one) => one.litter ?? []);
      ended.push(await this.#remove(hostId, litter, `litter, removed on ${by}'s word`));
    }
    await this.sweep();
    return ended;
  }

  async welcome(hostId: HostId, by: string): Promise<readonly LitterItem[]> {
    const { marks, hosts, store, clock } = this.#options;
    const mark = marks.list().find((one) => one.hostId === hostId && one.kind !== "draining");
    if (mark === undefined) throw new Fault("host.not_dead", { host: hostId });
    // Asked at the host itself: the mark would answer "nothing here".
    const domains = await hosts.get(hostId).listDomains();
    const volumes = await hosts.get(hostId).volumes.list();
    const machines = await store.read((journal) => journal.objects.list("machine"));
    const home = new Map(machines.map((machine) => [machine.id, machine.effective.hostId]));
    const litter: LitterItem[] = domains
      .filter(({ ours, id }) => ours !== undefined && (home.get(id) ?? hostId) !== hostId)
      .map(({ id }) => ({ kind: "domain", id, because: "elsewhere", machineId: id }));
    const isThere = (name: string) => volumes.some((volume) => volume.name === name);
    for (const { id, effective } of await store.read((journal) => journal.objects.list("volume"))) {
      if (["", hostId].includes(effective.hostId) || !isThere(dataVolume(id))) continue;
      litter.push({ kind: "volume", id: dataVolume(id), because: "elsewhere", volumeId: id });
    }
    for (const { id } of machines) {
      const name = overlayVolume(id);
      if (home.get(id) === hostId || !isThere(name)) continue;
      litter.push({ kind: "volume", id: name, because: "elsewhere", machineId: id });
    }
    // Nothing is placed there before it is clean; from here on operations see the real host.
    // Asked again after a failed cleaning, or after the shepherd died in one, it is marked already.
    if (mark.kind === "dead") await marks.welcome(hostId, by);
    if (litter.length > 0) {
      const ended = await this.#remove(hostId, litter, `${hostId} is welcomed back by ${by}`);
      if (ended.state !== "succeeded") {
        // It stays unused, and says what is left.
        await this.sweep();
        throw new Fault("host.not_clean", { host: hostId, problem: ended.fault?.message ?? "" });
      }
    }
    const running = new Set(domains.filter(({ state }) => state === "running").map(({ id }) => id));
    await store.transaction(async (journal) => {
      for (const { id, effective } of await journal.objects.list("machine")) {
        if (effective.hostId !== hostId || effective.state !== "failed" || !running.has(id))
          continue;
        await changeMachine(journal, id, clock.nowMs(), { state: "running", reason: undefined });
      }
    });
    await marks.lift(hostId, "returning", by);
    return litter;
  }

  async #look(hostIds: readonly HostId[]): Promise<readonly HostHolds[]> {
    const { hosts, store, fleet, clock, log } = this.#options;
    const state = await store.read((journal) => readNetworkState(journal, fleet));
    const looks = hostIds.map(async (hostId): Promise<HostHolds | undefined> => {
      const patience = new AbortController();
      const late = clock.sleep(lookMs, patience.signal).then(
        () => undefined,
        () => undefined,
      );
      try {
        const host = hosts.get(hostId);
        return await Promise.race([
          Promise.all([
            host.listDomains(),
            host.volumes.list(),
            hosts.network(hostId).audit(derive(hostId, state)),
            host.volumes.listPartial(),
          ]).then(([domains, volumes, network, partial]) => ({
            hostId,
            domains,
            volumes,
            network,
            partial,
          })),
          late,
        ]);
      } catch (error) {
        log.warn({ host: hostId, fault: toFaultData(error) }, "a host was not swept");
        return undefined;
      } finally {
        patience.abort();
      }
    });
    return (await Promise.all(looks)).filter((one) => one !== undefined);
  }

  /** Each difference once when it comes and once when it goes. */
  async #tell(found: readonly Difference[]): Promise<void> {
    const { store, clock } = this.#options;
    const key = (one: Difference) => `${one.hostId}/${one.class}/${one.object}/${one.detail}`;
    const before = new Map(this.#found.map((one) => [key(one), one]));
    const now = new Map(found.map((one) => [key(one), one]));
    const changes = [
      ...[...now].filter(([id]) => !before.has(id)).map(([, one]) => ({ ...one, active: true })),
      ...[...before].filter(([id]) => !now.has(id)).map(([, one]) => ({ ...one, active: false })),
    ].filter((one) => one.answer !== "wait");
    if (changes.length === 0) return;
    await store.transaction(async (journal) => {
      for (const { litter: _, ...data } of changes) {
        await journal.events.append({
          kind: "host.differs",
          atMs: clock.nowMs(),
          machineId: data.machineId,
          data,
        });
      }
    });
  }

  /** What failed moves left for their retry has a day; nobody has to say that it may go. */
  #expire(held: readonly HostHolds[], { busy }: KnownObjects): void {
    const { clock, log } = this.#options;
    for (const { hostId, partial = [] } of held) {
      const litter = expiredLayers(partial, { nowMs: clock.nowMs(), busy });
      if (litter.length === 0) continue;
      this.#remove(hostId, litter, "blocks kept for a retry that did not come").catch(
        (error: unknown) => {
          log.warn({ host: hostId, fault: toFaultData(error) }, "kept blocks were not removed");
        },
      );
    }
  }

  #repairNetworks(found: readonly Difference[]): void {
    const differs = new Set(
      found.filter((one) => one.class === "network").map((one) => one.hostId),
    );
    for (const hostId of this.#networkSweeps.keys()) {
      if (!differs.has(hostId)) this.#networkSweeps.delete(hostId);
    }
    let due = false;
    for (const hostId of differs) {
      const sweeps = (this.#networkSweeps.get(hostId) ?? 0) + 1;
      this.#networkSweeps.set(hostId, sweeps);
      due ||= sweeps >= repairAfterSweeps;
    }
    if (due) this.#options.repair();
  }

  /** The built-in grant `repair`: only litter, and each item is proven again by its step. */
  async #remove(hostId: HostId, litter: readonly LitterItem[], reason: string): Promise<Operation> {
    const { store, operations, clock, ids } = this.#options;
    const nowMs = clock.nowMs();
    const cost = { durationMs: 200 * litter.length, bytes: 0, downtimeMs: 0 };
    const actions: readonly PlanAction[] = [{ kind: "sweep_host", hostId, litter, cost }];
    const id = ids.next();
    const request: Request = {
      id,
      kind: "repair",
      environmentId: "",
      subject: shepherdSubject,
      machines: [],
      links: [],
      reason: reason.slice(0, 200),
      idempotencyKey: `sweep:${id}`,
      receivedAtMs: nowMs,
    };
    const plan: Plan = {
      id: ids.next(),
      digest: digestOf({ requestId: id, environmentId: "", actions }),
      requestId: id,
      environmentId: "",
      actions,
      cost,
      explanation: { chosen: [], runnersUp: [], refusedBy: {} },
      createdAtMs: nowMs,
    };
    const grant: Grant = {
      id: ids.next(),
      kind: "repair",
      planId: plan.id,
      planDigest: plan.digest,
      expiresAtMs: nowMs + grantMs,
    };
    const operation = await store.transaction(async (journal) => {
      const append = (
        kind: "request.received" | "plan.made" | "grant.issued",
        data: Readonly<Record<string, unknown>>,
      ) => journal.events.append({ kind, atMs: nowMs, data: { requestId: id, ...data } });
      await journal.requests.add(request);
      await append("request.received", { kind: request.kind, subject: request.subject });
      await journal.plans.add(plan);
      await append("plan.made", { planId: plan.id, digest: plan.digest });
      await journal.grants.add(grant);
      await append("grant.issued", { grantId: grant.id, planId: plan.id, digest: plan.digest });
      return operations.admit(journal, { grant, plan, request, kind: "repair" });
    });
    operations.kick();
    return operations.wait(operation.id, operationMs);
  }

  #schedule(): void {
    const { clock, log } = this.#options;
    this.#cancelTimer = clock.at(clock.nowMs() + sweepEveryMs, () => {
      this.sweep()
        .catch((error: unknown) => log.error({ err: error }, "hosts were not swept; trying again"))
        .finally(() => {
          if (!this.#stopped) this.#schedule();
        });
    });
  }
}

async function knownObjects(journal: Journal, held: readonly HostHolds[]): Promise<KnownObjects> {
  const machines = await journal.objects.list("machine");
  const open = await journal.operations.list({
    states: ["pending", "running", "undoing", "stuck"],
  });
  const images = await journal.objects.list("image");
  const volumes = await journal.objects.list("volume");
  const busy = new Set(open.flatMap(({ machineIds }) => machineIds));
  const runsAt = new Map<MachineId, HostId[]>();
  for (const { hostId, domains } of held) {
    for (const { id, state, ours } of domains) {
      if (ours === undefined || state !== "running") continue;
      runsAt.set(id, [...(runsAt.get(id) ?? []), hostId]);
    }
  }
  return {
    machines: new Map(
      machines.map(({ id, key, effective: { hostId, state } }) => [id, { key, hostId, state }]),
    ),
    busy,
    claimedVolumes: new Set(
      images.flatMap((image) => imageParts(image).map((part) => part.volume)),
    ),
    dataVolumes: new Map(
      volumes.map(({ id, effective: { hostId } }) => {
        const name = dataVolume(id);
        const at = held.find((host) => host.hostId === hostId);
        const isThere = at?.volumes.some((one) => one.name === name) === true;
        const isBusy = machines.some((one) => busy.has(one.id) && hasVolume(one, id));
        return [name, { id, hostId, isThere, isBusy }];
      }),
    ),
    runsAt,
  };
}
