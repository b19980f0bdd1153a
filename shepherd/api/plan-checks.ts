/**
 * Dry decisions on the changes of one Terraform run. Each change is judged on the fleet as it would be after those that
 * were told before it under the same run id, so that quotas see the whole and the change that tips is the one denied.
 * Keeps runs in memory only: a check promises nothing, apply is judged again. A run that begins in the middle was told to
 * an earlier shepherd, and is asked for from its beginning.
 */
import type { Static, TSchema } from "typebox";
import Value from "typebox/value";
import { checkOwner, type Principal, subjectOf } from "#api/access";
import type { PlanCheckAnswer, PlanCheckFinding } from "#api/contract";
import { declaredGroup, destroyedGroup, type GroupAsk, patchedGroup } from "#api/group-spec";
import { endsOf } from "#api/link-ends";
import {
  checkCards,
  type Declaration,
  environmentAdaptation,
  patchedSpec,
  restartReasons,
  wordedMachine,
} from "#api/machine-spec";
import { find } from "#api/records";
import { patchedVolume } from "#api/routes/volumes";
import type { PlanCheckBody } from "#api/schemas";
import {
  EnvironmentBody,
  GroupBody,
  GroupPatch,
  LinkBody,
  LinkPatch,
  MachineBody,
  MachinePatch,
  VolumePatch,
} from "#api/schemas";
import type { ApiWorld } from "#api/world";
import type { Facts } from "#model/facts";
import { Fault, isFault } from "#model/fault";
import { type EnvironmentRecord, nameOfLink, type ObjectKind } from "#model/objects";
import type { Decision, Finding, Request } from "#model/request";
import type { Ms } from "#model/units";
import { isIpv4 } from "#network/addresses";
import { announceAddresses } from "#operations/announced-addresses";
import { applied } from "#planner/applied";
import { decisionFor } from "#policy/disclose";
import type { Preview } from "#policy/gate";
import type { Journal } from "#ports/store";

type Body = Static<typeof PlanCheckBody>;
type Assume = (facts: Facts) => Facts;

/** A run that says nothing for so long is over. */
const forgetAfterMs: Ms = 600_000;
/** Runs at once; the longest silent one makes room. */
const maxRuns = 64;
/** Changes of one run; beyond, the earliest are not summed any more. */
const maxChanges = 2_000;

interface Run {
  touchedMs: Ms;
  /** Checks so far. */
  told: number;
  /** The environment that this run creates, where it says so. */
  environment: EnvironmentRecord | undefined;
  readonly changes: Map<string, Assume>;
}

/** What a change asks the gate for; undefined: nothing that anybody decides. */
interface Asked {
  readonly environment: EnvironmentRecord;
  readonly request: Request | undefined;
  readonly ways: PlanCheckAnswer["ways"];
}

export class PlanChecks {
  readonly #world: ApiWorld;
  readonly #runs = new Map<string, Run>();

  constructor(world: ApiWorld) {
    this.#world = world;
  }

  /** Terraform plans ten resources at once: those of one run are judged one after the other, so that each sees the rest. */
  check(body: Body, principal: Principal): Promise<PlanCheckAnswer> {
    const run = `${principal.name} ${body.run}`;
    return this.#world.turns.inTurn(`plan check ${run}`, () => this.#check(run, body, principal));
  }

