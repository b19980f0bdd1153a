import { events, subscribe } from "@drover/shepherd/libvirt/rpc/events";
import { messageTypes, programs, statuses } from "@drover/shepherd/libvirt/rpc/frame";
import { remote } from "@drover/shepherd/libvirt/rpc/procedures";
import { domainOf } from "@drover/shepherd/libvirt/rpc/references";
import { describe, expect, test } from "@jest/globals";
import { encoded, ScriptedDaemon, settled } from "./scripted-daemon.ts";

const domain = domainOf("0192f000-0000-7000-8000-000000000001");
const quiet = (promise: Promise<unknown>) => promise.catch(() => undefined);

describe("a busy daemon", () => {
  test("sees at most four ordinary calls; a priority call has a place of its own and goes first", async () => {
    const { daemon, connection } = await ScriptedDaemon.connect();
    for (let i = 0; i < 6; i += 1) void quiet(connection.call(remote.domainSuspend, { domain }));
    const urgent = connection.call(remote.getHostname, {});
    void quiet(connection.call(remote.getHostname, {}));
    await settled();
    expect(daemon.received.map((frame) => frame.procedure)).toEqual([34, 34, 34, 34, 59]);
    const [hostname] = daemon.calls(remote.getHostname);
    if (hostname !== undefined)
      daemon.reply(hostname, remote.getHostname.result, { hostname: "h" });
    await expect(urgent).resolves.toEqual({ hostname: "h" });
    expect(connection.load).toEqual({ queued: 2, inFlight: 5 });
  });

  test("answers may come in any order", async () => {
    const { daemon, connection } = await ScriptedDaemon.connect();
    const names = ["a", "b", "c"];
    const asked = names.map((name) => connection.call(remote.domainLookupByName, { name }));
    await settled();
    for (const [index, call] of [...daemon.calls(remote.domainLookupByName).entries()].reverse()) {
      const found = { ...domain, name: names[index] ?? "" };
      daemon.reply(call, remote.domainLookupByName.result, { domain: found });
    }
    const found = await Promise.all(asked);
    expect(found.map((answer) => answer.domain.name)).toEqual(names);
  });

  test("gets calls with one order key one after the other, also after the caller gave up", async () => {
    const { daemon, connection } = await ScriptedDaemon.connect();
    const options = { order: domain.uuid };
    const first = connection.call(remote.domainSuspend, { domain }, { ...options, timeoutMs: 10 });
    const second = connection.call(remote.domainResume, { domain }, options);
    const other = quiet(connection.call(remote.getCapabilities, {}, { order: "other" }));
    await expect(first).rejects.toMatchObject({
      code: "libvirt.call_timeout",
      details: { procedure: "remote.domainSuspend", sent: true },
    });
    expect(daemon.received.map((frame) => frame.procedure)).toEqual([34, 7]);
    const [late] = daemon.received;
    if (late !== undefined) daemon.reply(late, remote.domainSuspend.result, {});
    await settled();
    expect(daemon.received.map((frame) => frame.procedure)).toEqual([34, 7, 28]);
    const resume = daemon.received[2];
    if (resume !== undefined) daemon.reply(resume, remote.domainResume.result, {});
    await expect(second).resolves.toEqual({});
    await connection.close();
    await other;
  });

  test("never gets a call that was given up while it still waited here", async () => {
    const { daemon, connection } = await ScriptedDaemon.connect({ maxInFlight: 1 });
    void quiet(connection.call(remote.domainSuspend, { domain }));
    const waiting = connection.call(remote.domainResume, { domain }, { timeoutMs: 10 });
    await expect(waiting).rejects.toMatchObject({ details: { sent: false } });
    const [first] = daemon.received;
    if (first !== undefined) daemon.reply(first, remote.domainSuspend.result, {});
    await settled();
    expect(daemon.received).toHaveLength(1);
  });
});

