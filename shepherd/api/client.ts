/**
 * A small client of the shepherd's HTTP interface for the provider, the command and tests: unix sockets, tokens, a CA
 * file, retries of safe calls, idempotency keys, problem details as typed errors, and the event stream.
 * Only node:http and node:https, and no fault catalogue: it is bundled into the provider, whose start counts.
 */
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { type ClientRequest, type IncomingMessage, type RequestOptions, request } from "node:http";
import type { ApprovalView, EventView, OperationView, Problem } from "./contract.ts";

/** Where a shepherd listens when nothing else is said. */
export const defaultEndpoint = "unix:/run/drover/shepherd.sock";
/** A call that waits at the shepherd may take this much longer than its wait. */
const answerTimeoutMs = 30_000;
/** A change may have to wait at the shepherd until an operation under way has ended. */
const mutationWaitMs = 60_000;
/** Tries of a call that is safe to repeat; with the doubling pause about three seconds in all. */
const maxTries = 5;
const firstPauseMs = 100;
/** One long poll for an operation or an approval; also how often progress is told. */
const operationWaitMs = 2_000;
/** While an operation is followed, a shepherd that restarts may be away this long. */
const patienceMs = 60_000;
const awayPauseMs = 500;
/** Answers beyond this are not ours. */
const maxAnswerBytes = 64 * 1024 * 1024;

export interface ClientOptions {
  /** `unix:/path`, `http://host:port` or `https://host:port`. */
  readonly endpoint: string;
  readonly token?: string | undefined;
  /** PEM of the authority that signed the shepherd's certificate. */
  readonly caFile?: string | undefined;
  readonly userAgent?: string | undefined;
  /** Of the process that calls (TRACEPARENT): its changes are followed in that trace. */
  readonly traceparent?: string | undefined;
}
export interface CallOptions {
  readonly query?: Readonly<Record<string, string | number | undefined>>;
  /** Sent as JSON; a stream or bytes are sent as they are. */
  readonly body?: unknown;
  readonly signal?: AbortSignal | undefined;
  /** Same key, same answer; one is made for every mutating call that names none, so its retries count once. */
  readonly idempotencyKey?: string | undefined;
  /** How long the shepherd was asked to wait before it answers. */
  readonly waitMs?: number;
  /** Shown where a pass opens what no token is needed for. */
  readonly pass?: string | undefined;
  /** W3C trace context of the caller's own trace: what comes of the call is followed in it. */
  readonly traceparent?: string | undefined;
}

/** The shepherd answered with an error. */
export class ProblemError extends Error {
  override readonly name = "ProblemError";
  readonly problem: Problem;
  constructor(problem: Problem) {
    super(`${problem.title} (${problem.code})`);
    this.problem = problem;
  }
  get code(): string {
    return this.problem.code;
  }
  get status(): number {
    return this.problem.status;
  }
}

/** No shepherd could be asked, or it broke off. Says where it was looked for. */
export class UnreachableError extends Error {
  override readonly name = "UnreachableError";
  readonly code = "shepherd.unreachable";
  readonly endpoint: string;
  constructor(endpoint: string, why: string, options?: { cause?: unknown }) {
    super(`No shepherd answers at ${endpoint}: ${why}`, options);
    this.endpoint = endpoint;
  }
}

export type Method = "GET" | "HEAD" | "PUT" | "POST" | "PATCH" | "DELETE";

export class ShepherdClient {
  readonly endpoint: string;
  private readonly token: string | undefined;
  private readonly userAgent: string;
  private readonly traceparent: string | undefined;
  private readonly target: Target;

  /** @throws UnreachableError when the endpoint is malformed or the CA file cannot be read. */
  constructor(options: ClientOptions) {
    this.endpoint = options.endpoint;
    this.token = options.token;
    this.userAgent = options.userAgent ?? "drover-client";
    this.traceparent = options.traceparent;
    this.target = parseEndpoint(options.endpoint, options.caFile);
  }

