import type { Request } from "@drover/shepherd/model/request";
import type { GateAnswer } from "@drover/shepherd/policy/gate";
import { placeHold } from "@drover/shepherd/policy/hold";
import { describe, expect, test } from "@jest/globals";
import { host, link, machine, nowMs, request, seen } from "../planner/fleet.ts";
import { type Says, type SmallShepherd, smallShepherd } from "./small-shepherd.ts";

const at = (hostId: string) => ({ hostId, siteId: hostId.split("-")[0] ?? "" });
const hosts = [
  host("north-1", "north"),
  host("north-2", "north"),
  host("south-1", "south", { memoryMib: 4096 }),
];
const rank = machine("rank-0", at("north-1"));
const guest = { type: "guest", name: "rank-0", machineId: rank.id, roles: [] } as const;
const never: Says = () => ({ findings: [{ rule: "never", msg: "never" }] });

let count = 0;
function ask(kind: Request["kind"], more: Partial<Request> = {}): Request {
  count += 1;
  return request(kind, [{ machineId: rank.id, memoryMib: 320 }], {
    id: `request-${count}`,
    idempotencyKey: `key-${count}`,
    ...more,
  });
}
async function submit(shepherd: SmallShepherd, asked: Request): Promise<GateAnswer> {
  return await shepherd.clock.until(shepherd.gate.submit(asked));
}
/** Asked owners and points, in short. */
const consulted = (shepherd: SmallShepherd) =>
  shepherd.asked.map(({ owner, entrypoint }) => `${entrypoint} ${owner}`);

describe("a yes", () => {
  test("needs the operator, the environment's owner and the site, before and after planning", async () => {
    const shepherd = await smallShepherd({ hosts, machines: [rank] });
    const answer = await submit(shepherd, ask("resize"));
    expect(answer.decision).toMatchObject({ effect: "allow", code: "granted", point: "plan" });
    expect(consulted(shepherd)).toEqual([
      "decision operator",
      "decision owner:alice",
      "decision site:north",
      "plan_check operator",
      "plan_check owner:alice",
      "plan_check site:north",
    ]);
    expect(answer.operation?.kind).toBe("adapt");
    await shepherd.clock.advance(10);
    expect((await shepherd.machine(rank.id))?.effective.memoryMib).toBe(320);
  });

  test("across sites needs both", async () => {
    const shepherd = await smallShepherd({ hosts, machines: [rank] });
    const answer = await submit(
      shepherd,
      ask("resize", { machines: [{ machineId: rank.id, memoryMib: 2000 }] }),
    );
    expect(answer.decision.consents.map(({ owner }) => owner)).toEqual([
      "operator",
      "owner:alice",
      "site:north",
      "site:south",
    ]);
    expect(answer.plan?.actions.map(({ kind }) => kind)).toEqual(["move_machine", "set_memory"]);
  });

  test("may be for a shorter time than asked", async () => {
    const shepherd = await smallShepherd({
      hosts,
      machines: [rank],
      policies: { operator: () => ({ limits: { ttlMs: 60_000 } }) },
    });
    await submit(shepherd, ask("resize", { leaseMs: 3_600_000 }));
    await submit(shepherd, ask("resize"));
    expect(shepherd.admitted.map(({ request: { leaseMs } }) => leaseMs)).toEqual([60_000, 60_000]);
  });
});

