/**
 * What happened lately, as policy and planner need it: requests of the last hour by subject, the smallest sizes a machine
 * had within it, and how fast moves went. The journal is the truth; this keeps what was read, so that a decision does not read an hour again.
 */
import type { RecentMove, RecentRequest } from "#model/facts";
import type { Sizing } from "#model/objects";
import type { Plan } from "#model/plan";
import type { Decision, Request } from "#model/request";
import type { Bytes, EnvironmentId, MachineId, Mbps, Ms, PlanId } from "#model/units";
import { measured, siteRateKey } from "#planner/cost";
import { sizingOf } from "#planner/target";
import { MoveSamples } from "#policy/move-samples";
import { Moves } from "#policy/moves";
import type { Journal } from "#ports/store";

export const hourMs: Ms = 3_600_000;
/**
 * Rows kept of one subject. A rule can count to this and no further; a guest that floods within its rate limit must not
 * make every decision of its environment slow (18,000 rows an hour would).
 */
const maxRowsOfSubject = 128;
/** Operations of an environment looked back at for the hour's lows; older ones than these cannot be many within an hour. */
const maxOperations = 256;
/** Plans kept in memory; a plan never changes. */
const maxPlans = 512;

/** Rates change slowly, and reading them costs a list of operations. */
const ratesEveryMs: Ms = 10_000;
/** Moves of a pair of sites that count; older links may have been others. */
const ratesOfPair = 5;
/** A move of less tells how fast connections are made, not how fast bytes go. */
const leastBytes = 8 * 2 ** 20;

export class History {
  readonly #rows = new Map<string, RecentRequest[]>();
  readonly #plans = new Map<PlanId, Plan>();
  readonly #moves = new Moves();
  readonly #samples = new MoveSamples();
  #rates: Readonly<Record<string, Mbps>> = {};
  #ratesAtMs: Ms = Number.NEGATIVE_INFINITY;

  /** Reads the last hour of requests once, at start. */
  async load(journal: Journal, nowMs: Ms): Promise<void> {
    for (const request of await journal.requests.since(nowMs - hourMs)) {
      const decision = (await journal.decisions.ofRequest(request.id)).at(-1);
      if (decision !== undefined) this.add(request, decision.effect);
    }
  }

  add(request: Request, effect: Decision["effect"]): void {
    const key = `${request.environmentId} ${request.subject.type} ${request.subject.name}`;
    const rows = this.#rows.get(key) ?? [];
    rows.push({
      id: request.id,
      environmentId: request.environmentId,
      atMs: request.receivedAtMs,
      subject: request.subject.name,
      kind: request.kind,
      effect,
      machineIds: request.machines.map(({ machineId }) => machineId),
    });
    if (rows.length > maxRowsOfSubject) rows.shift();
    this.#rows.set(key, rows);
  }

  /** Oldest first. Forgets what is older than an hour. */
  recent(environmentId: EnvironmentId, nowMs: Ms): readonly RecentRequest[] {
    const found: RecentRequest[] = [];
    for (const [key, rows] of this.#rows) {
      const kept = rows.filter((row) => row.atMs > nowMs - hourMs);
      if (kept.length === 0) this.#rows.delete(key);
      else this.#rows.set(key, kept);
      found.push(...kept.filter((row) => row.environmentId === environmentId));
    }
    return found.toSorted((left, right) => left.atMs - right.atMs);
  }

  /**
   * The smallest sizes of each machine of the environment within the hour: what it has, and what every operation of the
   * hour found and left. A machine without an operation is absent: its low is what it has.
   */
  async hourLow(
    journal: Journal,
    environmentId: EnvironmentId,
    nowMs: Ms,
  ): Promise<Readonly<Record<MachineId, Sizing>>> {
    const lows = new Map<MachineId, Sizing>();
    for (const { id, effective } of await journal.objects.list("machine", { environmentId })) {
      lows.set(id, sizingOf(effective));
    }
    const operations = await journal.operations.list({ environmentId, limit: maxOperations });
    for (const operation of operations) {
      if (operation.endedAtMs !== undefined && operation.endedAtMs <= nowMs - hourMs) continue;
      const plan = await this.#planOf(journal, operation.planId);
      if (plan !== undefined) lowerBy(plan, lows);
    }
    return Object.fromEntries(lows);
  }

