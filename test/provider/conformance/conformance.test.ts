/** The bundled provider under a plugin host that shares no codec with it: handshake, TLS, every call, its end. */
import { spawn, spawnSync } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { connect } from "node:http2";
import { isBuiltin } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect as connectTls } from "node:tls";
import { buildProvider } from "@drover/provider/build";
import { providerAddress } from "@drover/provider/plugin/address";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { Lifecycle } from "./lifecycle.ts";
import {
  diagnosticsOf,
  type Fields,
  GrpcError,
  hostEnvironment,
  PluginHost,
} from "./plugin-host.ts";
import { fromValue, toValue, UnknownValue } from "./values.ts";

let directory = "";
let executable = "";
let bytes = 0;
let requires: readonly string[] = [];
const hosts: PluginHost[] = [];
const readJson = (path: string) =>
  JSON.parse(readFileSync(join(import.meta.dirname, path), "utf8")) as Record<string, object>;
const manifest = readJson("../../../provider/package.json");

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "drover-conformance-"));
  ({
    path: executable,
    bytes,
    requires,
  } = await buildProvider({
    outFile: join(directory, "terraform-provider-drover_v0.1.0"),
    nodePath: process.execPath,
  }));
});
afterAll(() => {
  for (const host of hosts) {
    host.disconnect();
    host.child.kill("SIGKILL");
  }
  rmSync(directory, { recursive: true, force: true });
});

async function start(options: Parameters<typeof PluginHost.start>[1] = {}): Promise<PluginHost> {
  const host = await PluginHost.start(executable, options);
  hosts.push(host);
  return host;
}

const ring = { name: "ring", class: "batch", sites: ["north"] };
/** Every attribute of a type, null where not given. */
async function whole(host: PluginHost, type: string, given: Fields): Promise<Fields> {
  return (await Lifecycle.of(host, type)).config(given);
}
const nowhere = { endpoint: "unix:/nowhere/shepherd.sock", token: null, ca_file: null };

test("the bundle is one small file without dependencies", () => {
  expect(bytes).toBeLessThanOrEqual(120 * 1024);
  expect(requires.length).toBeGreaterThan(0);
  expect(requires.filter((module) => !isBuiltin(module))).toEqual([]);
  expect(Object.keys(manifest)).not.toContain("dependencies");
});

test("the plugin host as a package asks for what this repository tests it with", () => {
  const ours = readJson("../../../package.json")["devDependencies"];
  const { dependencies = {} } = readJson("package.json");
  expect(Object.keys(dependencies).toSorted()).toEqual([
    "@msgpack/msgpack",
    "@peculiar/x509",
    "protobufjs",
    "reflect-metadata",
  ]);
  expect(ours).toMatchObject(dependencies);
});

test("the handshake line has the fields and the certificate that go-plugin checks", async () => {
  const host = await start();
  const fields = host.line.split("|");
  expect([...fields.slice(0, 3), fields[4], fields.length]).toEqual(["1", "6", "unix", "grpc", 6]);
  expect(fields[5]).not.toContain("=");
  const certificate = new X509Certificate(Buffer.from(fields[5] ?? "", "base64"));
  expect({
    names: certificate.subjectAltName,
    ca: certificate.ca,
    selfSigned: certificate.verify(certificate.publicKey),
    curve: certificate.publicKey.asymmetricKeyDetails?.namedCurve,
    purposes: certificate.keyUsage,
    validNow: Date.parse(certificate.validFrom) < Date.now(),
  }).toEqual({
    names: "DNS:localhost",
    ca: true,
    selfSigned: true,
    curve: "prime256v1",
    purposes: ["1.3.6.1.5.5.7.3.2", "1.3.6.1.5.5.7.3.1"],
    validNow: true,
  });
  expect(await host.shutdown()).toBe(0);
});

test("Shutdown ends it and removes its socket", async () => {
  const host = await start();
  const socket = host.line.split("|")[3] ?? "";
  expect(existsSync(socket)).toBe(true);
  expect(await host.shutdown()).toBe(0);
  expect(existsSync(socket)).toBe(false);
});