describe("the same key", () => {
  test("gets the same answer, and the work is done once", async () => {
    const shepherd = await smallShepherd({ hosts, machines: [rank] });
    const asked = ask("resize");
    const [one, two] = await Promise.all([
      submit(shepherd, asked),
      submit(shepherd, { ...asked, id: "another" }),
    ]);
    const three = await submit(shepherd, { ...asked, id: "and-another" });
    expect(two.decision.id).toBe(one?.decision.id);
    expect(three.decision.id).toBe(one?.decision.id);
    expect(three.plan?.digest).toBe(one?.plan?.digest);
    expect(shepherd.admitted).toHaveLength(1);
    expect((await shepherd.count()).requests).toBe(1);
  });

  test("of a request that a killed shepherd had journaled and not decided is decided now, once", async () => {
    const shepherd = await smallShepherd({ hosts, machines: [rank] });
    const asked = ask("resize");
    await shepherd.store.transaction((journal) => journal.requests.add(asked));
    const answer = await submit(shepherd, { ...asked, id: "asked-again" });
    expect(answer.decision).toMatchObject({ effect: "allow", requestId: asked.id });
    expect((await shepherd.count()).requests).toBe(1);
    expect(shepherd.admitted).toHaveLength(1);
  });

  test("with other words is refused", async () => {
    const shepherd = await smallShepherd({ hosts, machines: [rank] });
    const asked = ask("resize");
    await submit(shepherd, asked);
    await expect(
      submit(shepherd, { ...asked, machines: [{ machineId: rank.id, memoryMib: 999 }] }),
    ).rejects.toMatchObject({ code: "request.key_reused" });
  });

  test("of another kind of asker is another request", async () => {
    const shepherd = await smallShepherd({ hosts, machines: [rank] });
    const asked = ask("resize", { subject: { type: "operator", name: "rank-0", roles: [] } });
    const one = await submit(shepherd, asked);
    const two = await submit(shepherd, { ...asked, id: "guests", subject: guest });
    expect(two.decision.id).not.toBe(one.decision.id);
  });
});

describe("a no", () => {
  test.each(["operator", "owner:alice", "site:north"])("of %s alone is enough", async (owner) => {
    const shepherd = await smallShepherd({ hosts, machines: [rank], policies: { [owner]: never } });
    const answer = await submit(shepherd, ask("resize"));
    expect(answer).toMatchObject({
      decision: { effect: "deny", point: "request" },
      plan: undefined,
      operation: undefined,
    });
    expect(shepherd.admitted).toEqual([]);
  });

  test("an owner without a policy consents to nothing", async () => {
    const shepherd = await smallShepherd({
      hosts,
      machines: [rank],
      policies: { "site:north": "absent" },
    });
    const { decision } = await submit(shepherd, ask("resize"));
    expect(decision).toMatchObject({
      effect: "deny",
      message: "policy: site north says: no policy of site:north is loaded",
    });
  });

  test("of the destination leaves everything as it was and names who said it", async () => {
    const shepherd = await smallShepherd({
      hosts,
      machines: [rank],
      policies: {
        "site:south": (input) => ({
          findings: [
            {
              rule: "site_accepts_class",
              ok: !input.environment.machines.some(({ proposed }) => proposed.site === "south"),
              msg: "south takes no machine of class sensitive",
            },
          ],
        }),
      },
    });
    const { decision, operation } = await submit(
      shepherd,
      ask("resize", { machines: [{ machineId: rank.id, memoryMib: 2000 }], subject: guest }),
    );
    expect(operation).toBeUndefined();
    expect(decision).toMatchObject({
      effect: "deny",
      point: "plan",
      message: "site_accepts_class: site south says: south takes no machine of class sensitive",
    });
    expect((await shepherd.machine(rank.id))?.version).toBe(1);
  });

  test("for room tells a guest no numbers of hosts, an operator which", async () => {
    const shepherd = await smallShepherd({ hosts: hosts.slice(0, 2), machines: [rank] });
    const much = { machines: [{ machineId: rank.id, memoryMib: 2000 }] };
    const toGuest = await submit(shepherd, ask("resize", { ...much, subject: guest }));
    const toOperator = await submit(shepherd, ask("resize", much));
    expect(toGuest.decision).toMatchObject({
      code: "placement.no_host_fits",
      message: "No room: no host at the sites it may use can hold it now.",
    });
    expect(toOperator.decision.message).toContain("2 short of memory");
  });

  test("of a rule about hosts is told without its numbers, and its nearest value, to a guest", async () => {
    const shepherd = await smallShepherd({
      hosts,
      machines: [rank],
      policies: {
        "site:north": () => ({
          findings: [
            {
              rule: "host_headroom",
              msg: "north-1 has room for 17",
              fix: { memory_mib: 17 },
              disclose: "operator" as const,
            },
          ],
        }),
      },
    });
    const { decision } = await submit(shepherd, ask("resize", { subject: guest }));
    expect(decision.message).toBe("Site north does not take it.");
    expect((await submit(shepherd, ask("resize"))).decision.message).toBe(
      "host_headroom: site north says: north-1 has room for 17. Nearest allowed: memory_mib 17",
    );
  });

  test("when its machine was destroyed meanwhile", async () => {
    const shepherd = await smallShepherd({ hosts, machines: [rank] });
    await shepherd.store.transaction((journal) => journal.objects.remove("machine", rank.id));
    expect((await submit(shepherd, ask("resize"))).decision.code).toBe("request.unknown_object");
  });
});

