/**
 * The worker that runs one compiled policy. It starts empty, is given a module with its data once, then answers one
 * question after the other, and may be terminated at any instruction: sandbox.ts holds the clock and the queue.
 * Loaded as a file of its own, from source.
 */
import { createRequire } from "node:module";
import { type MessagePort, workerData } from "node:worker_threads";
import type { Answer, Question, WorkerOrder } from "#opa/sandbox";

const given = workerData as {
  readonly port: MessagePort;
  readonly startedCpu: SharedArrayBuffer;
};
const { port } = given;
/** Read by the sandbox: CPU that this thread had used when the question began, in microseconds. */
const startedCpu = new Float64Array(given.startedCpu);

// CommonJS underneath: its declarations promise a named export that its ES module does not have
const opaWasm = createRequire(import.meta.url)(
  "@open-policy-agent/opa-wasm",
) as typeof import("@open-policy-agent/opa-wasm");

type LoadedPolicy = ReturnType<typeof opaWasm.loadPolicySync>;

const selfEntrypoint = "drover/main/self";

function load(order: WorkerOrder): LoadedPolicy {
  const policy = opaWasm.loadPolicySync(order.module, {
    initial: order.memoryPages.initial,
    maximum: order.memoryPages.maximum,
  });
  const missing = Object.keys(readBuiltins(policy));
  if (missing.length > 0) throw new Error(`built-ins are not offered: ${missing.join(", ")}`);
  for (const entrypoint of order.entrypoints)
    if (!(entrypoint in policy.entrypoints)) throw new Error(`entrypoint ${entrypoint} is missing`);
  policy.setData(order.data);
  return policy;
}

/** What the module wants its host to implement; the SDK would only notice when a rule calls it. */
function readBuiltins(policy: LoadedPolicy): object {
  const { exports } = policy.wasmInstance as { exports: Record<string, unknown> };
  const call = (name: string, ...args: number[]): number => {
    const exported = exports[name];
    if (typeof exported !== "function") throw new Error(`the module does not export ${name}`);
    return Number(exported(...args));
  };
  const bytes = new Uint8Array(policy.mem.buffer);
  const start = call("opa_json_dump", call("builtins"));
  const end = bytes.indexOf(0, start);
  return JSON.parse(new TextDecoder().decode(bytes.slice(start, end))) as object;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();
const pageBytes = 64 * 1024;

/**
 * ABI 1.2's one call, as the SDK makes it, but the answer stays text: parsing it here and cloning it to the other thread
 * costs more than parsing it there.
 */
function evaluate(policy: LoadedPolicy, { id, entrypoint, input }: Question): Answer {
  try {
    const number = policy.entrypoints[entrypoint];
    if (number === undefined) return { id, kind: "results", results: "[]", memoryBytes: 0 };
    const bytes = encoder.encode(input);
    const at = policy.dataHeapPtr;
    const missing = at + bytes.length - policy.mem.buffer.byteLength;
    if (missing > 0) policy.mem.grow(Math.ceil(missing / pageBytes));
    new Uint8Array(policy.mem.buffer).set(bytes, at);
    const { opa_eval: evaluateAt } = policy.wasmInstance.exports as {
      opa_eval(...args: readonly number[]): number;
    };
    const answer = evaluateAt(0, number, policy.dataAddr, at, bytes.length, at + bytes.length, 0);
    const memory = new Uint8Array(policy.mem.buffer);
    const results = decoder.decode(memory.subarray(answer, memory.indexOf(0, answer)));
    return { id, kind: "results", results, memoryBytes: memory.length };
  } catch (error) {
    return { id, kind: "trap", problem: messageOf(error) };
  }
}

/** The SDK throws strings and plain objects beside errors. */
function messageOf(error: unknown): string {
  if (typeof error === "string") return error;
  if (typeof error === "object" && error !== null && "message" in error)
    return String(error.message);
  return String(error);
}

function threadCpuUs(): number {
  const { user, system } = process.threadCpuUsage();
  return user + system;
}

port.once("message", (order: WorkerOrder) => {
  try {
    const policy = load(order);
    const self = evaluate(policy, { id: 0, entrypoint: selfEntrypoint, input: "{}" });
    let trapped = self.kind === "trap";
    let isForeign = false;
    port.on("message", (question: Question) => {
      // those behind a trap are asked of another worker
      if (trapped) return;
      startedCpu[0] = threadCpuUs();
      if (question.data !== undefined || isForeign) {
        isForeign = question.data !== undefined;
        policy.setData(question.data ?? order.data);
      }
      const answer = evaluate(policy, question);
      trapped = answer.kind === "trap";
      port.postMessage(answer);
    });
    port.postMessage(self);
  } catch (error) {
    port.postMessage({ id: 0, kind: "trap", problem: messageOf(error) } satisfies Answer);
  }
});
