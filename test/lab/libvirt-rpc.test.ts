/**
 * The RPC client against a real libvirtd and its `test` driver; virsh is the independent witness. Needs root.
 */

import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { type Duplex, Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { pipeline } from "node:stream/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { RpcConnection } from "@drover/shepherd/libvirt/rpc/connection";
import { subscribe } from "@drover/shepherd/libvirt/rpc/events";
import { HostConnections } from "@drover/shepherd/libvirt/rpc/host-connections";
import { everyProcedure, type Procedure, remote } from "@drover/shepherd/libvirt/rpc/procedures";
import { domainOf } from "@drover/shepherd/libvirt/rpc/references";
import { connectTcp } from "@drover/shepherd/libvirt/rpc/transports/tcp";
import { connectTls } from "@drover/shepherd/libvirt/rpc/transports/tls";
import { connectUnix } from "@drover/shepherd/libvirt/rpc/transports/unix";
import { XdrReader } from "@drover/shepherd/libvirt/rpc/xdr";
import { writeDirectoryPool, writeUploadVolume } from "@drover/shepherd/libvirt/xml/storage";
import { isFault } from "@drover/shepherd/model/fault";
import type { Clock } from "@drover/shepherd/ports/clock";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { type PrivateLibvirtd, startPrivateLibvirtd, virshSays } from "./private-libvirtd.ts";

const uri = "test:///default";
let daemon: PrivateLibvirtd;

beforeAll(async () => {
  daemon = await startPrivateLibvirtd();
}, 30_000);
afterAll(() => daemon.stop());

async function open(options: { serverKeepalive?: boolean; pingIntervalMs?: number } = {}) {
  const transport = await connectUnix({ path: daemon.socketPath });
  return RpcConnection.open(transport, { uri, ...options });
}

const clock: Clock = {
  nowMs: () => Date.now(),
  sleep: (ms, signal) => sleep(ms, undefined, signal === undefined ? {} : { signal }),
  at: (atMs, work) => {
    const timer = setTimeout(work, atMs - Date.now());
    return () => clearTimeout(timer);
  },
};

describe("calls", () => {
  test("name the host, version and domains as virsh does", async () => {
    const connection = await open();
    const { hostname } = await connection.call(remote.getHostname, {});
    const { domains, count } = await connection.call(remote.listAllDomains, {
      needResults: 1,
      flags: 0,
    });
    expect(hostname).toBe(virshSays(daemon, uri, "hostname"));
    expect(domains.map((domain) => domain.name)).toEqual(["test"]);
    expect(count).toBe(1);
    const [first] = domains;
    expect(first?.uuid).toBe(virshSays(daemon, uri, "domuuid", "test"));
    await connection.close();
  });

  test("decode what the test driver answers: node, info, XML, state, statistics", async () => {
    const connection = await open();
    const node = await connection.call(remote.nodeGetInfo, {});
    expect(virshSays(daemon, uri, "nodeinfo")).toContain(node.model);
    const { domain } = await connection.call(remote.domainLookupByName, { name: "test" });
    const info = await connection.call(remote.domainGetInfo, { domain });
    expect(virshSays(daemon, uri, "dominfo", "test")).toMatch(
      new RegExp(`Max memory: +${info.maxMemoryKib} KiB`),
    );
    const { xml } = await connection.call(remote.domainGetXmlDesc, { domain, flags: 0 });
    expect(xml.trim()).toBe(virshSays(daemon, uri, "dumpxml", "test").trim());
    const state = await connection.call(remote.domainGetState, { domain, flags: 0 });
    expect(state).toEqual({ state: 1, reason: 0 });
    expect(virshSays(daemon, uri, "domstate", "test", "--reason")).toBe("running (unknown)");
    const stats = await connection.call(remote.getAllDomainStats, {
      domains: [],
      stats: 1,
      flags: 0,
    });
    expect(stats.records[0]?.parameters).toContainEqual({
      field: "state.state",
      type: "int",
      value: 1,
    });
    await connection.close();
  });

  test("a domain is found by its UUID alone, whatever name and number say", async () => {
    const connection = await open();
    const { domain } = await connection.call(remote.domainLookupByName, { name: "test" });
    const state = await connection.call(remote.domainGetState, {
      domain: domainOf(domain.uuid),
      flags: 0,
    });
    expect(state.state).toBe(1);
    await connection.close();
  });

  test("an error keeps every field that libvirt sent", async () => {
    const connection = await open();
    const failed = await connection
      .call(remote.domainLookupByName, { name: "nobody" })
      .catch((e: unknown) => e);
    expect(isFault(failed, "libvirt.no_domain") ? failed.details : failed).toMatchObject({
      procedure: "remote.domainLookupByName",
      libvirt_code: 42,
      libvirt_domain: 12,
      level: 2,
      str1: expect.any(String),
    });
    const unknown = { ...remote.getHostname, number: 9_999, name: "remote.future" };
    await expect(connection.call(unknown, {})).rejects.toMatchObject({ code: "libvirt.rpc" });
    await connection.close();
  });

  test("200 calls at once are all answered, never more than five outstanding", async () => {
    const connection = await open();
    let most = 0;
    const calls = Array.from({ length: 200 }, async () => {
      const answer = await connection.call(remote.getCapabilities, {});
      most = Math.max(most, connection.load.inFlight);
      return answer.xml.length;
    });
    const lengths = await Promise.all(calls);
    expect(new Set(lengths).size).toBe(1);
    expect(most).toBeLessThanOrEqual(5);
    await connection.close();
  });
});

describe("keepalive", () => {
  test("the daemon answers our pings, on connections with and without its own", async () => {
    for (const serverKeepalive of [true, false]) {
      const connection = await open({ serverKeepalive, pingIntervalMs: 100 });
      await sleep(1_200);
      expect(connection.isOpen).toBe(true);
      await connection.close();
    }
  });
});

describe("events", () => {
  test("come in order and decoded, also those that virsh caused", async () => {
    const connection = await open();
    const seen: number[] = [];
    const subscription = await subscribe(connection, {
      lifecycle: (payload) => seen.push(payload.event),
    });
    const { domain } = await connection.call(remote.domainLookupByName, { name: "test" });
    await connection.call(remote.domainSuspend, { domain });
    await connection.call(remote.domainResume, { domain });
    await sleep(100);
    expect(seen).toEqual([3, 4]);
    await subscription.close();
    await connection.close();
  });
});

describe("a host's connections", () => {
  test("come back after the daemon was killed, and resynchronise before events are trusted", async () => {
    const dial = () => connectUnix({ path: daemon.socketPath });
    const connections = new HostConnections({
      hostId: "h",
      dial,
      uri,
      clock,
      firstPauseMs: 50,
      maxPauseMs: 400,
    });
    const log: string[] = [];
    const first = Promise.withResolvers<void>();
    const second = Promise.withResolvers<void>();
    connections.watch({
      listeners: { lifecycle: (payload) => log.push(`event ${payload.event}`) },
      resync: async (connection) => {
        await connection.call(remote.listAllDomains, { needResults: 1, flags: 0 });
        log.push("resync");
        (log.includes("lost") ? second : first).resolve();
      },
      onLost: () => log.push("lost"),
    });
    await first.promise;
    const control = await connections.kept("control");
    const pending = control.call(remote.getCapabilities, {});
    pending.catch(() => undefined);
    await daemon.kill();
    await expect(control.closed).resolves.toMatchObject({ code: "libvirt.disconnected" });
    await expect(connections.kept("control")).rejects.toMatchObject({ code: "host.unreachable" });
    await daemon.start();
    await second.promise;
    const again = await waitFor(() => connections.kept("control"));
    const { domain } = await again.call(remote.domainLookupByName, { name: "test" });
    await again.call(remote.domainSuspend, { domain });
    await sleep(100);
    expect(log).toEqual(["resync", "lost", "resync", "event 3"]);
    await connections.close();
  }, 30_000);
});

async function waitFor<T>(attempt: () => Promise<T>): Promise<T> {
  const deadline = Date.now() + 10_000;
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (Date.now() > deadline) throw error;
      await sleep(100);
    }
  }
}