describe("the end of a connection", () => {
  test("rejects everything outstanding and waiting, and every later call", async () => {
    const { daemon, connection } = await ScriptedDaemon.connect();
    const calls = Array.from({ length: 7 }, () =>
      connection.call(remote.domainSuspend, { domain }),
    );
    await settled();
    daemon.hangUp();
    const outcomes = await Promise.allSettled(calls);
    expect(outcomes.map((outcome) => outcome.status === "rejected" && outcome.reason.code)).toEqual(
      Array.from({ length: 7 }, () => "libvirt.disconnected"),
    );
    await expect(connection.call(remote.getHostname, {})).rejects.toMatchObject({
      code: "libvirt.disconnected",
    });
  });

  test("comes after pings that nobody answers", async () => {
    const { daemon, connection } = await ScriptedDaemon.connect({
      pingIntervalMs: 10,
      maxMissedPings: 3,
    });
    daemon.answersPings = false;
    await expect(connection.closed).resolves.toMatchObject({ code: "libvirt.disconnected" });
    expect(daemon.received.filter((frame) => frame.program === programs.keepalive)).toHaveLength(3);
  });

  test.each([
    { what: "a length below the header", bytes: Buffer.from([0, 0, 0, 27]) },
    { what: "a length above the limit", bytes: Buffer.from([2, 0, 0, 1]) },
    { what: "HTTP instead of RPC", bytes: Buffer.from("HTTP/1.1 400 Bad Request\r\n\r\n") },
    {
      what: "a reply that nobody asked for",
      bytes: Buffer.from("0000001c2000808600000001000000220000000100000fff00000000", "hex"),
    },
    {
      what: "a call from the daemon",
      bytes: Buffer.from("0000001c20008086000000010000002200000000000000ff00000000", "hex"),
    },
  ])("comes with $what", async ({ bytes }) => {
    const { daemon, connection } = await ScriptedDaemon.connect();
    daemon.raw(bytes);
    await expect(connection.closed).resolves.toMatchObject({ code: "libvirt.protocol" });
  });
});

test("a reply that does not decode fails its own call only", async () => {
  const { daemon, connection } = await ScriptedDaemon.connect();
  const odd = connection.call(remote.getHostname, {});
  await settled();
  const [call] = daemon.received;
  if (call !== undefined) {
    daemon.send(
      { ...call, type: messageTypes.reply, status: statuses.ok },
      Buffer.from([0, 0, 0, 9]),
    );
  }
  await expect(odd).rejects.toMatchObject({ code: "libvirt.protocol" });
  expect(connection.isOpen).toBe(true);
});

test("a ping of the daemon is answered at once, however busy the connection is", async () => {
  const { daemon, connection } = await ScriptedDaemon.connect();
  for (let i = 0; i < 9; i += 1) void quiet(connection.call(remote.domainSuspend, { domain }));
  daemon.ping();
  await settled();
  expect(daemon.received.at(-1)).toMatchObject({
    program: programs.keepalive,
    procedure: 2,
    serial: 0,
  });
});

test("an error keeps every field", async () => {
  const { daemon, connection } = await ScriptedDaemon.connect();
  const failing = connection.call(remote.domainSuspend, { domain });
  await settled();
  const [call] = daemon.received;
  const net = { name: "lan", uuid: domain.uuid };
  const sent = {
    code: 68,
    domain: 10,
    message: "zu spät",
    level: 2,
    dom: domain,
    str1: "1",
    str2: "2",
    str3: "3",
    int1: 4,
    int2: 5,
    net,
  };
  if (call !== undefined) daemon.fail(call, sent);
  const { code, domain: libvirtDomain, ...rest } = sent;
  await expect(failing).rejects.toMatchObject({
    code: "libvirt.timeout",
    details: {
      procedure: "remote.domainSuspend",
      libvirt_code: code,
      libvirt_domain: libvirtDomain,
      ...rest,
    },
  });
});

test("an event that overtakes the registration's reply is delivered, those of others are not", async () => {
  const { daemon, connection } = await ScriptedDaemon.connect();
  const seen: number[] = [];
  const subscribing = subscribe(connection, { lifecycle: (payload) => seen.push(payload.event) });
  await settled();
  const event = (callbackId: number, number: number) => {
    const payload = encoded(events.lifecycle.payload, {
      callbackId,
      domain,
      event: number,
      detail: 0,
    });
    const header = {
      program: programs.remote,
      version: 1,
      procedure: 318,
      type: 2,
      serial: 0,
      status: 0,
    };
    daemon.send(header, payload);
  };
  event(7, 3);
  event(8, 5);
  const [call] = daemon.calls(remote.registerDomainEvent);
  if (call !== undefined) daemon.reply(call, remote.registerDomainEvent.result, { callbackId: 7 });
  await subscribing;
  event(7, 4);
  await settled();
  expect(seen).toEqual([3, 4]);
});
