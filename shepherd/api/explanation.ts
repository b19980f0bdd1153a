/**
 * The whole story of one decision: who asked, what was known, which rules said what, whose consent, the plan with its
 * predicted and measured cost, what was done. Collected from the journal, rendered one fact a line.
 * A guest's text stands in it escaped: whatever a reason holds, a terminal shows it and does nothing.
 */

import { approvalView } from "#api/approval-views";
import type { Explanation } from "#api/contract";
import { renderAction } from "#api/plan-text";
import { type ReadSources, type RuleSource, ruleLocator } from "#api/rule-source";
import { operationView, stepView } from "#api/views";
import type { Approval } from "#model/consent";
import { nameOfLink } from "#model/objects";
import type { OwedObligation } from "#model/obligation";
import type { Cost, Operation, Plan, StepRecord } from "#model/plan";
import type { Consent, Decision, Finding, Request } from "#model/request";
import { toWire } from "#model/wire";
import { demandsOf, demandText, saidYes } from "#policy/approvers";
import { tookOf } from "#policy/move-samples";
import type { Journal } from "#ports/store";

interface Story {
  readonly request: Request;
  readonly decision: Decision;
  readonly decisions: readonly Decision[];
  readonly plan: Plan | undefined;
  readonly operation: Operation | undefined;
  readonly steps: readonly StepRecord[];
  readonly names: ReadonlyMap<string, string>;
  readonly approval: Approval | undefined;
  readonly owed: readonly OwedObligation[];
}
interface LocatedStory extends Story {
  /** Where rules stand, by `owner rule`. */
  readonly sources: ReadonlyMap<string, RuleSource>;
}

/** Of a decision; the ids of a request or an operation lead to theirs. Undefined when nothing has this id. */
export async function explain(
  journal: Journal,
  id: string,
  readSources?: ReadSources,
): Promise<Explanation | undefined> {
  const found = await collect(journal, id);
  if (found === undefined) return undefined;
  const story = { ...found, sources: await sourcesOf(found.decisions, readSources) };
  const { request, decision, decisions, plan, operation, steps } = story;
  return {
    request: toWire(request),
    decision: toWire(decision),
    decisions: decisions.map((one) => toWire(one)),
    consents: decisions.flatMap((one) => one.consents.map((consent) => toWire(consent))),
    plan: plan === undefined ? null : toWire(plan),
    operation: operation === undefined ? null : operationView(operation),
    steps: steps.map(stepView),
    approval: story.approval === undefined ? null : await approvalView(journal, story.approval),
    sources: Object.fromEntries(story.sources),
    exemptions: exemptionsUsed(story.decisions),
    obligations: story.owed.map((one) => toWire(one)),
    text: render(story),
  };
}

async function collect(journal: Journal, id: string): Promise<Story | undefined> {
  const named = await journal.decisions.get(id);
  const requestId = named?.requestId ?? (await journal.operations.get(id))?.requestId ?? id;
  const request = await journal.requests.get(requestId);
  if (request === undefined) return undefined;
  const decisions = await journal.decisions.ofRequest(requestId);
  const decision = named ?? decisions.at(-1);
  if (decision === undefined) return undefined;
  const [operation] = await journal.operations.list({ requestId, limit: 1 });
  return {
    request,
    decision,
    decisions,
    plan: operation === undefined ? undefined : await journal.plans.get(operation.planId),
    operation,
    steps: operation === undefined ? [] : await journal.steps.ofOperation(operation.id),
    names: await namesOf(journal, request),
    approval: await journal.approvals.get(requestId),
    owed: (await journal.obligations.list({ requestId })).toReversed(),
  };
}

/** File and line of every rule that said something, by the very policy that said it. */
async function sourcesOf(
  decisions: readonly Decision[],
  readSources: ReadSources | undefined,
): Promise<ReadonlyMap<string, RuleSource>> {
  const locate = ruleLocator(readSources);
  const found = new Map<string, RuleSource>();
  for (const { consents, findings } of decisions) {
    for (const { owner, rule } of findings) {
      const policyDigest = consents.find((consent) => consent.owner === owner)?.policyDigest ?? "";
      const source = await locate({ policyDigest, rule });
      if (source !== null) found.set(`${owner} ${rule}`, source);
    }
  }
  return found;
}

