/**
 * Runs one compiled policy in a worker with a limit on time and on memory. One question at a time; a worker that
 * overruns or traps is terminated and the next question gets a fresh one. Knows modules, not contracts.
 */
import {
  MessageChannel,
  type MessagePort,
  receiveMessageOnPort,
  Worker,
} from "node:worker_threads";
import type { Ms } from "#model/units";

export interface SandboxLimits {
  /** CPU time of one evaluation. Waiting for a core on a busy machine is not the policy's fault. */
  readonly budgetMs: Ms;
  /** Longest wait for one evaluation, whatever the CPU did. */
  readonly wallMs: Ms;
  /** Pages of 64 KiB. */
  readonly memoryPages: { readonly initial: number; readonly maximum: number };
  /** Questions that may wait; more are refused at once. */
  readonly queued: number;
}

/** 64 MiB is 20 times what 128 machines with 200 instances took. */
export const standardLimits: SandboxLimits = {
  budgetMs: 250,
  wallMs: 5_000,
  memoryPages: { initial: 16, maximum: 1_024 },
  queued: 1_000,
};

export type SandboxOutcome =
  | { readonly kind: "results"; readonly results: unknown }
  | { readonly kind: "trap"; readonly problem: string }
  | { readonly kind: "timeout"; readonly problem: string }
  | { readonly kind: "overloaded"; readonly problem: string };

/** What crosses to the worker (worker.ts), as structured clones. */
export interface WorkerOrder {
  readonly wasm: Uint8Array<ArrayBuffer>;
  readonly data: object;
  readonly entrypoints: readonly string[];
  readonly memoryPages: SandboxLimits["memoryPages"];
  readonly port: MessagePort;
  readonly startedCpu: SharedArrayBuffer;
}
export interface Question {
  readonly id: number;
  readonly entrypoint: string;
  /** JSON text: numbers keep every digit. */
  readonly input: string;
}
export type Answer =
  | { readonly id: number; readonly kind: "results"; readonly results: unknown }
  | { readonly id: number; readonly kind: "trap"; readonly problem: string };

/** Start of a thread and compilation of the module, on a machine under load. */
const startMs = 20_000;

interface Running {
  readonly worker: Worker;
  readonly port: MessagePort;
  readonly startedCpu: Float64Array;
  /** What the module said to the entrypoint `self` when it was loaded. */
  readonly self: SandboxOutcome;
}

export class Sandbox {
  readonly #module: Pick<WorkerOrder, "wasm" | "data" | "entrypoints">;
  readonly #limits: SandboxLimits;
  #running: Promise<Running> | undefined;
  #tail: Promise<unknown> = Promise.resolve();
  #waiting = 0;
  #lastId = 0;
  #closed = false;

  constructor(
    module: Pick<WorkerOrder, "wasm" | "data" | "entrypoints">,
    limits: SandboxLimits = standardLimits,
  ) {
    this.#module = module;
    this.#limits = limits;
  }

