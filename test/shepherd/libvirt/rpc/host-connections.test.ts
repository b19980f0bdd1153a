import type { Duplex } from "node:stream";
import { setImmediate as turn } from "node:timers/promises";
import { events } from "@drover/shepherd/libvirt/rpc/events";
import { programs } from "@drover/shepherd/libvirt/rpc/frame";
import { HostConnections } from "@drover/shepherd/libvirt/rpc/host-connections";
import { remote } from "@drover/shepherd/libvirt/rpc/procedures";
import { domainOf } from "@drover/shepherd/libvirt/rpc/references";
import { Fault } from "@drover/shepherd/model/fault";
import type { Clock } from "@drover/shepherd/ports/clock";
import { expect, test } from "@jest/globals";
import { encoded, ScriptedDaemon } from "./scripted-daemon.ts";

const domain = domainOf("0192f000-0000-7000-8000-000000000001");

/** Time that passes only when it is told to. */
class HandClock implements Clock {
  #nowMs = 1_000;
  #sleepers: { untilMs: number; wake: () => void }[] = [];
  readonly slept: number[] = [];
  nowMs = () => this.#nowMs;
  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    this.slept.push(ms);
    return new Promise((resolve, reject) => {
      this.#sleepers.push({ untilMs: this.#nowMs + ms, wake: resolve });
      signal?.addEventListener("abort", () => reject(signal.reason as Error), { once: true });
    });
  }
  at = () => () => undefined;
  async pass(ms: number): Promise<void> {
    this.#nowMs += ms;
    const due = this.#sleepers.filter((sleeper) => sleeper.untilMs <= this.#nowMs);
    this.#sleepers = this.#sleepers.filter((sleeper) => !due.includes(sleeper));
    for (const { wake } of due) wake();
    await settle();
  }
}

/** A host whose daemon can be up or down, and everything that was dialled. */
class ScriptedHost {
  up = true;
  readonly daemons: ScriptedDaemon[] = [];
  dials = 0;
  /** What dialling fails with while the host is down. */
  problem: Error = new Error("connection refused");
  readonly clock = new HandClock();
  readonly connections = new HostConnections({
    hostId: "north-1",
    dial: () => this.#dial(),
    clock: this.clock,
    firstPauseMs: 100,
    maxPauseMs: 800,
  });
  get newest(): ScriptedDaemon {
    const daemon = this.daemons.at(-1);
    if (daemon === undefined) throw new Error("nobody has dialled");
    return daemon;
  }
  #dial(): Promise<Duplex> {
    this.dials += 1;
    if (!this.up) return Promise.reject(this.problem);
    const daemon = new ScriptedDaemon();
    this.daemons.push(daemon);
    return Promise.resolve(daemon.transport);
  }
}

async function settle(): Promise<void> {
  for (let i = 0; i < 30; i += 1) await turn();
}
const unreachable = { code: "host.unreachable", details: { host: "north-1" } };

test("a kept connection is shared, and made anew after it was lost", async () => {
  const host = new ScriptedHost();
  const [first, same] = await Promise.all([
    host.connections.kept("control"),
    host.connections.kept("control"),
  ]);
  expect(same).toBe(first);
  expect(await host.connections.kept("stats")).not.toBe(first);
  expect(host.dials).toBe(2);
  host.daemons[0]?.hangUp();
  await first.closed;
  const next = await host.connections.kept("control");
  expect(next.isOpen && next !== first).toBe(true);
  await host.connections.close();
  expect(next.isOpen).toBe(false);
});

test("a host that is down is not stormed: askers share the last answer until the pause is over", async () => {
  const host = new ScriptedHost();
  host.up = false;
  for (let i = 0; i < 5; i += 1) {
    await expect(host.connections.kept("control")).rejects.toMatchObject(unreachable);
  }
  expect(host.dials).toBe(1);
  await host.clock.pass(100);
  await expect(host.connections.kept("control")).rejects.toMatchObject(unreachable);
  expect(host.dials).toBe(2);
  host.up = true;
  await host.clock.pass(800);
  expect((await host.connections.kept("control")).isOpen).toBe(true);
});

