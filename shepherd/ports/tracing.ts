/**
 * How work is followed across rooms: spans of OpenTelemetry, whose API package is the port itself (it does nothing until
 * telemetry.ts registers an SDK). A span that needs a parent costs one look when nobody traces. The ids also go into the
 * lines of the log, traced or not. Carries ids and codes, never what guests wrote, never secrets. Knows no exporter.
 */
import { AsyncLocalStorage } from "node:async_hooks";
import {
  type Attributes,
  type Context,
  context,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  SpanStatusCode,
  trace,
} from "@opentelemetry/api";
import { toFaultData } from "#model/fault";

/** The words of our attributes; one list, so that a trace can be searched by any of them. */
export interface SpanWords {
  readonly request?: string | undefined;
  readonly decision?: string | undefined;
  readonly plan?: string | undefined;
  readonly operation?: string | undefined;
  readonly step?: number | undefined;
  readonly machine?: string | undefined;
  readonly environment?: string | undefined;
  readonly host?: string | undefined;
  readonly owner?: string | undefined;
  readonly kind?: string | undefined;
  readonly point?: string | undefined;
  readonly effect?: string | undefined;
  readonly code?: string | undefined;
  readonly state?: string | undefined;
  readonly asker?: string | undefined;
}

const tracerName = "drover";

/** Lead from a line of the log to the journal. What is told below is told of all above: one ask has one decision. */
const idWords = ["request", "decision", "plan", "operation"] as const;
interface Followed {
  readonly ids: Partial<Record<(typeof idWords)[number], string>>;
  readonly above: Followed | undefined;
}
const followed = new AsyncLocalStorage<Followed | undefined>();

function follow<T>(words: SpanWords, work: () => T): T {
  const above = followed.getStore();
  return followed.run({ ids: { ...above?.ids, ...idsOf(words) }, above }, work);
}

function idsOf(words: SpanWords): Followed["ids"] {
  return Object.fromEntries(
    idWords.flatMap((word) => (words[word] === undefined ? [] : [[word, words[word]]])),
  );
}

/**
 * Runs `work` in a span of its own: under `parent` (a traceparent that was journaled or sent), else under the active
 * one, else as the root of a new trace. A rejection is the span's error, and is passed on.
 */
export async function inSpan<T>(
  name: string,
  words: SpanWords,
  work: () => Promise<T>,
  parent?: string,
): Promise<T> {
  const above = parent === undefined ? context.active() : contextOf(parent);
  const span = trace.getTracer(tracerName).startSpan(name, { attributes: named(words) }, above);
  return await follow(words, () =>
    context.with(trace.setSpan(above, span), () => endWith(span, work)),
  );
}

/** As inSpan, but only when somebody above is being followed: what also happens every two seconds makes no trace. */
export async function inChildSpan<T>(
  name: string,
  words: SpanWords,
  work: () => Promise<T>,
): Promise<T> {
  return isFollowed() ? await inSpan(name, words, work) : await work();
}

/** The same for work that does not wait. */
export function inChildSpanNow<T>(name: string, words: SpanWords, work: () => T): T {
  if (!isFollowed()) return work();
  const span = trace.getTracer(tracerName).startSpan(name, { attributes: named(words) });
  try {
    return work();
  } catch (error) {
    fail(span, error);
    throw error;
  } finally {
    span.end();
  }
}

/** A span that the caller ends; undefined when nobody follows. For work of which nobody knows yet whether it waits. */
export function openChildSpan(name: string, words: SpanWords) {
  if (!isFollowed()) return undefined;
  const span = trace.getTracer(tracerName).startSpan(name, { attributes: named(words) });
  const within = <T>(work: () => T): T => context.with(trace.setSpan(context.active(), span), work);
  return {
    within,
    end: () => span.end(),
    fail(error: unknown) {
      fail(span, error);
      span.end();
    },
  };
}

/** Adds to the active span what became known on the way. */
export function tell(words: SpanWords): void {
  const ids = idsOf(words);
  for (let at = followed.getStore(); at !== undefined; at = at.above) Object.assign(at.ids, ids);
  trace.getActiveSpan()?.setAttributes(named(words));
}

/** Of the active span, to be journaled or sent on; undefined when nobody follows. W3C trace context, level 1. */
export function traceparent(): string | undefined {
  const active = trace.getActiveSpan()?.spanContext();
  if (active === undefined || !isFollowed()) return undefined;
  const flags = active.traceFlags.toString(16).padStart(2, "0");
  return `00-${active.traceId}-${active.spanId}-${flags}`;
}

/** For lines of a log: the ids of what it is about, as far as they are known by then, and the trace if there is one. */
export function logWords(): Readonly<Record<string, string>> {
  const active = trace.getActiveSpan()?.spanContext();
  const ids = followed.getStore()?.ids;
  if (active === undefined) return { ...ids };
  return { ...ids, trace_id: active.traceId, span_id: active.spanId };
}

/** Whether an operation is at work here. */
export function isOfOperation(): boolean {
  return followed.getStore()?.ids.operation !== undefined;
}

export interface ServerSpan {
  /** Runs `work`, and what it starts, under the span. */
  within<T>(work: () => T): T;
  tell(words: SpanWords): void;
  end(status: number): void;
}

/** One call of a client; its `traceparent` header makes it part of the client's own trace. */
export function serverSpan(name: string, header: string | undefined): ServerSpan {
  const above = header === undefined ? ROOT_CONTEXT : contextOf(header);
  const options = { kind: SpanKind.SERVER };
  const span = trace.getTracer(tracerName).startSpan(name, options, above);
  return {
    within: (work) => follow({}, () => context.with(trace.setSpan(above, span), work)),
    tell: (words) => void span.setAttributes(named(words)),
    end(status) {
      span.setAttribute("http.response.status_code", status);
      if (status >= 500) span.setStatus({ code: SpanStatusCode.ERROR });
      span.end();
    },
  };
}

/** Leaves the trace: for what goes on after the asker has its answer, and belongs to nobody's ask. */
export function outsideSpans<T>(work: () => T): T {
  return followed.run(undefined, () => context.with(ROOT_CONTEXT, work));
}

/** An ended span is nobody's parent any more: a connection that was opened under it lives on. */
function isFollowed(): boolean {
  return trace.getActiveSpan()?.isRecording() === true;
}

async function endWith<T>(span: Span, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    fail(span, error);
    throw error;
  } finally {
    span.end();
  }
}

/** The code alone: messages may hold what a guest wrote. */
function fail(span: Span, error: unknown): void {
  const { code } = toFaultData(error);
  span.setAttribute("drover.fault", code);
  span.setStatus({ code: SpanStatusCode.ERROR, message: code });
}

function named(words: SpanWords): Attributes {
  return Object.fromEntries(
    Object.entries(words).flatMap(([word, value]) =>
      value === undefined ? [] : [[`drover.${word}`, value]],
    ),
  );
}

/** Anything that is no traceparent begins a new trace. */
function contextOf(parent: string): Context {
  const match = /^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/.exec(parent);
  const [, traceId = "", spanId = "", flags = "0"] = match ?? [];
  if (match === null || /^0+$/.test(traceId) || /^0+$/.test(spanId)) return ROOT_CONTEXT;
  return trace.setSpanContext(ROOT_CONTEXT, {
    traceId,
    spanId,
    traceFlags: Number.parseInt(flags, 16),
    isRemote: true,
  });
}