/** Answers a codec's questions with the least that can be: zeros, empty lists, an id that nobody has. */
class LeastReader extends XdrReader {
  constructor() {
    super(Buffer.alloc(0));
  }
  override u32 = () => 0;
  override i32 = () => 0;
  override u64 = () => 0n;
  override i64 = () => 0n;
  override f64 = () => 0;
  override count = () => 0;
  override fixed = (length: number) => Buffer.alloc(length, 7);
  override opaque = () => Buffer.alloc(0);
  override string = () => "nobody";
}

describe("every procedure", () => {
  const session = new Set(["remote.connectOpen", "remote.connectClose", "remote.authPolkit"]);
  const swept = everyProcedure.filter((procedure) => !session.has(procedure.name));
  const call = async (procedure: Procedure<unknown, unknown>, args: unknown) => {
    const transport = await connectUnix({ path: daemon.socketPath });
    const connection = await RpcConnection.open(transport, { uri: "qemu:///system" });
    try {
      return await connection.call(procedure, args, { timeoutMs: 60_000 });
    } finally {
      await connection.close();
    }
  };

  test.each(swept.map((procedure) => ({ name: procedure.name, procedure })))(
    "$name is known to the daemon, and its arguments are understood",
    async ({ procedure }) => {
      const least = procedure.args.decode(new LeastReader());
      const answer = await call(procedure, least).catch((error: unknown) => error);
      if (!(answer instanceof Error)) return;
      // Any no will do but "unknown procedure" or "cannot decode": those are code 39, or end the connection.
      if (!isFault(answer)) throw answer;
      const { code, details } = answer;
      expect({ code, details }).not.toMatchObject({
        code: expect.stringMatching(/^libvirt\.(rpc|protocol|disconnected|call_timeout)$/),
      });
    },
    90_000,
  );

  test("that only asks about the host gets an answer that decodes", async () => {
    const cpu = { cpu: -1, flags: 0 };
    const { count: cpuStats } = await ask(remote.nodeGetCpuStats, { ...cpu, count: 0 });
    const { stats } = await ask(remote.nodeGetCpuStats, { ...cpu, count: cpuStats });
    expect(stats.map((stat) => stat.field)).toContain("idle");
    const { freeBytes } = await ask(remote.nodeGetCellsFreeMemory, { startCell: 0, maxCells: 4 });
    expect(freeBytes.length).toBeGreaterThan(0);
    const pages = { pageSizesKib: [4], startCell: 0, cellCount: 1, flags: 0 };
    const { counts } = await ask(remote.nodeGetFreePages, pages);
    expect(counts).toHaveLength(1);
    const any = { emulator: undefined, arch: undefined, machine: undefined };
    const { xml } = await ask(remote.getDomainCapabilities, { ...any, virtType: "qemu", flags: 0 });
    expect(xml).toContain("<domainCapabilities>");
    const { xml: capabilities } = await ask(remote.getCapabilities, {});
    const model = /<cpu>\s*<arch>(\w+)/.exec(capabilities)?.[1];
    expect(model).toBe("x86_64");
    const { types } = await ask(remote.authList, {});
    expect(types).toEqual([0]);

    async function ask<Args, Result>(procedure: Procedure<Args, Result>, args: Args) {
      const untyped = procedure as Procedure<unknown, unknown>;
      return (await call(untyped, args)) as Result;
    }
  }, 120_000);

  test("of the objects that a host may keep: secret, filter, network, pool", async () => {
    const transport = await connectUnix({ path: daemon.socketPath });
    const connection = await RpcConnection.open(transport, { uri: "qemu:///system" });
    const secretXml =
      "<secret ephemeral='yes' private='yes'><usage type='volume'><volume>/x</volume></usage></secret>";
    const { secret } = await connection.call(remote.secretDefineXml, { xml: secretXml, flags: 0 });
    expect(secret).toMatchObject({ usageType: 1, usageId: "/x" });
    const value = Buffer.from("swordfish");
    await connection.call(remote.secretSetValue, { secret, value, flags: 0 });
    await connection.call(remote.secretUndefine, { secret });

    const filterXml = "<filter name='drover-test' chain='root'/>";
    const { filter } = await connection.call(remote.nwfilterDefineXml, { xml: filterXml });
    expect(virshSays(daemon, "qemu:///system", "nwfilter-list")).toContain("drover-test");
    await connection.call(remote.nwfilterUndefine, { filter });

    const networkXml =
      "<network><name>drover-test</name><forward mode='bridge'/><bridge name='br-none'/></network>";
    const { network } = await connection.call(remote.networkDefineXml, { xml: networkXml });
    const found = await connection.call(remote.networkLookupByName, { name: "drover-test" });
    expect(found.network).toEqual(network);

    const path = join(daemon.folder, "pool");
    const poolXml = writeDirectoryPool({ name: "p", path });
    const { pool } = await connection.call(remote.storagePoolCreateXml, { xml: poolXml, flags: 1 });
    const volumeXml = writeUploadVolume({ name: "v", sizeBytes: 1_000_000 });
    const { volume } = await connection.call(remote.storageVolCreateXml, {
      pool,
      xml: volumeXml,
      flags: 0,
    });
    const random = randomBytes(1_000_000);
    const span = { volume, offsetBytes: 0, lengthBytes: 0, flags: 0 };
    const up = await connection.openStream(remote.storageVolUpload, span, {
      windowBytes: Number.POSITIVE_INFINITY,
    });
    up.resume();
    await pipeline(Readable.from([random.subarray(0, 700_001), random.subarray(700_001)]), up);
    const down = await connection.openStream(remote.storageVolDownload, span);
    expect((await buffer(down)).equals(random)).toBe(true);
    const copyXml = writeUploadVolume({ name: "copy", sizeBytes: 1_000_000 });
    await connection.call(remote.storageVolCreateXmlFrom, {
      pool,
      xml: copyXml,
      source: volume,
      flags: 0,
    });
    await connection.call(remote.storageVolResize, { volume, capacityBytes: 2_000_000, flags: 0 });
    const info = await connection.call(remote.storageVolGetInfoFlags, { volume, flags: 0 });
    expect(info).toMatchObject({ type: 0, capacityBytes: 2_000_000 });
    const byPath = await connection.call(remote.storageVolLookupByPath, { path: join(path, "v") });
    expect(byPath.volume).toEqual(volume);
    const { pools } = await connection.call(remote.listAllStoragePools, {
      needResults: 1,
      flags: 0,
    });
    expect(pools.map((known) => known.name)).toEqual(["p"]);
    const { volumes } = await connection.call(remote.storagePoolListAllVolumes, {
      pool,
      needResults: 1,
      flags: 0,
    });
    expect(volumes.map((known) => known.name).toSorted()).toEqual(["copy", "v"]);
    await connection.close();
  }, 60_000);

  test("that uploads a sparse file sends its holes as lengths, and downloads them as zeros", async () => {
    const transport = await connectUnix({ path: daemon.socketPath });
    const connection = await RpcConnection.open(transport, { uri: "qemu:///system" });
    const { pool } = await connection.call(remote.storagePoolLookupByName, { name: "p" });
    const xml = writeUploadVolume({ name: "sparse", sizeBytes: 3 * 65_536 });
    const { volume } = await connection.call(remote.storageVolCreateXml, { pool, xml, flags: 0 });
    const span = { volume, offsetBytes: 0, lengthBytes: 0, flags: 1 };
    const up = await connection.openStream(remote.storageVolUpload, span);
    up.resume();
    up.write(Buffer.alloc(65_536, 1));
    await up.writeHole(65_536);
    up.end(Buffer.alloc(65_536, 2));
    await once(up, "finish");
    const holes: number[] = [];
    const down = await connection.openStream(remote.storageVolDownload, span, {
      onHole: (bytes) => void holes.push(bytes),
    });
    const content = await buffer(down);
    const whole = content.length + holes.reduce((sum, bytes) => sum + bytes, 0);
    expect(whole).toBe(3 * 65_536);
    expect(holes).toEqual([65_536]);
    await connection.close();
  }, 30_000);
});

