/**
 * Spans, as a collector receives them: a small OTLP/HTTP server in this process takes what a whole shepherd sends, and
 * the trace of one ask is one whole tree from the guest's line to the calls of its host.
 */
import type { MachineView, Mutation } from "@drover/shepherd/api/contract";
import { inChildSpan, inSpan, logWords, traceparent } from "@drover/shepherd/ports/tracing";
import { afterEach, beforeEach, expect, jest, test } from "@jest/globals";
import { pino } from "pino";
import { declareRing, need, type Running, run } from "../shepherd/api/shepherd.ts";
import { type Collector, openCollector } from "./collector.ts";
import { speakTo } from "./shepherd.ts";

// Policies are compiled for each shepherd: on a busy machine that alone may take half a minute.
jest.setTimeout(180_000);

let collector: Collector;
let running: Running | undefined;

beforeEach(async () => {
  collector = await openCollector();
});
afterEach(async () => {
  await running?.end();
  running = undefined;
  await collector.close();
});

const named: Collector["named"] = (...of) => collector.named(...of);
const received: Collector["received"] = (found) => collector.received(found);

test("one ask of a guest is one tree: intake, policy of each owner, plan, journal, steps, calls of the host", async () => {
  running = await run(`tracing: { url: "${collector.url}" }`);
  const { machines } = await declareRing(running, 1);
  const guest = speakTo(need(running.world.guestPort(need(machines[0]).id)).guest);
  const result = await guest.ask("resize", { memory_mib: 320, reason: "a secret of mine" });
  expect(result).toMatchObject({ verdict: "granted" });
  const decision = result?.["decision"];

  const root = await received(() => named("guest resize"));
  expect(root.parentSpanId ?? "").toBe("");
  const operation = await received(() => named("operation adapt", root.traceId));
  const call = await received(() => named("host.setMemory", root.traceId));
  const gate = await received(() => named("gate", root.traceId));
  const tree = collector.spans.filter(({ traceId }) => traceId === root.traceId);

  const step = need(tree.find(({ name }) => name.startsWith("step rank-0: ")));
  expect(collector.wayTo(call)).toEqual([
    "guest resize",
    "gate",
    "operation adapt",
    step.name,
    "host.setMemory",
  ]);
  expect(collector.wayTo(need(named("plan", root.traceId)))).toEqual([
    "guest resize",
    "gate",
    "judge",
    "plan",
  ]);
  expect(collector.wayTo(need(named("journal", root.traceId)))).toEqual([
    "guest resize",
    "gate",
    "journal",
  ]);
  const owners = tree.filter(({ name }) => name === "policy").map(({ words }) => words);
  expect(new Set(owners.map((words) => words["drover.owner"]))).toEqual(
    new Set(["operator", "owner:local-root", "site:north"]),
  );
  expect(owners.every((words) => words["drover.effect"] === "allow")).toBe(true);

  // Ids in it lead to the journal, and from the journal to it.
  expect(gate.words).toMatchObject({
    "drover.decision": decision,
    "drover.operation": operation.words["drover.operation"],
    "drover.effect": "allow",
    "drover.code": "granted",
    "drover.asker": "guest",
  });
  expect(operation.words).toMatchObject({
    "drover.request": gate.words["drover.request"],
    "drover.state": "succeeded",
  });
  expect(call.words).toMatchObject({ "drover.host": "north-1" });
  // Nothing of it hangs in the air, nothing failed, and nothing that the guest wrote is in it.
  const known = new Set(tree.map(({ spanId }) => spanId));
  expect(tree.filter((one) => one !== root && !known.has(one.parentSpanId ?? ""))).toEqual([]);
  expect(tree.filter(({ failed }) => failed)).toEqual([]);
  expect(JSON.stringify(tree)).not.toContain("secret");
  // The looks every two seconds follow nobody: no trace is of a host's call alone.
  expect(
    collector.spans.filter(
      (one) => (one.parentSpanId ?? "") === "" && one.name.startsWith("host."),
    ),
  ).toEqual([]);
});

test("a client's traceparent is carried on, through the operation, also into a shepherd that comes after", async () => {
  running = await run(`tracing: { url: "${collector.url}" }`, { startMs: 1_500 });
  const { environment, image, network } = await declareRing(running, 0);
  const trace = "4bf92f3577b34da6a3ce929d0e0e4736";
  const answer = await running.client.call<Mutation<MachineView>>(
    "PUT",
    `/v1/environments/${environment.name}/machines/late`,
    {
      traceparent: `00-${trace}-00f067aa0ba902b7-01`,
      body: {
        image_id: image.id,
        vcpus: 1,
        cpu_percent: 20,
        memory_mib: 256,
        site: "north",
        networks: [{ network_id: network.id }],
      },
    },
  );
  const { id } = need(answer.operation);
  // It stops in the middle of the start; the next one goes on with the same operation.
  running = await running.restart();
  expect((await running.client.waitForOperation(id)).state).toBe("succeeded");
  const put = await received(() =>
    named("PUT /v1/environments/:environment/machines/:name", trace),
  );
  expect(put).toMatchObject({ parentSpanId: "00f067aa0ba902b7" });
  const ofIt = () =>
    collector.spans.filter(
      ({ name, traceId, words }) =>
        name === "operation create" && traceId === trace && words["drover.operation"] === id,
    );
  await received(() => ofIt().find(({ words }) => words["drover.state"] === "succeeded"));
  expect(ofIt().length).toBe(2);
});

