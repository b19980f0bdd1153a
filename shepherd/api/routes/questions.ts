/** Questions that change nothing: what if it were otherwise, why not, and how what stands fits the policies of now. */
import type { Static } from "typebox";
import { checkOwner, type Principal, subjectOf } from "#api/access";
import { isConfined } from "#api/confined";
import type { RequestBody } from "#api/contract";
import type { AuditReport, WhatIfAnswer, WhyNotAnswer } from "#api/contract-people";
import { planText } from "#api/plan-text";
import { environmentOf, find } from "#api/records";
import { byId } from "#api/routes/environments";
import { answerOf, askOf } from "#api/routes/requests";
import { ruleLocator } from "#api/rule-source";
import { WhatIfBody, WhyNotBody } from "#api/schemas-people";
import type { ApiRouter } from "#api/server";
import type { ApiWorld } from "#api/world";
import { Fault } from "#model/fault";
import type { EnvironmentRecord, MachineRecord, Sizing } from "#model/objects";
import type { Decision, Request } from "#model/request";
import { toWire } from "#model/wire";
import { sizingOf } from "#planner/target";
import { decisionOf } from "#policy/decisions";
import { disclosedTo, explainDenial, seesAll } from "#policy/disclose";
import type { Preview } from "#policy/gate";
import { nearestAllowed } from "#policy/nearest";
import { newRequest } from "#policy/request";
import { reconsider } from "#policy/what-if";
import type { Journal } from "#ports/store";

/** Decisions looked back at for a machine's last ask that was not granted. */
const decisionsBack = 500;
const sizeWords = { vcpus: "vcpus", cpu_percent: "cpuPercent", memory_mib: "memoryMib" } as const;
type SizeWord = keyof typeof sizeWords;
const sizeKeys = Object.keys(sizeWords) as SizeWord[];

export function questionRoutes(router: ApiRouter, world: ApiWorld): void {
  const { store } = world;

  router.post(
    "/v1/what-if",
    { config: { access: "ask", keys: "none" }, schema: { body: WhatIfBody } },
    async (call): Promise<WhatIfAnswer> => {
      const { id, request, set } = call.body;
      if ((id === undefined) === (request === undefined)) {
        throw new Fault("request.invalid", {
          where: "body",
          problem: "name either the id of a request or decision, or a request",
        });
      }
      const dotted = Object.keys(set).filter((key) => key.includes("."));
      if (dotted.length > 0 && dotted.length < Object.keys(set).length) {
        throw new Fault("request.invalid", {
          where: "set",
          problem: "either what is asked for changes (no dots) or what policy saw (dots), not both",
        });
      }
      return dotted.length > 0
        ? await whatPolicyWouldSay(world, call.principal, { id: id ?? "", set })
        : await whatWouldBe(world, call.principal, call.body);
    },
  );

  router.post(
    "/v1/machines/:id/why-not",
    {
      config: { access: "ask", keys: "none" },
      schema: { ...byId("read").schema, body: WhyNotBody },
    },
    async (call): Promise<WhyNotAnswer> =>
      await whyNot(world, call.principal, call.params.id, call.body),
  );

  router.get("/v1/audit", { config: { access: "read" } }, async (call): Promise<AuditReport> => {
    const { atMs, environments, checks, findings } = await world.audit.report();
    const own = await store.read((journal) => journal.objects.list("environment"));
    const seen = new Set<string>(own.map(({ id }) => id));
    const { principal } = call;
    const shown = findings.filter(
      ({ environmentId, finding }) =>
        seen.has(environmentId) &&
        (principal.role !== "stack" ||
          disclosedTo(subjectOf(principal, "stack"), [finding]).length > 0),
    );
    const locate = ruleLocator(world.ruleSources);
    const rows: AuditReport["findings"] = [];
    for (const { environment, finding, policyDigest, firstSeenMs } of shown) {
      const { owner, rule, id, level, code, msg, path } = finding;
      rows.push({
        environment,
        owner,
        rule,
        id,
        level,
        code: code ?? null,
        msg,
        path: path ?? null,
        source: await locate({ policyDigest, rule }),
        first_seen_ms: firstSeenMs,
      });
    }
    return {
      at_ms: atMs,
      environments: Math.min(environments, own.length),
      checks,
      findings: rows,
    };
  });
}

/** The input of a journaled decision, edited, before the policies of now. */
async function whatPolicyWouldSay(
  world: ApiWorld,
  principal: Principal,
  { id, set }: { readonly id: string; readonly set: Static<typeof WhatIfBody>["set"] },
): Promise<WhatIfAnswer> {
  const { request, decision } = await storyOf(world, principal, id);
  const { verdict, flips } = await reconsider(world.engines, { decision, kind: request.kind, set });
  const asker: Request = { ...request, subject: subjectOf(principal, "operator") };
  const after = decisionOf(world, asker, {
    point: decision.point,
    verdict,
    input: decision.input,
  });
  return {
    on: "decision",
    before: saidBefore(decision, asker.subject),
    after: answerOf(asker, { decision: after, plan: undefined, operation: undefined }),
    consents: verdict.consents.map((consent) => toWire(consent)),
    // Cut for who reads it now, whoever had asked then.
    flips: flips
      .filter(({ disclose }) => disclose === "owner" || seesAll(asker.subject))
      .map(({ disclose: _disclose, ...flip }) => flip),
  };
}