describe("giving back", () => {
  const grown = machine("rank-0", at("north-1"), {
    effective: { memoryMib: 800, cpuPercent: 60, adaptationId: "a" },
  });

  test.each<[string, Partial<Request>]>([
    ["release", { kind: "release", machines: [{ machineId: grown.id }] }],
    ["a smaller size", { kind: "resize", machines: [{ machineId: grown.id, memoryMib: 400 }] }],
  ])("%s needs no policy", async (_, more) => {
    const policies = { operator: never, "owner:alice": never, "site:north": never };
    const shepherd = await smallShepherd({ hosts, machines: [grown], policies });
    const { decision, operation } = await submit(shepherd, ask("release", more));
    expect(decision).toMatchObject({ effect: "allow", input: { built_in: "release" } });
    // Not `adapt`: what is left keeps its lease, so that a smaller size is no way to a longer one.
    expect(operation?.kind).toBe("release");
    expect(shepherd.asked).toEqual([]);
  });

  test.each<[string, number | undefined, number | undefined, string]>([
    ["a shorter lease is taken", 60_000, 600_000, "adapt"],
    ["a longer one is not: what is left keeps its own", 6_000_000, 600_000, "release"],
    ["no lease would be a longer one", undefined, 600_000, "release"],
    ["any lease is shorter than none", 60_000, undefined, "adapt"],
  ])("a smaller size: %s", async (_, leaseMs, leftMs, kind) => {
    const leased = {
      ...grown,
      effective: {
        ...grown.effective,
        ...(leftMs === undefined ? {} : { leaseUntilMs: nowMs + leftMs }),
      },
    };
    const shepherd = await smallShepherd({
      hosts,
      machines: [leased],
      policies: { operator: never },
    });
    const { operation } = await submit(
      shepherd,
      ask("resize", {
        machines: [{ machineId: grown.id, memoryMib: 400 }],
        ...(leaseMs === undefined ? {} : { leaseMs }),
      }),
    );
    expect(operation?.kind).toBe(kind);
  });

  test.each<[string, Partial<Request>]>([
    ["growth", { machines: [{ machineId: grown.id, memoryMib: 900 }] }],
    ["below the baseline", { machines: [{ machineId: grown.id, memoryMib: 128 }] }],
    ["one down, one up", { machines: [{ machineId: grown.id, memoryMib: 400, cpuPercent: 90 }] }],
    ["the same again, for longer", { machines: [{ machineId: grown.id, memoryMib: 800 }] }],
  ])("%s is judged", async (_, more) => {
    const policies = { operator: never };
    const shepherd = await smallShepherd({ hosts, machines: [grown], policies });
    expect((await submit(shepherd, ask("resize", more))).decision.effect).toBe("deny");
  });

  test("destroy is held back by no rule of pace or room, but by others", async () => {
    const pace: Says = () => ({ findings: [{ rule: "request_rate" }, { rule: "growth_factor" }] });
    const destroy = { machines: [{ machineId: rank.id }] };
    const one = await smallShepherd({ hosts, machines: [rank], policies: { operator: pace } });
    expect((await submit(one, ask("destroy", destroy))).decision.effect).toBe("allow");
    const two = await smallShepherd({ hosts, machines: [rank], policies: { operator: never } });
    expect((await submit(two, ask("destroy", destroy))).decision.effect).toBe("deny");
  });

  test("repair brings back what was granted, without policy", async () => {
    const shepherd = await smallShepherd({
      hosts,
      machines: [rank],
      policies: { operator: never },
    });
    shepherd.observed[rank.id] = {
      hostId: "north-1",
      running: true,
      vcpus: 1,
      cpuPercent: 20,
      memoryMib: 300,
      memoryTargetMib: 300,
      observedAtMs: 0,
    };
    const { plan, decision } = await submit(
      shepherd,
      ask("repair", { machines: [{ machineId: rank.id }] }),
    );
    expect(decision.input).toMatchObject({ built_in: "repair" });
    expect(plan?.actions[0]).toMatchObject({ kind: "set_memory", fromMib: 300, toMib: 256 });
  });
});