  /**
   * One call. Repeats it when the connection failed or the shepherd is busy and repeating is safe: reads always,
   * mutations because they carry an idempotency key.
   * @throws ProblemError, UnreachableError, or the signal's reason.
   */
  async call<Answer>(method: Method, path: string, options: CallOptions = {}): Promise<Answer> {
    const repeatable = !isStream(options.body);
    const mutates = method !== "GET" && method !== "HEAD";
    const key = options.idempotencyKey ?? (mutates ? randomUUID() : undefined);
    for (let attempt = 1; ; attempt++) {
      try {
        const answer = await this.send(method, path, { ...options, idempotencyKey: key });
        return (await readAnswer(answer, this.endpoint)) as Answer;
      } catch (error) {
        options.signal?.throwIfAborted();
        if (!repeatable || attempt === maxTries || !worthRepeating(error)) throw error;
        await pause(firstPauseMs * 2 ** (attempt - 1) * jitter(), options.signal);
      }
    }
  }

  /** Bytes both ways for as long as either side likes: the body goes, the answer's body comes. */
  async openStream(
    path: string,
    options: Pick<CallOptions, "query" | "pass"> & { readonly body: NodeJS.ReadableStream },
  ): Promise<IncomingMessage> {
    const answer = await this.send("POST", path, {
      ...options,
      waitMs: Number.POSITIVE_INFINITY,
      accept: "application/octet-stream, application/problem+json",
    });
    if (answer.statusCode !== 200) await readAnswer(answer, this.endpoint);
    return answer;
  }

  get<Answer>(path: string, options: CallOptions = {}): Promise<Answer> {
    return this.call("GET", path, options);
  }

  /** The answer, or undefined when the shepherd knows no such object. */
  async find<Answer>(path: string, options: CallOptions = {}): Promise<Answer | undefined> {
    try {
      return await this.call<Answer>("GET", path, options);
    } catch (error) {
      if (error instanceof ProblemError && error.status === 404) return undefined;
      throw error;
    }
  }

  /**
   * Waits until an operation has ended, telling each change of progress; outlasts a restart of the shepherd. Aborting
   * leaves the operation running.
   */
  async waitForOperation(
    id: string,
    options: {
      readonly signal?: AbortSignal | undefined;
      readonly onProgress?: (operation: OperationView) => void;
    } = {},
  ): Promise<OperationView> {
    let told = "";
    return await this.poll<OperationView>(
      path`/v1/operations/${id}`,
      options.signal,
      (operation) => {
        const { state, progress } = operation;
        const now = `${state} ${progress.percent} ${progress.message}`;
        if (now !== told) options.onProgress?.(operation);
        told = now;
        return operation.ended_at_ms !== undefined && operation.ended_at_ms !== null;
      },
    );
  }

  /** Waits until people have decided on a request, or its time is over; outlasts a restart of the shepherd. */
  async waitForApproval(
    request: string,
    options: { readonly signal?: AbortSignal | undefined } = {},
  ): Promise<ApprovalView> {
    return await this.poll<ApprovalView>(
      path`/v1/requests/${request}/approval`,
      options.signal,
      ({ state }) => state !== "pending",
    );
  }

  /** Asks again and again until `isDone`: the first time for what is, then for what comes. */
  private async poll<View>(
    where: string,
    signal: AbortSignal | undefined,
    isDone: (view: View) => boolean,
  ): Promise<View> {
    let seen = false;
    let lastSeenMs = performance.now();
    for (;;) {
      let view: View;
      try {
        view = await this.get<View>(where, {
          query: { wait_ms: seen ? operationWaitMs : 0 },
          waitMs: operationWaitMs,
          signal,
        });
      } catch (error) {
        const away = performance.now() - lastSeenMs;
        if (!(error instanceof UnreachableError) || away > patienceMs) throw error;
        await pause(awayPauseMs * jitter(), signal);
        continue;
      }
      lastSeenMs = performance.now();
      seen = true;
      if (isDone(view)) return view;
    }
  }