/** The whole way on the facts of now, with another ask. */
async function whatWouldBe(
  world: ApiWorld,
  principal: Principal,
  body: Static<typeof WhatIfBody>,
): Promise<WhatIfAnswer> {
  const { set } = body;
  const earlier = body.id === undefined ? undefined : await storyOf(world, principal, body.id);
  const asked = await askedFor(world, principal, body, earlier?.request);
  const changed = withSet(asked, set);
  const before = earlier?.decision;
  const given = await world.gate.preview(changed);
  const { plan } = given;
  return {
    on: "now",
    before: before === undefined ? null : saidBefore(before, subjectOf(principal, "operator")),
    after: {
      ...answerOf({ ...changed, subject: subjectOf(principal, "operator") }, given),
      ...(plan === undefined
        ? {}
        : { plan_text: await world.store.read((journal) => planText(journal, plan)) }),
    },
    consents: given.decisions.flatMap(({ consents }) => consents.map((one) => toWire(one))),
    flips: [],
  };
}

/** Worded for who reads it now: what its asker was told may name hosts. */
function saidBefore(
  decision: Decision,
  subject: Request["subject"],
): NonNullable<WhatIfAnswer["before"]> {
  const { effect, code, findings } = decision;
  const isCut = effect !== "allow" && findings.length > 0 && !seesAll(subject);
  const message = isCut ? explainDenial({ subject }, decision).message : decision.message;
  return { verdict: effect, code, message };
}

async function askedFor(
  world: ApiWorld,
  principal: Principal,
  body: Static<typeof WhatIfBody>,
  earlier: Request | undefined,
): Promise<Request> {
  if (earlier !== undefined) {
    const { id: _id, receivedAtMs: _at, idempotencyKey: _key, ...asked } = earlier;
    return newRequest(world, asked);
  }
  const request = body.request as RequestBody;
  return await world.store.read(async (journal) => {
    const environment = await environmentOf(journal, request.environment);
    checkOwner(principal, environment.spec.owner);
    return newRequest(world, {
      ...(await askOf(journal, environment, request, () => world.ids.next())),
      subject: subjectOf(principal, "operator"),
    });
  });
}

/** Sizes and site of every machine asked for, rate of every link, lease of all. Fault `request.invalid`. */
function withSet(request: Request, set: Static<typeof WhatIfBody>["set"]): Request {
  let changed = request;
  for (const [key, value] of Object.entries(set)) {
    const number =
      typeof value === "number" && Number.isInteger(value) && value > 0 ? value : undefined;
    const refuse = (problem: string) =>
      new Fault("request.invalid", { where: `set.${key}`, problem });
    if (key === "site") {
      if (typeof value !== "string") throw refuse("name a site");
      changed = {
        ...changed,
        machines: changed.machines.map((ask) => ({ ...ask, siteId: value })),
      };
      continue;
    }
    if (number === undefined) throw refuse("write a whole number above 0");
    if (key === "lease_s") changed = { ...changed, leaseMs: number * 1_000 };
    else if (key === "rate_mbps") {
      changed = { ...changed, links: changed.links.map((ask) => ({ ...ask, rateMbps: number })) };
    } else if (sizeKeys.includes(key as SizeWord)) {
      const attribute = sizeWords[key as SizeWord];
      changed = {
        ...changed,
        machines: changed.machines.map((ask) => ({ ...ask, [attribute]: number })),
      };
    } else {
      throw refuse(
        `change one of ${[...sizeKeys, "site", "rate_mbps", "lease_s"].join(", ")}, or a path with dots of what policy saw`,
      );
    }
  }
  return changed;
}

async function storyOf(
  world: ApiWorld,
  principal: Principal,
  id: string,
): Promise<{ readonly request: Request; readonly decision: Decision }> {
  return await world.store.read(async (journal) => {
    const named = await journal.decisions.get(id);
    const request = await journal.requests.get(named?.requestId ?? id);
    if (request === undefined) throw new Fault("object.unknown", { kind: "decision", id });
    const environment = await journal.objects.get("environment", request.environmentId);
    // Nobody knows any more whose it was.
    if (environment === undefined && isConfined(principal)) {
      throw new Fault("object.unknown", { kind: "decision", id });
    }
    if (environment !== undefined) checkOwner(principal, environment.spec.owner);
    const all = await journal.decisions.ofRequest(request.id);
    // Of a request the first decision that policy made a no of, else its last.
    const decision =
      named ??
      all.find(({ effect, consents }) => effect !== "allow" && consents.length > 0) ??
      all.at(-1);
    if (decision === undefined) throw new Fault("object.unknown", { kind: "decision", id });
    return { request, decision };
  });
}

