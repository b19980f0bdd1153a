/**
 * Judges one request on the facts of the moment: what code refuses, what code grants (giving back, repair), what every
 * owner's policy says before and after planning. Journals nothing and starts nothing; gate.ts does, one at a time.
 */
import type { Facts } from "#model/facts";
import type { EnvironmentRecord } from "#model/objects";
import type { Operation, Plan } from "#model/plan";
import type { Consent, Decision, Grant, Request } from "#model/request";
import type { HostId, MachineId, Ms, SiteId } from "#model/units";
import { plan as planFor, sealPlan } from "#planner/plan";
import { hasSettled, memoryToleranceMib } from "#planner/target";
import { builtInFor } from "#policy/built-in";
import { combine, meet, type Verdict } from "#policy/combine";
import { explainDenial, failedFindings, seesAll } from "#policy/disclose";
import { gatherFacts, type Sensed } from "#policy/facts";
import type { History } from "#policy/history";
import { holdAgainst } from "#policy/hold";
import { destinationsOf, ownersOf, siteOwner, sitesOfPlan, sitesOfRequest } from "#policy/owners";
import { policyInput } from "#policy/policy-input";
import type { Clock, Ids } from "#ports/clock";
import type { PolicyAnswer, PolicyEngine, PolicyEntrypoint } from "#ports/policy-engine";
import type { Store } from "#ports/store";

export interface JudgeOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly sensed: Sensed & { refresh(hostIds?: readonly string[]): Promise<void> };
  /** By owner: `operator`, `site:north`, `owner:alice`; `owner:*` speaks for environments' owners without one of their own. */
  readonly engines: ReadonlyMap<string, PolicyEngine>;
}

/** A granted plan that was not started by then is void; it starts in the same transaction, so this is for crashes. */
const grantMs: Ms = 60_000;
/** Destinations tried before giving up when their owners say no. */
const maxDestinations = 4;
/** Longest look at hosts within a decision; they answer within a few ms or not soon. */
const lookMs: Ms = 1_000;
/** Rules of room and pace: never a reason to keep an owner from destroying what is theirs (DESIGN 2, rule 2). */
const neverBlocksDestroy = new Set([
  "environment_quota",
  "growth_factor",
  "request_rate",
  "host_headroom",
]);

/** A decision that stands, but is not journaled yet. */
export interface Judged {
  readonly facts: Facts;
  readonly decisions: readonly Decision[];
  readonly plan: Plan | undefined;
  readonly grant: Grant | undefined;
  /** The request as granted: its lease cut to what policy allows. */
  readonly granted: Request;
}

/** True when it was refused for room, and balloons are giving room back right now: asked again in a moment it may fit. */
export function roomIsOnItsWay({ decisions, facts }: Judged): boolean {
  if (decisions.at(-1)?.code !== "placement.no_host_fits") return false;
  return facts.machines.some((machine) => {
    const seen = facts.observed[machine.id];
    const granted = machine.effective.memoryMib;
    if (seen === undefined || !seen.running || hasSettled(machine, seen)) return false;
    return seen.memoryMib > granted && seen.memoryTargetMib <= granted + memoryToleranceMib;
  });
}

const none = { plan: undefined, grant: undefined };

/** Operations of a request's machines that are in one of these states. */
export async function operationsOn(
  store: Store,
  request: Request,
  states: readonly Operation["state"][],
): Promise<readonly Operation[]> {
  return await store.read(async (journal) => {
    const found: Operation[] = [];
    for (const { machineId } of request.machines) {
      found.push(...(await journal.operations.list({ states, machineId })));
    }
    return found;
  });
}
export const unfinished = ["pending", "running", "undoing"] as const;

export class Judge {
  readonly #options: JudgeOptions;
  readonly #history: History;

  constructor(options: JudgeOptions, history: History) {
    this.#options = options;
    this.#history = history;
  }

