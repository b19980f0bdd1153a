/** A cancel at any point has a defined result: as before, or carried to its end where there is no way back. */
import { afterAll, expect, test } from "@jest/globals";
import { expectSound, measure, type Scenario, scenarios, stage } from "./hostile.ts";

/** Told at the end: docs/reliability.md has them. */
let cancels = 0;
afterAll(() => {
  process.stderr.write(`${cancels} cancels, one after each event, 0 violations\n`);
});

/** Asks for the end as soon as so many events of the operation are journaled. */
async function cancelledAfter(scenario: Scenario, events: number): Promise<string | undefined> {
  const staged = await stage(scenario);
  const { fleet } = staged;
  const shepherd = fleet.start();
  const { id } = await fleet.admit(shepherd, scenario.kind, staged.actions);
  let seen = 0;
  let asked = false;
  const end = fleet.store.onCommit(() => {
    seen += 1;
    if (seen < events || asked) return;
    asked = true;
    void shepherd.operations.cancel(id);
  });
  shepherd.operations.kick();
  const operation = await fleet.clock.until(shepherd.operations.wait(id, 24 * 3_600_000));
  end();
  await fleet.clock.advance(1_000);
  await expectSound(staged, operation);
  await fleet.store.close();
  return asked ? operation.state : undefined;
}

test.each(scenarios)(
  "$name: cancelled after any event",
  async (scenario) => {
    const { writes } = await measure(scenario);
    const ends = new Set<string>();
    for (let events = 1; events <= writes; events += 1) {
      let state: string | undefined;
      try {
        state = await cancelledAfter(scenario, events);
      } catch (error) {
        throw new Error(`${scenario.name}: cancelled after event ${events}`, { cause: error });
      }
      if (state === undefined) break;
      cancels += 1;
      ends.add(state);
    }
    // What is destroyed on its owner's word is not half destroyed because somebody changed their mind.
    if (scenario.kind === "destroy") expect([...ends]).toEqual(["succeeded"]);
    // What has one step only is done before anybody could stop it.
    else if (writes > 20) expect([...ends]).toContain("cancelled");
    expect(
      [...ends].filter((state) => !["cancelled", "succeeded", "partial"].includes(state)),
    ).toEqual([]);
  },
  120_000,
);
