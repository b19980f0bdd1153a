/**
 * Dry decisions on the changes of one Terraform run. Each change is judged on the fleet as it would be after those that
 * were told before it under the same run id, so that quotas see the whole and the change that tips is the one denied.
 * Keeps runs in memory only: a check promises nothing, apply is judged again. A run that begins in the middle was told to
 * an earlier shepherd, and is asked for from its beginning.
 */
import type { Static } from "typebox";
import { checkOwner, type Principal, subjectOf } from "#api/access";
import type { PlanCheckAnswer } from "#api/contract";
import { declarationIn } from "#api/declaration";
import { environmentAdaptation } from "#api/machine-spec";
import { answerOf, nothingToJudge, refusedBy, withMoves } from "#api/plan-answers";
import { askOf, partial } from "#api/plan-asks";
import { assumedConstraint } from "#api/planned-constraints";
import { find } from "#api/records";
import type { PlanCheckBody } from "#api/schemas";
import { EnvironmentBody } from "#api/schemas";
import type { ApiWorld } from "#api/world";
import type { Facts } from "#model/facts";
import { Fault, isFault } from "#model/fault";
import { type EnvironmentRecord, nameOfLink, type ObjectKind } from "#model/objects";
import type { Request } from "#model/request";
import type { Ms } from "#model/units";
import { isIpv4 } from "#network/addresses";
import { announceAddresses } from "#operations/announced-addresses";
import { applied } from "#planner/applied";
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
    if (body.kind === "constraint") return await this.#constraint(body, run, principal);
    return await store.read(async (journal) => {
      const environment = await environmentOf(journal, body, run);
      if (environment === undefined) return undefined;
      const declaration = declarationIn(this.#world, environment);
      const ask = await askOf(journal, body, {
        ...declaration,
        newId: () => this.#world.ids.next(),
      });
      if (ask === undefined) return { environment, request: undefined, ways: [] };
      const { ways = [], ...about } = ask;
      return { environment, ways, request: this.#request(body, environment, principal, about) };
    });
  }

  /** Nobody decides about it; what the run tells from now on is judged by it too. */
  async #constraint(body: Body, run: Run, principal: Principal): Promise<Asked | undefined> {
    const { store } = this.#world;
    const of = await store.read(async (journal) => ({
      environment: await environmentOf(journal, body, run),
      before: body.id === undefined ? undefined : await find(journal, "constraint", body.id),
    }));
    const { environment, before } = of;
    if (environment === undefined) return undefined;
    checkOwner(principal, environment.spec.owner);
    const assume = await assumedConstraint(this.#world, body, { environment, before });
    const { key } = before ?? { key: `${environment.id}/${body.name ?? ""}` };
    if (assume !== undefined) run.changes.set(`constraint ${key}`, assume);
    return { environment, request: undefined, ways: [] };
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

function linkName({ body }: Body): string {
  const machines: unknown = body?.["machines"];
  return Array.isArray(machines) ? machines.map(String).toSorted().join("--") : "";
}