  /** Starts the worker and returns what the module says of itself. */
  async open(): Promise<SandboxOutcome> {
    return (await this.#start()).self;
  }

  /** Never rejects. */
  async evaluate(entrypoint: string, input: string): Promise<SandboxOutcome> {
    if (this.#waiting >= this.#limits.queued)
      return { kind: "overloaded", problem: `${this.#waiting} decisions are waiting` };
    this.#waiting += 1;
    const mine = this.#tail.then(() => this.#ask(entrypoint, input));
    this.#tail = mine;
    try {
      return await mine;
    } finally {
      this.#waiting -= 1;
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#drop();
  }

  async #ask(entrypoint: string, input: string): Promise<SandboxOutcome> {
    if (this.#closed) return { kind: "trap", problem: "the engine is closed" };
    const running = await this.#start();
    if (running.self.kind !== "results") {
      await this.#drop();
      return running.self;
    }
    const id = ++this.#lastId;
    const outcome = await this.#answerOf(running, { id, entrypoint, input });
    // after a trap the module's memory is in an unknown state
    if (outcome.kind !== "results") await this.#drop();
    return outcome;
  }

  #answerOf(running: Running, question: Question): Promise<SandboxOutcome> {
    const { worker, port } = running;
    const begunMs = performance.now();
    return new Promise((resolve) => {
      let deadline: NodeJS.Timeout;
      const end = (outcome: SandboxOutcome): void => {
        clearTimeout(deadline);
        port.off("message", onMessage);
        worker.off("exit", onExit);
        worker.off("error", onError);
        port.unref();
        resolve(outcome);
      };
      const onMessage = (answer: Answer): void => {
        if (answer.id === question.id) end(answer);
      };
      const onExit = (): void => end({ kind: "trap", problem: "the policy worker ended" });
      const onError = (error: unknown): void =>
        end({ kind: "trap", problem: error instanceof Error ? error.message : String(error) });
      const onDeadline = async (): Promise<void> => {
        // our own loop may have been late: an answer that is already here counts
        const pending = receiveMessageOnPort(port) as { message: Answer } | undefined;
        if (pending !== undefined) return onMessage(pending.message);
        const wallMs = performance.now() - begunMs;
        const usedMs = await cpuMsOf(running, wallMs);
        if (usedMs >= this.#limits.budgetMs || wallMs >= this.#limits.wallMs)
          return end({
            kind: "timeout",
            problem: `no answer after ${Math.round(usedMs)} ms of CPU, ${Math.round(wallMs)} ms in all`,
          });
        wait(Math.min(this.#limits.budgetMs - usedMs, this.#limits.wallMs - wallMs) + 1);
      };
      const wait = (ms: Ms): void => {
        deadline = setTimeout(() => void onDeadline(), ms);
      };
      port.on("message", onMessage);
      worker.on("exit", onExit);
      worker.on("error", onError);
      wait(Math.min(this.#limits.budgetMs, this.#limits.wallMs));
      port.postMessage(question);
    });
  }

  #start(): Promise<Running> {
    this.#running ??= startWorker(this.#module, this.#limits);
    return this.#running;
  }

  async #drop(): Promise<void> {
    const running = this.#running;
    this.#running = undefined;
    if (running === undefined) return;
    const { worker, port } = await running;
    port.close();
    await worker.terminate();
  }
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

function startWorker(
  module: Pick<WorkerOrder, "wasm" | "data" | "entrypoints">,
  limits: SandboxLimits,
): Promise<Running> {
  const { port1: port, port2 } = new MessageChannel();
  const startedCpu = new SharedArrayBuffer(Float64Array.BYTES_PER_ELEMENT);
  const order: WorkerOrder = {
    ...module,
    memoryPages: limits.memoryPages,
    port: port2,
    startedCpu,
  };
  const worker = new Worker(new URL("./worker.ts", import.meta.url), {
    workerData: order,
    transferList: [port2],
    resourceLimits: { maxOldGenerationSizeMb: 128, maxYoungGenerationSizeMb: 16 },
  });
  return new Promise((resolve) => {
    const end = (self: SandboxOutcome): void => {
      clearTimeout(timer);
      worker.off("exit", onExit);
      port.off("message", end);
      // an idle policy keeps no process alive
      worker.unref();
      port.unref();
      resolve({ worker, port, startedCpu: new Float64Array(startedCpu), self });
    };
    const onExit = (): void => end({ kind: "trap", problem: "the policy worker did not start" });
    const timer = setTimeout(
      () => end({ kind: "timeout", problem: `the policy worker did not start in ${startMs} ms` }),
      startMs,
    );
    worker.on("error", (error: unknown) =>
      end({ kind: "trap", problem: error instanceof Error ? error.message : String(error) }),
    );
    worker.on("exit", onExit);
    port.on("message", end);
  });
}
