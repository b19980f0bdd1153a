/**
 * Passes over the wire, as Terraform's plugin host drives ephemeral resources: opened, renewed, closed. A console's opens
 * the console once; a guest's asks in the machine's name, for its methods only, on the path of all asks.
 */
import { PassThrough } from "node:stream";
import { installProvider } from "@drover/provider/install";
import { ProblemError, ShepherdClient } from "@drover/shepherd/api/client";
import type { MachineView, TokenAnswer } from "@drover/shepherd/api/contract";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { declareRing, type Running, run } from "../../shepherd/api/shepherd.ts";
import { diagnosticsOf, type Fields, PluginHost } from "../conformance/plugin-host.ts";
import { fromValue, toValue } from "../conformance/values.ts";

let running: Running;
let host: PluginHost;
beforeAll(async () => {
  running = await run();
  await declareRing(running, 1);
  const executable = await installProvider(`${running.folder}/provider`);
  host = await PluginHost.start(executable, { env: { DROVER_ENDPOINT: running.endpoint } });
  await host.call("ConfigureProvider", {
    terraform_version: "1.14.0",
    config: toValue({ endpoint: null, token: null, ca_file: null }),
  });
}, 120_000);
afterAll(async () => {
  await host?.shutdown();
  await running?.end();
}, 60_000);

async function open(type: string, config: Fields) {
  const answer = await host.call("OpenEphemeralResource", {
    type_name: type,
    config: toValue(config),
  });
  return { answer, result: (fromValue(answer["result"]) ?? {}) as Fields };
}
async function close(type: string, answer: Fields): Promise<void> {
  const closed = await host.call("CloseEphemeralResource", {
    type_name: type,
    private: answer["private"],
  });
  expect(diagnosticsOf(closed)).toEqual([]);
}
const codeOf = (error: unknown) => (error instanceof ProblemError ? error.code : String(error));
const noConsole = { pass: null, endpoint: null };
const noToken = { methods: null, lasts_s: null, token: null, endpoint: null };

/** Says something at the console; what comes back until all of it was echoed. */
async function speak(pass: string): Promise<string> {
  const keys = new PassThrough();
  const answer = await running.client.openStream("/v1/console", { pass, body: keys });
  keys.write("root\r");
  let heard = "";
  for await (const chunk of answer) {
    heard += String(chunk);
    if (heard.includes("root")) keys.end();
  }
  return heard;
}

test("a console's pass opens it once, whoever shows it", async () => {
  const { answer, result } = await open("drover_console", { machine: "ring/rank-0", ...noConsole });
  expect(diagnosticsOf(answer)).toEqual([]);
  expect(result).toMatchObject({ machine: "ring/rank-0", endpoint: running.endpoint });
  expect(await speak(String(result["pass"]))).toMatch(/drover-ring-rank-0 login: root/);
  expect(await speak(String(result["pass"])).catch(codeOf)).toBe("pass.unknown");
  // used up: nothing to renew, and closing is no error
  const renewed = await host.call("RenewEphemeralResource", {
    type_name: "drover_console",
    private: answer["private"],
  });
  expect(diagnosticsOf(renewed)).toEqual([]);
  expect(renewed["renew_at"]).toBeUndefined();
  await close("drover_console", answer);
}, 60_000);

test("one that is renewed holds on; one that is closed does not", async () => {
  const { answer, result } = await open("drover_console", { machine: "ring/rank-0", ...noConsole });
  const renewed = await host.call("RenewEphemeralResource", {
    type_name: "drover_console",
    private: answer["private"],
  });
  expect(renewed["renew_at"]).toBeDefined();
  await close("drover_console", renewed);
  expect(await speak(String(result["pass"])).catch(codeOf)).toBe("pass.unknown");
}, 60_000);

test("a guest's token asks as the machine, for its methods, and policy judges it", async () => {
  const { answer, result } = await open("drover_guest_token", {
    machine: "ring/rank-0",
    ...noToken,
    methods: ["resize", "status"],
  });
  expect(diagnosticsOf(answer)).toEqual([]);
  const pass = String(result["token"]);
  const ask = (id: string, method: string, params?: object) =>
    running.client.call<Fields>("POST", "/v1/guest", {
      pass,
      body: { jsonrpc: "2.0", id, method, ...(params === undefined ? {} : { params }) },
    });
  expect(await ask("s", "status")).toMatchObject({ id: "s", result: { machine: "rank-0" } });
  expect(await ask("r", "resize", { cpu_percent: 60 })).toMatchObject({
    result: { verdict: expect.stringMatching(/granted|pending/) },
  });
  expect(await ask("no", "resize", { cpu_percent: 6400 })).toMatchObject({
    result: { verdict: "denied", rule: "envelope" },
  });
  expect(await ask("m", "move", { site: "south" }).catch(codeOf)).toBe("pass.method");
  await close("drover_guest_token", answer);
  expect(await ask("s2", "status").catch(codeOf)).toBe("pass.unknown");
}, 60_000);

test("only who owns a machine gets passes to it, and only who got one ends it", async () => {
  const { token } = await running.client.call<TokenAnswer>("POST", "/v1/tokens", {
    body: { name: "mallory", role: "stack" },
  });
  const mallory = new ShepherdClient({ endpoint: running.endpoint, token });
  const { items } = await running.client.get<{ items: MachineView[] }>("/v1/machines");
  const id = items[0]?.id ?? "";
  const pass = { body: {} };
  expect(await mallory.call("POST", `/v1/machines/${id}/guest-passes`, pass).catch(codeOf)).toBe(
    "access.not_owner",
  );
  expect(await mallory.call("POST", `/v1/machines/${id}/console-passes`).catch(codeOf)).toBe(
    "access.not_owner",
  );
  const { answer, result } = await open("drover_console", { machine: "ring/rank-0", ...noConsole });
  const { id: passId } = JSON.parse(String(answer["private"])) as { id: string };
  expect(await mallory.call("POST", `/v1/passes/${passId}/renew`).catch(codeOf)).toBe(
    "pass.unknown",
  );
  await mallory.call("DELETE", `/v1/passes/${passId}`);
  expect(await speak(String(result["pass"]))).toContain("login:");
}, 60_000);

test("a machine that is not there is told at its attribute", async () => {
  const { answer } = await open("drover_guest_token", { machine: "ring/nobody", ...noToken });
  expect(diagnosticsOf(answer)).toMatchObject([{ summary: "No such machine" }]);
}, 60_000);