  /** Events from `sinceSeq` (exclusive) on, until the signal is aborted or the shepherd closes the stream. */
  async *events(
    options: { readonly sinceSeq?: number | undefined; readonly signal?: AbortSignal } = {},
  ): AsyncGenerator<EventView> {
    const answer = await this.send("GET", "/v1/events", {
      query: { since: options.sinceSeq },
      signal: options.signal,
      waitMs: Number.POSITIVE_INFINITY,
      accept: "text/event-stream",
    });
    if (answer.statusCode !== 200) {
      await readAnswer(answer, this.endpoint);
      return;
    }
    let text = "";
    for await (const chunk of answer.setEncoding("utf8")) {
      text += chunk as string;
      const blocks = text.split(/\r?\n\r?\n/);
      text = blocks.pop() ?? "";
      for (const block of blocks) {
        const data = block
          .split(/\r?\n/)
          .filter((line) => line.startsWith("data:"))
          .map((line) => line.slice(5).trimStart())
          .join("\n");
        if (data !== "") yield JSON.parse(data) as EventView;
      }
    }
  }

  private async send(
    method: Method,
    path: string,
    options: CallOptions & { readonly accept?: string },
  ): Promise<IncomingMessage> {
    const { body, signal, idempotencyKey } = options;
    const waitMs = options.waitMs ?? (idempotencyKey === undefined ? 0 : mutationWaitMs);
    const json = body !== undefined && !isStream(body) && !(body instanceof Uint8Array);
    const payload = json ? Buffer.from(JSON.stringify(body)) : body;
    const headers: Record<string, string | number> = {
      accept: options.accept ?? "application/json, application/problem+json",
      "user-agent": this.userAgent,
    };
    if (options.pass !== undefined) headers["drover-pass"] = options.pass;
    if (this.token !== undefined) headers["authorization"] = `Bearer ${this.token}`;
    if (idempotencyKey !== undefined) headers["idempotency-key"] = idempotencyKey;
    const traceparent = options.traceparent ?? this.traceparent;
    if (traceparent !== undefined && method !== "GET") headers["traceparent"] = traceparent;
    if (body !== undefined) {
      headers["content-type"] = json ? "application/json" : "application/octet-stream";
      if (payload instanceof Uint8Array) headers["content-length"] = payload.length;
    }
    const query = new URLSearchParams(
      Object.entries(options.query ?? {}).flatMap(([name, value]): [string, string][] =>
        value === undefined ? [] : [[name, String(value)]],
      ),
    ).toString();
    const { open, options: where } = await this.target();
    return await new Promise((resolve, reject) => {
      const call: ClientRequest = open({
        ...where,
        method,
        path: query === "" ? path : `${path}?${query}`,
        headers,
        ...(signal === undefined ? {} : { signal }),
      });
      if (Number.isFinite(waitMs)) {
        call.setTimeout(answerTimeoutMs + waitMs, () =>
          call.destroy(new Error(`no answer within ${(answerTimeoutMs + waitMs) / 1000} s`)),
        );
      }
      call.on("response", resolve);
      call.on("error", (error) =>
        reject(
          signal?.aborted === true
            ? signal.reason
            : new UnreachableError(this.endpoint, explain(error), { cause: error }),
        ),
      );
      if (isStream(payload)) {
        // Whoever only listens has to be heard of, too.
        call.flushHeaders();
        payload.on("error", (error: Error) => call.destroy(error));
        payload.pipe(call);
      } else call.end(payload);
    });
  }
}

/** Builds a path from literal text and values that may hold anything. */
export function path(parts: TemplateStringsArray, ...values: readonly string[]): string {
  return String.raw({ raw: parts }, ...values.map(encodeURIComponent));
}

type Target = () => Promise<{
  open: (options: RequestOptions) => ClientRequest;
  options: RequestOptions & { ca?: Buffer };
}>;

