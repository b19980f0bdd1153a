import type { Request } from "@drover/shepherd/model/request";
import { liftRecall, placeRecall } from "@drover/shepherd/policy/recall";
import { createRecalls, type Recalls } from "@drover/shepherd/policy/recalls";
import { describe, expect, test } from "@jest/globals";
import pino from "pino";
import { host, machine, request } from "../planner/fleet.ts";
import { type Says, type SmallShepherd, smallShepherd } from "./small-shepherd.ts";

const north = [host("north-1", "north"), host("north-2", "north")];
const south = host("south-1", "south", { memoryMib: 4096 });
const ranks = [
  machine("rank-0", { hostId: "north-1", siteId: "north" }),
  machine("rank-1", { hostId: "north-2", siteId: "north" }),
];
const hour = 3_600_000;

let count = 0;
const ids = { next: () => `recall-${(count += 1)}` };

async function stage(
  of: { readonly hosts?: typeof north; readonly policies?: Readonly<Record<string, Says>> } = {},
): Promise<SmallShepherd & { readonly recalls: Recalls }> {
  const shepherd = await smallShepherd({
    hosts: of.hosts ?? [...north, south],
    machines: ranks,
    policies: of.policies ?? {},
  });
  const { store, gate, clock } = shepherd;
  const recalls = createRecalls({
    store,
    gate,
    clock,
    ids,
    log: pino({ level: "silent" }),
    operations: {
      // What the small shepherd starts takes effect at once.
      wait: async (id) => {
        for (;;) {
          const operation = await store.read((journal) => journal.operations.get(id));
          if (operation?.endedAtMs !== undefined) return operation;
          await clock.sleep(10);
        }
      },
    },
  });
  recalls.start();
  return { ...shepherd, recalls };
}
async function recall(shepherd: SmallShepherd, machineId?: string) {
  return await placeRecall(
    { store: shepherd.store, clock: shepherd.clock, ids },
    {
      siteId: "north",
      environmentId: "env-ring",
      machineId,
      by: "north-lab",
      reason: "power work",
      deadlineMs: shepherd.clock.nowMs() + hour,
    },
  );
}
const sitesOf = async (shepherd: SmallShepherd) =>
  await Promise.all(
    ranks.map(async ({ id }) => (await shepherd.machine(id))?.effective.siteId ?? "none"),
  );
const kindsOf = async (shepherd: SmallShepherd) =>
  (await shepherd.store.read((journal) => journal.events.since(0, 1000))).map(({ kind }) => kind);
const ask = (kind: Request["kind"], more: Partial<Request["machines"][number]>): Request => {
  count += 1;
  return request(kind, [{ machineId: ranks[0]?.id ?? "", ...more }], {
    id: `ask-${count}`,
    idempotencyKey: `ask-${count}`,
  });
};

describe("a recalled consent", () => {
  test("moves every machine of the environment out, and the recall stays for those to come", async () => {
    const shepherd = await stage();
    await recall(shepherd);
    await shepherd.clock.advance(60_000);
    expect(await sitesOf(shepherd)).toEqual(["south", "south"]);
    expect(await kindsOf(shepherd)).not.toContain("recall.overdue");
    const back = await shepherd.clock.until(shepherd.gate.submit(ask("move", { siteId: "north" })));
    expect(back.decision).toMatchObject({
      effect: "deny",
      code: "consent.recalled",
      message: "Site north has recalled its consent: power work",
    });
    shepherd.recalls.stop();
  });

  test("of one machine leaves the others where they are", async () => {
    const shepherd = await stage();
    await recall(shepherd, ranks[1]?.id);
    await shepherd.clock.advance(60_000);
    expect(await sitesOf(shepherd)).toEqual(["north", "south"]);
    shepherd.recalls.stop();
  });

  test("that nobody else can follow is an alert at the deadline; the machine runs on", async () => {
    const shepherd = await stage({ hosts: north });
    await recall(shepherd);
    await shepherd.clock.advance(hour - 60_000);
    expect(await kindsOf(shepherd)).not.toContain("recall.overdue");
    await shepherd.clock.advance(120_000);
    expect((await kindsOf(shepherd)).filter((kind) => kind === "recall.overdue")).toHaveLength(1);
    expect(await sitesOf(shepherd)).toEqual(["north", "north"]);
    expect((await shepherd.machine(ranks[0]?.id ?? ""))?.effective.state).toBe("running");
    shepherd.recalls.stop();
  });

  test("asks the destination's owner, whose no it takes", async () => {
    const shepherd = await stage({
      policies: { "site:south": () => ({ findings: [{ msg: "south is full of others" }] }) },
    });
    await recall(shepherd);
    await shepherd.clock.advance(2 * hour);
    expect(await sitesOf(shepherd)).toEqual(["north", "north"]);
    expect(await kindsOf(shepherd)).toContain("recall.overdue");
    shepherd.recalls.stop();
  });

  test("lets nothing grow there, but lets it shrink and go", async () => {
    const shepherd = await stage({ hosts: north });
    await recall(shepherd);
    await shepherd.clock.advance(1_000);
    const submit = async (asked: Request) =>
      (await shepherd.clock.until(shepherd.gate.submit(asked))).decision;
    expect(await submit(ask("resize", { memoryMib: 320 }))).toMatchObject({
      code: "consent.recalled",
    });
    expect(await submit(ask("release", {}))).toMatchObject({ effect: "allow" });
    expect(await submit(ask("destroy", {}))).toMatchObject({ effect: "allow" });
    shepherd.recalls.stop();
  });

  test("is over when it is lifted", async () => {
    const shepherd = await stage({ hosts: north });
    const { id } = await recall(shepherd);
    await shepherd.clock.advance(1_000);
    await liftRecall({ store: shepherd.store, clock: shepherd.clock }, id, "north-lab");
    const { decision } = await shepherd.clock.until(
      shepherd.gate.submit(ask("resize", { memoryMib: 320 })),
    );
    expect(decision.effect).toBe("allow");
    await expect(
      liftRecall({ store: shepherd.store, clock: shepherd.clock }, id, "north-lab"),
    ).rejects.toMatchObject({ code: "recall.unknown" });
    shepherd.recalls.stop();
  });
});
