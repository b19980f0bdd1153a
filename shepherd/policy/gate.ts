/**
 * The one gate: every change of a machine, network or disk starts here. Journals the request, decides, plans, asks every
 * owner about the plan, grants and reserves in one transaction, starts the operation. One decision at a time, because
 * two that see the same room would both take it. Fails closed: what cannot be decided is denied, nothing running changes.
 * What the answer is, judge.ts decides; here it becomes durable. Knows no wire format and no host.
 */
import type { Logger } from "pino";
import { digestOf } from "#model/canonical";
import type { NewEvent } from "#model/event";
import type { Facts } from "#model/facts";
import { Fault } from "#model/fault";
import type { Operation, OperationKind, Plan } from "#model/plan";
import type { Decision, Grant, Request } from "#model/request";
import type { Ms } from "#model/units";
import { History } from "#policy/history";
import {
  Judge,
  type Judged,
  type JudgeOptions,
  operationsOn,
  roomIsOnItsWay,
  unfinished,
} from "#policy/judge";
import type { Journal } from "#ports/store";

export interface Gate {
  /**
   * Journals the request, decides, plans, checks the plan with all owners, grants, reserves, starts. One at a time. The
   * same (subject, idempotency key) answers the same. A no is an answer; it throws `gate.busy` when too many wait,
   * `request.key_reused` when the key belonged to another ask.
   */
  submit(request: Request): Promise<GateAnswer>;
  /** Decides and plans on the facts of now; journals and changes nothing, reserves nothing. */
  preview(request: Request): Promise<GateAnswer>;
}
export interface GateAnswer {
  readonly decision: Decision;
  /** Undefined when it was denied before a plan stood. */
  readonly plan: Plan | undefined;
  /** Undefined when nothing was granted. */
  readonly operation: Operation | undefined;
}

/** What the gate needs of operations/. */
export interface GateOperations {
  admit(
    journal: Journal,
    order: {
      readonly grant: Grant;
      readonly plan: Plan;
      readonly request: Request;
      readonly kind: OperationKind;
    },
  ): Promise<Operation>;
  kick(): void;
  wait(id: string, timeoutMs: Ms, signal?: AbortSignal): Promise<Operation>;
}

export interface GateOptions extends JudgeOptions {
  readonly log: Logger;
  readonly operations: GateOperations;
}

/** Requests that may wait for their turn; a decision takes milliseconds, so more than this is an attack or a fault. */
const maxWaiting = 1_000;
/** Guests together leave some of it to people and to the stack. */
const maxWaitingGuests = 750;
/** Decisions repeated because a record changed between facts and grant. */
const maxRetries = 5;
/** How long a request waits for the operation that its machine is in: a guest's asker is a program, a stack's a person with time. */
const patienceMs: Record<Request["subject"]["type"], Ms> = {
  guest: 30_000,
  automation: 30_000,
  operator: 120_000,
  stack: 600_000,
  shepherd: 600_000,
};
/** A guest gives its balloon pages back within seconds; a no for lack of room waits for those that are on their way. */
const roomPatienceMs: Ms = 10_000;
const roomPauseMs: Ms = 500;
/** What a request becomes when policy grants it. */
const operationKinds: Record<Request["kind"], OperationKind> = {
  create: "create",
  update: "update",
  destroy: "destroy",
  resize: "adapt",
  rate: "adapt",
  move: "adapt",
  release: "release",
  repair: "repair",
};

/** Reads the last hour of requests first. */
export async function createGate(options: GateOptions): Promise<Gate> {
  const history = new History();
  await options.store.read((journal) => history.load(journal, options.clock.nowMs()));
  return new SerialGate(options, history);
}

class SerialGate implements Gate {
  readonly #options: GateOptions;
  readonly #history: History;
  readonly #judge: Judge;
  readonly #inFlight = new Map<string, Promise<GateAnswer>>();
  #turn: Promise<unknown> = Promise.resolve();
  #waiting = 0;

  constructor(options: GateOptions, history: History) {
    this.#options = options;
    this.#history = history;
    this.#judge = new Judge(options, history);
  }

