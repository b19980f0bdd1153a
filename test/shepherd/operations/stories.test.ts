import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Event } from "@drover/shepherd/model/event";
import { expect, test } from "@jest/globals";
import { cost, createAction, createFleet, type Fleet, memoryAction, moveAction } from "./fleet.ts";

/** What people read after the fact: each story is the feed of one operation, in virtual time, the same in every run. */
interface Story {
  readonly name: string;
  play(fleet: Fleet): Promise<void>;
}

const move = (id: string) => [moveAction(id, "north-1", "south-1"), memoryAction(id, 256, 512)];
const stories: readonly Story[] = [
  {
    name: "move-and-resize",
    async play(fleet) {
      const shepherd = fleet.start();
      const id = await fleet.create(shepherd, "rank-0", "north-1");
      await fleet.perform(shepherd, "adapt", move(id));
    },
  },
  {
    name: "move-copy-breaks",
    async play(fleet) {
      const shepherd = fleet.start();
      const id = await fleet.create(shepherd, "rank-0", "north-1");
      fleet.world.faults.inject({ call: "perform", effect: "fail_after" });
      await fleet.perform(shepherd, "adapt", move(id));
    },
  },
  {
    name: "move-shepherd-dies-after-hand-over",
    async play(fleet) {
      const id = await fleet.create(fleet.start(), "rank-0", "north-1");
      const mortal = fleet.start({
        afterStep: (step) =>
          (step.outcome as { phase?: string } | undefined)?.phase === "handed_over",
      });
      const operation = await fleet.admit(mortal, "adapt", move(id));
      mortal.operations.kick();
      while (!mortal.dead()) await fleet.clock.advance(50);
      const next = fleet.start();
      await fleet.clock.until(next.operations.recover());
      await fleet.clock.until(next.operations.wait(operation.id, 3_600_000));
    },
  },
  {
    name: "resize-after-move-fails",
    async play(fleet) {
      const shepherd = fleet.start();
      const id = await fleet.create(shepherd, "rank-0", "north-1");
      fleet.world.faults.inject({ call: "setMemory", effect: "fail" });
      await fleet.perform(shepherd, "adapt", move(id));
    },
  },
  {
    name: "create-cannot-start",
    async play(fleet) {
      const shepherd = fleet.start();
      fleet.world.faults.inject({ call: "startDomain", effect: "fail" });
      const id = await fleet.addMachine("rank-0");
      await fleet.perform(shepherd, "create", [createAction(id, "north-1")]);
    },
  },
  {
    name: "destroy-host-silent-for-a-minute",
    async play(fleet) {
      const shepherd = fleet.start();
      const id = await fleet.create(shepherd, "rank-0", "north-1");
      fleet.world.setReachable("north-1", false);
      fleet.clock.at(fleet.clock.nowMs() + 60_000, () => fleet.world.setReachable("north-1", true));
      await fleet.perform(shepherd, "destroy", [
        { kind: "destroy_machine", machineId: id, hostId: "north-1", cost },
      ]);
    },
  },
];

test.each(stories)("$name", async ({ name, play }) => {
  const fleet = await createFleet();
  await play(fleet);
  const told = await tell(fleet);
  expect(fleet.world.violations).toEqual([]);
  await fleet.store.close();
  const golden = join(import.meta.dirname, `../../golden/operations/${name}.txt`);
  if (process.env["GOLDEN"] === "write") writeFileSync(golden, told);
  expect(told).toBe(readFileSync(golden, "utf8"));
});

/** The last operation's events, one a line, with seconds since it was admitted. */
async function tell(fleet: Fleet): Promise<string> {
  const { events, operation } = await fleet.store.read(async (journal) => ({
    events: await journal.events.since(0, 10_000),
    operation: (await journal.operations.list({})).at(-1),
  }));
  if (operation === undefined) throw new Error("nothing happened");
  const own = events.filter(({ data }) => data["operationId"] === operation.id);
  const lines = own.map((event) => {
    const seconds = ((event.atMs - operation.createdAtMs) / 1000).toFixed(3);
    return `${seconds.padStart(9)}  ${describe(event)}`;
  });
  return `${lines.join("\n")}\n`;
}

function describe({ kind, data }: Event): string {
  const fault = (data["fault"] as { code: string; message: string } | undefined) ?? undefined;
  const because = fault === undefined ? "" : `  (${fault.code}: ${fault.message})`;
  switch (kind) {
    case "operation.started":
      return `${data["resumed"] === true ? "resumed" : "started"} ${String(data["kind"])}`;
    case "operation.progress":
      return `         ${String(data["percent"])} % ${String(data["message"])}`;
    case "operation.ended":
      return `ended ${String(data["state"])} ${JSON.stringify(data["measured"])}${because}`;
    case "adaptation.started":
    case "adaptation.ended":
      return `${kind} ${JSON.stringify(data["values"])}`;
    default:
      return `${String(data["state"]).padEnd(8)} ${String(data["name"])}${because}`;
  }
}