test("the socket stands where the host wants it, unless its path would be too long", async () => {
  const at = async (folder: string) => {
    const host = await start({ env: { PLUGIN_UNIX_SOCKET_DIR: folder } });
    const path = host.line.split("|")[3] ?? "";
    expect(await host.call("GetFunctions")).toMatchObject({ diagnostics: [] });
    await host.shutdown();
    return path;
  };
  expect(await at(directory)).toMatch(new RegExp(`^${directory}/drover-\\w+/p$`));
  const deep = join(directory, "d".repeat(100));
  mkdirSync(deep);
  expect(await at(deep)).toMatch(/^\/tmp\/drover-/);
});

test("a connection without the host's certificate is refused", async () => {
  const host = await start();
  const path = host.line.split("|")[3] ?? "";
  const answered = await new Promise<string>((resolve) => {
    const stranger = connect("https://localhost", {
      createConnection: () =>
        connectTls({
          path,
          servername: "localhost",
          rejectUnauthorized: false,
          ALPNProtocols: ["h2"],
        }),
    });
    stranger.on("error", () => resolve("refused"));
    const stream = stranger.request({ ":path": "/grpc.health.v1.Health/Check", ":method": "POST" });
    stream.on("response", () => resolve("answered"));
    stream.on("error", () => resolve("refused"));
    stream.end(Buffer.alloc(5));
  });
  expect(answered).toBe("refused");
  await host.shutdown();
});

test.each([
  [
    "without the cookie it says what it is",
    { TF_PLUGIN_MAGIC_COOKIE: "" },
    /Terraform or OpenTofu/,
  ],
  [
    "a host of another protocol is named",
    { ...hostEnvironment, PLUGIN_PROTOCOL_VERSIONS: "4,5" },
    /protocol 6; the tool offers 4, 5/,
  ],
])("%s, and it exits with 1", (_, env, words) => {
  const run = spawnSync(executable, [], { env: { ...process.env, ...env }, encoding: "utf8" });
  expect(run.status).toBe(1);
  expect(run.stdout).toBe("");
  expect(run.stderr).toMatch(words);
});

test("a Node that is too old is named", () => {
  const script =
    "process.stdout.write(require('fs').readFileSync(process.argv[1],'utf8').split('\\n')[2])";
  const check = spawnSync(process.execPath, ["-e", script, executable], {
    encoding: "utf8",
  }).stdout;
  const old = `Object.defineProperty(process.versions,"node",{value:"20.1.0"});${check}`;
  const run = spawnSync(process.execPath, ["-e", old], { encoding: "utf8" });
  expect(run.status).toBe(1);
  expect(run.stderr).toMatch(/needs Node 22 or newer/);
});

test("health, unknown calls and malformed messages are answered as gRPC says", async () => {
  const host = await start();
  const status = async (path: string, message: Uint8Array) => {
    try {
      return [...(await host.raw(path, message))];
    } catch (error) {
      return error instanceof GrpcError ? `status ${error.status}` : String(error);
    }
  };
  expect(await status("/grpc.health.v1.Health/Check", new Uint8Array(0))).toEqual([8, 1]);
  expect(await status("/tfplugin6.Provider/ReadStateBytes", new Uint8Array(0))).toBe("status 12");
  expect(await status("/tfplugin6.Provider/constructor", new Uint8Array(0))).toBe("status 12");
  const garbage = Buffer.from([0xff, 0xff, 0xff]);
  expect(await status("/tfplugin6.Provider/ReadResource", garbage)).toBe("status 3");
  expect(await host.call("GetMetadata")).toMatchObject({ diagnostics: [] }); // it lives on
  await host.shutdown();
});

