/**
 * Decides where each machine of a request will be: stay where it fits, else the cheapest feasible move. Pure.
 * A machine that leaves frees nothing for the same plan: its source still holds it until the plan has ended, and the
 * policy rule for headroom counts the same way.
 */
import type { Facts, HostFacts } from "#model/facts";
import type { MachineRecord } from "#model/objects";
import type { Cost, RunnerUp } from "#model/plan";
import type { Limits } from "#model/request";
import type { HostId, MachineId, SiteId } from "#model/units";
import { isCrowded, isKeptTogether, isScattered } from "#planner/company";
import { noCost, siteRateKey } from "#planner/cost";
import { type PredictedMove, predictMove } from "#planner/prediction";
import {
  type Amounts,
  add,
  type Dimension,
  dimensions,
  diskBytesOf,
  type HostRoom,
  larger,
  nothing,
  roomOf,
  subtract,
  sum,
} from "#planner/room";
import { type Candidate, scoreOf } from "#planner/score";
import { compareText, type Target, travelling } from "#planner/target";

/** Why a host was not taken; the words of `refusedBy`. */
export type RefusalReason =
  | "not_asked_for"
  | "volume_elsewhere"
  | "degraded"
  | "draining"
  | "site_not_allowed"
  | "owner_denied"
  | "policy_avoids"
  | "lacks_cpu"
  | "lacks_memory"
  | "lacks_disk"
  | "downtime_above_limit";

export interface PlacementOptions {
  readonly limits: Limits;
  /** Sites whose owner denied this request already. */
  readonly deniedSites: ReadonlySet<SiteId>;
}
export interface Placed {
  readonly target: Target;
  readonly host: HostFacts;
  /** Undefined: it stays, or is new. */
  readonly move: Predicted | undefined;
}
type Predicted = Pick<PredictedMove, "cost"> & Partial<PredictedMove>;
export type Assignment =
  | {
      readonly kind: "assigned";
      readonly placed: readonly Placed[];
      readonly chosen: readonly RunnerUp[];
      readonly runnersUp: readonly RunnerUp[];
      readonly refusedBy: Readonly<Record<string, number>>;
    }
  | {
      readonly kind: "nowhere";
      readonly target: Target;
      readonly refusedBy: Readonly<Record<string, number>>;
    };

/** Runners-up that a plan shows; more tell nobody anything. */
const maxRunnersUp = 3;

const reasonOf: Record<Dimension, RefusalReason> = {
  cpuPercent: "lacks_cpu",
  memoryMib: "lacks_memory",
  diskBytes: "lacks_disk",
};

interface Option {
  readonly target: Target;
  readonly room: HostRoom;
  readonly predicted: Predicted;
  readonly score: number;
}

/** All or nothing: every target gets a host, or the one that does not is named. */
export function assign(
  targets: readonly Target[],
  facts: Facts,
  options: PlacementOptions,
): Assignment {
  // Where the first of several that stay together fits best the others may not fit at all: then it goes elsewhere.
  const left = new Set<HostId>();
  let refusal: Assignment | undefined;
  for (;;) {
    const search = new Search(targets, facts, options, left);
    const found = searched(search, targets);
    const led = search.ledTo;
    if (found.kind === "assigned") return found;
    refusal ??= found;
    if (led === undefined) return refusal;
    left.add(led);
  }
}

function searched(search: Search, targets: readonly Target[]): Assignment {
  for (const target of targets) {
    if (search.mustBePlaced(target) && !search.settle([target], target)) {
      return search.refusal(target);
    }
  }
  // Each round moves one machine off a host that is short of room, so there are at most as many as machines.
  for (let round = 0; round <= targets.length; round++) {
    const short = search.shortHost();
    if (short === undefined) return search.result();
    const movable = search.stayingAt(short);
    const blamed = movable.find((target) => search.grows(target)) ?? movable[0];
    if (blamed === undefined) break;
    if (!search.settle(movable, blamed)) return search.refusal(blamed);
  }
  const last = targets.find((target) => search.grows(target)) ?? targets[0];
  if (last === undefined) return search.result();
  return search.refusal(last);
}

class Search {
  readonly #targets: readonly Target[];
  readonly #facts: Facts;
  readonly #options: PlacementOptions;
  /** Hosts that none of those that stay together goes to. */
  readonly #left: ReadonlySet<HostId>;
  readonly #settled = new Set<MachineId>();
  /** Where the first of those that stay together was put; undefined: none was. */
  #ledTo: HostId | undefined;
  readonly #rooms: ReadonlyMap<HostId, HostRoom>;
  readonly #hostOf = new Map<MachineId, HostId>();
  readonly #moves = new Map<MachineId, Predicted>();
  readonly #chosen: RunnerUp[] = [];
  #runnersUp: RunnerUp[] = [];
  #refusals = new Map<HostId, RefusalReason>();

