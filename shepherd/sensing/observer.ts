/**
 * Asks every host, again and again, what is there, and keeps the last answer with its time. One loop a host: a host that
 * hangs delays nobody. A host that does not answer within the budget is degraded until it answers again; what it said
 * last stays known, with its age. Knows hosts through ports only; concludes nothing about machines it cannot see.
 */
import type { Logger } from "pino";
import type { HostFacts, MachineLoad, ObservedMachine, SiteFacts } from "#model/facts";
import { toFaultData } from "#model/fault";
import type { MachineRecord } from "#model/objects";
import { isSameData } from "#model/same-data";
import type { HostRecord, Site } from "#model/site";
import type { HostId, MachineId, Ms, SiteId } from "#model/units";
import { hasSettled } from "#planner/target";
import type { Clock } from "#ports/clock";
import type { Host, HostObservation, Hosts, ObservedDomain, VolumeInfo } from "#ports/host";
import type { Store } from "#ports/store";

/** Between two looks: foreign changes show in a plan within this; a look costs a host about 5 ms (reference libvirt.md 4). */
const pollMs: Ms = 2_000;
/** Longest wait for one answer of a host; libvirt's own keepalive gives up after 30 s, which is too long for a decision. */
const budgetMs: Ms = 5_000;
/** When the configuration names no other bound: far above a look's budget, so that only real silence reaches it. */
const defaultMaxAgeMs: Ms = 120_000;
/** Disk layers grow slowly, and listing a pool refreshes it. */
const volumesEveryMs: Ms = 30_000;
/** Events come in bursts (a start is four of them): look once, shortly after the first. */
const settleMs: Ms = 150;
/** Memory that has been where it should be for this long has arrived; a booting guest's balloon comes and goes at first. */
const arrivedAfterMs: Ms = 10_000;
/** Calls of one host that may hang at the same time; beyond it the host is not asked until one ends or is given up. */
const maxHanging = 2;
/** A daemon whose workers hang still answers keepalives: without this a host that recovers would never be asked again. */
const givenUpAfterMs: Ms = 60_000;

/** What another tool made, as its host last said. */
export interface ForeignDomain {
  readonly hostId: HostId;
  readonly siteId: SiteId;
  readonly domain: ObservedDomain;
}

export interface Observer {
  /** Domains that are not ours, of all hosts that answered. */
  foreign(): readonly ForeignDomain[];
  start(): void;
  stop(): void;
  /** A host that is new: watched from now on. */
  add(record: HostRecord): void;
  /** The same host with other words of its owner. */
  change(record: HostRecord): void;
  /** Forgotten, with what it said. */
  remove(hostId: HostId): void;
  /** Looks at these hosts now, all when none is named; resolves when each has answered or used up its budget. Never rejects. */
  refresh(hostIds?: readonly HostId[]): Promise<void>;
  sites(): readonly SiteFacts[];
  /** What was said longer ago is no ground for a decision: a shepherd that was stopped and wakes up looks first. */
  readonly maxAgeMs: Ms;
  observedMachine(id: MachineId): ObservedMachine | undefined;
  observed(): Readonly<Record<MachineId, ObservedMachine>>;
  loads(): Readonly<Record<MachineId, MachineLoad>>;
  /** Whether the host itself answered at the last look, whatever people said of it. */
  answers(hostId: HostId): boolean;
  /** Called after a look that changed what is known of a host. */
  onChange(listener: (hostId: HostId) => void): () => void;
}

export interface ObserverOptions {
  readonly hosts: Hosts;
  readonly sites: readonly Site[];
  readonly clock: Clock;
  readonly store: Store;
  readonly log: Logger;
  /** See `Observer.maxAgeMs`; two minutes when not given. */
  readonly maxAgeMs?: Ms | undefined;
  /** How fast a machine writes its memory, where somebody measures it (dirty-rates.ts). */
  readonly dirtyRateOf?: ((id: MachineId) => number | undefined) | undefined;
  /** What people said about hosts; a dead one is degraded whatever it answers. */
  readonly markOf?: ((hostId: HostId) => HostFacts["mark"]) | undefined;
}

