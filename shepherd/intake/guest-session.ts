/**
 * One machine's dialog over its channel: lines in, answers out (docs/guest-protocol.md). Lives longer than a connection:
 * work that was asked for goes on while the machine moves, and its answer goes to whichever stream is there then.
 * Everything is bounded per machine: lines, asks at work, answers unread. Knows the gate, never a host.
 */
import type { Duplex } from "node:stream";
import type { Logger } from "pino";
import { announce } from "#intake/forecasts";
import {
  deniedResult,
  endedResult,
  notApprovedResult,
  pendingResult,
  type Result,
  statusResult,
  waitingResult,
} from "#intake/guest-answers";
import { inert } from "#intake/inert";
import { type RefusalCounter, type RefusalReason, TokenBucket } from "#intake/limits";
import { type Cut, LineCutter, lineLimitBytes } from "#intake/lines";
import {
  type Ask,
  guestCall,
  guestMethods,
  guestSubject,
  type Method,
  type Scope,
} from "#intake/methods";
import { canonicalJson } from "#model/canonical";
import { Fault, isFault, toFaultData } from "#model/fault";
import type { MachineRecord } from "#model/objects";
import type { Operation } from "#model/plan";
import type { Request } from "#model/request";
import type { EnvironmentId, MachineId, Ms } from "#model/units";
import { waitForApproval } from "#policy/approvals";
import type { Gate, GateAnswer, GateOperations } from "#policy/gate";
import { newRequest } from "#policy/request";
import type { Clock, Ids } from "#ports/clock";
import type { Store } from "#ports/store";
import { inSpan, outsideSpans } from "#ports/tracing";

/** A program that asks every 200 ms is served; the burst is a group's ranks that share a script. */
const asksOfMachine = { perSecond: 5, burst: 10 };
/** Under a flood so many -32002 a second are sent, the rest is dropped unread (docs/guest-protocol.md). */
const rateAnswers = { perSecond: 10, burst: 10 };
/** Answers to lines without an id, which nobody waits for. */
const garbageAnswers = { perSecond: 1, burst: 1 };
/** What is read of a guest: a line of 10 MB passes at once, a guest that never stops writing costs no more than this. */
const bytesOfMachine = { perSecond: 4 * 2 ** 20, burst: 16 * 2 ** 20 };
/** Longest pause of reading: libvirtd gives a stalled stream up after 30 s (reference libvirt.md 2.7). */
const longestPauseMs: Ms = 5_000;
/** Asks of one machine that may be at work; each waits at the gate. */
const maxAtWork = 8;
/** Answers that wait for a guest that does not read; then progress is dropped, then answers. */
const maxUnread = 32;
/** Between two looks at an ask that people have to approve; its end wakes it earlier. */
const approvalLookMs: Ms = 60_000;
/** An answer later than this is `pending` first. */
const pendingAfterMs: Ms = 2_000;
/** Between two looks at running work, and so between two progress notifications. */
const progressEveryMs: Ms = 1_000;
const idPattern = /^[A-Za-z0-9._:-]{1,64}$/;

export interface SessionWorld {
  readonly store: Store;
  readonly gate: Pick<Gate, "submit">;
  readonly operations: Pick<GateOperations, "wait">;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly log: Logger;
  readonly refusals: RefusalCounter;
}

type Id = string | null;
interface AtWork {
  readonly words: string;
  pending: Result | undefined;
}

export class GuestSession {
  readonly machineId: MachineId;
  readonly #world: SessionWorld;
  readonly #environmentId: EnvironmentId | undefined;
  readonly #asks: TokenBucket;
  readonly #rateAnswers: TokenBucket;
  readonly #garbageAnswers: TokenBucket;
  readonly #bytes: TokenBucket;
  readonly #cutter = new LineCutter();
  readonly #atWork = new Map<string, AtWork>();
  #stream: Duplex | undefined;
  #isFull = false;
  #unread: { readonly line: string; readonly isProgress: boolean }[] = [];

  constructor(
    machine: { readonly id: MachineId; readonly environmentId: EnvironmentId | undefined },
    world: SessionWorld,
  ) {
    this.machineId = machine.id;
    this.#environmentId = machine.environmentId;
    this.#world = world;
    this.#asks = new TokenBucket(world.clock, asksOfMachine);
    this.#bytes = new TokenBucket(world.clock, bytesOfMachine);
    this.#rateAnswers = new TokenBucket(world.clock, rateAnswers);
    this.#garbageAnswers = new TokenBucket(world.clock, garbageAnswers);
  }

