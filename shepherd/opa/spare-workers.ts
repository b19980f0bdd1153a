/**
 * Started, empty policy workers: while any sandbox is open one is kept warm, so that a policy which was just terminated
 * costs the next question no thread start. Any sandbox may take it; it knows no module until it is given one.
 */
import { MessageChannel, type MessagePort, Worker } from "node:worker_threads";

export interface EmptyWorker {
  readonly worker: Worker;
  /** To the worker: first its order (sandbox.ts WorkerOrder), then questions. */
  readonly port: MessagePort;
  /** CPU of the thread when the running question began, in microseconds; the worker writes it. */
  readonly startedCpu: Float64Array;
}

/** A policy answers in kilobytes; what it computes with lives in WASM memory, which has its own cap. */
const resourceLimits = { maxOldGenerationSizeMb: 128, maxYoungGenerationSizeMb: 16 };

let sandboxes = 0;
let spare: EmptyWorker | undefined;

/** Says that a sandbox is open; each call is paired with one of `dismissSpare`. */
export function enlistSpare(): void {
  sandboxes += 1;
}

/** The last one out ends the spare: an idle process keeps no thread. */
export async function dismissSpare(): Promise<void> {
  sandboxes -= 1;
  if (sandboxes > 0) return;
  const idle = spare;
  spare = undefined;
  idle?.port.close();
  await idle?.worker.terminate();
}

/** The warm worker, or a new one; the next is started at once. */
export function takeWorker(): EmptyWorker {
  const taken = spare ?? startWorker();
  spare = sandboxes > 0 ? startWorker() : undefined;
  return taken;
}

function startWorker(): EmptyWorker {
  const { port1: port, port2 } = new MessageChannel();
  const startedCpu = new SharedArrayBuffer(Float64Array.BYTES_PER_ELEMENT);
  const worker = new Worker(new URL("./worker.ts", import.meta.url), {
    workerData: { port: port2, startedCpu },
    transferList: [port2],
    resourceLimits,
  });
  const empty = { worker, port, startedCpu: new Float64Array(startedCpu) };
  const forget = (): void => {
    if (spare === empty) spare = undefined;
  };
  worker.once("error", forget);
  worker.once("exit", forget);
  // an idle policy keeps no process alive
  worker.unref();
  port.unref();
  return empty;
}