describe("a hold", () => {
  const grown = machine("rank-0", at("north-1"), { effective: { memoryMib: 800 } });
  test.each<["everything" | { siteId: string } | { environmentId: string }, boolean]>([
    ["everything", true],
    [{ siteId: "north" }, true],
    [{ environmentId: "env-ring" }, true],
    [{ siteId: "south" }, false],
    [{ environmentId: "env-other" }, false],
  ])("of %j", async (scope, stops) => {
    const shepherd = await smallShepherd({ hosts, machines: [grown] });
    await placeHold(shepherd, { scope, by: "ops", reason: "fire drill", forMs: 60_000 });
    const more = ask("resize", { machines: [{ machineId: grown.id, memoryMib: 900 }] });
    const less = ask("resize", { machines: [{ machineId: grown.id, memoryMib: 300 }] });
    expect((await submit(shepherd, more)).decision.code).toBe(stops ? "hold.active" : "granted");
    expect((await submit(shepherd, less)).decision.effect).toBe("allow");
    await shepherd.clock.advance(60_000);
    const later = ask("resize", { machines: [{ machineId: grown.id, memoryMib: 900 }] });
    expect((await submit(shepherd, later)).decision.effect).toBe("allow");
  });
});

test("a hold that comes while an ask is judged stops it", async () => {
  const rank0 = machine("rank-0", at("north-1"), { effective: { memoryMib: 800 } });
  let asked = 0;
  const shepherd: SmallShepherd = await smallShepherd({
    hosts,
    machines: [rank0],
    policies: {
      operator: () => {
        asked += 1;
        if (asked === 1) {
          void placeHold(shepherd, { scope: "everything", by: "ops", reason: "fire drill" });
        }
        return undefined;
      },
    },
  });
  const more = ask("resize", { machines: [{ machineId: rank0.id, memoryMib: 900 }] });
  const { decision, operation } = await submit(shepherd, more);
  expect({ code: decision.code, operation, asked }).toMatchObject({
    code: "hold.active",
    operation: undefined,
    asked: expect.any(Number),
  });
  expect(asked).toBeGreaterThan(0);
  expect(shepherd.admitted).toEqual([]);
});