  async submit(request: Request): Promise<GateAnswer> {
    const most = request.subject.type === "guest" ? maxWaitingGuests : maxWaiting;
    if (this.#waiting >= most) throw new Fault("gate.busy", { waiting: this.#waiting });
    this.#waiting += 1;
    try {
      const known = await this.#journalRequest(request);
      if (known.answer !== undefined) return known.answer;
      const { id } = known.request;
      const running = this.#inFlight.get(id);
      if (running !== undefined) return await running;
      const work = this.#answer(known.request).finally(() => this.#inFlight.delete(id));
      this.#inFlight.set(id, work);
      return await work;
    } finally {
      this.#waiting -= 1;
    }
  }

  async preview(request: Request): Promise<GateAnswer> {
    return await this.#inTurn(async () => {
      const judged = await this.#judge.judge(request);
      return { decision: last(judged.decisions), plan: judged.plan, operation: undefined };
    });
  }

  /** The earlier request of the same asker and key, with its answer if it has one; else this one, now durable. */
  async #journalRequest(
    request: Request,
  ): Promise<{ readonly request: Request; readonly answer?: GateAnswer }> {
    return await this.#options.store.transaction(async (journal) => {
      const earlier = await journal.requests.findByKey(
        request.subject.name,
        request.idempotencyKey,
      );
      if (earlier !== undefined && sameAsker(earlier, request)) {
        if (askDigest(earlier) !== askDigest(request)) {
          throw new Fault("request.key_reused", {
            key: request.idempotencyKey,
            request: earlier.id,
          });
        }
        const answer = await answerOf(journal, earlier);
        return answer === undefined ? { request: earlier } : { request: earlier, answer };
      }
      await journal.requests.add(request);
      await journal.events.append(this.#event(request, "request.received", { kind: request.kind }));
      return { request };
    });
  }

  async #answer(request: Request): Promise<GateAnswer> {
    const { clock } = this.#options;
    const startMs = clock.nowMs();
    const patience = {
      idleUntilMs: startMs + patienceMs[request.subject.type],
      roomUntilMs: startMs + roomPatienceMs,
    };
    for (;;) {
      await this.#untilIdle(request, patience.idleUntilMs);
      const answer = await this.#inTurn(() => this.#decide(request, patience));
      if (answer === "room_on_its_way") await clock.sleep(roomPauseMs);
      else if (answer !== "busy") return answer;
    }
  }

  /** Or why it is worth waiting outside of the queue first. */
  async #decide(
    request: Request,
    patience: { readonly idleUntilMs: Ms; readonly roomUntilMs: Ms },
  ): Promise<GateAnswer | "busy" | "room_on_its_way"> {
    const { clock, store } = this.#options;
    // The decision before this one may have started work on the same machine.
    const [running] = await operationsOn(store, request, unfinished);
    if (running !== undefined && clock.nowMs() < patience.idleUntilMs) return "busy";
    for (let attempt = 0; ; attempt++) {
      const judged = await this.#judge.judge(request);
      if (roomIsOnItsWay(judged) && clock.nowMs() < patience.roomUntilMs) return "room_on_its_way";
      const answer = await this.#commit(request, judged);
      if (answer !== undefined) return answer;
      if (attempt < maxRetries) continue;
      return mustStand(await this.#commit(request, this.#judge.contended(request, judged)));
    }
  }

  /** Runs one at a time, in the order of arrival. */
  async #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const mine = this.#turn.then(work);
    this.#turn = mine.catch(() => undefined);
    return await mine;
  }

  /** Lets running operations of the machines end first: a plan made in the middle of one would not fit when it runs. */
  async #untilIdle(request: Request, untilMs: Ms): Promise<void> {
    const { clock, operations } = this.#options;
    for (;;) {
      const [running] = await operationsOn(this.#options.store, request, unfinished);
      const leftMs = untilMs - clock.nowMs();
      if (running === undefined || leftMs <= 0) return;
      await operations.wait(running.id, leftMs);
    }
  }

  /** One transaction: decisions, and on a yes plan, grant, reservations, operation and the new spec. Undefined: decide again. */
  async #commit(request: Request, judged: Judged): Promise<GateAnswer | undefined> {
    const { store, operations } = this.#options;
    const decision = last(judged.decisions);
    const { plan, grant, granted } = judged;
    const committed = await store.transaction(async (journal) => {
      if (plan !== undefined && !(await isStill(journal, request, judged.facts))) return undefined;
      for (const one of judged.decisions) {
        await journal.decisions.add(one);
        const { id, point, effect, code } = one;
        await journal.events.append(
          this.#event(request, "decision.made", { decisionId: id, point, effect, code }),
        );
      }
      if (plan === undefined || grant === undefined) return { operation: undefined };
      await journal.plans.add(plan);
      await journal.grants.add(grant);
      const { id: planId, digest } = plan;
      await journal.events.append(this.#event(request, "plan.made", { planId, digest }));
      await journal.events.append(
        this.#event(request, "grant.issued", { grantId: grant.id, planId, digest }),
      );
      await storeLinkSpecs(journal, request);
      const kind = operationKindOf(request, grant, judged.facts);
      return {
        operation: await operations.admit(journal, { grant, plan, request: granted, kind }),
      };
    });
    if (committed === undefined) return undefined;
    this.#history.add(request, decision.effect);
    if (committed.operation !== undefined) operations.kick();
    return { decision, plan, operation: committed.operation };
  }

  #event(
    request: Request,
    kind: NewEvent["kind"],
    data: Readonly<Record<string, unknown>>,
  ): NewEvent {
    const [machine] = request.machines;
    return {
      kind,
      atMs: this.#options.clock.nowMs(),
      environmentId: request.environmentId,
      ...(machine === undefined ? {} : { machineId: machine.machineId }),
      data: { requestId: request.id, subject: request.subject, ...data },
    };
  }
}