/** Exemptions that turned a no of a rule: given at run time, or carried by a bundle. */
function exemptionsUsed(decisions: readonly Decision[]): Explanation["exemptions"] {
  return decisions.flatMap(({ findings }) =>
    findings
      .filter(({ code }) => code === "policy.exempt")
      .map(({ owner, rule, id, params }) => ({
        owner,
        rule,
        id,
        exemption: String(params["exemption"] ?? ""),
      })),
  );
}

/** Names of what the request is about; an object that is gone keeps its id. */
async function namesOf(journal: Journal, request: Request): Promise<ReadonlyMap<string, string>> {
  const names = new Map<string, string>();
  const environment = await journal.objects.get("environment", request.environmentId);
  names.set(request.environmentId, environment?.spec.name ?? request.environmentId);
  for (const { machineId } of request.machines) {
    const machine = await journal.objects.get("machine", machineId);
    if (machine !== undefined) names.set(machineId, machine.spec.name);
  }
  for (const { linkId } of request.links) {
    const link = await journal.objects.get("link", linkId);
    if (link !== undefined) names.set(linkId, nameOfLink(link.spec));
  }
  return names;
}

function render(story: LocatedStory): string {
  return [
    ...renderAsk(story),
    "",
    ...story.decisions.flatMap((decision) => [...renderDecision(decision, story.sources), ""]),
    ...renderApproval(story),
    ...renderPlan(story),
    ...renderOperation(story),
    ...renderOwed(story),
  ]
    .join("\n")
    .trimEnd();
}

function renderAsk({ request, names }: Story): string[] {
  const { subject } = request;
  const name = (id: string) => names.get(id) ?? id;
  const asks = [
    ...request.machines.map((ask) => {
      const wanted = [
        ask.vcpus === undefined ? "" : `${ask.vcpus} vCPU`,
        ask.cpuPercent === undefined ? "" : `${ask.cpuPercent} % of a core`,
        ask.memoryMib === undefined ? "" : `${ask.memoryMib} MiB`,
        ask.siteId === undefined ? "" : `at ${ask.siteId}`,
      ].filter((part) => part !== "");
      return `${name(ask.machineId)}${wanted.length === 0 ? "" : `: ${wanted.join(", ")}`}`;
    }),
    ...request.links.map((ask) => `${name(ask.linkId)}: ${ask.rateMbps} Mbit/s`),
  ];
  return [
    `Request   ${request.id} at ${time(request.receivedAtMs)}`,
    `asked by  ${subject.type} ${inert(subject.name)}${subject.roles.length === 0 ? "" : ` (${subject.roles.join(", ")})`}`,
    `asked for ${request.kind} in ${name(request.environmentId)}${request.group === undefined ? "" : `, whole group ${inert(request.group)}`}`,
    ...asks.map((ask) => `          ${ask}`),
    `lease     ${request.leaseMs === undefined ? "until released" : duration(request.leaseMs)}`,
    `reason    ${request.reason === "" ? "(none)" : JSON.stringify(inert(request.reason))}`,
  ];
}

function renderApproval({ approval }: Story): string[] {
  if (approval === undefined) return [];
  const { state, needs, wantedBy, votes, outcome, expiresAtMs } = approval;
  return [
    `Approval  ${state}${outcome === undefined ? "" : `: ${inert(outcome)}`}`,
    `${label("wanted")}${needs} of ${wantedBy.join(", ")}, for plan ${short(approval.planDigest)}, until ${time(expiresAtMs)}`,
    ...demandsOf(approval).map((demand) => {
      const people = saidYes(demand, votes);
      const who = people.length === 0 ? "nobody yet" : people.join(", ");
      return `${label("for")}${inert(demandText(demand))}; it has ${inert(who)}`;
    }),
    ...votes.map(
      ({ by, verdict, reason, atMs }) =>
        `${label(verdict === "approve" ? "yes" : "no")}${inert(by)} at ${time(atMs)}: ${inert(reason)}`,
    ),
    "",
  ];
}