function parseEndpoint(endpoint: string, caFile: string | undefined): Target {
  if (endpoint.startsWith("unix:")) {
    const socketPath = endpoint.slice("unix:".length).replace(/^\/\/(?=\/)/, "");
    if (!socketPath.startsWith("/"))
      throw new UnreachableError(endpoint, "the socket's path must be absolute: unix:/run/….sock");
    return async () => ({ open: request, options: { socketPath, host: "localhost" } });
  }
  const url = URL.canParse(endpoint) ? new URL(endpoint) : undefined;
  if (url === undefined || (url.protocol !== "http:" && url.protocol !== "https:"))
    throw new UnreachableError(
      endpoint,
      "an endpoint is unix:/path, http://host:port or https://host:port",
    );
  const host = url.hostname.replace(/^\[|\]$/g, "");
  if (url.protocol === "http:")
    return async () => ({ open: request, options: { host, port: url.port || 80 } });
  const ca = caFile === undefined ? undefined : readCertificate(endpoint, caFile);
  return async () => ({
    open: (await import("node:https")).request,
    options: { host, port: url.port || 443, ...(ca === undefined ? {} : { ca }) },
  });
}

function readCertificate(endpoint: string, caFile: string): Buffer {
  try {
    return readFileSync(caFile);
  } catch (cause) {
    throw new UnreachableError(endpoint, `the CA file ${caFile} cannot be read`, { cause });
  }
}

async function readAnswer(answer: IncomingMessage, endpoint: string): Promise<unknown> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of answer) {
      bytes += (chunk as Buffer).length;
      if (bytes > maxAnswerBytes) throw new Error(`an answer of more than ${maxAnswerBytes} bytes`);
      chunks.push(chunk as Buffer);
    }
  } catch (cause) {
    throw new UnreachableError(endpoint, "the answer broke off", { cause });
  }
  const status = answer.statusCode ?? 0;
  const text = Buffer.concat(chunks).toString("utf8");
  const body = parseJson(text);
  if (status >= 200 && status < 300) {
    if (text !== "" && body === undefined)
      throw new UnreachableError(endpoint, `it answered ${status} with something that is not JSON`);
    return body;
  }
  if (isProblem(body)) throw new ProblemError({ ...body, status });
  throw new ProblemError({
    type: "about:blank",
    title: `The shepherd answered ${status} ${answer.statusMessage ?? ""}`.trim(),
    status,
    detail: text.slice(0, 500),
    code: `http.${status}`,
    hint: `Check that ${endpoint} is a shepherd and nothing else.`,
    details: {},
  });
}

function parseJson(text: string): unknown {
  try {
    return text === "" ? undefined : JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

function isProblem(body: unknown): body is Problem {
  return typeof body === "object" && body !== null && "code" in body && "title" in body;
}

/** "Try later", and connections that a restart explains. A missing socket, a wrong certificate or silence stay as they are. */
function worthRepeating(error: unknown): boolean {
  if (error instanceof ProblemError) return error.status === 503 || error.status === 429;
  return error instanceof UnreachableError && passingCodes.has(codeOf(error.cause));
}
const passingCodes = new Set(["ECONNREFUSED", "ECONNRESET", "EPIPE", "ETIMEDOUT", "EAI_AGAIN"]);

function codeOf(cause: unknown): string {
  return typeof cause === "object" && cause !== null && "code" in cause ? String(cause.code) : "";
}

function explain(error: NodeJS.ErrnoException): string {
  switch (error.code) {
    case "ENOENT":
      return "there is no such socket";
    case "ECONNREFUSED":
      return "nothing listens there";
    case "EACCES":
      return "no permission to use this socket";
    case "ENOTFOUND":
      return "its name is not known";
    default:
      return error.message;
  }
}

function isStream(body: unknown): body is NodeJS.ReadableStream {
  return typeof body === "object" && body !== null && "pipe" in body;
}

/** 0.5 to 1.5, so that many callers do not come back together. */
function jitter(): number {
  return 0.5 + Number.parseInt(randomUUID().slice(0, 4), 16) / 0xffff;
}

function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, ms);
    signal?.addEventListener("abort", stop, { once: true });
  });
}