describe("one at a time", () => {
  test("ten creates for the last room: one wins, nine are told", async () => {
    const created = Array.from({ length: 10 }, (_, n) =>
      machine(`new-${n}`, { hostId: "", siteId: "north" }, { baseline: { memoryMib: 600 } }),
    );
    const shepherd = await smallShepherd({ hosts: hosts.slice(0, 1), machines: created });
    shepherd.brake.on = true;
    const answers = await Promise.all(
      created.map(({ id }) =>
        submit(shepherd, ask("create", { machines: [{ machineId: id, memoryMib: 600 }] })),
      ),
    );
    const codes = answers.map(({ decision }) => decision.code).toSorted();
    expect(codes).toEqual(["granted", ...Array<string>(9).fill("placement.no_host_fits")]);
    expect(answers.filter(({ operation }) => operation !== undefined)).toHaveLength(1);
  });

  test("an ask waits for the operation that its machine is in, then is decided on what that left", async () => {
    const shepherd = await smallShepherd({ hosts, machines: [rank] });
    shepherd.brake.on = true;
    await submit(shepherd, ask("resize"));
    const second = shepherd.gate.submit(
      ask("resize", { machines: [{ machineId: rank.id, memoryMib: 400 }] }),
    );
    await shepherd.clock.advance(5_000);
    expect(shepherd.admitted).toHaveLength(1);
    shepherd.brake.on = false;
    const { plan } = await shepherd.clock.until(second);
    expect(plan?.actions).toMatchObject([{ kind: "set_memory", fromMib: 320, toMib: 400 }]);
  });

  test("an ask for room that a balloon is just giving back waits for it, and holds up nobody", async () => {
    const lazy = machine("lazy", at("north-1"), { effective: { settlingFromMib: 900 } });
    const shepherd = await smallShepherd({ hosts: hosts.slice(0, 1), machines: [rank, lazy] });
    const seenMib = (memoryMib: number) => {
      Object.assign(shepherd.observed, seen(lazy, { memoryMib, memoryTargetMib: 256 }));
    };
    seenMib(700);
    const waiting = shepherd.gate.submit(
      ask("resize", { machines: [{ machineId: rank.id, memoryMib: 600 }] }),
    );
    await shepherd.clock.advance(1_000);
    const other = ask("resize", { machines: [{ machineId: lazy.id, cpuPercent: 40 }] });
    expect((await submit(shepherd, other)).decision.effect).toBe("allow");
    seenMib(256);
    expect((await shepherd.clock.until(waiting)).decision.effect).toBe("allow");

    seenMib(700);
    const never = await submit(
      shepherd,
      ask("resize", { machines: [{ machineId: rank.id, memoryMib: 700 }] }),
    );
    expect(never.decision.code).toBe("placement.no_host_fits");
  });

  test("and is told so when that takes too long", async () => {
    const shepherd = await smallShepherd({ hosts, machines: [rank] });
    shepherd.brake.on = true;
    await submit(shepherd, ask("resize"));
    const second = await submit(shepherd, ask("resize", { subject: guest }));
    expect(second.decision.code).toBe("operation.running");
  });
});

test("an update stores its words with the grant, and not when denied", async () => {
  const spec = { ...rank.spec, baseline: { ...rank.spec.baseline, memoryMib: 320 } };
  const update = { baseline: spec.baseline, envelope: spec.envelope, spec };
  const yes = await smallShepherd({ hosts, machines: [rank] });
  await submit(yes, ask("update", { update }));
  await yes.clock.advance(10);
  expect(await yes.machine(rank.id)).toMatchObject({ spec, effective: { memoryMib: 320 } });
  const no = await smallShepherd({ hosts, machines: [rank], policies: { operator: never } });
  await submit(no, ask("update", { update }));
  expect(await no.machine(rank.id)).toEqual(rank);
});

test("a rate is judged by the sites of both ends", async () => {
  const peer = machine("rank-1", at("south-1"));
  const between = link("rank-0", "rank-1", 200);
  const shepherd = await smallShepherd({ hosts, machines: [rank, peer], links: [between] });
  await submit(
    shepherd,
    ask("rate", { machines: [], links: [{ linkId: between.id, rateMbps: 400 }] }),
  );
  expect(consulted(shepherd).slice(0, 4)).toEqual([
    "decision operator",
    "decision owner:alice",
    "decision site:north",
    "decision site:south",
  ]);
});