describe("transports", () => {
  const ports = { tcp: 26_509, tls: 26_514 };
  let listening: PrivateLibvirtd;
  let certificates: Certificates;

  beforeAll(async () => {
    certificates = makeCertificates();
    listening = await startPrivateLibvirtd({
      arguments: ["--listen"],
      settings: [
        'listen_addr = "127.0.0.1"',
        "listen_tcp = 1",
        `tcp_port = "${ports.tcp}"`,
        'auth_tcp = "none"',
        "listen_tls = 1",
        `tls_port = "${ports.tls}"`,
        `ca_file = "${certificates.folder}/ca.pem"`,
        `cert_file = "${certificates.folder}/server.pem"`,
        `key_file = "${certificates.folder}/server.key"`,
      ],
    });
  }, 30_000);
  afterAll(async () => {
    await listening.stop();
    rmSync(certificates.folder, { recursive: true });
  });

  const tls = (name: string) => ({
    address: "127.0.0.1",
    port: ports.tls,
    ca: certificates.text("ca.pem"),
    certificate: certificates.text(`${name}.pem`),
    key: certificates.text(`${name}.key`),
  });
  async function hostnameOver(transport: Duplex): Promise<string> {
    const connection = await RpcConnection.open(transport, { uri });
    const { hostname } = await connection.call(remote.getHostname, {});
    await connection.close();
    return hostname;
  }

  test("TCP and TLS carry the same calls as a unix socket", async () => {
    const tcp = await connectTcp({ address: "127.0.0.1", port: ports.tcp });
    expect(await hostnameOver(tcp)).toBe(hostname());
    expect(await hostnameOver(await connectTls(tls("client")))).toBe(hostname());
  });

  test("TLS refuses a server that another authority vouches for, and says so", async () => {
    const stranger = { ...tls("client"), ca: certificates.text("other-ca.pem") };
    await expect(connectTls(stranger)).rejects.toMatchObject({
      code: "host.unreachable",
      details: { problem: expect.stringMatching(/certificate|issuer/) },
    });
  });

  test("TLS tells when the server does not accept our certificate", async () => {
    await expect(connectTls(tls("other-client"))).rejects.toMatchObject({
      code: "host.unreachable",
      details: { problem: expect.stringMatching(/certificate|alert|ECONNRESET|hang up/) },
    });
  });

  test("an address where something else listens is a protocol fault, not a hang", async () => {
    const web = createServer((socket) => socket.end("HTTP/1.1 400 Bad Request\r\n\r\n"));
    await new Promise<void>((resolve) => web.listen(0, "127.0.0.1", resolve));
    const address = web.address();
    const port = typeof address === "object" && address !== null ? address.port : 0;
    const transport = await connectTcp({ address: "127.0.0.1", port });
    await expect(RpcConnection.open(transport, { uri })).rejects.toMatchObject({
      code: "libvirt.protocol",
    });
    web.close();
  });

  test("an address where nobody listens is unreachable", async () => {
    await expect(connectTcp({ address: "127.0.0.1", port: 1 })).rejects.toMatchObject({
      code: "host.unreachable",
    });
    await expect(connectUnix({ path: "/nowhere/sock" })).rejects.toMatchObject({
      code: "host.unreachable",
    });
  });
});