  async judge(request: Request): Promise<Judged> {
    // Drift is what these are about: look before deciding, not two seconds ago.
    if (request.kind === "update" || request.kind === "repair") {
      await this.#look(await this.#hostsOf(request));
    }
    const facts = await this.#facts(request);
    const environment = facts.environments.find(({ id }) => id === request.environmentId);
    const early = environment && (await this.#refusedEarly(request, facts));
    if (environment === undefined || early !== undefined) {
      const denied =
        early ??
        this.#denial(request, "request", "request.unknown_object", {
          message: "Its environment does not exist any more.",
        });
      return { facts, decisions: [denied], ...none, granted: request };
    }
    return await this.#judgeByPolicy(request, facts, environment);
  }

  /** When what it is about changes faster than it can be decided. */
  contended(request: Request, judged: Judged): Judged {
    const denied = this.#denial(request, "request", "limit.contended", {
      message: "What it is about kept changing while it was decided. Ask again.",
    });
    return { ...judged, ...none, decisions: [denied] };
  }

  async #facts(request: Request): Promise<Facts> {
    const { store, sensed, clock } = this.#options;
    return await store.read((journal) =>
      gatherFacts(journal, {
        sensed,
        history: this.#history,
        nowMs: clock.nowMs(),
        environmentId: request.environmentId,
      }),
    );
  }

  /** Looks at hosts again, but waits no longer than the queue can bear: a hanging host must not delay others' decisions. */
  async #look(hostIds: readonly HostId[]): Promise<void> {
    const { sensed, clock } = this.#options;
    const patience = new AbortController();
    const over = clock.sleep(lookMs, patience.signal).catch(() => undefined);
    await Promise.race([sensed.refresh(hostIds), over]).finally(() => patience.abort());
  }

  async #hostsOf(request: Request): Promise<readonly HostId[]> {
    const asked = new Set(request.machines.map(({ machineId }) => machineId));
    const machines = await this.#options.store.read((journal) =>
      journal.objects.list("machine", { environmentId: request.environmentId }),
    );
    const hostIds = machines
      .filter(({ id, effective }) => asked.has(id) && effective.hostId !== "")
      .map(({ effective }) => effective.hostId);
    return [...new Set(hostIds)];
  }

  /** What no policy can allow: objects that are gone, machines in the middle of something, an emergency stop. */
  async #refusedEarly(request: Request, facts: Facts): Promise<Decision | undefined> {
    const unknown = [
      ...request.machines
        .map(({ machineId }) => machineId)
        .filter((id) => !isOf(request, facts.machines, id)),
      ...request.links.map(({ linkId }) => linkId).filter((id) => !isOf(request, facts.links, id)),
    ];
    if (unknown.length > 0) {
      return this.#denial(request, "request", "request.unknown_object", {
        message: "A machine or link it names does not exist in this environment any more.",
      });
    }
    const [running] = await operationsOn(this.#options.store, request, unfinished);
    if (running !== undefined) {
      return this.#denial(request, "request", "operation.running", {
        message: `Operation ${running.id} (${running.kind}) still runs on a machine it names. Ask again when it ended.`,
      });
    }
    const [stuck] =
      request.kind === "destroy" ? [] : await operationsOn(this.#options.store, request, ["stuck"]);
    if (stuck !== undefined) {
      return this.#denial(request, "request", "operation.machine_stuck", {
        message: `Operation ${stuck.id} is stuck on a machine it names; an operator must look first.`,
      });
    }
    return this.#refusedByHold(request, facts);
  }

  /** Adaptation stops; giving back and what the stack declares go on (the stack is judged by the freeze rule). */
  #refusedByHold(request: Request, facts: Facts): Decision | undefined {
    if (!["resize", "rate", "move"].includes(request.kind)) return undefined;
    const hold = holdAgainst(request, sitesOfRequest(request, facts), facts);
    if (hold === undefined) return undefined;
    const drafted = planFor(request, facts);
    if (drafted.kind === "planned") {
      const sealed = this.#seal(drafted, request);
      if (builtInFor(request, sealed, facts) !== undefined) return undefined;
    }
    const until =
      hold.untilMs === undefined ? "it is lifted" : new Date(hold.untilMs).toISOString();
    return this.#denial(request, "request", "hold.active", {
      message: `hold: ${hold.reason} (until ${until})`,
    });
  }

  async #judgeByPolicy(
    request: Request,
    facts: Facts,
    environment: EnvironmentRecord,
  ): Promise<Judged> {
    const givenBack = this.#builtIn(request, facts);
    if (givenBack !== undefined) return { facts, ...givenBack, granted: request };

    const input = policyInput(request, facts, environment);
    const owners = ownersOf(environment, sitesOfRequest(request, facts));
    const verdict = await this.#ask("decision", owners, input, request);
    const first = this.#decision(request, "request", verdict, input);
    if (first.effect !== "allow") {
      return { facts, decisions: [first], ...none, granted: request };
    }
    const planned = await this.#planWithConsent(request, facts, environment, first);
    return { ...planned, decisions: [first, planned.decision] };
  }

  /** Plans and asks every owner concerned; a destination whose owner says no is left out and the next one tried. */
  async #planWithConsent(
    request: Request,
    facts: Facts,
    environment: EnvironmentRecord,
    first: Decision,
  ): Promise<Omit<Judged, "decisions"> & { readonly decision: Decision }> {
    const deniedSites = new Set<SiteId>();
    let current = facts;
    let refused: Decision | undefined;
    const looked = new Set<HostId>();
    for (let tries = 0; ; tries++) {
      const options = { limits: first.limits, deniedSites };
      let drafted = planFor(request, current, options);
      // Neither a no for room nor more on a host may rest on old words: look again, at most once at each host.
      for (;;) {
        const inDoubt = new Set(hostsInDoubt(drafted, current));
        const doubtful = [...inDoubt].filter((id) => !looked.has(id));
        if (doubtful.length === 0) break;
        for (const id of doubtful) looked.add(id);
        await this.#look(doubtful);
        current = await this.#facts(request);
        drafted = planFor(request, current, options);
      }
      if (drafted.kind === "refused") {
        const decision = refused ?? this.#planRefusal(request, drafted);
        return { facts: current, decision, ...none, granted: request };
      }
      const plan = this.#seal(drafted, request);
      const input = policyInput(request, current, environment, plan);
      const owners = ownersOf(environment, sitesOfPlan(plan, request, current));
      const verdict = await this.#ask("plan_check", owners, input, request);
      // What was demanded before planning holds for the plan too.
      const limits = meet([first.limits, verdict.limits]);
      const decision = this.#decision(request, "plan", { ...verdict, limits }, input);
      if (decision.effect === "allow") {
        const granted = withLease(request, decision);
        return { facts: current, decision, plan, grant: this.#grant(plan, decision), granted };
      }
      const no = whoDenied(decision.consents, destinationsOf(plan));
      const decided = { facts: current, decision: refused ?? decision, ...none, granted: request };
      if (no.length === 0 || tries + 1 >= maxDestinations) return decided;
      refused ??= decision;
      for (const siteId of no) deniedSites.add(siteId);
    }
  }

  /** The plan of a release or a repair, granted by code; undefined when policy has to judge. */
  #builtIn(
    request: Request,
    facts: Facts,
  ): Pick<Judged, "decisions" | "plan" | "grant"> | undefined {
    const drafted = planFor(request, facts);
    if (drafted.kind === "refused") return undefined;
    const plan = this.#seal(drafted, request);
    const kind = builtInFor(request, plan, facts);
    if (kind === undefined) return undefined;
    const decision: Decision = {
      ...this.#plainDecision(request, "plan"),
      effect: "allow",
      code: "granted",
      message:
        kind === "release"
          ? "Giving back towards the baseline needs no consent."
          : "Brings hosts to what was granted before.",
      input: { built_in: kind, plan_digest: plan.digest },
    };
    return { decisions: [decision], plan, grant: { ...this.#grant(plan, decision), kind } };
  }

  async #ask(
    entrypoint: PolicyEntrypoint,
    owners: readonly string[],
    input: ReturnType<typeof policyInput>,
    request: Request,
  ): Promise<Verdict> {
    const answers = await Promise.all(
      owners.map(async (owner): Promise<PolicyAnswer> => {
        const engine =
          this.#options.engines.get(owner) ??
          (owner.startsWith("owner:") ? this.#options.engines.get("owner:*") : undefined);
        if (engine === undefined) return noPolicy(owner, entrypoint);
        const answer = await engine.evaluate(entrypoint, input);
        return { ...answer, owner, findings: answer.findings.map((one) => ({ ...one, owner })) };
      }),
    );
    return combine(request.kind === "destroy" ? answers.map(withoutPace) : answers);
  }

  #decision(
    request: Request,
    point: Decision["point"],
    verdict: Verdict,
    input: unknown,
  ): Decision {
    const plain = {
      ...this.#plainDecision(request, point),
      findings: verdict.findings,
      obligations: verdict.obligations,
      limits: verdict.limits,
      consents: verdict.consents,
      input,
    };
    switch (verdict.effect) {
      case "allow":
        return { ...plain, effect: "allow", code: "granted", message: "Granted." };
      case "approve": {
        const denial = explainDenial(request, plain);
        const message = `A named person must approve this: ${denial.message}`;
        return { ...plain, effect: "deny", code: "policy.approval_needed", message };
      }
      case "deny": {
        const { message } = explainDenial(request, plain);
        return { ...plain, effect: "deny", code: verdict.code, message };
      }
    }
  }

  /** No room: an operator reads which hosts lack what; others only that there is none. */
  #planRefusal(
    request: Request,
    refusal: { readonly code: Decision["code"]; readonly message: string },
  ): Decision {
    const isRoom = refusal.code === "placement.no_host_fits";
    const message =
      isRoom && !seesAll(request.subject)
        ? "No room: no host at the sites it may use can hold it now."
        : refusal.message;
    return this.#denial(request, "plan", refusal.code, { message });
  }

  #denial(
    request: Request,
    point: Decision["point"],
    code: string,
    { message }: { readonly message: string },
  ): Decision {
    return { ...this.#plainDecision(request, point), effect: "deny", code, message };
  }

  #plainDecision(request: Request, point: Decision["point"]) {
    return {
      id: this.#options.ids.next(),
      requestId: request.id,
      environmentId: request.environmentId,
      point,
      findings: [],
      obligations: [],
      limits: {},
      consents: [],
      input: null,
      decidedAtMs: this.#options.clock.nowMs(),
    };
  }

  #seal(drafted: Parameters<typeof sealPlan>[0], request: Request): Plan {
    const { ids, clock } = this.#options;
    return sealPlan(drafted, { id: ids.next(), request, createdAtMs: clock.nowMs() });
  }

  #grant(plan: Plan, decision: Decision): Grant {
    return {
      id: this.#options.ids.next(),
      kind: "decision",
      planId: plan.id,
      planDigest: plan.digest,
      decisionId: decision.id,
      expiresAtMs: this.#options.clock.nowMs() + grantMs,
    };
  }
}

