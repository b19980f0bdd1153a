/**
 * Runs one compiled policy in a worker with a limit on time and on memory. Questions are answered in order, a few of
 * them under way at once; a worker that overruns or traps is terminated, and a warm one takes over what was waiting.
 * Knows modules, not contracts.
 */
import { receiveMessageOnPort } from "node:worker_threads";
import type { Ms } from "#model/units";
import { dismissSpare, type EmptyWorker, enlistSpare, takeWorker } from "#opa/spare-workers";

export interface SandboxLimits {
  /** CPU time of one evaluation. Waiting for a core on a busy machine is not the policy's fault. */
  readonly budgetMs: Ms;
  /** Longest wait for one evaluation, whatever the CPU did. */
  readonly wallMs: Ms;
  /** Pages of 64 KiB. */
  readonly memoryPages: { readonly initial: number; readonly maximum: number };
  /** Questions that may wait; more are refused at once. */
  readonly queued: number;
  /** Of these, handed to the worker before it is done with the one it works on: it need not wait for our loop. */
  readonly ahead: number;
}

/** 64 MiB is 20 times what 128 machines with 200 instances took. */
export const standardLimits: SandboxLimits = {
  budgetMs: 250,
  wallMs: 5_000,
  memoryPages: { initial: 16, maximum: 1_024 },
  queued: 1_000,
  ahead: 4,
};

export type SandboxOutcome =
  | { readonly kind: "results"; readonly results: unknown }
  | { readonly kind: "trap"; readonly problem: string }
  | { readonly kind: "timeout"; readonly problem: string }
  | { readonly kind: "overloaded"; readonly problem: string };

/** One compiled policy with the data it runs on. */
export interface SandboxModule {
  readonly wasm: Uint8Array<ArrayBuffer>;
  readonly data: object;
  /** Paths such as `drover/main/decision` that must be there. */
  readonly entrypoints: readonly string[];
}

/** What crosses to the worker (worker.ts) first. The compiled module is shared, not compiled again. */
export interface WorkerOrder {
  readonly module: WebAssembly.Module;
  readonly data: object;
  readonly entrypoints: readonly string[];
  readonly memoryPages: SandboxLimits["memoryPages"];
}
export interface Question {
  readonly id: number;
  readonly entrypoint: string;
  /** JSON text: numbers keep every digit. */
  readonly input: string;
  /** Asked about other data than the module's own: vectors bring theirs. */
  readonly data?: object | undefined;
}
export type Answer =
  | {
      readonly id: number;
      readonly kind: "results";
      /** JSON text of the result set. */
      readonly results: string;
      readonly memoryBytes: number;
    }
  | { readonly id: number; readonly kind: "trap"; readonly problem: string };

/** The entrypoint that every module answers when it is loaded. */
export const selfEntrypoint = "drover/main/self";

/** Start of a thread and instantiation of the module, on a machine under load. */
const startMs = 20_000;

/** Node's types name the module, not the function that makes one. */
const { compile } = (
  globalThis as unknown as {
    readonly WebAssembly: { compile(wasm: Uint8Array): Promise<WebAssembly.Module> };
  }
).WebAssembly;

interface Waiting extends Question {
  readonly resolve: (outcome: SandboxOutcome) => void;
}

interface Running extends EmptyWorker {
  /** What the module said to `self` when it was loaded; anything but results: it cannot be asked. */
  readonly self: SandboxOutcome;
}

export class Sandbox {
  readonly #module: SandboxModule;
  readonly #limits: SandboxLimits;
  #compiled: Promise<WebAssembly.Module> | undefined;
  #starting: Promise<Running> | undefined;
  #running: Running | undefined;
  /** Not sent yet, and sent but not answered, oldest first. */
  readonly #queue: Waiting[] = [];
  #sent: Waiting[] = [];
  #deadline: NodeJS.Timeout | undefined;
  #headSinceMs = 0;
  #lastId = 0;
  #closed = false;
  #memoryBytes = 0;

  constructor(module: SandboxModule, limits: SandboxLimits = standardLimits) {
    this.#module = module;
    this.#limits = limits;
    enlistSpare();
  }

  /** WASM memory of the running module after its last answer; it grows and never shrinks. */
  get memoryBytes(): number {
    return this.#memoryBytes;
  }

