/**
 * What a shepherd's spans come to, as tests look at them: a small OTLP/HTTP receiver in this process. With OTEL_COLLECTOR
 * (the program that test/tools/build-collector.ts builds) a real OpenTelemetry Collector stands before it, and what the
 * tests see is what that has understood and written anew.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";

export interface Span {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly name: string;
  readonly words: Readonly<Record<string, unknown>>;
  readonly failed: boolean;
}

export interface Collector {
  /** For `tracing.url` of drover.yaml. */
  readonly url: string;
  /** Received so far, in the order in which they came. */
  readonly spans: readonly Span[];
  named(name: string, traceId?: string): Span | undefined;
  /** Waits until the spans received hold what is looked for; the runner's own limit ends it. */
  received(found: () => Span | undefined): Promise<Span>;
  /** Names from the root down to this span. */
  wayTo(span: Span): readonly string[];
  /** Takes connections and never answers from now on. */
  mute(): void;
  close(): Promise<void>;
}

export async function openCollector(): Promise<Collector> {
  const spans: Span[] = [];
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const body = Buffer.concat(chunks);
      const isPacked = request.headers["content-encoding"] === "gzip";
      spans.push(...spansOf((isPacked ? gunzipSync(body) : body).toString()));
      response.writeHead(200, { "content-type": "application/json" }).end("{}");
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const ours = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const closeOurs = async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  };
  const program = process.env["OTEL_COLLECTOR"];
  let before: Awaited<ReturnType<typeof startBefore>> | undefined;
  try {
    before = program === undefined ? undefined : await startBefore(program, ours);
  } catch (error) {
    await closeOurs();
    throw error;
  }
  const named = (name: string, traceId?: string) =>
    spans.find((one) => one.name === name && (traceId ?? one.traceId) === one.traceId);
  const wayTo = (span: Span): readonly string[] => {
    const above = spans.find(({ spanId }) => spanId === span.parentSpanId);
    return [...(above === undefined ? [] : wayTo(above)), span.name];
  };
  return {
    url: `${before?.url ?? ours}/v1/traces`,
    spans,
    named,
    wayTo,
    async received(found) {
      for (;;) {
        const span = found();
        if (span !== undefined) return span;
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    },
    mute: () => void server.removeAllListeners("request"),
    async close() {
      await before?.end();
      await closeOurs();
    },
  };
}

/** The JSON form of OTLP's trace request. */
function spansOf(text: string): readonly Span[] {
  interface Sent {
    readonly resourceSpans: readonly {
      readonly scopeSpans: readonly {
        readonly spans: readonly {
          readonly traceId: string;
          readonly spanId: string;
          readonly parentSpanId?: string;
          readonly name: string;
          readonly status?: { readonly code?: number };
          readonly attributes?: readonly {
            readonly key: string;
            readonly value: Readonly<Record<string, unknown>>;
          }[];
        }[];
      }[];
    }[];
  }
  return (JSON.parse(text) as Sent).resourceSpans
    .flatMap(({ scopeSpans }) => scopeSpans)
    .flatMap((scope) => scope.spans)
    .map(({ attributes, status, ...span }) => ({
      ...span,
      failed: status?.code === 2,
      words: Object.fromEntries(
        (attributes ?? []).map(({ key, value }) => [key, Object.values(value)[0]] as const),
      ),
    }));
}

/** A real collector that takes OTLP/HTTP and sends it on to `next`; resolves when it takes connections. */
async function startBefore(
  program: string,
  next: string,
): Promise<{ readonly url: string; end(): Promise<void> }> {
  const folder = mkdtempSync(join(tmpdir(), "drover-collector-"));
  const port = await freePort();
  const file = join(folder, "collector.yaml");
  writeFileSync(
    file,
    `receivers: { otlp: { protocols: { http: { endpoint: "127.0.0.1:${port}" } } } }
exporters: { otlp_http: { endpoint: "${next}", encoding: json, sending_queue: { enabled: false } } }
service:
  telemetry: { metrics: { level: none } }
  pipelines: { traces: { receivers: [otlp], exporters: [otlp_http] } }
`,
  );
  const child = spawn(program, ["--config", file], { stdio: ["ignore", "ignore", "pipe"] });
  let said = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    said += text;
  });
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  while (!(await takes(port))) {
    if (hasEnded(child)) throw new Error(`the collector ended: ${said}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return {
    url: `http://127.0.0.1:${port}`,
    async end() {
      child.kill("SIGTERM");
      await ended;
      rmSync(folder, { recursive: true });
    },
  };
}

function hasEnded({ exitCode, signalCode }: ChildProcess): boolean {
  return exitCode !== null || signalCode !== null;
}

async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((resolve) => probe.listen(0, "127.0.0.1", resolve));
  const { port } = probe.address() as AddressInfo;
  await new Promise((resolve) => probe.close(resolve));
  return port;
}

function takes(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}