test("preview decides and plans, journals nothing", async () => {
  const shepherd = await smallShepherd({ hosts, machines: [rank] });
  const before = await shepherd.count();
  const answer = await shepherd.clock.until(shepherd.gate.preview(ask("resize")));
  expect(answer).toMatchObject({ decision: { effect: "allow" }, operation: undefined });
  expect(answer.plan?.actions).toHaveLength(1);
  expect(await shepherd.count()).toEqual(before);
});

test("what policy is shown: recent requests by name, the hour's lows, proposals at each point", async () => {
  const shepherd = await smallShepherd({ hosts, machines: [rank] });
  await submit(shepherd, ask("resize", { subject: guest }));
  await shepherd.clock.advance(600_000);
  await submit(
    shepherd,
    ask("resize", { machines: [{ machineId: rank.id, memoryMib: 2000 }], subject: guest }),
  );
  const [before, , , after] = shepherd.asked.slice(-7);
  expect(before?.input.environment.recent).toMatchObject({
    total: 1,
    requests: [{ subject: "rank-0", kind: "resize", effect: "allow" }],
  });
  expect(before?.input.environment.machines[0]).toMatchObject({
    memory_mib: 320,
    hour_low: { memory_mib: 256 },
    proposed: { memory_mib: 2000, site: "north", host: "north-1" },
  });
  expect(after?.input.environment.machines[0]?.proposed).toEqual({
    vcpus: 1,
    cpu_percent: 20,
    memory_mib: 2000,
    site: "south",
    host: "south-1",
  });
  expect(after?.input.plan?.moves).toMatchObject([
    { machine: "rank-0", from_host: "north-1", to_host: "south-1" },
  ]);
  await shepherd.clock.advance(3_600_000);
  await submit(shepherd, ask("resize", { machines: [{ machineId: rank.id, cpuPercent: 30 }] }));
  const late = shepherd.asked.at(-1)?.input.environment;
  expect(late?.recent.total).toBe(0);
  expect(late?.machines[0]?.hour_low.memory_mib).toBe(2000);
});

describe("a dry run", () => {
  test("is the same judge, leaves nothing in the journal, and counts as a request of its asker", async () => {
    const shepherd = await smallShepherd({ hosts, machines: [rank] });
    const preview = (asked: Request, uncounted?: boolean) =>
      shepherd.clock.until(shepherd.gate.preview(asked, { uncounted }));
    const countedBefore = async (asked: Request) => {
      await preview(asked, true);
      return shepherd.asked.at(-1)?.input.environment.recent.total;
    };
    expect(await countedBefore(ask("resize", { subject: guest }))).toBe(0);
    const given = await preview(ask("resize", { subject: guest }));
    expect(given).toMatchObject({ decision: { effect: "allow" }, operation: undefined });
    expect(given.plan?.actions).toMatchObject([{ kind: "set_memory", toMib: 320 }]);
    expect(await countedBefore(ask("resize", { subject: guest }))).toBe(1);
    expect(await shepherd.count()).toEqual({ requests: 0, decisions: 0, events: 0 });
    expect(shepherd.admitted).toEqual([]);
    const real = await submit(shepherd, ask("resize", { subject: guest }));
    expect(real.plan?.actions).toEqual(given.plan?.actions);
  });

  test("on assumed facts decides on those, and the next decision on the real ones", async () => {
    const shepherd = await smallShepherd({ hosts, machines: [rank] });
    const much = { machines: [{ machineId: rank.id, memoryMib: 2000 }] };
    const without = await shepherd.clock.until(
      shepherd.gate.preview(ask("resize", much), {
        assume: (facts) => ({
          ...facts,
          sites: facts.sites.filter(({ id }) => id === "north"),
        }),
      }),
    );
    expect(without.decision.code).toBe("placement.no_host_fits");
    expect((await submit(shepherd, ask("resize", much))).decision.effect).toBe("allow");
  });
});
