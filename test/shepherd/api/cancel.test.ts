/** Who may cancel an operation: whoever may start one in that environment, and nobody from beside. */
import { ShepherdClient } from "@drover/shepherd/api/client";
import type { OperationView, TokenAnswer } from "@drover/shepherd/api/contract";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { declareRing, mutate, need, type Running, run } from "./shepherd.ts";

let running: Running;
let operation: OperationView;
beforeAll(async () => {
  running = await run("listen: 127.0.0.1:0");
  await declareRing(running, 1);
  await mutate(running, "PATCH", "/v1/environments/ring", { owner: "alice" });
  const { items } = await running.client.get<{ items: OperationView[] }>("/v1/operations");
  operation = need(items[0]);
}, 120_000);
afterAll(() => running.end());

async function cancelAs(name: string, role: "stack" | "reader"): Promise<OperationView> {
  const { token } = await running.client.call<TokenAnswer>("POST", "/v1/tokens", {
    body: { name, role },
  });
  const client = new ShepherdClient({ endpoint: need(running.shepherd.listening), token });
  return await client.call("POST", `/v1/operations/${operation.id}/cancel`);
}

test("the environment's owner may, which an interrupted apply needs; what has ended stays as it ended", async () => {
  expect(await cancelAs("alice", "stack")).toMatchObject({ id: operation.id, state: "succeeded" });
});

test.each([
  ["another stack", "bob", "stack"],
  ["a reader", "rita", "reader"],
] as const)("%s may not", async (_, name, role) => {
  await expect(cancelAs(name, role)).rejects.toMatchObject({ status: 403 });
});