interface Certificates {
  readonly folder: string;
  text(file: string): string;
}

/** Two authorities, each with a client; the first with the server for 127.0.0.1. By openssl, as a host's owner would. */
function makeCertificates(): Certificates {
  const folder = mkdtempSync(join(tmpdir(), "drover-tls-"));
  const openssl = (...words: string[]) =>
    execFileSync("openssl", words, { cwd: folder, stdio: "pipe" });
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
  for (const ca of ["ca", "other-ca"]) {
    const subject = ["-subj", `/CN=${ca}`, "-days", "2"];
    openssl("req", "-x509", ...key, ...subject, "-keyout", `${ca}.key`, "-out", `${ca}.pem`);
  }
  const usage = "keyUsage=digitalSignature,keyEncipherment";
  const signed = [
    { name: "server", ca: "ca", more: "extendedKeyUsage=serverAuth\nsubjectAltName=IP:127.0.0.1" },
    { name: "client", ca: "ca", more: "extendedKeyUsage=clientAuth" },
    { name: "other-client", ca: "other-ca", more: "extendedKeyUsage=clientAuth" },
  ];
  for (const { name, ca, more } of signed) {
    writeFileSync(join(folder, `${name}.ext`), `${usage}\n${more}\n`);
    const subject = ["-subj", `/CN=${name}`, "-keyout", `${name}.key`, "-out", `${name}.csr`];
    openssl("req", ...key, ...subject);
    const by = ["-CA", `${ca}.pem`, "-CAkey", `${ca}.key`, "-CAcreateserial", "-days", "2"];
    const files = ["-in", `${name}.csr`, "-out", `${name}.pem`, "-extfile", `${name}.ext`];
    openssl("x509", "-req", ...by, ...files);
  }
  return { folder, text: (file) => readFileSync(join(folder, file), "utf8") };
}