  constructor(
    targets: readonly Target[],
    facts: Facts,
    options: PlacementOptions,
    left: ReadonlySet<HostId>,
  ) {
    this.#targets = targets;
    this.#facts = facts;
    this.#options = options;
    this.#left = left;
    this.#rooms = roomOf(facts);
    for (const { machine } of targets) {
      if (machine.effective.hostId !== "") this.#hostOf.set(machine.id, machine.effective.hostId);
    }
  }

  get ledTo(): HostId | undefined {
    return this.#ledTo;
  }

  mustBePlaced({ machine, siteId, hostId, leaves }: Target): boolean {
    if (machine.effective.hostId === "" || leaves === true) return true;
    if (hostId !== undefined && hostId !== machine.effective.hostId) return true;
    return siteId !== undefined && siteId !== this.#siteOf(machine.effective.hostId);
  }

  grows(target: Target): boolean {
    const growth = this.#growthOf(target);
    return dimensions.some((dimension) => growth[dimension] > 0);
  }

  stayingAt(hostId: HostId): readonly Target[] {
    return this.#targets.filter(
      ({ machine }) =>
        machine.effective.hostId === hostId && this.#hostOf.get(machine.id) === hostId,
    );
  }

  /** The first host, by id, that could not hold what it would have to hold. */
  shortHost(): HostId | undefined {
    return [...new Set(this.#hostOf.values())]
      .toSorted(compareText)
      .find((hostId) => this.#shortage(hostId).length > 0);
  }

  /** Takes the best of all places of all these machines; false when there is none. */
  settle(movable: readonly Target[], blamed: Target): boolean {
    const found = movable
      .flatMap((target) => this.#optionsFor(target, target === blamed))
      .toSorted(
        (left, right) =>
          left.score - right.score ||
          compareText(left.target.machine.key, right.target.machine.key) ||
          compareText(left.room.host.id, right.room.host.id),
      );
    const [best, ...others] = found;
    if (best === undefined) return false;
    const { machine } = best.target;
    this.#hostOf.set(machine.id, best.room.host.id);
    this.#settled.add(machine.id);
    if (isKeptTogether(machine, this.#options.limits)) this.#ledTo ??= best.room.host.id;
    if (machine.effective.hostId !== "") this.#moves.set(machine.id, best.predicted);
    this.#chosen.push({ hostId: best.room.host.id, score: best.score });
    this.#runnersUp = others
      .slice(0, maxRunnersUp)
      .map(({ room, score }) => ({ hostId: room.host.id, score }));
    return true;
  }

  result(): Assignment {
    const placed = this.#targets.map((target) => {
      const hostId = this.#hostOf.get(target.machine.id) ?? "";
      const host = this.#rooms.get(hostId)?.host;
      if (host === undefined) throw new Error(`no facts of host ${hostId}`);
      return { target, host, move: this.#moves.get(target.machine.id) };
    });
    const stays = placed.filter(({ target }) => !this.#moved(target));
    return {
      kind: "assigned",
      placed,
      chosen: [...this.#chosen, ...stays.map(({ host }) => ({ hostId: host.id, score: 0 }))],
      runnersUp: this.#runnersUp,
      refusedBy: this.#countedRefusals(),
    };
  }

  refusal(target: Target): Assignment {
    const hostId = this.#hostOf.get(target.machine.id);
    if (hostId !== undefined && !this.#refusals.has(hostId)) {
      const [first] = this.#shortage(hostId);
      if (first !== undefined) this.#refusals.set(hostId, reasonOf[first]);
    }
    return { kind: "nowhere", target, refusedBy: this.#countedRefusals() };
  }

  #countedRefusals(): Record<string, number> {
    const counted: Record<string, number> = {};
    for (const reason of [...this.#refusals.values()].toSorted(compareText)) {
      counted[reason] = (counted[reason] ?? 0) + 1;
    }
    return counted;
  }

  #moved(target: Target): boolean {
    return this.#hostOf.get(target.machine.id) !== target.machine.effective.hostId;
  }

  #siteOf(hostId: HostId): SiteId | undefined {
    return this.#rooms.get(hostId)?.host.siteId;
  }

  #optionsFor(target: Target, record: boolean): readonly Option[] {
    const options: Option[] = [];
    for (const room of this.#rooms.values()) {
      if (room.host.id === this.#hostOf.get(target.machine.id)) continue;
      const predicted = this.#costTo(target, room.host);
      const { cost } = predicted;
      const reason = this.#refuses(target, room, cost);
      if (reason === undefined) {
        options.push({ target, room, predicted, score: this.#scoreAt(target, room, cost) });
      } else if (record) {
        this.#refusals.set(room.host.id, reason);
      }
    }
    return options;
  }

  #refuses(target: Target, room: HostRoom, cost: Cost): RefusalReason | undefined {
    const { host } = room;
    if (target.hostId !== undefined && target.hostId !== host.id) return "not_asked_for";
    if (!this.#allowedSites(target).has(host.siteId)) return "site_not_allowed";
    if (this.#options.deniedSites.has(host.siteId)) return "owner_denied";
    if (this.#isAvoided(target, host) || this.#isBadCompany(target, host)) return "policy_avoids";
    if (host.state !== "up") return "degraded";
    if (host.mark === "draining") return "draining";
    if (!this.#hasItsDisks(target, host)) return "volume_elsewhere";
    const short = this.#shortage(host.id, target);
    if (short[0] !== undefined) return reasonOf[short[0]];
    const { maxDowntimeMs } = this.#options.limits;
    if (maxDowntimeMs !== undefined && cost.downtimeMs > maxDowntimeMs)
      return "downtime_above_limit";
    return undefined;
  }

  /** Places that policy has ruled out for this machine before planning; where it is, it may stay. */
  #isAvoided({ machine }: Target, host: HostFacts): boolean {
    return (this.#options.limits.avoid ?? []).some(
      (place) =>
        place.machine === machine.spec.name &&
        (place.siteId ?? host.siteId) === host.siteId &&
        (place.hostId ?? host.id) === host.id,
    );
  }

  /** Places that the others named with it rule out; those that are still to be placed will follow. */
  #isBadCompany({ machine }: Target, host: HostFacts): boolean {
    const { limits } = this.#options;
    const arrival = {
      machine,
      host,
      facts: this.#facts,
      limits,
      hostOf: (other: MachineRecord) =>
        this.#isAwaited(other) ? undefined : (this.#hostOf.get(other.id) ?? other.effective.hostId),
      siteOf: (hostId: HostId) => this.#siteOf(hostId),
    };
    if (isKeptTogether(machine, limits) && this.#left.has(host.id)) return true;
    return isCrowded(arrival) || isScattered(arrival);
  }

  #isAwaited({ id }: MachineRecord): boolean {
    const target = this.#targets.find(({ machine }) => machine.id === id);
    return target !== undefined && this.mustBePlaced(target) && !this.#settled.has(id);
  }

  /**
   * Data volumes that it runs with go along, to the sites where they may lie; those that it is to be started with lie
   * where they lie, and so do the disks that another tool made.
   */
  #hasItsDisks({ machine, disks }: Target, host: HostFacts): boolean {
    const { hostId } = machine.effective;
    const { importedFrom, origin } = machine.spec;
    if (importedFrom !== undefined && importedFrom !== host.id) return false;
    const isMove = hostId !== "" && hostId !== host.id;
    if (isMove && origin === "import") return false;
    const going = new Set(isMove ? travelling(machine) : []);
    return [...new Set([...going, ...disks])].every((id) => {
      const volume = this.#facts.volumes.find((candidate) => candidate.id === id);
      if (volume === undefined) return false;
      const { spec, effective } = volume;
      const isAtSite = spec.siteId === undefined || spec.siteId === host.siteId;
      const isThere = effective.hostId === "" || effective.hostId === host.id;
      return isAtSite && (going.has(id) || isThere);
    });
  }

  /** Where it may be put: the site asked for, else its own site and those of its envelope. */
  #allowedSites({ machine, siteId }: Target): ReadonlySet<SiteId> {
    if (siteId !== undefined) return new Set([siteId]);
    const environment = this.#facts.environments.find(
      (candidate) => candidate.id === machine.environmentId,
    );
    const lent = new Set(environment?.spec.sites ?? []);
    const wide = machine.spec.envelope.sites ?? [machine.spec.baseline.siteId];
    return new Set([...wide.filter((site) => lent.has(site)), machine.effective.siteId]);
  }

  /** Dimensions in which the host could not hold what is decided so far, with one more arrival if given. */
  #shortage(hostId: HostId, arriving?: Target): readonly Dimension[] {
    const room = this.#rooms.get(hostId);
    if (room === undefined) return ["memoryMib"];
    const demand = this.#demandAt(hostId, arriving);
    return dimensions.filter(
      (dimension) => demand[dimension] > 0 && demand[dimension] > room.free[dimension],
    );
  }

  /** New demand at the host: growth of those who stay, whole sizes of those who come. */
  #demandAt(hostId: HostId, arriving?: Target): Amounts {
    const staying = this.stayingAt(hostId).filter((target) => target !== arriving);
    return add(
      sum(staying.map((target) => this.#growthOf(target))),
      sum(this.#arrivalsAt(hostId, arriving).map((target) => this.#sizeOf(target))),
    );
  }

  #arrivalsAt(hostId: HostId, arriving?: Target): readonly Target[] {
    return this.#targets.filter(
      (target) =>
        target === arriving ||
        (target.machine.effective.hostId !== hostId &&
          this.#hostOf.get(target.machine.id) === hostId),
    );
  }

  /** What it counts with now, at its host. */
  #takenBy({ machine }: Target): Amounts {
    return this.#rooms.get(machine.effective.hostId)?.takenBy.get(machine.id) ?? nothing;
  }

  /** The most it takes from now to the end of the plan; shrinking frees nothing within it. */
  #sizeOf(target: Target): Amounts {
    // It runs there already and is counted as a foreign one.
    const { spec, effective } = target.machine;
    if (spec.importedFrom !== undefined && effective.hostId === "") return nothing;
    return larger(this.#takenBy(target), {
      cpuPercent: target.wanted.cpuPercent,
      memoryMib: target.wanted.memoryMib,
      diskBytes: diskBytesOf(this.#facts, target.machine),
    });
  }

  #growthOf(target: Target): Amounts {
    return subtract(this.#sizeOf(target), this.#takenBy(target));
  }

  #costTo(target: Target, host: HostFacts): Predicted {
    const { machine } = target;
    if (machine.effective.hostId === "") return { cost: noCost };
    const { limits } = this.#options;
    const from = this.#siteOf(machine.effective.hostId) ?? machine.effective.siteId;
    return predictMove({
      machineId: machine.id,
      fromSiteId: from,
      toSiteId: host.siteId,
      memoryMib: target.live.memoryMib,
      load: this.#facts.loads[machine.id],
      siteRateMbps: this.#facts.siteRates[siteRateKey(from, host.siteId)],
      maxMbps: limits.maxMbps,
      maxDowntimeMs: limits.maxDowntimeMs,
      samples: this.#facts.moveSamples ?? [],
    });
  }

  #scoreAt(target: Target, room: HostRoom, cost: Cost): number {
    const { machine } = target;
    const isMove = machine.effective.hostId !== "";
    const candidate: Candidate = {
      cost,
      crossesSites: isMove && room.host.siteId !== this.#siteOf(machine.effective.hostId),
      leavesBaselineSite: room.host.siteId !== machine.spec.baseline.siteId,
      fullness: this.#fullnessAt(target, room),
      partedRate: this.#partedRate(target, room.host.siteId),
      shortageLeft: isMove ? this.#shortageLeft(target) : 0,
    };
    return scoreOf(candidate);
  }

  #fullnessAt(target: Target, room: HostRoom): number {
    const taken = add(sum(room.takenBy.values()), this.#demandAt(room.host.id, target));
    return Math.max(
      taken.cpuPercent / Math.max(1, room.capacity.cpuPercent),
      taken.memoryMib / Math.max(1, room.capacity.memoryMib),
    );
  }

  /** Share of its promised rates whose other end would be at another site. */
  #partedRate({ machine }: Target, siteId: SiteId): number {
    let total = 0;
    let parted = 0;
    for (const { environmentId, spec, effective } of this.#facts.links) {
      if (environmentId !== machine.environmentId) continue;
      const peerName = spec.machines.find((name) => name !== machine.spec.name);
      if (!spec.machines.includes(machine.spec.name) || peerName === undefined) continue;
      total += effective.rateMbps;
      if (this.#siteOfPeer(machine.environmentId, peerName) !== siteId) {
        parted += effective.rateMbps;
      }
    }
    return total === 0 ? 0 : parted / total;
  }

  #siteOfPeer(environmentId: string | undefined, name: string): SiteId | undefined {
    const peer = this.#facts.machines.find(
      (machine) => machine.environmentId === environmentId && machine.spec.name === name,
    );
    if (peer === undefined) return undefined;
    const hostId = this.#hostOf.get(peer.id);
    if (hostId !== undefined) return this.#siteOf(hostId);
    return peer.effective.hostId === "" ? peer.spec.baseline.siteId : peer.effective.siteId;
  }

  /** Share of the worst shortage at its host that would remain if it left. */
  #shortageLeft(target: Target): number {
    const hostId = target.machine.effective.hostId;
    const room = this.#rooms.get(hostId);
    if (room === undefined) return 0;
    const before = subtract(this.#demandAt(hostId), room.free);
    const gone = this.#growthOf(target);
    return Math.max(
      0,
      ...dimensions.map((dimension) => {
        const short = before[dimension];
        return short <= 0 ? 0 : Math.max(0, short - gone[dimension]) / short;
      }),
    );
  }
}
