/**
 * Judges one request on the facts of the moment: what code refuses, what code grants (giving back, repair), what every
 * owner's policy says before and after planning. Journals nothing and starts nothing; gate.ts does, one at a time.
 */
import type { Approval, SignedBreakGlass } from "#model/consent";
import type { Facts } from "#model/facts";
import type { EnvironmentRecord } from "#model/objects";
import type { Plan } from "#model/plan";
import type { Consent, Decision, Finding, Grant, Request } from "#model/request";
import type { HostId, Ms, SiteId } from "#model/units";
import { withDeclared } from "#planner/declared";
import { plan as planOf, sealPlan } from "#planner/plan";
import { hasSettled, memoryToleranceMib } from "#planner/target";
import { factAges, tooOldFor } from "#policy/ages";
import { samePlan } from "#policy/approvals";
import { isMet, wantedOf, wantsApproval } from "#policy/approvers";
import { type BuiltIn, builtInFor } from "#policy/built-in";
import { combineEffects, meet, union } from "#policy/combine";
import { consult, type Engines } from "#policy/consult";
import {
  adviceOf,
  builtInDecision,
  decisionOf,
  denialOf,
  glassDecision,
  isAdvised,
  planRefusalOf,
} from "#policy/decisions";
import { hostsInDoubt, isSilent } from "#policy/doubts";
import { gatherFacts, type Sensed } from "#policy/facts";
import type { History } from "#policy/history";
import { destinationsOf, ownersOf, siteOwner, sitesOfPlan, sitesOfRequest } from "#policy/owners";
import { policyInput } from "#policy/policy-input";
import {
  adaptingKinds,
  heldNow,
  impossibleNow,
  recalledFor,
  recalledNow,
  type Stopped,
} from "#policy/refusals";
import type { Clock, Ids } from "#ports/clock";
import type { Store } from "#ports/store";
import { inChildSpanNow } from "#ports/tracing";

export interface JudgeOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly sensed: Sensed & { refresh(hostIds?: readonly string[]): Promise<void> };
  readonly engines: Engines;
}

/** What more is known of a request than it says. */
export interface JudgeTerms {
  /** Enough people have approved it; `plan` is the plan that they read. */
  readonly approved?: { readonly approval: Approval; readonly plan: Plan } | undefined;
  /** Facts as they would be: for plan checks and what-if, never with a grant to follow. */
  readonly assume?: ((facts: Facts) => Facts) | undefined;
  /** Hears of each gathering of facts, before anything is assumed or declared. */
  readonly onFacts?: ((facts: Facts) => void) | undefined;
}

/** A granted plan that was not started by then is void; it starts in the same transaction, so this is for crashes. */
const grantMs: Ms = 60_000;
/** Destinations tried before giving up when their owners say no. */
const maxDestinations = 4;
/** Longest look at hosts within a decision; they answer within a few ms or not soon. */
const lookMs: Ms = 1_000;

/** A decision that stands, but is not journaled yet. */
export interface Judged {
  readonly facts: Facts;
  readonly decisions: readonly Decision[];
  /** Also without a grant: what waits for approval, or is advised. */
  readonly plan: Plan | undefined;
  readonly grant: Grant | undefined;
  /** The request as granted: its lease cut to what policy allows. */
  readonly granted: Request;
}
type Drafted = ReturnType<typeof planOf>;

const planFor: typeof planOf = (...of) => inChildSpanNow("plan", {}, () => planOf(...of));

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

export class Judge {
  readonly #options: JudgeOptions;
  readonly #history: History;

  constructor(options: JudgeOptions, history: History) {
    this.#options = options;
    this.#history = history;
  }