  async #check(id: string, body: Body, principal: Principal): Promise<PlanCheckAnswer> {
    const run = this.#run(id);
    if (run.told < (body.earlier ?? 0)) throw new Fault("plan.forgotten", { told: run.told });
    run.told += 1;
    const key = `${body.kind} ${body.id ?? `${body.environment ?? ""}/${body.name ?? linkName(body)}`}`;
    const isFirst = run.changes.size === 0;
    run.changes.delete(key);
    try {
      const asked = await this.#asked(body, run, principal);
      if (asked !== undefined) await this.#announce(body, asked.environment, principal);
      if (asked?.request === undefined) return nothingToJudge(asked);
      const { request } = asked;
      const before = assumeAll(run);
      const given = await this.#world.gate.preview(request, {
        assume: (facts) => withoutReplaced(before(facts), request),
        uncounted: !isFirst,
      });
      const { plan, decision } = given;
      if (decision.effect !== "deny" && plan !== undefined && run.changes.size < maxChanges) {
        const after: Assume = (facts) => applied(withoutReplaced(facts, request), request, plan);
        run.changes.set(key, after);
      }
      return answerOf(given, request, withMoves(asked.ways, given));
    } catch (error) {
      if (!isFault(error)) throw error;
      return refusedBy(error);
    }
  }

  #run(key: string): Run {
    const { clock } = this.#world;
    const nowMs = clock.nowMs();
    for (const [id, run] of this.#runs) {
      if (nowMs - run.touchedMs > forgetAfterMs) this.#runs.delete(id);
    }
    const run = this.#runs.get(key) ?? {
      touchedMs: nowMs,
      told: 0,
      environment: undefined,
      changes: new Map(),
    };
    run.touchedMs = nowMs;
    // Newest last, so that the first is the one that was silent for the longest.
    this.#runs.delete(key);
    this.#runs.set(key, run);
    const [oldest] = this.#runs.keys();
    if (this.#runs.size > maxRuns && oldest !== undefined) this.#runs.delete(oldest);
    return run;
  }

  async #asked(body: Body, run: Run, principal: Principal): Promise<Asked | undefined> {
    const { store } = this.#world;
    if (body.kind === "environment" && body.verb === "create") {
      run.environment = this.#newEnvironment(body, principal);
      run.changes.set(`environment ${run.environment.id}`, withEnvironment(run.environment));
      return { environment: run.environment, request: undefined, ways: [] };
    }
    return await store.read(async (journal) => {
      const environment = await environmentOf(journal, body, run);
      if (environment === undefined) return undefined;
      const declaration = this.#declaration(environment);
      const ask = await askOf(journal, body, {
        ...declaration,
        newId: () => this.#world.ids.next(),
      });
      if (ask === undefined) return { environment, request: undefined, ways: [] };
      const { ways = [], ...about } = ask;
      return { environment, ways, request: this.#request(body, environment, principal, about) };
    });
  }

  /** Applied in any order, a machine that names no address must not take what a later one names. */
  async #announce(
    { addresses = [] }: Body,
    { spec }: EnvironmentRecord,
    principal: Principal,
  ): Promise<void> {
    const { store, clock } = this.#world;
    const named = addresses.filter(isIpv4);
    if (named.length === 0) return;
    checkOwner(principal, spec.owner);
    await store.transaction((journal) =>
      announceAddresses(journal, spec.name, { addresses: named, nowMs: clock.nowMs() }),
    );
  }

  #newEnvironment({ name, body }: Body, principal: Principal): EnvironmentRecord {
    const { ids, clock, siteIds } = this.#world;
    const said = partial(EnvironmentBody, body);
    return {
      kind: "environment",
      id: ids.next(),
      key: name ?? "new",
      environmentId: undefined,
      spec: {
        name: name ?? "new",
        owner: said.owner ?? principal.name,
        class: said.class ?? "default",
        sites: said.sites ?? siteIds,
        adaptation: environmentAdaptation(said.adaptation),
      },
      effective: {},
      version: 1,
      claimed: false,
      createdAtMs: clock.nowMs(),
    };
  }

  #declaration(environment: EnvironmentRecord): Declaration {
    const { siteIds, rawXmlPaths = {}, clock } = this.#world;
    return { environment, siteIds, rawXmlPaths, nowMs: clock.nowMs() };
  }

  #request(
    body: Body,
    environment: EnvironmentRecord,
    principal: Principal,
    about: Partial<Request>,
  ): Request {
    const { ids, clock } = this.#world;
    const id = ids.next();
    const kinds = { create: "create", update: "update", delete: "destroy" } as const;
    return {
      id,
      kind: kinds[body.verb],
      environmentId: environment.id,
      subject: subjectOf(principal, "stack"),
      machines: [],
      links: [],
      ...about,
      reason: `${body.verb} by a plan of the stack`,
      idempotencyKey: `plan-check ${id}`,
      receivedAtMs: clock.nowMs(),
    };
  }
}

function withEnvironment(environment: EnvironmentRecord): Assume {
  return (facts) =>
    facts.environments.some(({ key }) => key === environment.key)
      ? facts
      : { ...facts, environments: [...facts.environments, environment] };
}