  /** Moves of the last 24 hours in the whole fleet, oldest first. */
  moves(journal: Journal, nowMs: Ms): Promise<readonly RecentMove[]> {
    return this.#moves.recent(journal, nowMs);
  }

  /** What moves lately took, newest first: what predictions learn from. */
  moveSamples(journal: Journal, nowMs: Ms): ReturnType<MoveSamples["recent"]> {
    return this.#samples.recent(journal, nowMs);
  }

  /** What moves lately really reached between two sites, over the whole fleet; the median of the newest ones of each pair. */
  async siteRates(journal: Journal, nowMs: Ms): Promise<Readonly<Record<string, Mbps>>> {
    if (nowMs - this.#ratesAtMs < ratesEveryMs) return this.#rates;
    this.#ratesAtMs = nowMs;
    const ended = await journal.operations.list({
      states: ["succeeded", "partial"],
      limit: maxOperations,
    });
    const found = new Map<string, Mbps[]>();
    for (const operation of ended.toReversed()) {
      if (operation.measured === undefined) continue;
      const plan = await this.#planOf(journal, operation.planId);
      const moves = plan?.actions.filter((action) => action.kind === "move_machine") ?? [];
      const [move] = moves;
      if (move === undefined || moves.length > 1 || move.cost.bytes < leastBytes) continue;
      const key = siteRateKey(move.fromSiteId, move.toSiteId);
      const rates = found.get(key) ?? [];
      if (rates.length < ratesOfPair)
        found.set(key, [...rates, rateOf(move.cost.bytes, operation.measured.durationMs)]);
    }
    this.#rates = Object.fromEntries(
      [...found].map(([key, rates]) => [key, medianOf(rates)] as const),
    );
    return this.#rates;
  }

  async #planOf(journal: Journal, id: PlanId): Promise<Plan | undefined> {
    const known = this.#plans.get(id);
    if (known !== undefined) return known;
    const plan = await journal.plans.get(id);
    if (plan === undefined) return undefined;
    this.#plans.set(id, plan);
    const [oldest] = this.#plans.keys();
    if (this.#plans.size > maxPlans && oldest !== undefined) this.#plans.delete(oldest);
    return plan;
  }
}

/**
 * Predicted bytes over measured time: what the next prediction must assume to be right, whatever the hypervisor skips or
 * sends twice. Without the time that a move takes with nothing to copy; never faster than in half of what it took.
 */
function rateOf(predictedBytes: Bytes, durationMs: Ms): Mbps {
  const fixedMs = measured.moveSetupMs + measured.switchMs;
  const copyMs = Math.max(durationMs - fixedMs, durationMs / 2, 1);
  return Math.max(1, Math.round((predictedBytes * 8) / 1_000 / copyMs));
}

function medianOf(values: readonly number[]): number {
  const sorted = values.toSorted((left, right) => left - right);
  return sorted[Math.floor(sorted.length / 2)] ?? 0;
}

function lowerBy(plan: Plan, lows: Map<MachineId, Sizing>): void {
  const lower = (machineId: MachineId, sizes: Partial<Sizing>) => {
    const low = lows.get(machineId);
    if (low === undefined) return;
    lows.set(machineId, {
      vcpus: Math.min(low.vcpus, sizes.vcpus ?? low.vcpus),
      cpuPercent: Math.min(low.cpuPercent, sizes.cpuPercent ?? low.cpuPercent),
      memoryMib: Math.min(low.memoryMib, sizes.memoryMib ?? low.memoryMib),
    });
  };
  for (const action of plan.actions) {
    if (action.kind === "create_machine") lower(action.machineId, action.sizing);
    if (action.kind === "set_vcpus") {
      lower(action.machineId, { vcpus: Math.min(action.from, action.to) });
    }
    if (action.kind === "set_memory") {
      lower(action.machineId, { memoryMib: Math.min(action.fromMib, action.toMib) });
    }
    if (action.kind === "set_cpu_percent") {
      lower(action.machineId, { cpuPercent: Math.min(action.from, action.to) });
    }
  }
}
