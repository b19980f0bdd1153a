/**
 * The one gate: every change of a machine, network or disk starts here. Journals the request, decides, plans, asks every
 * owner about the plan, grants and reserves in one transaction, starts the operation. One decision at a time, because
 * two that see the same room would both take it. Fails closed: what cannot be decided is denied, nothing running changes.
 * What the answer is, judge.ts decides; here it becomes durable. Knows no wire format and no host.
 */
import type { KeyObject } from "node:crypto";
import type { Logger } from "pino";
import type { Approval, SignedBreakGlass, Vote } from "#model/consent";
import type { NewEvent } from "#model/event";
import type { Facts } from "#model/facts";
import { Fault } from "#model/fault";
import type { Operation, Plan } from "#model/plan";
import type { Decision, Request } from "#model/request";
import type { Digest, Ms } from "#model/units";
import { ApprovalDesk } from "#policy/approval-desk";
import { askDigestOf, samePlan } from "#policy/approvals";
import { answerOf, askDigest, sameAsker, stillWaits } from "#policy/asked-before";
import { openGlass } from "#policy/break-glass";
import { type Admission, commit, eventOf, last } from "#policy/commit";
import { History } from "#policy/history";
import {
  Judge,
  type Judged,
  type JudgeOptions,
  type JudgeTerms,
  roomIsOnItsWay,
} from "#policy/judge";
import { operationsBefore, operationsOn } from "#policy/refusals";
import { type Recorder, snapshotFormat } from "#policy/snapshot";
import { inChildSpan, inSpan, tell } from "#ports/tracing";

export interface Gate {
  /**
   * Journals the request, decides, plans, checks the plan with all owners, grants, reserves, starts. One at a time. The
   * same (subject, idempotency key) answers the same. A no is an answer; it throws `gate.busy` when too many wait,
   * `request.key_reused` when the key belonged to another ask.
   */
  submit(request: Request): Promise<GateAnswer>;
  /**
   * Decides and plans on the facts of now, or on `assume` of them; journals and changes nothing, reserves nothing. The
   * same judge, but by type nothing that could act; it counts as one request of its asker.
   */
  preview(request: Request, options?: PreviewOptions): Promise<Preview>;
  /**
   * One person's word on a request that waits; when it was the last one needed, what it waits for is decided again and
   * started. Faults `approval.*`.
   */
  vote(
    requestId: string,
    word: Omit<Vote, "atMs"> & { readonly planDigest?: Digest | undefined },
  ): Promise<Approval>;
  /** The asker takes it back. Faults `approval.unknown`, `approval.ended`, `approval.not_yours`. */
  withdraw(requestId: string, by: string): Promise<Approval>;
  /** Ends what is over and carries on what was approved before a restart; when to look again, undefined = never. */
  settleApprovals(): Promise<Ms | undefined>;
  /** The plan that a denied request would have, journaled so that a document can name it. Nothing is granted. */
  planRegardless(requestId: string): Promise<GateAnswer>;
  /** Runs exactly the plan that the document names. Faults `break_glass.*`. */
  breakGlass(requestId: string, signed: SignedBreakGlass): Promise<GateAnswer>;
}
export interface GateAnswer {
  readonly decision: Decision;
  /** Undefined when it was denied before a plan stood. */
  readonly plan: Plan | undefined;
  /** Undefined when nothing was granted. */
  readonly operation: Operation | undefined;
  /** Set when named people must approve it, or had to. */
  readonly approval?: Approval | undefined;
}
export interface PreviewOptions extends Pick<JudgeTerms, "assume"> {
  /** One question of a search that was counted once already. */
  readonly uncounted?: boolean | undefined;
}
/** An answer that nothing follows. */
export interface Preview extends GateAnswer {
  readonly decisions: readonly Decision[];
  readonly operation: undefined;
}

/** What the gate needs of operations/. */
export interface GateOperations extends Admission {
  kick(): void;
  wait(id: string, timeoutMs: Ms, signal?: AbortSignal): Promise<Operation>;
}

export interface GateOptions extends JudgeOptions {
  readonly log: Logger;
  /** Public keys whose documents break the glass; none by default. */
  readonly glassKeys?: readonly KeyObject[] | undefined;
  readonly operations: GateOperations;
  /** Keeps what a decision was made of; must not wait. Absent: decisions cannot be made again elsewhere. */
  readonly record?: Recorder | undefined;
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
  readonly #desk: ApprovalDesk;
  readonly #inFlight = new Map<string, Promise<GateAnswer>>();
  #turn: Promise<unknown> = Promise.resolve();
  #waiting = 0;