/**
 * Giving back needs no consent, so it cannot bring a longer lease: it keeps the terms of what is left (the operation is a
 * release), unless it asks for a shorter one.
 */
function operationKindOf(request: Request, grant: Grant, facts: Facts): OperationKind {
  if (grant.kind === "decision") return operationKinds[request.kind];
  if (grant.kind === "repair" || request.kind === "release") return grant.kind;
  const { leaseMs } = request;
  if (leaseMs === undefined) return grant.kind;
  const asked = new Set<string>([
    ...request.machines.map(({ machineId }) => machineId),
    ...request.links.map(({ linkId }) => linkId),
  ]);
  const shortens = [...facts.machines, ...facts.links]
    .filter(({ id }) => asked.has(id))
    .every(
      ({ effective: { leaseUntilMs } }) => facts.nowMs + leaseMs <= (leaseUntilMs ?? Infinity),
    );
  return shortens ? "adapt" : grant.kind;
}

function last(decisions: readonly Decision[]): Decision {
  const decision = decisions.at(-1);
  if (decision === undefined) throw new Error("a judged request has a decision");
  return decision;
}

function mustStand(answer: GateAnswer | undefined): GateAnswer {
  if (answer === undefined) throw new Error("a denial is always journaled");
  return answer;
}

/** The store looks by name; a guest must never get the answer of an operator or of another machine. */
function sameAsker(earlier: Request, request: Request): boolean {
  return (
    earlier.subject.type === request.subject.type &&
    earlier.subject.machineId === request.subject.machineId
  );
}

/** The asker's own words: not what intake looked up for them, because a repeated release finds other links raised. */
function askDigest(request: Request): string {
  const { kind, environmentId, machines, links, group, leaseMs, reason } = request;
  const [first] = machines;
  const { machineId: _, ...wanted } = first ?? { machineId: "" };
  return digestOf({
    kind,
    environmentId,
    machines: group === undefined ? machines : wanted,
    links: kind === "release" ? [] : links,
    group,
    leaseMs,
    reason,
  });
}

/** The journaled answer of a request; undefined when the shepherd died before it decided. */
async function answerOf(journal: Journal, request: Request): Promise<GateAnswer | undefined> {
  const decision = (await journal.decisions.ofRequest(request.id)).at(-1);
  if (decision === undefined) return undefined;
  const operation = (await journal.operations.list({ requestId: request.id })).at(-1);
  const plan = operation && (await journal.plans.get(operation.planId));
  return { decision, plan, operation };
}

/** True when the machines and links asked for are as the facts said; an operation's step or another write may have come between. */
async function isStill(journal: Journal, request: Request, facts: Facts): Promise<boolean> {
  for (const { machineId } of request.machines) {
    const now = await journal.objects.get("machine", machineId);
    const then = facts.machines.find(({ id }) => id === machineId);
    if (now?.version !== then?.version) return false;
  }
  for (const { linkId } of request.links) {
    const now = await journal.objects.get("link", linkId);
    const then = facts.links.find(({ id }) => id === linkId);
    if (now?.version !== then?.version) return false;
  }
  return true;
}

/** A link's new word is stored with its grant; a machine's is stored by operations, in the same transaction. */
async function storeLinkSpecs(journal: Journal, request: Request): Promise<void> {
  if (request.kind !== "update") return;
  for (const { linkId, rateMbps } of request.links) {
    const link = await journal.objects.get("link", linkId);
    if (link === undefined || link.spec.rateMbps === rateMbps) continue;
    const spec = { ...link.spec, rateMbps };
    await journal.objects.put({ ...link, spec, version: link.version + 1 });
  }
}
