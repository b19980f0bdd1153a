/**
 * A hold among many asks: it waits for none of them, and from its own event on nothing more is granted, also of what was
 * waiting for the gate or just being judged.
 */
import type { RequestAnswer } from "@drover/shepherd/api/contract";
import { afterAll, beforeAll, expect, jest, test } from "@jest/globals";
import { declareRing, type Running, run } from "./shepherd.ts";

// A loaded machine is no reason to fail.
jest.setTimeout(120_000);

const askCount = 60;
let running: Running;
beforeAll(async () => {
  running = await run();
  await declareRing(running, 2);
}, 120_000);
afterAll(() => running.end());

interface EventView {
  readonly seq: number;
  readonly kind: string;
  readonly data: Readonly<Record<string, unknown>>;
}

async function events(since = 0): Promise<EventView[]> {
  const { items } = await running.client.get<{ items: EventView[] }>(
    `/v1/events?once=1&since=${since}`,
  );
  const last = items.at(-1);
  return last === undefined ? [] : [...items, ...(await events(last.seq))];
}

test("a hold is answered while asks queue at the gate, and nothing is granted after it", async () => {
  let answered = 0;
  const asks = Array.from({ length: askCount }, async (_, n) => {
    const answer = await running.client.call<RequestAnswer>("POST", "/v1/requests", {
      body: {
        method: "resize",
        environment: "ring",
        machine: `rank-${n % 2}`,
        params: { memory_mib: 260 + n },
      },
    });
    answered += 1;
    return answer;
  });
  await Promise.race(asks);
  await running.client.call("PUT", "/v1/hold", {
    body: { scope: "everything", reason: "fire drill" },
  });
  const answeredBefore = answered;
  const answers = await Promise.all(asks);

  expect(answeredBefore).toBeLessThan(askCount);
  expect(answers.map(({ code }) => code)).toContain("hold.active");
  const all = await events();
  const holdAt = all.findIndex(({ kind }) => kind === "hold.changed");
  // a host's first answer is followed by a repair, whoever holds
  const grants = (some: readonly EventView[]) =>
    some.filter(
      ({ kind, data }) =>
        kind === "grant.issued" && (data["subject"] as { type: string }).type !== "shepherd",
    );
  expect(grants(all.slice(0, holdAt))).not.toEqual([]);
  expect(grants(all.slice(holdAt))).toEqual([]);
});