test("what fails carries its code; lines of the log carry the trace", async () => {
  running = await run(`tracing: { url: "${collector.url}" }`);
  const { machines } = await declareRing(running, 1);
  running.world.faults.inject({ call: "setMemory", effect: "fail" });
  const guest = speakTo(need(running.world.guestPort(need(machines[0]).id)).guest);
  await guest.ask("resize", { memory_mib: 320 });
  const failed = await received(() => named("host.setMemory"));
  expect(failed).toMatchObject({ failed: true });
  expect(failed.words["drover.fault"]).toMatch(/^[a-z_]+\.[a-z_]+$/);

  const lines: string[] = [];
  const log = pino({ mixin: logWords }, { write: (line: string) => void lines.push(line) });
  log.info("before");
  const parent = await inSpan("logged", {}, async () => {
    log.info("within");
    return traceparent();
  });
  const [before = "", within = ""] = lines;
  expect(JSON.parse(before)).not.toHaveProperty("trace_id");
  const { trace_id, span_id } = JSON.parse(within) as Record<string, string>;
  expect(parent).toBe(`00-${trace_id}-${span_id}-01`);
});

test("lines of the log carry request, decision and operation, without any collector, also after a restart", async () => {
  const lines: Readonly<Record<string, unknown>>[] = [];
  const keep = { write: (line: string) => void lines.push(JSON.parse(line)) };
  running = await run("", { startMs: 1_500 }, pino({ level: "debug", mixin: logWords }, keep));
  const { machines, environment, image, network } = await declareRing(running, 1);
  const guest = speakTo(need(running.world.guestPort(need(machines[0]).id)).guest);
  const result = await guest.ask("resize", { memory_mib: 320, reason: "a secret of mine" });
  const decision = result?.["decision"];
  const about = (msg: string) =>
    lines.find((line) => line["msg"] === msg && line["decision"] === decision);
  const ended = need(about("operation ended"));
  const { request, operation } = ended;
  const ids = { request, decision, operation };
  expect(Object.values(ids)).toEqual([0, 1, 2].map(() => expect.any(String)));
  // Intake, policy and plan, steps, calls of the host: whoever has one of the ids finds them all.
  const asked = lines.find((line) => line["msg"] === "asked" && line["request"] === request);
  expect(asked).toMatchObject({ kind: "resize", asker: "guest" });
  expect(about("decided")).toMatchObject({ ...ids, effect: "allow", plan: expect.any(String) });
  expect(about("step")).toMatchObject({ ...ids, state: expect.any(String) });
  const called = lines.filter(
    (line) => line["msg"] === "host called" && line["call"] === "host.setMemory",
  );
  expect(called).toMatchObject([{ ...ids, host: "north-1" }]);
  expect(JSON.stringify(lines)).not.toContain("secret");
  // What nobody asked for belongs to nobody's ask.
  expect(lines.find((line) => line["msg"] === "listening")).not.toHaveProperty("operation");

  const path = `/v1/environments/${environment.name}/machines/late`;
  const body = { image_id: image.id, vcpus: 1, cpu_percent: 20, memory_mib: 256, site: "north" };
  const { operation: creating } = await running.client.call<Mutation<MachineView>>("PUT", path, {
    body: { ...body, networks: [{ network_id: network.id }] },
  });
  const { id } = need(creating);
  const ofCreate = () => lines.filter((line) => line["operation"] === id);
  const decidedBefore = need(ofCreate().find((line) => line["msg"] === "decided"))["decision"];
  running = await running.restart();
  lines.length = 0;
  await running.client.waitForOperation(id);
  const after = need(ofCreate().find((line) => line["msg"] === "operation ended"));
  expect(after).toMatchObject({ operation: id, decision: decidedBefore, state: "succeeded" });
});

test("without a collector nothing is followed and nothing is sent", async () => {
  running = await run();
  const { machines } = await declareRing(running, 1);
  const guest = speakTo(need(running.world.guestPort(need(machines[0]).id)).guest);
  expect(await guest.ask("resize", { memory_mib: 320 })).toMatchObject({ verdict: "granted" });
  await inSpan("nobody looks", {}, async () => {
    expect(traceparent()).toBeUndefined();
    expect(await inChildSpan("below", {}, async () => traceparent())).toBeUndefined();
    expect(logWords()).not.toHaveProperty("trace_id");
  });
  const operations = await running.client.get<{ items: readonly object[] }>("/v1/operations");
  expect(operations.items.every((one) => !("traceparent" in one))).toBe(true);
  expect(collector.spans).toEqual([]);
});

test("a collector that does not answer costs nobody anything", async () => {
  collector.mute();
  running = await run(`tracing: { url: "${collector.url}" }`);
  const { machines } = await declareRing(running, 1);
  const guest = speakTo(need(running.world.guestPort(need(machines[0]).id)).guest);
  expect(await guest.ask("resize", { memory_mib: 320 })).toMatchObject({ verdict: "granted" });
});