  /** Starts the worker and returns what the module says of itself. */
  async open(): Promise<SandboxOutcome> {
    return (await this.#start()).self;
  }

  /** Never rejects. `data` stands in for the module's own in this one question. */
  evaluate(entrypoint: string, input: string, data?: object): Promise<SandboxOutcome> {
    if (this.#closed) return Promise.resolve(closedOutcome);
    const waiting = this.#queue.length + this.#sent.length;
    if (waiting >= this.#limits.queued) {
      return Promise.resolve({
        kind: "overloaded",
        problem: `${waiting} decisions are waiting`,
      });
    }
    return new Promise((resolve) => {
      this.#queue.push({ id: ++this.#lastId, entrypoint, input, data, resolve });
      this.#pump();
    });
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    const running = this.#running ?? (await this.#starting);
    this.#forget();
    for (const { resolve } of [...this.#sent.splice(0), ...this.#queue.splice(0)]) {
      resolve(closedOutcome);
    }
    if (running !== undefined) await end(running);
    await dismissSpare();
  }

  /** Hands over what is waiting, as far as the worker may be ahead. */
  #pump(): void {
    const running = this.#running;
    if (running === undefined) {
      if (this.#queue.length > 0) void this.#start().then(() => this.#pump());
      return;
    }
    if (running.self.kind !== "results") {
      // it cannot even be loaded: everybody who waits is told why, the next one tries again
      for (const { resolve } of this.#queue.splice(0)) resolve(running.self);
      this.#drop();
      return;
    }
    while (this.#sent.length < this.#limits.ahead) {
      const next = this.#queue.shift();
      if (next === undefined) break;
      this.#sent.push(next);
      const { resolve: _, ...question } = next;
      running.port.postMessage(question satisfies Question);
      if (this.#sent.length === 1) this.#watchHead(running);
    }
  }

  /** The oldest question has its budget from now on. */
  #watchHead(running: Running): void {
    clearTimeout(this.#deadline);
    if (this.#sent.length === 0) return running.port.unref();
    running.port.ref();
    this.#headSinceMs = performance.now();
    this.#wait(Math.min(this.#limits.budgetMs, this.#limits.wallMs));
  }

  #wait(ms: Ms): void {
    this.#deadline = setTimeout(() => void this.#onDeadline(), ms);
  }

  async #onDeadline(): Promise<void> {
    const running = this.#running;
    if (running === undefined) return;
    // our own loop may have been late: an answer that is already here counts
    const pending = receiveMessageOnPort(running.port) as { message: Answer } | undefined;
    if (pending !== undefined) return this.#onAnswer(running, pending.message);
    const [head] = this.#sent;
    const wallMs = performance.now() - this.#headSinceMs;
    const usedMs = await cpuMsOf(running, wallMs);
    // answered while the thread's clock was read
    if (this.#running !== running || head === undefined || this.#sent[0] !== head) return;
    if (usedMs < this.#limits.budgetMs && wallMs < this.#limits.wallMs) {
      return this.#wait(Math.min(this.#limits.budgetMs - usedMs, this.#limits.wallMs - wallMs) + 1);
    }
    this.#fail({
      kind: "timeout",
      problem: `no answer after ${Math.round(usedMs)} ms of CPU, ${Math.round(wallMs)} ms in all`,
    });
  }

  #onAnswer(running: Running, answer: Answer): void {
    const [head] = this.#sent;
    if (this.#running !== running || head?.id !== answer.id) return;
    // after a trap the module's memory is in an unknown state
    if (answer.kind !== "results") return this.#fail(answer);
    this.#sent.shift();
    this.#memoryBytes = answer.memoryBytes;
    this.#pump();
    this.#watchHead(running);
    head.resolve({ kind: "results", results: JSON.parse(answer.results) });
  }

  /** The oldest question ends so; the worker is given up, and those behind it are asked again of a fresh one. */
  #fail(outcome: SandboxOutcome): void {
    const [head, ...behind] = this.#sent;
    this.#sent = [];
    this.#queue.unshift(...behind);
    this.#drop();
    head?.resolve(outcome);
    this.#pump();
  }

  #start(): Promise<Running> {
    this.#starting ??= this.#load();
    return this.#starting;
  }

  async #load(): Promise<Running> {
    const { wasm, data, entrypoints } = this.#module;
    const { memoryPages } = this.#limits;
    const empty = takeWorker();
    let self: SandboxOutcome;
    try {
      const module = await (this.#compiled ??= compile(wasm));
      self = await loadInto(empty, { module, data, entrypoints, memoryPages });
    } catch (error) {
      self = { kind: "trap", problem: `not a module: ${String(error)}` };
    }
    const running: Running = { ...empty, self };
    if (this.#closed) return running;
    this.#running = running;
    running.port.on("message", (answer: Answer) => this.#onAnswer(running, answer));
    running.port.unref();
    const onEnd = (problem: string): void => {
      if (this.#running === running) this.#fail({ kind: "trap", problem });
    };
    running.worker.on("exit", () => onEnd("the policy worker ended"));
    running.worker.on("error", (error: unknown) =>
      onEnd(error instanceof Error ? error.message : String(error)),
    );
    return running;
  }

  #forget(): void {
    clearTimeout(this.#deadline);
    this.#running = undefined;
    this.#starting = undefined;
  }

  #drop(): void {
    const running = this.#running;
    this.#forget();
    if (running !== undefined) void end(running);
  }
}

const closedOutcome: SandboxOutcome = { kind: "trap", problem: "the engine is closed" };

async function end({ worker, port }: Running): Promise<void> {
  port.close();
  await worker.terminate();
}

/** CPU that the running question has used. A Node without per-worker figures counts the wall. */
async function cpuMsOf(running: Running, wallMs: Ms): Promise<Ms> {
  if (typeof running.worker.cpuUsage !== "function") return wallMs;
  try {
    const { user, system } = await running.worker.cpuUsage();
    return Math.max(0, user + system - (running.startedCpu[0] ?? 0)) / 1_000;
  } catch {
    // the worker has just ended: its exit event tells the rest
    return wallMs;
  }
}

/** Resolves to the module's answer to `self`, or to why there is none. */
function loadInto({ worker, port }: EmptyWorker, order: WorkerOrder): Promise<SandboxOutcome> {
  return new Promise((resolve) => {
    const onAnswer = (answer: Answer): void =>
      finish(
        answer.kind === "results"
          ? { kind: "results", results: JSON.parse(answer.results) }
          : answer,
      );
    const finish = (self: SandboxOutcome): void => {
      clearTimeout(timer);
      port.off("message", onAnswer);
      worker.off("exit", onExit);
      worker.off("error", onError);
      resolve(self);
    };
    const onExit = (): void => finish({ kind: "trap", problem: "the policy worker did not start" });
    const onError = (error: unknown): void =>
      finish({ kind: "trap", problem: error instanceof Error ? error.message : String(error) });
    const timer = setTimeout(
      () =>
        finish({ kind: "timeout", problem: `the policy worker did not start in ${startMs} ms` }),
      startMs,
    );
    worker.on("exit", onExit);
    worker.on("error", onError);
    port.on("message", onAnswer);
    port.postMessage(order);
  });
}