export function createObserver(options: ObserverOptions): Observer {
  const listeners = new Set<(hostId: HostId) => void>();
  const watches = new Map<HostId, HostWatch>();
  const add = (record: HostRecord) => {
    const changed = () => {
      for (const listener of listeners) listener(record.id);
    };
    const watch = new HostWatch(record, options, changed);
    watches.set(record.id, watch);
    return watch;
  };
  for (const site of options.sites) site.hosts.forEach(add);
  // Views ask machine by machine: the join over hosts is made once a look.
  let joined: { looks: number; machines: ReturnType<typeof bestOf> } | undefined;
  let started = false;
  const observed = () => {
    const all = [...watches.values()];
    const looks = all.reduce((total, watch) => total + watch.looks, 0);
    if (joined?.looks !== looks) {
      joined = { looks, machines: bestOf(all.flatMap((watch) => watch.machines())) };
    }
    return joined.machines;
  };
  return {
    start() {
      started = true;
      for (const watch of watches.values()) watch.start();
    },
    stop() {
      started = false;
      for (const watch of watches.values()) watch.stop();
    },
    add(record) {
      const watch = add(record);
      if (started) watch.start();
    },
    change: (record) => watches.get(record.id)?.become(record),
    remove(hostId) {
      watches.get(hostId)?.stop();
      watches.delete(hostId);
      joined = undefined;
    },
    async refresh(hostIds) {
      const asked = hostIds ?? [...watches.keys()];
      await Promise.all(asked.map(async (id) => await watches.get(id)?.refresh()));
    },
    sites: () =>
      options.sites.map((site) => ({
        id: site.id,
        owner: site.owner,
        ...(site.pathMbps === undefined ? {} : { pathMbps: site.pathMbps }),
        hosts: site.hosts.flatMap(({ id }) => watches.get(id)?.facts() ?? []),
      })),
    maxAgeMs: options.maxAgeMs ?? defaultMaxAgeMs,
    answers: (hostId) => watches.get(hostId)?.answers() ?? false,
    foreign: () => [...watches.values()].flatMap((watch) => watch.foreign()),
    observed,
    observedMachine: (id) => observed()[id],
    loads: () => Object.assign({}, ...[...watches.values()].map((watch) => watch.loads())),
    onChange(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}

interface Said {
  readonly observation: HostObservation;
  readonly domains: readonly ObservedDomain[];
}
type Seen = readonly (readonly [MachineId, ObservedMachine])[];

class HostWatch {
  /** Answers so far. */
  looks = 0;
  #record: HostRecord;
  readonly #options: ObserverOptions;
  readonly #changed: () => void;
  #host: Host | undefined;
  #state: HostFacts["state"] = "degraded";
  #said: Said | undefined;
  /** What it said of our machines, made once a look. */
  #seen: { readonly look: number; readonly machines: Seen } | undefined;
  #saidAtMs: Ms = 0;
  #volumes: readonly VolumeInfo[] = [];
  #volumesAtMs: Ms = Number.NEGATIVE_INFINITY;
  #looking: Promise<void> | undefined;
  #again: Promise<void> | undefined;
  readonly #thereSinceMs = new Map<MachineId, Ms>();
  /** The journal's machines of this host when it was last asked, and those of them whose memory is on its way. */
  #listed: readonly MachineRecord[] | undefined;
  #settling: readonly MachineRecord[] = [];
  #hanging = 0;
  #everJudged = false;
  #stopped = true;
  #cancelTimer: () => void = () => undefined;
  #cancelEarly: (() => void) | undefined;
  #unwatch: () => void = () => undefined;

  constructor(record: HostRecord, options: ObserverOptions, changed: () => void) {
    this.#record = record;
    this.#options = options;
    this.#changed = changed;
  }

  /** What it lends may change while it is watched; never which host it is. */
  become(record: HostRecord): void {
    this.#record = record;
    this.#changed();
  }

  start(): void {
    if (!this.#stopped) return;
    this.#stopped = false;
    this.#host = this.#options.hosts.get(this.#record.id);
    this.#unwatch = this.#host.watch({
      onEvent: () => this.#lookSoon(),
      onLost: () => this.#lookSoon(),
      onRestored: () => this.#lookSoon(),
    });
    void this.#tick();
  }

  stop(): void {
    this.#stopped = true;
    this.#cancelTimer();
    this.#cancelEarly?.();
    this.#unwatch();
  }

  /** A look that begins after this call: one already under way may have read before the change one wants to see. */
  refresh(): Promise<void> {
    if (this.#looking === undefined) return this.#begin();
    this.#again ??= this.#looking.then(() => {
      this.#again = undefined;
      return this.#begin();
    });
    return this.#again;
  }

  /** Domains here that nobody marked as ours. */
  foreign(): readonly ForeignDomain[] {
    const { id: hostId, siteId } = this.#record;
    return (this.#said?.domains ?? [])
      .filter(({ ours }) => ours === undefined)
      .map((domain) => ({ hostId, siteId, domain }));
  }

  answers(): boolean {
    return this.#state === "up";
  }

  #isStale(): boolean {
    const { clock, maxAgeMs = defaultMaxAgeMs } = this.#options;
    return clock.nowMs() - this.#saidAtMs > maxAgeMs;
  }

  facts(): HostFacts {
    const mark = this.#options.markOf?.(this.#record.id);
    const foreign = (this.#said?.domains ?? []).filter(
      (domain) => domain.ours === undefined && holdsMemory(domain),
    );
    return {
      id: this.#record.id,
      siteId: this.#record.siteId,
      state: mark === "dead" || this.#isStale() ? "degraded" : this.#state,
      ...(mark === undefined ? {} : { mark }),
      lend: this.#record.lend,
      ...(this.#record.uplinkMbps === undefined ? {} : { uplinkMbps: this.#record.uplinkMbps }),
      ...(this.#said === undefined
        ? {}
        : {
            freeMemoryMib: this.#said.observation.freeMemoryMib,
            freeDiskBytes: this.#said.observation.poolFreeBytes,
          }),
      foreign: {
        count: foreign.length,
        cpuPercent: foreign.reduce(
          (total, domain) => total + (domain.cpuPercent ?? domain.vcpus * 100),
          0,
        ),
        memoryMib: foreign.reduce(
          (total, domain) => total + Math.max(domain.memoryMib, domain.memoryTargetMib),
          0,
        ),
      },
      observedAtMs: this.#saidAtMs,
    };
  }

  machines(): Seen {
    // What a dead host said last, or says again, is nobody's present.
    if (this.#options.markOf?.(this.#record.id) === "dead") return [];
    if (this.#seen?.look !== this.looks) this.#seen = { look: this.looks, machines: this.#see() };
    return this.#seen.machines;
  }

  #see(): Seen {
    return (this.#said?.domains ?? [])
      .filter((domain) => domain.ours !== undefined)
      .map((domain) => [
        domain.id,
        {
          hostId: this.#record.id,
          running: domain.state === "running",
          vcpus: domain.vcpus,
          cpuPercent: domain.cpuPercent,
          ...(domain.cpuWeight === undefined ? {} : { cpuWeight: domain.cpuWeight }),
          memoryMib: domain.memoryMib,
          memoryTargetMib: domain.memoryTargetMib,
          macs: domain.macs,
          ...(domain.guestVcpus === undefined ? {} : { guestVcpus: domain.guestVcpus }),
          observedAtMs: this.#saidAtMs,
        },
      ]);
  }

  /** What would travel: the disk layer, called `drover-<machine id>.qcow2`, and whatever else it writes to. */
  loads(): Record<MachineId, MachineLoad> {
    const { dirtyRateOf } = this.#options;
    const sizes = new Map(this.#volumes.map((one) => [one.name, one.allocatedBytes]));
    const written = new Map(this.#said?.domains.map(({ id, diskVolumes }) => [id, diskVolumes]));
    return Object.fromEntries(
      this.machines().flatMap(([id]) => {
        const own = `drover-${id}.qcow2`;
        if (!sizes.has(own)) return [];
        const disks = new Set([own, ...(written.get(id) ?? [])]);
        const diskAllocatedBytes = [...disks].reduce(
          (sum, name) => sum + (sizes.get(name) ?? 0),
          0,
        );
        const dirtyMibPerS = dirtyRateOf?.(id);
        const rate = dirtyMibPerS === undefined ? {} : { dirtyMibPerS };
        return [[id, { diskAllocatedBytes, ...rate }]];
      }),
    );
  }

  async #tick(): Promise<void> {
    const { clock, log } = this.#options;
    await this.refresh();
    // Not within a refresh: a pool may take long to read, and a decision waits for a refresh.
    if (this.#host !== undefined && this.#state === "up") await this.#lookAtVolumes(this.#host);
    try {
      await this.#settle();
    } catch (error) {
      log.error({ err: error }, "settled memory was not journaled; trying again");
    }
    if (this.#stopped) return;
    this.#cancelTimer = clock.at(clock.nowMs() + pollMs, () => void this.#tick());
  }

  #lookSoon(): void {
    if (this.#stopped || this.#cancelEarly !== undefined) return;
    const { clock } = this.#options;
    this.#cancelEarly = clock.at(clock.nowMs() + settleMs, () => {
      this.#cancelEarly = undefined;
      if (!this.#stopped) void this.refresh();
    });
  }

  #begin(): Promise<void> {
    this.#looking = this.#look().finally(() => {
      this.#looking = undefined;
    });
    return this.#looking;
  }

  async #look(): Promise<void> {
    if (this.#hanging >= maxHanging) return;
    try {
      const host = this.#host ?? this.#options.hosts.get(this.#record.id);
      this.#host = host;
      const [observation, domains] = await this.#withinBudget(
        Promise.all([host.observe(), host.listDomains()]),
      );
      const before = this.#said;
      this.#said = youngerOf(before, { observation, domains });
      this.looks += 1;
      this.#saidAtMs = this.#options.clock.nowMs();
      this.#turn("up", "");
      if (this.#said !== before) this.#changed();
    } catch (error) {
      this.#turn("degraded", toFaultData(error).message);
    }
  }

  async #lookAtVolumes(host: Host): Promise<void> {
    const nowMs = this.#options.clock.nowMs();
    if (nowMs - this.#volumesAtMs < volumesEveryMs) return;
    this.#volumesAtMs = nowMs;
    try {
      this.#volumes = await this.#withinBudget(host.volumes.list());
    } catch (error) {
      // The pool is only read for predictions; a host without it can still run what it runs.
      this.#options.log.warn({ host: this.#record.id, err: error }, "pool was not read");
    }
  }

  async #withinBudget<T>(work: Promise<T>): Promise<T> {
    const { clock } = this.#options;
    const budget = new AbortController();
    this.#hanging += 1;
    let counted = true;
    const settle = () => {
      if (counted) this.#hanging -= 1;
      counted = false;
      budget.abort();
      cancelGiveUp();
    };
    const cancelGiveUp = clock.at(clock.nowMs() + givenUpAfterMs, settle);
    work.then(settle, settle);
    const late = clock.sleep(budgetMs, budget.signal).then(
      () => {
        throw new Error(`no answer within ${budgetMs} ms`);
      },
      // Aborted: the answer came, `work` decides the race.
      () => work,
    );
    return await Promise.race([work, late]);
  }

  /** Memory that has arrived is settling no longer: from now on another value is somebody else's doing. */
  async #settle(): Promise<void> {
    const { store, clock } = this.#options;
    // A host that says nothing of its machines says nothing of since when.
    if (this.#stopped || this.machines().length === 0) return;
    const here = { hostId: this.#record.id };
    const listed = await store.read((journal) => journal.objects.list("machine", here));
    // The same list until one of them changes: it is not walked at every look.
    if (listed !== this.#listed) {
      this.#listed = listed;
      this.#settling = listed.filter(({ effective }) => effective.settlingFromMib !== undefined);
    }
    if (this.#settling.length === 0) {
      this.#thereSinceMs.clear();
      return;
    }
    const machines = new Map(this.machines());
    const nowMs = clock.nowMs();
    const isThere = (record: MachineRecord) => {
      const seen = machines.get(record.id);
      return (
        record.effective.settlingFromMib !== undefined &&
        record.effective.state === "running" &&
        seen !== undefined &&
        hasSettled(record, seen)
      );
    };
    const arrived = (record: MachineRecord) =>
      isThere(record) && nowMs - (this.#thereSinceMs.get(record.id) ?? nowMs) >= arrivedAfterMs;
    const waiting = this.#settling.filter(isThere);
    const stillThere = new Set(waiting.map(({ id }) => id));
    for (const id of this.#thereSinceMs.keys()) {
      if (!stillThere.has(id)) this.#thereSinceMs.delete(id);
    }
    for (const { id } of waiting) {
      if (!this.#thereSinceMs.has(id)) this.#thereSinceMs.set(id, nowMs);
    }
    if (this.#stopped || !waiting.some(arrived)) return;
    await store.transaction(async (journal) => {
      for (const record of (await journal.objects.list("machine", here)).filter(arrived)) {
        const { settlingFromMib: _, ...effective } = record.effective;
        await journal.objects.put({ ...record, effective, version: record.version + 1 });
        await journal.events.append({
          kind: "object.changed",
          atMs: nowMs,
          environmentId: record.environmentId,
          machineId: record.id,
          data: {
            kind: "machine",
            id: record.id,
            key: record.key,
            version: record.version + 1,
          },
        });
      }
    });
  }

  #turn(state: HostFacts["state"], problem: string): void {
    const isNews = this.#state !== state || !this.#everJudged;
    this.#everJudged = true;
    this.#state = state;
    if (!isNews) return;
    const { clock, log, store } = this.#options;
    log.info({ host: this.#record.id, state, problem }, "host state");
    this.#changed();
    store
      .transaction((journal) =>
        journal.events.append({
          kind: "host.state",
          atMs: clock.nowMs(),
          data: { host: this.#record.id, site: this.#record.siteId, state, problem },
        }),
      )
      .catch((error: unknown) => log.error({ err: error }, "host state was not journaled"));
  }
}

/** What is as it was stays the very same object: of a fleet that stands still, nothing new is kept. */
function youngerOf(before: Said | undefined, now: Said): Said {
  if (before === undefined) return now;
  const known = new Map(before.domains.map((domain) => [domain.id, domain]));
  const domains = now.domains.map((domain) => {
    const old = known.get(domain.id);
    return isSameData(old, domain) && old !== undefined ? old : domain;
  });
  const isSame =
    domains.length === before.domains.length &&
    domains.every((domain, n) => domain === before.domains[n]) &&
    isSameData(before.observation, now.observation);
  return isSame ? before : { observation: now.observation, domains };
}

function holdsMemory(domain: ObservedDomain): boolean {
  return domain.state !== "shut_off" && domain.state !== "crashed";
}

/** During a move two hosts show the machine: the one where it runs counts, else the younger answer. */
function bestOf(seen: Seen): Readonly<Record<MachineId, ObservedMachine>> {
  const best: Record<MachineId, ObservedMachine> = {};
  for (const [id, machine] of seen) {
    const other = best[id];
    const better =
      other === undefined ||
      (machine.running && !other.running) ||
      (machine.running === other.running && machine.observedAtMs > other.observedAtMs);
    if (better) best[id] = machine;
  }
  return best;
}