function isOf(
  request: Request,
  records: readonly { readonly id: string; readonly environmentId: string | undefined }[],
  id: string,
): boolean {
  return records.some(
    (record) => record.id === id && record.environmentId === request.environmentId,
  );
}

/** Hosts whose words decide: all that answer when nothing fits, otherwise those that are to hold more than now. */
function hostsInDoubt(drafted: ReturnType<typeof planFor>, facts: Facts): readonly HostId[] {
  if (drafted.kind === "planned") {
    return drafted.actions.flatMap((action) => {
      switch (action.kind) {
        case "create_machine":
          return [action.hostId];
        case "move_machine":
          return [action.toHostId];
        case "set_memory":
          return action.toMib > action.fromMib ? homeOf(action.machineId, facts) : [];
        case "set_cpu_percent":
          return action.to > action.from ? homeOf(action.machineId, facts) : [];
        default:
          return [];
      }
    });
  }
  if (drafted.code !== "placement.no_host_fits") return [];
  return facts.sites.flatMap(({ hosts }) =>
    hosts.filter(({ state }) => state === "up").map(({ id }) => id),
  );
}

function homeOf(machineId: MachineId, facts: Facts): readonly HostId[] {
  return facts.machines
    .filter(({ id }) => id === machineId)
    .map(({ effective }) => effective.hostId);
}