async function whyNot(
  world: ApiWorld,
  principal: Principal,
  id: string,
  body: Static<typeof WhyNotBody>,
): Promise<WhyNotAnswer> {
  const { machine, environment, refused } = await world.store.read(async (journal) => {
    const found = await find(journal, "machine", id);
    const owner = await environmentOf(journal, found.spec.environmentId);
    checkOwner(principal, owner.spec.owner);
    const given = Object.values(body).some((value) => value !== undefined);
    return {
      machine: found,
      environment: owner,
      refused: given ? undefined : await lastRefused(journal, found),
    };
  });
  const asked = refused?.asked ?? (Object.keys(body).length > 0 ? body : envelopeMost(machine));
  const subject = subjectOf(principal, "operator");
  const ask = async (
    sizes: Partial<Sizing>,
    site: string | undefined,
    uncounted: boolean,
  ): Promise<Preview> =>
    await world.gate.preview(
      newRequest(world, {
        kind: Object.keys(sizes).length === 0 ? "move" : "resize",
        environmentId: environment.id,
        subject,
        machines: [
          { machineId: machine.id, ...sizes, ...(site === undefined ? {} : { siteId: site }) },
        ],
        reason: "why-not",
      }),
      { uncounted },
    );
  const wanted = sizesOf(asked);
  const given = await ask(wanted, asked.site, false);
  const { decision } = given;
  const hints = sizesOf(explainDenial({ subject }, decision).nearest);
  const search =
    decision.effect !== "allow" && Object.keys(wanted).length > 0
      ? await nearestAllowed({
          from: sizingOf(machine.effective),
          to: wanted,
          hints,
          ask: (sizes) => ask(sizes, asked.site, true),
        })
      : { sizes: undefined, tried: 0 };
  const sites: WhyNotAnswer["sites"] = [];
  for (const site of sitesOf(machine, environment)) {
    const there = await ask(wanted, site, true);
    const told = answerOf(requestOf(machine, subject, world), there);
    sites.push({ site, verdict: told.verdict, code: told.code, message: told.message });
  }
  const answer = answerOf(requestOf(machine, subject, world), given);
  return {
    machine: machine.spec.name,
    environment: environment.spec.name,
    asked,
    request: refused?.request ?? null,
    verdict: answer.verdict,
    code: answer.code,
    message: answer.message,
    findings: answer.findings.filter(({ ok }) => !ok),
    nearest: search.sizes === undefined ? null : wireSizes(search.sizes),
    sites,
    tried: search.tried + sites.length + 1,
  };
}

/** Only for wording an answer: it is asked nowhere. */
function requestOf(machine: MachineRecord, subject: Request["subject"], world: ApiWorld): Request {
  return newRequest(world, {
    kind: "resize",
    environmentId: machine.spec.environmentId,
    subject,
    reason: "why-not",
  });
}

/** The machine's last ask that was not granted; undefined when there is none lately. */
async function lastRefused(
  journal: Journal,
  machine: MachineRecord,
): Promise<{ readonly asked: WhyNotAnswer["asked"]; readonly request: string } | undefined> {
  const { environmentId } = machine.spec;
  const decisions = await journal.decisions.list({ environmentId, limit: decisionsBack });
  for (const { effect, requestId } of decisions) {
    if (effect === "allow") continue;
    const request = await journal.requests.get(requestId);
    const ask = request?.machines.find(({ machineId }) => machineId === machine.id);
    if (ask === undefined || request === undefined) continue;
    if (request.kind !== "resize" && request.kind !== "move") continue;
    const asked = { ...wireSizes(ask), ...(ask.siteId === undefined ? {} : { site: ask.siteId }) };
    return { asked, request: requestId };
  }
  return undefined;
}

/** Nothing was refused: then why is it not at the most that its stack allows? */
function envelopeMost({ spec: { envelope } }: MachineRecord): WhyNotAnswer["asked"] {
  return {
    ...(envelope.vcpus === undefined ? {} : { vcpus: envelope.vcpus.max }),
    ...(envelope.cpuPercent === undefined ? {} : { cpu_percent: envelope.cpuPercent.max }),
    ...(envelope.memoryMib === undefined ? {} : { memory_mib: envelope.memoryMib.max }),
  };
}

function sitesOf(machine: MachineRecord, environment: EnvironmentRecord): readonly string[] {
  const wide = machine.spec.envelope.sites ?? [machine.spec.baseline.siteId];
  return environment.spec.sites.filter(
    (site) => wide.includes(site) || site === machine.effective.siteId,
  );
}

function sizesOf(of: { readonly [Key in SizeWord]?: unknown }): Partial<Sizing> {
  return Object.fromEntries(
    sizeKeys.flatMap((key) => (typeof of[key] === "number" ? [[sizeWords[key], of[key]]] : [])),
  );
}

function wireSizes(of: Partial<Sizing>): WhyNotAnswer["asked"] {
  return Object.fromEntries(
    sizeKeys.flatMap((key) => {
      const value = of[sizeWords[key]];
      return value === undefined ? [] : [[key, value]];
    }),
  );
}
