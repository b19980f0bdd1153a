/** Calls of libvirt in a trace: each is a span under whoever asked for it, also when it waits its turn; looks make none. */
import { remote } from "@drover/shepherd/libvirt/rpc/procedures";
import { domainOf } from "@drover/shepherd/libvirt/rpc/references";
import { inSpan } from "@drover/shepherd/ports/tracing";
import { afterAll, beforeAll, beforeEach, expect, test } from "@jest/globals";
import { context, trace } from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import {
  InMemorySpanExporter,
  SimpleSpanProcessor,
  TracerProvider,
} from "@opentelemetry/sdk-trace";
import { ScriptedDaemon, settled } from "./scripted-daemon.ts";

const exporter = new InMemorySpanExporter();
const domain = domainOf("0192f000-0000-7000-8000-000000000001");
beforeAll(() => {
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  trace.setGlobalTracerProvider(
    new TracerProvider({ spanProcessors: [new SimpleSpanProcessor({ exporter })] }),
  );
});
beforeEach(() => exporter.reset());
afterAll(() => {
  trace.disable();
  context.disable();
});

test("a call is a span under its step, and ends when libvirt has answered", async () => {
  const { daemon, connection } = await ScriptedDaemon.connect();
  const step = inSpan("step rank-0: pause", {}, () =>
    connection.call(remote.domainSuspend, { domain }),
  );
  await settled();
  expect(exporter.getFinishedSpans()).toEqual([]);
  for (const call of daemon.calls(remote.domainSuspend))
    daemon.reply(call, remote.domainSuspend.result, {});
  await step;
  const spans = exporter.getFinishedSpans();
  expect(spans.map(({ name }) => name)).toEqual([
    "libvirt remote.domainSuspend",
    "step rank-0: pause",
  ]);
  const [call, above] = spans;
  expect(call?.parentSpanContext?.spanId).toBe(above?.spanContext().spanId);
});

test("one that fails carries the fault's code", async () => {
  const { connection } = await ScriptedDaemon.connect();
  const step = inSpan("step", {}, () =>
    connection.call(remote.domainSuspend, { domain }, { timeoutMs: 10 }),
  );
  await expect(step).rejects.toMatchObject({ code: "libvirt.call_timeout" });
  expect(exporter.getFinishedSpans().map(({ attributes }) => attributes["drover.fault"])).toEqual([
    "libvirt.call_timeout",
    "libvirt.call_timeout",
  ]);
});

test("a look that nobody follows makes none", async () => {
  const { daemon, connection } = await ScriptedDaemon.connect();
  const asked = connection.call(remote.getHostname, {});
  await settled();
  for (const call of daemon.calls(remote.getHostname))
    daemon.reply(call, remote.getHostname.result, { hostname: "h" });
  await expect(asked).resolves.toEqual({ hostname: "h" });
  expect(exporter.getFinishedSpans()).toEqual([]);
});
