/** A local port that leads into a machine: through a whole shepherd, to a port that echoes; gone when it is closed. */
import { connect } from "node:net";
import { text } from "node:stream/consumers";
import { connection } from "@drover/provider/ephemeral/connection";
import { Report } from "@drover/provider/schema/report";
import type { Work } from "@drover/provider/schema/resource";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { declareRing, type Running, run } from "../../shepherd/api/shepherd.ts";

let running: Running;
beforeAll(async () => {
  running = await run();
  await declareRing(running, 1);
}, 120_000);
afterAll(() => running.end());

function working(): Work {
  return {
    client: running.client,
    endpointOrigin: "the test names it",
    report: new Report(),
    signal: new AbortController().signal,
    log: () => undefined,
    runId: "run",
  };
}

test("what goes in at the local port comes out at the machine's, and back; closed, nothing listens", async () => {
  const work = working();
  const config = { machine: "ring/rank-0", port: 7, local_address: null, local_port: null };
  const opened = await connection.open(work, config);
  expect(work.report.diagnostics).toEqual([]);
  expect(opened?.result).toMatchObject({ machine: "ring/rank-0", local_address: "127.0.0.1" });
  const port = Number(opened?.result["local_port"]);
  const socket = connect({ host: "127.0.0.1", port, allowHalfOpen: true });
  socket.end("there and back");
  expect(await text(socket)).toBe("there and back");

  await connection.close?.(work, opened?.private ?? {});
  const refused = new Promise((resolve) =>
    connect({ host: "127.0.0.1", port }).on("error", (error: NodeJS.ErrnoException) =>
      resolve(error.code),
    ),
  );
  expect(await refused).toBe("ECONNREFUSED");
});

test("a machine that is not there is told at its attribute", async () => {
  const work = working();
  const config = { machine: "ring/nobody", port: 7, local_address: null, local_port: null };
  expect(await connection.open(work, config)).toBeNull();
  expect(work.report.diagnostics).toMatchObject([
    { path: ["machine"], summary: "No such machine" },
  ]);
});