  constructor(options: GateOptions, history: History) {
    this.#options = options;
    this.#history = history;
    this.#judge = new Judge(options, history);
    this.#desk = new ApprovalDesk({
      store: options.store,
      clock: options.clock,
      decideAgain: (request, approved) => this.#once(request, { approved }),
    });
  }

  async submit(request: Request): Promise<GateAnswer> {
    const most = request.subject.type === "guest" ? maxWaitingGuests : maxWaiting;
    if (this.#waiting >= most) throw new Fault("gate.busy", { waiting: this.#waiting });
    this.#waiting += 1;
    try {
      return await inSpan("gate", spanWords(request), async () => {
        const { log } = this.#options;
        const known = await this.#journalRequest(request);
        log.debug({ kind: request.kind, asker: request.subject.type }, "asked");
        const answer = known.answer ?? (await this.#once(known.request));
        const { decision, plan, operation } = answer;
        const { id, effect, code } = decision;
        tell({
          request: known.request.id,
          decision: id,
          effect,
          code,
          plan: plan?.id,
          operation: operation?.id,
        });
        log.debug({ effect, code }, "decided");
        return answer;
      });
    } finally {
      this.#waiting -= 1;
    }
  }

  /** Whoever asks meanwhile gets the same answer. */
  async #once(request: Request, terms: JudgeTerms = {}): Promise<GateAnswer> {
    const { id } = request;
    const running = this.#inFlight.get(id);
    if (running !== undefined) return await running;
    const work = this.#answer(request, terms).finally(() => this.#inFlight.delete(id));
    this.#inFlight.set(id, work);
    return await work;
  }

  async preview(
    request: Request,
    { assume, uncounted = false }: PreviewOptions = {},
  ): Promise<Preview> {
    return await this.#inTurn(async () => {
      const given = await dryRun(this.#judge, request, assume);
      if (!uncounted) this.#history.add(request, given.decision.effect);
      return given;
    });
  }

  vote: Gate["vote"] = (requestId, word) => this.#desk.vote(requestId, word);
  withdraw: Gate["withdraw"] = (requestId, by) => this.#desk.withdraw(requestId, by);
  settleApprovals: Gate["settleApprovals"] = () => this.#desk.settle();

  async planRegardless(requestId: string): Promise<GateAnswer> {
    const { store } = this.#options;
    const request = await this.#mustKnow(requestId);
    return await this.#inTurn(async () => {
      const found = await this.#judge.planRegardless(request);
      if ("decisions" in found) {
        return { decision: last(found.decisions), plan: undefined, operation: undefined };
      }
      const plan = await store.transaction(async (journal) => {
        const known = await journal.plans.ofRequest(requestId);
        const same = known.findLast((one) => samePlan(one, found.plan));
        if (same !== undefined) return same;
        await journal.plans.add(found.plan);
        const { id: planId, digest } = found.plan;
        await journal.events.append(this.#event(request, "plan.made", { planId, digest }));
        return found.plan;
      });
      const decision = await store.read(async (journal) =>
        (await journal.decisions.ofRequest(requestId)).at(-1),
      );
      if (decision === undefined)
        throw new Fault("object.unknown", { kind: "request", id: requestId });
      return { decision, plan, operation: undefined };
    });
  }

  async breakGlass(requestId: string, signed: SignedBreakGlass): Promise<GateAnswer> {
    const { clock, store, glassKeys } = this.#options;
    const document = openGlass(signed, glassKeys ?? [], clock.nowMs());
    const request = await this.#mustKnow(requestId);
    return await this.#inTurn(async () => {
      const found = await this.#judge.planRegardless(request);
      if ("decisions" in found) {
        return { decision: last(found.decisions), plan: undefined, operation: undefined };
      }
      const { known, done } = await store.read(async (journal) => ({
        known: await journal.plans.ofRequest(requestId),
        done: await journal.operations.list({ requestId }),
      }));
      if (
        done.some(
          ({ planId }) => known.find(({ id }) => id === planId)?.digest === document.plan_digest,
        )
      ) {
        throw new Fault("break_glass.invalid", { problem: "its plan was run already" });
      }
      const plan = known.find(({ digest }) => digest === document.plan_digest);
      if (plan === undefined || !samePlan(plan, found.plan)) {
        throw new Fault("break_glass.plan_changed", {
          named: document.plan_digest,
          request: requestId,
          now: found.plan.digest,
        });
      }
      const judged = this.#judge.brokenGlass(request, { facts: found.facts, plan, signed });
      const answer = await this.#commit(request, judged, {}, signed);
      if (answer === undefined) throw new Fault("gate.busy", { waiting: this.#waiting });
      return answer;
    });
  }

  async #mustKnow(requestId: string): Promise<Request> {
    const request = await this.#options.store.read((journal) => journal.requests.get(requestId));
    if (request === undefined)
      throw new Fault("object.unknown", { kind: "request", id: requestId });
    return request;
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
      // Asked before and still waiting for people: the same ask waits there, it does not wait twice.
      const waiting = await journal.approvals.findPending(askDigestOf(request));
      if (
        waiting !== undefined &&
        (await stillWaits(journal, waiting, this.#options.clock.nowMs()))
      ) {
        const asked = await journal.requests.get(waiting.requestId);
        const answer = asked && (await answerOf(journal, asked));
        if (asked !== undefined && answer !== undefined) return { request: asked, answer };
      }
      await journal.requests.add(request);
      await journal.events.append(this.#event(request, "request.received", { kind: request.kind }));
      return { request };
    });
  }

  async #answer(request: Request, terms: JudgeTerms): Promise<GateAnswer> {
    const { clock } = this.#options;
    const startMs = clock.nowMs();
    const patience = {
      idleUntilMs: startMs + patienceMs[request.subject.type],
      roomUntilMs: startMs + roomPatienceMs,
    };
    for (;;) {
      await this.#untilIdle(request, patience.idleUntilMs);
      const answer = await this.#inTurn(() => this.#decide(request, patience, terms));
      if (answer === "room_on_its_way") await clock.sleep(roomPauseMs);
      else if (answer !== "busy") return answer;
    }
  }

  /** Or why it is worth waiting outside of the queue first. */
  async #decide(
    request: Request,
    patience: { readonly idleUntilMs: Ms; readonly roomUntilMs: Ms },
    terms: JudgeTerms,
  ): Promise<GateAnswer | "busy" | "room_on_its_way"> {
    const { clock, store } = this.#options;
    // The decision before this one may have started work on the same machine.
    const [running] = await operationsBefore(store, request);
    if (running !== undefined && clock.nowMs() < patience.idleUntilMs) return "busy";
    for (let attempt = 0; ; attempt++) {
      const looks: Facts[] = [];
      const judged = await inChildSpan("judge", { request: request.id }, () =>
        this.#judge.judge(request, { ...terms, onFacts: (facts) => looks.push(facts) }),
      );
      if (roomIsOnItsWay(judged) && clock.nowMs() < patience.roomUntilMs) return "room_on_its_way";
      const answer = await this.#commit(request, judged, terms);
      if (answer !== undefined) {
        await this.#record(request, judged, { looks, terms });
        return answer;
      }
      if (attempt < maxRetries) continue;
      return mustStand(await this.#commit(request, this.#judge.contended(request, judged), terms));
    }
  }

  /** What the decision was made of, for somebody who decides it again elsewhere. */
  async #record(
    request: Request,
    { decisions, plan }: Judged,
    { looks, terms }: { readonly looks: readonly Facts[]; readonly terms: JudgeTerms },
  ): Promise<void> {
    const { record, clock, store } = this.#options;
    if (record === undefined) return;
    const byWork = decisions.some(({ code }) => code.startsWith("operation."));
    const { approved } = terms;
    record({
      format: snapshotFormat,
      takenAtMs: clock.nowMs(),
      request,
      looks,
      operations: byWork
        ? await operationsOn(store, request, ["pending", "running", "undoing", "stuck"])
        : [],
      ...(approved === undefined ? {} : { approved }),
      decisions,
      plan,
    });
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
      const [running] = await operationsBefore(this.#options.store, request);
      const leftMs = untilMs - clock.nowMs();
      if (running === undefined || leftMs <= 0) return;
      await operations.wait(running.id, leftMs);
    }
  }

  /** Undefined: decide again. */
  async #commit(
    request: Request,
    judged: Judged,
    terms: JudgeTerms,
    signed?: SignedBreakGlass,
  ): Promise<GateAnswer | undefined> {
    const committed = await commit(this.#options, { request, judged, terms, signed });
    if (committed === undefined) return undefined;
    const decision = last(judged.decisions);
    this.#history.add(request, decision.effect);
    if (committed.operation !== undefined) this.#options.operations.kick();
    return { decision, plan: judged.plan, ...committed };
  }

  #event(
    request: Request,
    kind: NewEvent["kind"],
    data: Readonly<Record<string, unknown>>,
  ): NewEvent {
    return eventOf(request, this.#options.clock.nowMs(), { kind, data });
  }
}

function spanWords({ id, kind, environmentId, subject }: Request) {
  return { request: id, kind, environment: environmentId, asker: subject.type };
}

/** The only way to a preview: it is given a judge, and nothing that could act or write. */
async function dryRun(
  judge: Pick<Judge, "judge">,
  request: Request,
  assume: JudgeTerms["assume"],
): Promise<Preview> {
  const { decisions, plan } = await judge.judge(request, { assume });
  return { decision: last(decisions), decisions, plan, operation: undefined };
}

function mustStand(answer: GateAnswer | undefined): GateAnswer {
  if (answer === undefined) throw new Error("a denial is always journaled");
  return answer;
}