/** A replacement is planned while the old one still stands: what is created takes the place of its namesake. */
function withoutReplaced(facts: Facts, request: Request): Facts {
  if (request.kind !== "create" || request.declares === undefined) return facts;
  const { machines = [], links = [], group } = request.declares;
  const { environmentId } = request;
  const names = new Set(machines.map(({ spec }) => `${environmentId}/${spec.name}`));
  const pairs = new Set(links.map(({ spec }) => `${environmentId}/${nameOfLink(spec)}`));
  return {
    ...facts,
    machines: facts.machines.filter(({ key }) => !names.has(key)),
    links: facts.links.filter(({ key }) => !pairs.has(key)),
    groups: facts.groups.filter(({ key }) => key !== `${environmentId}/${group?.spec.name}`),
  };
}

function assumeAll(run: Run): Assume {
  const changes = [...run.changes.values()];
  return (facts) => changes.reduce((now, change) => change(now), facts);
}

/** Where the object is, or is to be; undefined: not known yet. */
async function environmentOf(
  journal: Journal,
  { id, kind, environment }: Body,
  run: Run,
): Promise<EnvironmentRecord | undefined> {
  if (environment !== undefined) {
    if (environment === run.environment?.spec.name) return run.environment;
    return await find(journal, "environment", environment);
  }
  if (id === undefined) return run.environment;
  if (kind === "environment") return await find(journal, "environment", id);
  const record = await find(journal, kind satisfies ObjectKind, id);
  return await find(journal, "environment", record.environmentId ?? "");
}

type About = Partial<
  Pick<Request, "machines" | "links" | "volumes" | "declares" | "scale" | "update">
> & {
  readonly ways?: PlanCheckAnswer["ways"];
};

/** What the change would ask the gate for; undefined: nothing, or too little is known to say. Faults as apply would. */
async function askOf(
  journal: Journal,
  asked: Body,
  declaration: Declaration & { readonly newId: () => string },
): Promise<About | undefined> {
  const { kind, verb, id, name, body } = asked;
  switch (kind) {
    case "machine":
      return verb === "create"
        ? newMachine(name, body, declaration)
        : await changedMachine(journal, asked, declaration);
    case "link":
      return await linkAsk(journal, asked, declaration);
    case "group": {
      if (verb === "create") {
        const known = partial(GroupBody, body);
        const { machine_count } = known;
        // How many there are, and how large each is, is all that anybody decides about.
        if (machine_count === undefined) return undefined;
        const id = declaration.newId();
        const template = Object.assign({ image_id: "", networks: [] }, known.template);
        return await declaredGroup(journal, {
          ...declaration,
          id,
          name: name ?? `new-${id}`,
          body: { ...known, machine_count, template },
        });
      }
      const record = await find(journal, "group", id ?? "");
      if (verb === "delete") {
        refuseProtected(kind, record.spec.name, record.spec.template.deletionProtection);
        return await destroyedGroup(journal, record);
      }
      const patch = partial(GroupPatch, body);
      const { imageId, networks } = record.spec.template;
      const stays = {
        image_id: imageId,
        networks: networks.map(({ networkId }) => ({ network_id: networkId })),
      };
      const template = patch.template && Object.assign(stays, patch.template);
      const ask = await patchedGroup(journal, {
        ...declaration,
        record,
        body: template === undefined ? patch : { ...patch, template },
      });
      return ask && { ...ask, ways: groupWays(patch, ask) };
    }
    case "volume": {
      if (verb === "create") return undefined;
      if (verb === "update") return await changedVolume(journal, asked);
      const record = await find(journal, "volume", id ?? "");
      refuseProtected(kind, record.spec.name, record.spec.deletionProtection);
      return { volumes: [record.id] };
    }
    case "environment":
    case "network":
      return undefined;
  }
}

function newMachine(
  name: string | undefined,
  body: Body["body"],
  declaration: Declaration & { readonly newId: () => string },
): About | undefined {
  const id = declaration.newId();
  const said = partial(MachineBody, body);
  const { spec, ask } = wordedMachine({
    ...declaration,
    name: name ?? `new-${id}`,
    id,
    body: said,
  });
  return { machines: [ask], declares: { machines: [{ id, spec }] } };
}

