/**
 * Sends spans to a collector over OTLP/HTTP, when drover.yaml names one. The SDK is loaded only then: without a collector
 * nothing of it is in memory, and spans cost nothing. A collector that does not answer loses spans, never time.
 */
import { context, type DiagLogger, DiagLogLevel, diag, trace } from "@opentelemetry/api";
import type { Logger } from "pino";

export interface TracingConfiguration {
  /** Where OTLP/HTTP is taken: `http://127.0.0.1:4318/v1/traces`. */
  readonly url: string;
  /** Of traces that begin here; one that a client began is followed when the client says so. */
  readonly samplePercent: number;
}

/** Spans that wait for the collector; more are dropped. */
const queueLimit = 4_096;
const sendEveryMs = 1_000;
const sendTimeoutMs = 5_000;

/** Resolves with what ends it: the last spans are sent, and nothing is followed any more. */
export async function startTracing(
  configuration: TracingConfiguration,
  about: { readonly version: string; readonly instance: string; readonly log: Logger },
): Promise<() => Promise<void>> {
  const [sdk, { AsyncLocalStorageContextManager }, { OTLPTraceExporter }, resources] =
    await Promise.all([
      import("@opentelemetry/sdk-trace"),
      import("@opentelemetry/context-async-hooks"),
      import("@opentelemetry/exporter-trace-otlp-http"),
      import("@opentelemetry/resources"),
    ]);
  const provider = new sdk.TracerProvider({
    resource: resources.resourceFromAttributes({
      "service.name": "drover-shepherd",
      "service.version": about.version,
      "service.instance.id": about.instance,
    }),
    sampler: new sdk.ParentBasedSampler({
      root: new sdk.TraceIdRatioBasedSampler(configuration.samplePercent / 100),
    }),
    spanProcessors: [
      new sdk.BatchSpanProcessor({
        exporter: new OTLPTraceExporter({ url: configuration.url, timeoutMillis: sendTimeoutMs }),
        maxQueueSize: queueLimit,
        scheduledDelayMillis: sendEveryMs,
        exportTimeoutMillis: sendTimeoutMs,
      }),
    ],
  });
  diag.setLogger(quietly(about.log), DiagLogLevel.WARN);
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  trace.setGlobalTracerProvider(provider);
  about.log.info({ url: configuration.url }, "traces are sent");
  return async () => {
    try {
      await provider.shutdown();
    } catch (error) {
      about.log.warn({ err: error }, "the last traces were not sent");
    } finally {
      trace.disable();
      context.disable();
      diag.disable();
    }
  };
}

/** The SDK's own complaints; one that repeats itself is no news. */
function quietly(log: Logger): DiagLogger {
  let last = "";
  const say = (level: "warn" | "error") => (message: string) => {
    if (message === last) return;
    last = message;
    log[level]({ problem: message }, "tracing");
  };
  const nothing = () => undefined;
  return {
    error: say("error"),
    warn: say("warn"),
    info: nothing,
    debug: nothing,
    verbose: nothing,
  };
}