  /** Talks over this stream until it ends; resolves then, also on an error of it. */
  async serve(stream: Duplex): Promise<void> {
    this.#cutter.reset();
    this.#stream = stream;
    this.#isFull = false;
    await new Promise<void>((resolve) => {
      const end = () => {
        if (this.#stream === stream) this.#stream = undefined;
        stream.destroy();
        resolve();
      };
      stream.on("data", (chunk: Uint8Array) => {
        for (const cut of this.#cutter.push(chunk)) this.#onLine(cut);
        this.#slowDown(stream, this.#bytes.spend(chunk.length));
      });
      stream.on("drain", () => {
        this.#isFull = false;
        this.#flush();
      });
      stream.on("end", end);
      stream.on("close", end);
      stream.on("error", (error: Error) => {
        this.#world.log.debug({ machine: this.machineId, err: error }, "guest channel failed");
        end();
      });
      this.#flush();
    });
  }

  #slowDown(stream: Duplex, waitMs: Ms): void {
    if (waitMs === 0) return;
    const { clock } = this.#world;
    stream.pause();
    clock.at(clock.nowMs() + Math.min(waitMs, longestPauseMs), () => {
      if (!stream.destroyed) stream.resume();
    });
  }

  #onLine(cut: Cut): void {
    if (!this.#asks.take()) {
      this.#refuse("rate");
      // Reading the id costs more than dropping the line: only as often as an answer goes out.
      if (this.#rateAnswers.take()) this.#sayTooMany(idOf(cut));
      return;
    }
    if (cut.kind === "too_long") {
      this.#refuse("line_too_long");
      this.#sayGarbage(-32001, "the line is too long", { limit_bytes: lineLimitBytes });
      return;
    }
    const text = decode(cut.bytes);
    if (text === undefined) {
      this.#refuse("not_utf8");
      this.#sayGarbage(-32700, "not UTF-8");
      return;
    }
    const message = parse(text);
    if (message === undefined) {
      this.#refuse("not_json");
      this.#sayGarbage(-32700, "not JSON");
      return;
    }
    this.#onMessage(message.value);
  }

  #onMessage(message: unknown): void {
    const read = readRequest(message);
    if ("problem" in read) {
      this.#refuse("not_a_request");
      const { id, problem } = read;
      if (id === null) this.#sayGarbage(-32600, "not a request", { problem });
      else this.#sayError(id, -32600, "not a request", { problem });
      return;
    }
    const { id, method: name, params } = read;
    const method = guestMethods.find((candidate) => candidate === name);
    if (method === undefined) {
      this.#refuse("unknown_method");
      this.#sayError(id, -32601, "no such method", { methods: guestMethods });
      return;
    }
    const words = canonicalJson({ method, params });
    const known = this.#atWork.get(id);
    if (known !== undefined && known.words !== words) {
      this.#refuse("key_reused");
      this.#sayError(id, -32003, "this id belongs to another ask");
      return;
    }
    if (known !== undefined) {
      // Asked again while it is at work: one answer comes anyway; a pending one is repeated.
      if (known.pending !== undefined) this.#say({ id, result: known.pending });
      return;
    }
    if (this.#atWork.size >= maxAtWork) {
      this.#refuse("rate");
      if (this.#rateAnswers.take()) this.#sayTooMany(id);
      return;
    }
    const work: AtWork = { words, pending: undefined };
    this.#atWork.set(id, work);
    const followed = { machine: this.machineId, environment: this.#environmentId, asker: "guest" };
    // A trace of its own: the channel was opened in somebody else's.
    const served = outsideSpans(() =>
      inSpan(`guest ${method}`, followed, () => this.#serveCall(id, method, params, work)),
    );
    void served.finally(() => this.#atWork.delete(id));
  }

  async #serveCall(id: string, method: Method, params: unknown, work: AtWork): Promise<void> {
    const { log } = this.#world;
    try {
      const { self, scope } = await this.#scope();
      const call = guestCall(method, params, self, scope);
      if (call.kind === "request") {
        await this.#serveAsk(id, this.#requestOf(id, call.ask, self), work);
        return;
      }
      this.#say({ id, result: await this.#answerOf(call, self, scope) });
    } catch (error) {
      this.#sayFault(id, error);
      if (!isFault(error)) log.error({ machine: this.machineId, err: error }, "a call failed");
    }
  }

  /** What needs no decision: nothing is changed by it. */
  async #answerOf(
    call: Exclude<ReturnType<typeof guestCall>, { readonly kind: "request" }>,
    self: MachineRecord,
    scope: Scope,
  ): Promise<Readonly<Record<string, unknown>>> {
    const { store, clock, ids } = this.#world;
    if (call.kind === "status") return statusResult(self, scope.environment, clock.nowMs());
    const by = { asker: self.spec.name, id: ids.next(), nowMs: clock.nowMs() };
    return await store.transaction((journal) => announce(journal, call.forecast, by));
  }

  async #serveAsk(id: string, request: Request, work: AtWork): Promise<void> {
    const { gate, clock } = this.#world;
    let judged: GateAnswer | undefined;
    const ending = gate.submit(request).then(async (answer) => {
      judged = answer;
      if (answer.approval?.state === "pending") {
        // People take their time: told at once that it waits for them, not when patience is over.
        work.pending = waitingResult(answer.decision);
        this.#say({ id, result: work.pending });
        judged = await this.#approved(request, answer.approval.requestId);
      }
      const given = judged;
      const { decision } = given;
      return this.#follow(request, given, (operation) => {
        if (work.pending === undefined) return;
        work.pending = pendingResult({ decision, operation });
        this.#tellProgress(id, operation);
      });
    });
    const patience = new AbortController();
    const late = clock.sleep(pendingAfterMs, patience.signal).then(
      () => undefined,
      () => undefined,
    );
    const early = await Promise.race([ending, late]).finally(() => patience.abort());
    if (early !== undefined && work.pending === undefined) {
      this.#say({ id, result: early });
      return;
    }
    if (work.pending === undefined) {
      work.pending = pendingResult(judged);
      this.#say({ id, result: work.pending });
    }
    const result = await ending;
    // From here on the same id is answered by how it ended.
    this.#atWork.delete(id);
    const operation = judged?.operation?.id;
    this.#say({
      method: "progress",
      params: {
        id,
        ...(operation === undefined ? {} : { operation }),
        message: "done",
        percent: 100,
        final: true,
        result,
      },
    });
  }

  /** What the gate answers once people have decided, or once nobody did in time. */
  async #approved(request: Request, requestId: string): Promise<GateAnswer> {
    let waiting = true;
    while (waiting) {
      const approval = await waitForApproval(this.#world, requestId, approvalLookMs);
      waiting = approval.state === "pending";
    }
    // The same words may have been asked under another id before; its answer is this one's.
    const asked = await this.#world.store.read((journal) => journal.requests.get(requestId));
    return await this.#world.gate.submit(asked ?? request);
  }

  /** The answer once the work has ended; a denial has no work. */
  async #follow(
    request: Request,
    answer: GateAnswer,
    onProgress: (operation: Operation) => void,
  ): Promise<Result> {
    const { decision, plan, approval } = answer;
    if (answer.operation === undefined) {
      return approval === undefined
        ? deniedResult(request, decision)
        : notApprovedResult(decision, approval.state);
    }
    const { operations, store } = this.#world;
    let operation = answer.operation;
    while (operation.endedAtMs === undefined) {
      operation = await operations.wait(operation.id, progressEveryMs);
      if (operation.endedAtMs === undefined) onProgress(operation);
    }
    return await store.read(async (journal) => {
      const environmentId = request.environmentId;
      const machines = await journal.objects.list("machine", { environmentId });
      const links = await journal.objects.list("link", { environmentId });
      const asked = new Set(request.machines.map(({ machineId }) => machineId));
      const askedLinks = new Set(request.links.map(({ linkId }) => linkId));
      // A repeated id is answered as the first one was: from its arrival.
      const first = (await journal.requests.get(operation.requestId)) ?? request;
      return endedResult(first, {
        decision,
        plan,
        operation,
        machines: machines.filter((machine) => asked.has(machine.id)),
        links: links.filter((link) => askedLinks.has(link.id)),
      });
    });
  }

  #tellProgress(id: string, operation: Operation): void {
    const { message, percent } = operation.progress;
    this.#say({
      method: "progress",
      params: { id, operation: operation.id, message: inert(message), percent },
    });
  }

  #requestOf(id: string, ask: Ask, self: MachineRecord): Request {
    return newRequest(this.#world, {
      ...ask,
      subject: guestSubject(self),
      // Names repeat between environments, machine ids never do.
      idempotencyKey: `${self.id}:${id}`,
    });
  }

  async #scope(): Promise<{ readonly self: MachineRecord; readonly scope: Scope }> {
    return await this.#world.store.read(async (journal) => {
      const self = await journal.objects.get("machine", this.machineId);
      const environmentId = self?.environmentId ?? "";
      const environment = await journal.objects.get("environment", environmentId);
      if (self === undefined || environment === undefined) {
        throw new Fault("operation.object_gone", { kind: "machine", id: this.machineId });
      }
      const machines = await journal.objects.list("machine", { environmentId });
      const links = await journal.objects.list("link", { environmentId });
      const groups = await journal.objects.list("group", { environmentId });
      const newId = () => this.#world.ids.next();
      return { self, scope: { environment, machines, links, groups, newId } };
    });
  }

  #sayFault(id: string, error: unknown): void {
    const { code, message, hint, details } = toFaultData(error);
    switch (code) {
      case "request.invalid":
      case "request.not_yours":
        this.#refuse(code === "request.invalid" ? "bad_parameter" : "not_yours");
        this.#sayError(id, -32602, "a parameter is wrong", {
          path: details["where"],
          problem: inert(String(details["problem"])),
          ...(details["nearest"] === undefined ? {} : { nearest: details["nearest"] }),
        });
        return;
      case "request.key_reused":
        this.#refuse("key_reused");
        this.#sayError(id, -32003, "this id belonged to another ask");
        return;
      case "gate.busy":
        this.#sayError(id, -32000, inert(message), { code, hint });
        return;
      default:
        // Messages of other faults may name hosts.
        this.#sayError(id, -32000, "the shepherd failed; ask again", { code, hint });
    }
  }

  #refuse(reason: RefusalReason): void {
    this.#world.refusals.add({ id: this.machineId, environmentId: this.#environmentId }, reason);
  }

  #sayTooMany(id: Id): void {
    const retryAfterMs = Math.max(1, this.#asks.waitMs());
    this.#sayError(id, -32002, "too many requests", { retry_after_ms: retryAfterMs });
  }

  #sayGarbage(code: number, message: string, data?: Readonly<Record<string, unknown>>): void {
    if (this.#garbageAnswers.take()) this.#sayError(null, code, message, data);
  }

  #sayError(id: Id, code: number, message: string, data?: Readonly<Record<string, unknown>>): void {
    this.#say({ id, error: { code, message, ...(data === undefined ? {} : { data }) } });
  }

  #say(message: Readonly<Record<string, unknown>>): void {
    const isProgress = "method" in message && !isFinal(message["params"]);
    if (this.#unread.length >= maxUnread) {
      if (isProgress) return;
      const oldest = this.#unread.findIndex((waiting) => waiting.isProgress);
      this.#unread.splice(Math.max(0, oldest), 1);
      this.#refuse("answers_unread");
    }
    this.#unread.push({ line: `${JSON.stringify({ jsonrpc: "2.0", ...message })}\n`, isProgress });
    this.#flush();
  }

  #flush(): void {
    while (this.#stream !== undefined && !this.#isFull) {
      const next = this.#unread.shift();
      if (next === undefined) return;
      this.#isFull = !this.#stream.write(next.line);
    }
  }
}