test.each([
  { said: new Fault("host.key_mismatch", { host: "north-1" }), code: "host.key_mismatch" },
  { said: new Fault("host.login_refused", { host: "north-1" }), code: "host.login_refused" },
  { said: new Fault("libvirt.protocol", { problem: "HTTP" }), code: "host.unreachable" },
  { said: new Error("reset"), code: "host.unreachable" },
])("dialling that fails with $said.message is told as $code", async ({ said, code }) => {
  const host = new ScriptedHost();
  host.up = false;
  host.problem = said;
  await expect(host.connections.kept("control")).rejects.toMatchObject({ code });
});

test("every job of its own gets a connection of its own", async () => {
  const host = new ScriptedHost();
  const own = await Promise.all([
    host.connections.own("migration"),
    host.connections.own("channel"),
  ]);
  expect(new Set(own).size).toBe(2);
  host.up = false;
  await expect(host.connections.own("transfer")).rejects.toMatchObject(unreachable);
  await host.connections.close();
  expect(own.map((connection) => connection.isOpen)).toEqual([false, false]);
});

test("a watcher resynchronises before it hears events, is told of a loss once, and comes back by itself", async () => {
  const host = new ScriptedHost();
  const log: string[] = [];
  const looked = Promise.withResolvers<void>();
  host.connections.watch({
    listeners: { lifecycle: (payload) => log.push(`event ${payload.event}`) },
    resync: async () => {
      log.push("look");
      if (log.length === 1) await looked.promise;
      log.push("looked");
    },
    onLost: (reason) => log.push(`lost ${reason.code}`),
  });
  await settle();
  const register = () => {
    const call = host.newest.calls(remote.registerDomainEvent).at(-1);
    if (call === undefined) throw new Error("nothing was registered");
    host.newest.reply(call, remote.registerDomainEvent.result, { callbackId: 1 });
  };
  const event = (number: number) => {
    const value = { callbackId: 1, domain, event: number, detail: 0 };
    const header = {
      program: programs.remote,
      version: 1,
      procedure: 318,
      type: 2,
      serial: 0,
      status: 0,
    };
    host.newest.send(header, encoded(events.lifecycle.payload, value));
  };
  register();
  await settle();
  event(2); // while it still looks
  await settle();
  expect(log).toEqual(["look"]);
  looked.resolve();
  await settle();
  expect(log).toEqual(["look", "looked", "event 2"]);

  host.up = false;
  host.newest.hangUp();
  await settle();
  await host.clock.pass(100);
  await host.clock.pass(200);
  await host.clock.pass(400);
  expect(log.slice(3)).toEqual(["lost host.unreachable"]);
  expect(host.clock.slept.length).toBeGreaterThanOrEqual(3);
  // Each pause lies between half and all of a doubling limit.
  for (const [index, pauseMs] of host.clock.slept.entries()) {
    const mostMs = Math.min(100 * 2 ** index, 800);
    expect(pauseMs).toBeGreaterThanOrEqual(mostMs / 2);
    expect(pauseMs).toBeLessThanOrEqual(mostMs);
  }

  host.up = true;
  await host.clock.pass(800);
  register();
  await settle();
  event(5);
  await settle();
  expect(log.slice(4)).toEqual(["look", "looked", "event 5"]);
  await host.connections.close();
  await settle();
  expect(log).toHaveLength(7);
});

test("a watcher that leaves ends its connection and hears nothing more", async () => {
  const host = new ScriptedHost();
  const log: string[] = [];
  const leave = host.connections.watch({
    listeners: { lifecycle: () => log.push("event") },
    resync: () => Promise.resolve(),
    onLost: () => log.push("lost"),
  });
  await settle();
  const call = host.newest.calls(remote.registerDomainEvent).at(-1);
  if (call !== undefined)
    host.newest.reply(call, remote.registerDomainEvent.result, { callbackId: 1 });
  await settle();
  leave();
  await settle();
  await host.clock.pass(10_000);
  expect({ log, dials: host.dials }).toEqual({ log: [], dials: 1 });
});