function renderDecision(decision: Decision, sources: ReadonlyMap<string, RuleSource>): string[] {
  const limits = Object.entries(toWire(decision.limits)).filter(([, value]) => value !== undefined);
  return [
    `Decision  ${decision.id} on the ${decision.point}: ${decision.effect} (${decision.code})`,
    `          ${inert(decision.message)}`,
    ...knownFacts(decision),
    ...decision.consents.map(
      (consent) =>
        `${label("consent")}${consent.owner}: ${consent.effect}, policy ${short(consent.policyDigest)}, data ${short(consent.dataDigest)}, ${consentTime(consent)}`,
    ),
    ...decision.findings.map((finding) => `${label("rule")}${renderFinding(finding, sources)}`),
    ...(decision.approvedBy ?? []).map(
      ({ by, reason }) => `${label("yes")}${inert(by)}: ${inert(reason)}`,
    ),
    ...limits.map(([limit, value]) => `${label("limit")}${limit} ${value}`),
    ...decision.obligations.map(
      ({ id, params, owner, rule, instance }) =>
        `${label("owed")}${inert(id)} ${inert(JSON.stringify(params))}, wanted by ${rule}/${inert(instance)} (${owner})`,
    ),
  ];
}

/** Room and sizes that policy saw, or code, and how old the words were, from the input that is journaled with it. */
function knownFacts({ input }: Decision): string[] {
  const { sites, fact_ages_ms: ages } = (input ?? {}) as KnownInput;
  if (ages !== undefined) {
    return Object.entries(ages).map(([host, ms]) => `${label("known")}${host}: ${saidAgo(ms)}`);
  }
  if (!Array.isArray(sites)) return [];
  return sites.flatMap((site: { id?: string; hosts?: unknown }) =>
    (Array.isArray(site.hosts) ? site.hosts : []).map((host: KnownHost) => {
      const cpu = `${(host.used?.cpu_percent ?? 0) + (host.reserved?.cpu_percent ?? 0)} of ${host.lend?.cpu_percent ?? 0} %`;
      const memory = `${(host.used?.memory_mib ?? 0) + (host.reserved?.memory_mib ?? 0)} of ${host.lend?.memory_mib ?? 0} MiB`;
      const age = host.age_ms === undefined ? "" : `, ${saidAgo(host.age_ms)}`;
      return `${label("known")}${site.id}/${host.id} ${host.state}: ${cpu}, ${memory} taken${age}`;
    }),
  );
}

function saidAgo(ageMs: number): string {
  return `said ${duration(ageMs)} before`;
}

interface KnownInput {
  readonly sites?: unknown;
  readonly fact_ages_ms?: Readonly<Record<string, number>> | undefined;
}
interface KnownHost {
  readonly age_ms?: number;
  readonly id?: string;
  readonly state?: string;
  readonly lend?: { readonly cpu_percent?: number; readonly memory_mib?: number };
  readonly used?: { readonly cpu_percent?: number; readonly memory_mib?: number };
  readonly reserved?: { readonly cpu_percent?: number; readonly memory_mib?: number };
}

function renderFinding(finding: Finding, sources: ReadonlyMap<string, RuleSource>): string {
  const source = sources.get(`${finding.owner} ${finding.rule}`);
  const exempt =
    finding.code === "policy.exempt"
      ? ` [exempt: ${inert(String(finding.params["exemption"] ?? ""))}]`
      : "";
  const fix = Object.entries(finding.fix ?? {});
  const verdict = finding.ok ? "ok  " : finding.level;
  const where = source === undefined ? "" : ` (${source.file}:${source.line})`;
  return [
    `${verdict} ${finding.rule}/${finding.id} (${finding.owner}): ${inert(finding.msg)}${exempt}${where}`,
    ...(finding.ok || fix.length === 0
      ? []
      : [`; nearest allowed: ${fix.map(([name, value]) => `${name} = ${value}`).join(", ")}`]),
  ].join("");
}