test("metadata and schema name the same things, and the schema JSON of Terraform's own shape agrees", async () => {
  const host = await start();
  const metadata = await host.call("GetMetadata");
  const names = (list: unknown) => (list as { type_name: string }[]).map((one) => one.type_name);
  const schema = await host.call("GetProviderSchema");
  expect(Object.keys(schema["resource_schemas"] as Fields)).toEqual(names(metadata["resources"]));
  expect(Object.keys(schema["data_source_schemas"] as Fields)).toEqual(
    names(metadata["data_sources"]),
  );
  const { identity_schemas } = await host.call("GetResourceIdentitySchemas");
  const lists = Object.keys(schema["list_resource_schemas"] as Fields);
  expect(Object.keys(identity_schemas as Fields)).toEqual(expect.arrayContaining(lists));
  expect((await host.call("GetFunctions"))["functions"]).toEqual(schema["functions"]);
  await host.shutdown();
});

test("validation points at the attribute and says the nearest allowed value", async () => {
  const host = await start();
  const lan = { environment_id: new UnknownValue(), name: "lan", cidr: "10.42.0.9/24" };
  const answer = await host.call("ValidateResourceConfig", {
    type_name: "drover_network",
    config: toValue(await whole(host, "drover_network", lan)),
  });
  expect(diagnosticsOf(answer)).toEqual([
    {
      severity: 1,
      summary: "Host bits set in network",
      detail: '"10.42.0.9/24" is an address inside a network; write 10.42.0.0/24.',
      attribute: { steps: [{ attribute_name: "cidr" }] },
    },
  ]);
  await host.shutdown();
});

test("a plan to create knows what is known, and marks the rest", async () => {
  const host = await start();
  const it = await Lifecycle.of(host, "drover_environment");
  const { planned, warnings } = await it.plan(ring); // core's rules are checked in there
  expect(planned).toMatchObject({
    ...ring,
    id: new UnknownValue({ notNull: true }),
    owner: new UnknownValue(),
  });
  // there is no shepherd to judge it: that is no error before apply
  expect(warnings).toMatchObject([{ severity: 2, summary: "The plan was not judged" }]);
  await host.shutdown();
});

test("a change of name asks for a replacement, of class it does not", async () => {
  const host = await start();
  const it = await Lifecycle.of(host, "drover_environment");
  it.state = it.config({ ...ring, id: "e1", owner: "alice" });
  expect((await it.plan({ ...ring, name: "other" })).replaces).toEqual(["name"]);
  expect((await it.plan({ ...ring, class: "sensitive" })).replaces).toEqual([]);
  await host.shutdown();
});

test("a stored state is read without keys of old, and with new ones as null", async () => {
  const host = await start();
  const json = Buffer.from(JSON.stringify({ id: "n1", name: "lan", vni: 42, gone: [1] }));
  const answer = await host.call("UpgradeResourceState", {
    type_name: "drover_network",
    version: 0,
    raw_state: { json },
  });
  expect(fromValue(answer["upgraded_state"])).toEqual(
    await whole(host, "drover_network", { id: "n1", name: "lan", vni: 42 }),
  );
  const newer = await host.call("UpgradeResourceState", {
    type_name: "drover_network",
    version: 7,
    raw_state: { json },
  });
  expect(diagnosticsOf(newer)[0]?.summary).toBe("State of a newer provider");
  await host.shutdown();
});

test("when there is no shepherd it says where it looked and why there", async () => {
  const host = await start({ env: { DROVER_ENDPOINT: "unix:/elsewhere/s.sock" } });
  const read = async () => {
    const state = await whole(host, "drover_environment", { ...ring, id: "e1", owner: "alice" });
    const answer = await host.call("ReadResource", {
      type_name: "drover_environment",
      current_state: toValue(state),
    });
    expect(fromValue(answer["new_state"])).toEqual(state); // nothing is forgotten
    return diagnosticsOf(answer)[0]?.detail ?? "";
  };
  const configure = (config: Fields) =>
    host.call("ConfigureProvider", { terraform_version: "1.11.4", config: toValue(config) });
  await configure({ endpoint: null, token: null, ca_file: null });
  expect(await read()).toContain(
    "No shepherd answers at unix:/elsewhere/s.sock: there is no such socket. Looked there because DROVER_ENDPOINT names it.",
  );
  await host.shutdown();
  const other = await start();
  await other.call("ConfigureProvider", { config: toValue(nowhere) });
  const answer = await other.call("ImportResourceState", { type_name: "drover_image", id: "base" });
  expect(diagnosticsOf(answer)[0]?.detail).toContain("the provider's endpoint names it");
  await other.shutdown();
});