function whoDenied(
  consents: readonly Consent[],
  destinations: readonly SiteId[],
): readonly SiteId[] {
  const denying = consents.filter(({ effect }) => effect !== "allow").map(({ owner }) => owner);
  const sites = destinations.filter((siteId) => denying.includes(siteOwner(siteId)));
  // Someone else said no as well: another destination would not change that.
  return denying.length === sites.length ? sites : [];
}

/** Policy may grant for a shorter time than was asked for. */
function withLease(request: Request, { limits: { ttlMs } }: Decision): Request {
  const isAdaptation = ["resize", "rate", "move"].includes(request.kind);
  if (!isAdaptation || ttlMs === undefined) return request;
  return { ...request, leaseMs: Math.min(request.leaseMs ?? ttlMs, ttlMs) };
}

/** An owner whose bundle is not there consents to nothing. */
function noPolicy(owner: string, entrypoint: PolicyEntrypoint): PolicyAnswer {
  return {
    owner,
    entrypoint,
    effect: "deny",
    findings: [
      {
        rule: "policy",
        id: "missing",
        level: "deny",
        ok: false,
        msg: `no policy of ${owner} is loaded`,
        params: {},
        owner,
        disclose: "owner",
      },
    ],
    obligations: [],
    limits: {},
    policyDigest: "",
    dataDigest: "",
    durationMs: 0,
  };
}

/** Pace and room do not hold back a destroy; an answer that said no for nothing else says yes. */
function withoutPace(answer: PolicyAnswer): PolicyAnswer {
  if (answer.effect === "allow") return answer;
  const rest = failedFindings(answer.findings).filter(({ rule }) => !neverBlocksDestroy.has(rule));
  const excused = failedFindings(answer.findings).length > rest.length;
  return excused && rest.length === 0 ? { ...answer, effect: "allow" } : answer;
}