function renderPlan({ plan, operation, steps, names }: Story): string[] {
  if (plan === undefined) return ["Plan      none: nothing was changed"];
  const measured = operation?.measured;
  const { runnersUp, refusedBy } = plan.explanation;
  return [
    `Plan      ${plan.id}, digest ${short(plan.digest)}`,
    ...plan.actions.map((action) => `          ${renderAction(action, names)}`),
    `predicted ${cost(plan.cost)}`,
    `measured  ${measured === undefined ? "not yet" : cost(measured)}`,
    ...renderMoves(plan, steps, names),
    ...runnersUp.map((other) => `not       ${other.hostId} (score ${other.score.toFixed(3)})`),
    ...Object.entries(refusedBy).map(([reason, count]) => `refused   ${count} hosts: ${reason}`),
    "",
  ];
}

/** Of several machines each by itself: what it was predicted to take, and what its own steps took. */
function renderMoves(plan: Plan, steps: Story["steps"], names: Story["names"]): string[] {
  const moves = plan.actions.filter((action) => action.kind === "move_machine");
  if (moves.length < 2) return [];
  return moves.flatMap((move) => {
    const name = names.get(move.machineId) ?? short(move.machineId);
    const took = tookOf(steps.filter((step) => step.name.startsWith(`${name}: `)));
    const wave = move.wave === undefined ? "" : `wave ${move.wave + 1}, `;
    return [
      `          ${name}: ${wave}predicted ${cost(move.cost)}`,
      ...(took === undefined ? [] : [`          ${name}: measured ${cost(took)}`]),
    ];
  });
}

function renderOperation({ operation, steps }: Story): string[] {
  if (operation === undefined) return [];
  const { fault } = operation;
  return [
    `Operation ${operation.id}: ${operation.state}${operation.endedAtMs === undefined ? "" : ` after ${duration(operation.endedAtMs - operation.createdAtMs)}`}`,
    ...steps.map((step) => {
      const took =
        step.startedAtMs === undefined || step.endedAtMs === undefined
          ? ""
          : ` ${duration(step.endedAtMs - step.startedAtMs)}`;
      return `${label("step")}${String(step.n).padStart(2)} ${step.state.padEnd(7)} ${step.name}${took}${step.fault === undefined ? "" : `: ${inert(step.fault.message)}`}`;
    }),
    ...(fault === undefined
      ? []
      : [`failed    ${inert(fault.message)}`, `next      ${fault.hint}`]),
  ];
}

/** What became of the demands. */
function renderOwed({ owed }: Story): string[] {
  return owed.map(({ demand, state, dueAtMs, outcome }) => {
    const due = state === "waiting" && dueAtMs !== undefined ? `, due ${time(dueAtMs)}` : "";
    return `Owed      ${inert(demand.id)} (${demand.owner}): ${state}${due}${outcome === undefined ? "" : `: ${inert(outcome)}`}`;
  });
}

function label(word: string): string {
  return `  ${word.padEnd(8)}`;
}

function consentTime(consent: Consent): string {
  return `${consent.durationMs.toFixed(1)} ms`;
}

function cost({ durationMs, bytes, downtimeMs, band }: Cost): string {
  const mib = (count: number) => (count / 2 ** 20).toFixed(1);
  const ms = (count: number) => String(Math.round(count));
  const span = (of: readonly [number, number] | undefined, text: (value: number) => string) =>
    of === undefined ? "" : ` (${text(of[0])} to ${text(of[1])})`;
  return [
    `${duration(durationMs)}${span(band?.durationMs, duration)}`,
    `${mib(bytes)} MiB copied${span(band?.bytes, mib)}`,
    `${ms(downtimeMs)} ms down${span(band?.downtimeMs, ms)}`,
  ].join(", ");
}

function duration(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 120_000) return `${(ms / 1000).toFixed(2)} s`;
  return `${(ms / 60_000).toFixed(1)} min`;
}

function time(ms: number): string {
  return new Date(ms).toISOString();
}

function short(text: string): string {
  return text.slice(0, 12);
}

/** No escape sequence, no line break, no direction mark: what is not printable stands as its number. */
function inert(text: string): string {
  return text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, (character) => {
    const code = character.codePointAt(0) ?? 0;
    return `\\u{${code.toString(16)}}`;
  });
}