async function changedMachine(
  journal: Journal,
  of: Pick<Body, "id" | "verb" | "body">,
  declaration: Declaration,
): Promise<About | undefined> {
  const record = await find(journal, "machine", of.id ?? "");
  if (of.verb === "delete") {
    refuseProtected("machine", record.spec.name, record.spec.deletionProtection);
    return { machines: [{ machineId: record.id }] };
  }
  const body = partial(MachinePatch, of.body);
  const { spec, ask } = patchedSpec(record, body, declaration);
  await checkCards(journal, record, { spec, nowMs: declaration.nowMs });
  const restarts = new Set(restartReasons({ before: record, spec, ask }));
  const ways = Object.keys(body)
    .filter((attribute) => !attribute.startsWith("planned_"))
    .map((attribute) => ({
      attribute,
      way: restarts.has(attribute) ? ("restart" as const) : ("live" as const),
    }));
  return {
    machines: [ask ?? { machineId: record.id }],
    update: { baseline: spec.baseline, envelope: spec.envelope, spec },
    ways,
  };
}

/** A volume that is larger, which a host has to make so; its other words are its stack's own. */
async function changedVolume(
  journal: Journal,
  { id, body }: Pick<Body, "id" | "body">,
): Promise<About | undefined> {
  const record = await find(journal, "volume", id ?? "");
  const spec = patchedVolume(record, partial(VolumePatch, body));
  if (record.effective.hostId === "" || spec.sizeGib <= record.effective.sizeGib) return undefined;
  return {
    declares: { volumes: [{ id: record.id, spec }] },
    ways: [{ attribute: "size_gib", way: "live" }],
  };
}

/** A restart is of all its machines; what is not named here nobody's guest notices. */
function groupWays(patch: object, { machines }: GroupAsk): PlanCheckAnswer["ways"] {
  const way = machines.some(({ restart }) => restart === true) ? "restart" : "live";
  return Object.keys(patch)
    .filter((attribute) => !attribute.startsWith("planned_"))
    .map((attribute) => ({ attribute, way: attribute === "template" ? way : "live" }));
}

async function linkAsk(
  journal: Journal,
  of: Pick<Body, "id" | "verb" | "body">,
  declaration: Declaration & { readonly newId: () => string },
): Promise<About | undefined> {
  if (of.verb === "create") {
    const body = whenWhole(LinkBody, of.body);
    if (body === undefined) return undefined;
    const id = declaration.newId();
    const { environment } = declaration;
    const rateMbps = body.rate_mbps;
    const spec = { environmentId: environment.id, ...endsOf(body), rateMbps };
    return { links: [{ linkId: id, rateMbps }], declares: { links: [{ id, spec }] } };
  }
  const record = await find(journal, "link", of.id ?? "");
  if (of.verb === "delete") return { links: [{ linkId: record.id, rateMbps: 0 }] };
  const body = whenWhole(LinkPatch, of.body);
  if (body === undefined) return undefined;
  const rateMbps = body.rate_mbps;
  return {
    links: [{ linkId: record.id, rateMbps }],
    declares: { links: [{ id: record.id, spec: { ...record.spec, rateMbps } }] },
    ways: [{ attribute: "rate_mbps", way: "live" }],
  };
}

function refuseProtected(kind: string, key: string, isProtected: boolean | undefined): void {
  if (isProtected === true) {
    throw new Fault("object.protected", { kind, key, attribute: "deletion_protection" });
  }
}

/** The body where all that it must say is known; undefined: it is not yet. */
function whenWhole<Schema extends TSchema>(
  schema: Schema,
  body: Body["body"],
): Static<Schema> | undefined {
  return Value.Check(schema, body ?? {}) ? ((body ?? {}) as Static<Schema>) : undefined;
}

/** What of the body is known. Fault `request.invalid` when what is there is wrong. */
function partial<Schema extends TSchema>(
  schema: Schema,
  body: Body["body"],
): Partial<Static<Schema>> {
  const given = body ?? {};
  const wrong = Value.Errors(schema, given).find(({ keyword }) => keyword !== "required");
  if (wrong === undefined) return given as Partial<Static<Schema>>;
  const attribute = wrong.instancePath.split("/")[1] ?? "";
  throw new Fault("request.invalid", {
    where: attribute === "" ? "body" : attribute,
    ...(attribute === "" ? {} : { attribute }),
    problem: wrong.message,
  });
}

