/**
 * The worker that runs one compiled policy. It knows one module and its data, answers one question at a time, and may
 * be terminated at any instruction: sandbox.ts holds the clock and the queue. Loaded as a file of its own, from source.
 */
import { createRequire } from "node:module";
import { type MessagePort, workerData } from "node:worker_threads";
import type { Answer, Question, WorkerOrder } from "#opa/sandbox";

const order = workerData as WorkerOrder;
const port: MessagePort = order.port;
/** Read by the sandbox: CPU that this thread had used when the question began, in microseconds. */
const startedCpu = new Float64Array(order.startedCpu);

// CommonJS underneath: its declarations promise a named export that its ES module does not have
const opaWasm = createRequire(import.meta.url)(
  "@open-policy-agent/opa-wasm",
) as typeof import("@open-policy-agent/opa-wasm");

type LoadedPolicy = ReturnType<typeof opaWasm.loadPolicySync>;

function load(): LoadedPolicy {
  const policy = opaWasm.loadPolicySync(order.wasm, {
    initial: order.memoryPages.initial,
    maximum: order.memoryPages.maximum,
  });
  const missing = Object.keys(readBuiltins(policy));
  if (missing.length > 0) throw new Error(`built-ins are not offered: ${missing.join(", ")}`);
  for (const entrypoint of order.entrypoints)
    if (!(`drover/main/${entrypoint}` in policy.entrypoints))
      throw new Error(`entrypoint drover/main/${entrypoint} is missing`);
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

function evaluate(policy: LoadedPolicy, question: Question): Answer {
  try {
    const text = new TextEncoder().encode(question.input);
    const results = policy.evaluate(text.buffer, `drover/main/${question.entrypoint}`) as unknown;
    return { id: question.id, kind: "results", results };
  } catch (error) {
    return { id: question.id, kind: "trap", problem: messageOf(error) };
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

try {
  const policy = load();
  const self = evaluate(policy, { id: 0, entrypoint: "self", input: "{}" });
  port.on("message", (question: Question) => {
    startedCpu[0] = threadCpuUs();
    port.postMessage(evaluate(policy, question));
  });
  port.postMessage(self);
} catch (error) {
  port.postMessage({ id: 0, kind: "trap", problem: messageOf(error) } satisfies Answer);
}