  async judge(request: Request, terms: JudgeTerms = {}): Promise<Judged> {
    // Drift is what these are about: look before deciding, not two seconds ago.
    if (request.kind === "update" || request.kind === "repair") {
      await this.#look(await this.#hostsOf(request));
    }
    const facts = await this.#facts(request, terms);
    const environment = facts.environments.find(({ id }) => id === request.environmentId);
    if (environment === undefined) {
      return this.#no(request, facts, {
        code: "request.unknown_object",
        message: "Its environment does not exist any more.",
      });
    }
    const impossible = await impossibleNow(this.#options.store, request, facts);
    if (impossible !== undefined) return this.#no(request, facts, impossible);

    const recalled = recalledFor(request, facts);
    const drafted = planFor(request, facts, { deniedSites: recalled });
    // What the stack's own words rule out is no question to policy, and its answer names the bound.
    if (drafted.kind === "refused" && drafted.code.startsWith("envelope.")) {
      const decision = planRefusalOf(this.#options, request, {
        ...drafted,
        ages: factAges(request, facts),
      });
      return { facts, decisions: [decision], ...none, granted: request };
    }
    const plan = drafted.kind === "planned" ? this.#seal(drafted, request) : undefined;
    const builtIn = plan === undefined ? undefined : builtInFor(request, plan, facts);
    if (plan !== undefined && builtIn !== undefined) {
      return this.#byCode(request, facts, builtIn, plan);
    }
    const stopped =
      heldNow(request, facts) ??
      recalledNow(request, { facts, recalled, plan }) ??
      // With a plan its hosts are asked again first.
      (isSilent(drafted) ? tooOldFor(request, facts, undefined) : undefined);
    if (stopped !== undefined) return this.#no(request, facts, stopped);
    return await this.#byPolicy(request, { facts, environment, drafted, recalled, terms });
  }

  /** Whatever policy says: the plan of now, for somebody who breaks the glass or wants to know which plan to have signed. */
  async planRegardless(
    request: Request,
  ): Promise<{ readonly facts: Facts; readonly plan: Plan } | Judged> {
    const facts = await this.#facts(request, {});
    const impossible = await impossibleNow(this.#options.store, request, facts);
    if (impossible !== undefined) return this.#no(request, facts, impossible);
    const drafted = planFor(request, facts);
    if (drafted.kind === "refused") {
      const decision = planRefusalOf(this.#options, request, {
        ...drafted,
        ages: factAges(request, facts),
      });
      return { facts, decisions: [decision], ...none, granted: request };
    }
    return { facts, plan: this.#seal(drafted, request) };
  }

  /** The grant of a signed document, for the plan that it names. */
  brokenGlass(
    request: Request,
    of: { readonly facts: Facts; readonly plan: Plan; readonly signed: SignedBreakGlass },
  ): Judged {
    const { facts, plan, signed } = of;
    const ages = factAges(request, facts, plan);
    const decision = glassDecision(this.#options, request, { signed, plan, ages });
    const grant: Grant = { ...this.#grant(plan, decision), kind: "break_glass" };
    return { facts, decisions: [decision], plan, grant, granted: request };
  }

  /** When what it is about changes faster than it can be decided. */
  contended(request: Request, judged: Judged): Judged {
    const denied = denialOf(this.#options, request, {
      point: "request",
      code: "limit.contended",
      message: "What it is about kept changing while it was decided. Ask again.",
    });
    return { ...judged, ...none, decisions: [denied] };
  }

  async #facts(request: Request, { assume, onFacts }: JudgeTerms): Promise<Facts> {
    const { store, sensed, clock } = this.#options;
    const facts = await store.read((journal) =>
      gatherFacts(journal, {
        sensed,
        history: this.#history,
        nowMs: clock.nowMs(),
        environmentId: request.environmentId,
      }),
    );
    onFacts?.(facts);
    return withDeclared(assume === undefined ? facts : assume(facts), request);
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

  #byCode(request: Request, facts: Facts, kind: BuiltIn, plan: Plan): Judged {
    const ages = factAges(request, facts, plan);
    const decision = builtInDecision(this.#options, request, { kind, plan, ages });
    const grant = { ...this.#grant(plan, decision), kind };
    return { facts, decisions: [decision], plan, grant, granted: request };
  }

  async #byPolicy(request: Request, question: Question): Promise<Judged> {
    const { facts, environment, drafted } = question;
    const input = policyInput(request, facts, environment);
    const owners = ownersOf(environment, sitesOfRequest(request, facts));
    const { engines } = this.#options;
    const verdict = await consult(engines, {
      entrypoint: "decision",
      owners,
      input,
      kind: request.kind,
    });
    const approval = question.terms.approved?.approval;
    const first = decisionOf(this.#options, request, {
      point: "request",
      verdict,
      input,
      approval,
    });
    if (first.effect === "deny") {
      if (drafted.kind === "planned" && isAdvised(first)) {
        const plan = this.#seal(drafted, request);
        return { facts, decisions: [adviceOf(first, plan)], ...none, plan, granted: request };
      }
      return { facts, decisions: [first], ...none, granted: request };
    }
    const planned = await this.#planWithConsent(request, question, {
      ...first,
      effect: verdict.effect,
    });
    return { ...planned, decisions: [first, planned.decision] };
  }

  /** Plans and asks every owner concerned; a destination whose owner says no is left out and the next one tried. */
  async #planWithConsent(
    request: Request,
    question: Question,
    first: Pick<Decision, "effect" | "limits" | "findings" | "obligations">,
  ): Promise<Omit<Judged, "decisions"> & { readonly decision: Decision }> {
    const { environment, terms } = question;
    const deniedSites = new Set<SiteId>(question.recalled);
    let current = question.facts;
    let refused: Decision | undefined;
    const looked = new Set<HostId>();
    for (let tries = 0; ; tries++) {
      const options = { limits: first.limits, deniedSites };
      const isAsBefore =
        tries === 0 && Object.values(first.limits).every((one) => one === undefined);
      let drafted = isAsBefore ? question.drafted : planFor(request, current, options);
      // Neither a no for room nor more on a host may rest on old words: look again, at most once at each host.
      for (;;) {
        const inDoubt = new Set(hostsInDoubt(drafted, current));
        const doubtful = [...inDoubt].filter((id) => !looked.has(id));
        if (doubtful.length === 0) break;
        for (const id of doubtful) looked.add(id);
        await this.#look(doubtful);
        current = await this.#facts(request, terms);
        drafted = planFor(request, current, options);
      }
      if (drafted.kind === "refused") {
        const decision =
          refused ??
          planRefusalOf(this.#options, request, { ...drafted, ages: factAges(request, current) });
        return { facts: current, decision, ...none, granted: request };
      }
      const stale = tooOldFor(request, current, drafted);
      if (stale !== undefined) {
        const decision = this.#denial(request, current, stale, "plan");
        return { facts: current, decision, ...none, granted: request };
      }
      const plan = this.#seal(drafted, request);
      const { decision, approvedPlan } = await this.#checkPlan(request, {
        plan,
        facts: current,
        environment,
        first,
        approved: terms.approved,
      });
      if (decision.effect === "allow") {
        const granted = withLease(request, decision);
        const permitted = approvedPlan ?? plan;
        const grant = this.#grant(permitted, decision);
        return { facts: current, decision, plan: permitted, grant, granted };
      }
      if (decision.effect === "approve") {
        return { facts: current, decision, plan, grant: undefined, granted: request };
      }
      const no = whoDenied(decision.consents, destinationsOf(plan));
      const decided = { facts: current, decision: refused ?? decision, ...none, granted: request };
      if (no.length === 0 || tries + 1 >= maxDestinations) return decided;
      refused ??= decision;
      for (const siteId of no) deniedSites.add(siteId);
    }
  }

  /** What was demanded before planning holds for the plan too. Votes are for one plan; another one wants new ones. */
  async #checkPlan(
    request: Request,
    of: {
      readonly plan: Plan;
      readonly facts: Facts;
      readonly environment: EnvironmentRecord;
      readonly first: Pick<Decision, "effect" | "limits" | "findings" | "obligations">;
      readonly approved: JudgeTerms["approved"];
    },
  ): Promise<{ readonly decision: Decision; readonly approvedPlan: Plan | undefined }> {
    const { plan, facts, environment, first, approved } = of;
    const input = policyInput(request, facts, environment, plan);
    const owners = ownersOf(environment, sitesOfPlan(plan, request, facts));
    const { engines } = this.#options;
    const said = await consult(engines, {
      entrypoint: "plan_check",
      owners,
      input,
      kind: request.kind,
    });
    const effect = combineEffects([first.effect, said.effect]);
    // Who wants an approval must stand in the decision that waits for it, also when it was wanted before planning.
    const wanted = effect === "approve" ? first.findings.filter(wantsApproval) : [];
    const verdict = {
      ...said,
      effect,
      findings: [...wanted.filter((one) => !said.findings.some(sameAs(one))), ...said.findings],
      limits: meet([first.limits, said.limits]),
      obligations: union([...first.obligations, ...said.obligations]),
    };
    const covered =
      approved !== undefined && samePlan(plan, approved.plan) && coversAll(approved, verdict);
    const decision = decisionOf(this.#options, request, {
      point: "plan",
      verdict,
      input,
      approval: covered ? approved.approval : undefined,
    });
    return { decision, approvedPlan: covered ? approved.plan : undefined };
  }

  #no(request: Request, facts: Facts, why: Stopped): Judged {
    const denied = this.#denial(request, facts, why, "request");
    return { facts, decisions: [denied], ...none, granted: request };
  }

  #denial(request: Request, facts: Facts, why: Stopped, point: Decision["point"]): Decision {
    const ages = factAges(request, facts);
    return denialOf(this.#options, request, { point, ages, ...why });
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

/** What is to be decided once code has let it through. */
interface Question {
  readonly facts: Facts;
  readonly environment: EnvironmentRecord;
  /** Planned once on these facts, without limits of policy. */
  readonly drafted: Drafted;
  readonly recalled: ReadonlySet<SiteId>;
  readonly terms: JudgeTerms;
}

function sameAs(left: Finding): (right: Finding) => boolean {
  return (right) =>
    right.owner === left.owner && right.rule === left.rule && right.id === left.id && !right.ok;
}

/** Nobody wants more people than have voted, and no other owner wants a vote by now. */
function coversAll(
  { approval }: NonNullable<JudgeTerms["approved"]>,
  { findings }: { readonly findings: readonly Finding[] },
): boolean {
  const { by, demands } = wantedOf(findings);
  return isMet(demands, approval.votes) && by.every((owner) => approval.wantedBy.includes(owner));
}

function whoDenied(
  consents: readonly Consent[],
  destinations: readonly SiteId[],
): readonly SiteId[] {
  const denying = consents.filter(({ effect }) => effect === "deny").map(({ owner }) => owner);
  const sites = destinations.filter((siteId) => denying.includes(siteOwner(siteId)));
  // Someone else said no as well: another destination would not change that.
  return denying.length === sites.length ? sites : [];
}

/** Policy may grant for a shorter time than was asked for. */
function withLease(request: Request, { limits: { ttlMs } }: Decision): Request {
  if (!adaptingKinds.has(request.kind) || ttlMs === undefined) return request;
  return { ...request, leaseMs: Math.min(request.leaseMs ?? ttlMs, ttlMs) };
}