function linkName({ body }: Body): string {
  const machines: unknown = body?.["machines"];
  return Array.isArray(machines) ? machines.map(String).toSorted().join("--") : "";
}

function nothingToJudge(asked: Asked | undefined): PlanCheckAnswer {
  const isKnown = asked !== undefined;
  return {
    verdict: isKnown ? "granted" : "unknown",
    code: isKnown ? "granted" : "plan.unknown",
    message: isKnown
      ? "Nobody has to decide about this."
      : "Too little is known yet; apply is judged.",
    findings: [],
    ways: asked?.ways ?? [],
    predicted: null,
  };
}

/** A size that only another host can hold is a move too. */
function withMoves(ways: PlanCheckAnswer["ways"], { plan }: Preview): PlanCheckAnswer["ways"] {
  const moves = plan?.actions.some(({ kind }) => kind === "move_machine") === true;
  if (!moves) return ways;
  return ways.map((one) =>
    ["site", "memory_mib", "cpu_percent", "vcpus"].includes(one.attribute) && one.way === "live"
      ? { ...one, way: "move" }
      : one,
  );
}

const verdicts = { allow: "granted", approve: "approval", deny: "denied" } as const;

function answerOf(
  given: Preview,
  request: Request,
  ways: PlanCheckAnswer["ways"],
): PlanCheckAnswer {
  const { plan } = given;
  const decisions = given.decisions.map((one) => decisionFor(request.subject, one));
  const decision = decisionFor(request.subject, given.decision);
  const seen = new Set<string>();
  const findings = decisions
    .flatMap((one) => one.findings)
    .filter((finding) => isTold(finding) && !seen.has(textOf(finding)) && seen.add(textOf(finding)))
    .map(findingOf);
  const isSilent = decision.effect === "deny" && !findings.some((one) => one.severity === "error");
  return {
    verdict: verdicts[decision.effect],
    code: decision.code,
    message: decision.message,
    findings: isSilent ? [...findings, ofDecision(decision)] : findings,
    ways,
    predicted:
      plan === undefined
        ? null
        : {
            duration_ms: plan.cost.durationMs,
            bytes: plan.cost.bytes,
            downtime_ms: plan.cost.downtimeMs,
          },
  };
}

function isTold({ ok, level }: Finding): boolean {
  return !ok && (level === "warn" || level === "approve" || level === "deny");
}

function textOf({ rule, id, owner, msg }: Finding): string {
  return JSON.stringify([rule, id, owner, msg]);
}

function findingOf(finding: Finding): PlanCheckFinding {
  const { rule, id, owner, msg, level, fix } = finding;
  return {
    severity: level === "deny" ? "error" : "warning",
    attribute: attributeOf(finding),
    rule,
    id,
    owner,
    message: msg,
    nearest: fix === undefined ? null : { ...fix },
  };
}

const attributes = ["vcpus", "cpu_percent", "memory_mib", "rate_mbps", "site"];

/** By what would have to be another value, else by where the failed number stands. */
function attributeOf({ fix, path }: Finding): string | null {
  const words = [...Object.keys(fix ?? {}), ...(path ?? "").split("/").toReversed()];
  return words.find((word) => attributes.includes(word)) ?? null;
}

function ofDecision({ code, message }: Decision): PlanCheckFinding {
  const [rule = code] = code.split(".");
  return {
    severity: "error",
    attribute: null,
    rule,
    id: code,
    owner: "drover",
    message,
    nearest: null,
  };
}

/** What apply would refuse before anybody decides. */
function refusedBy(fault: Fault): PlanCheckAnswer {
  const { attribute } = fault.details;
  const finding: PlanCheckFinding = {
    severity: "error",
    attribute: typeof attribute === "string" ? attribute : null,
    rule: fault.code.split(".")[0] ?? fault.code,
    id: fault.code,
    owner: "drover",
    message: `${fault.message}. ${fault.entry.hint}`,
    nearest: null,
  };
  return {
    verdict: "denied",
    code: fault.code,
    message: fault.message,
    findings: [finding],
    ways: [],
    predicted: null,
  };
}