function decode(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

/** Wrapped, because `null` is JSON too. */
function parse(text: string): { readonly value: unknown } | undefined {
  try {
    return { value: JSON.parse(text) };
  } catch {
    return undefined;
  }
}

function readRequest(
  message: unknown,
):
  | { readonly id: string; readonly method: string; readonly params: unknown }
  | { readonly id: Id; readonly problem: string } {
  if (typeof message !== "object" || message === null || Array.isArray(message)) {
    return { id: null, problem: "one object a line" };
  }
  const fields: Readonly<Record<string, unknown>> = { ...message };
  const { id, method } = { id: fields["id"], method: fields["method"] };
  if (typeof id !== "string" || !idPattern.test(id)) {
    return { id: null, problem: "id must be 1 to 64 of A-Z a-z 0-9 . _ : -" };
  }
  if (fields["jsonrpc"] !== "2.0") return { id, problem: 'jsonrpc must be "2.0"' };
  if (typeof method !== "string") return { id, problem: "method must be text" };
  const unknown = Object.keys(fields).find(
    (key) => !["jsonrpc", "id", "method", "params"].includes(key),
  );
  if (unknown !== undefined) return { id, problem: `no such field: ${inert(unknown, 64)}` };
  return { id, method, params: fields["params"] };
}

/** The id of a line that is not judged; null when it has none that can be read. */
function idOf(cut: Cut): Id {
  if (cut.kind !== "line") return null;
  const text = decode(cut.bytes);
  const message = text === undefined ? undefined : parse(text);
  return message === undefined ? null : readRequest(message.value).id;
}

function isFinal(params: unknown): boolean {
  return typeof params === "object" && params !== null && "final" in params;
}