test("an unknown endpoint fails no plan, only what must be read", async () => {
  const host = await start();
  const configured = await host.call("ConfigureProvider", {
    config: toValue({ endpoint: new UnknownValue(), token: null, ca_file: null }),
  });
  expect(diagnosticsOf(configured)).toEqual([]);
  const read = await host.call("ReadDataSource", {
    type_name: "drover_site",
    config: toValue({ id: "north", owner: null, hosts: null }),
  });
  expect(diagnosticsOf(read)).toMatchObject([
    { summary: "Not known yet", attribute: { steps: [{ attribute_name: "endpoint" }] } },
  ]);
  await host.shutdown();
});

test("StopProvider ends a call that waits, with what was reached and how to go on", async () => {
  const socket = join(directory, "silent.sock");
  const silent: Server = createServer(() => undefined).listen(socket); // takes the call and never answers
  const host = await start();
  await host.call("ConfigureProvider", {
    config: toValue({ ...nowhere, endpoint: `unix:${socket}` }),
  });
  const asked = new Promise<void>((resolve) => silent.once("request", () => resolve()));
  const config = await whole(host, "drover_environment", ring);
  const applied = host.call("ApplyResourceChange", {
    type_name: "drover_environment",
    prior_state: toValue(null),
    planned_state: toValue({ ...config, id: new UnknownValue(), owner: new UnknownValue() }),
    config: toValue(config),
  });
  await asked;
  await host.call("StopProvider");
  const answer = await applied;
  expect(fromValue(answer["new_state"])).toBeNull(); // a tainted half would be replaced; the next PUT re-attaches
  expect(diagnosticsOf(answer)).toMatchObject([
    { summary: "Interrupted", detail: expect.stringContaining("Apply again: it continues there") },
  ]);
  await host.shutdown();
  silent.close();
  silent.closeAllConnections();
});

test("Ctrl-C is left to the host, twenty calls at once are answered, logs have six digits", async () => {
  const host = await start();
  host.child.kill("SIGINT");
  const answers = await Promise.all(Array.from({ length: 20 }, () => host.call("GetMetadata")));
  expect(new Set(answers.map((answer) => JSON.stringify(answer))).size).toBe(1);
  await host.call("StopProvider");
  expect(await host.shutdown()).toBe(0);
  const line = JSON.parse(host.stderr.trim().split("\n")[0] ?? "") as Record<string, string>;
  expect(line["@timestamp"]).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/);
  expect(line["@level"]).toBe("warn");
});

test("when the host is gone the provider goes too", async () => {
  const host = await start();
  const ended = host.ended();
  host.disconnect();
  expect(await ended).toBe(0);
});

test("in debug mode it tells how to attach, speaks without TLS, and survives its host", async () => {
  const child = spawn(executable, ["--debug"], { stdio: ["ignore", "pipe", "inherit"] });
  const line = await new Promise<string>((resolve) =>
    child.stdout.once("data", (chunk: Buffer) => resolve(chunk.toString())),
  );
  const reattach = JSON.parse(/TF_REATTACH_PROVIDERS='(.*)'/.exec(line)?.[1] ?? "{}");
  expect(reattach).toEqual({
    [providerAddress]: {
      Protocol: "grpc",
      ProtocolVersion: 6,
      Pid: child.pid,
      Test: true,
      Addr: { Network: "unix", String: expect.stringMatching(/^\//) },
    },
  });
  const ended = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGTERM");
  expect(await ended).toBe(0);
});
