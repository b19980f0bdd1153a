/**
 * Times the RPC client against a libvirtd of its own (test driver, root): one call after the other, many at once, and the
 * statistics of 200 domains in one call; beside one `virsh` process a question. Run with `node test/bench/libvirt-rpc.ts`.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { RpcConnection } from "@drover/shepherd/libvirt/rpc/connection";
import { remote } from "@drover/shepherd/libvirt/rpc/procedures";
import { connectUnix } from "@drover/shepherd/libvirt/rpc/transports/unix";
import { startPrivateLibvirtd, virshSays } from "../lab/private-libvirtd.ts";

const domains = 200;
const daemon = await startPrivateLibvirtd();
try {
  const fleet = Array.from(
    { length: domains },
    (_, n) =>
      `<domain type='test'><name>d${n}</name><memory>1024</memory><os><type>hvm</type></os></domain>`,
  );
  const file = join(daemon.folder, "fleet.xml");
  writeFileSync(file, `<node>${fleet.join("")}<cpu/></node>`);
  const uri = `test://${file}`;
  const transport = await connectUnix({ path: daemon.socketPath });
  const connection = await RpcConnection.open(transport, { uri });

  const hostname = () => connection.call(remote.getHostname, {});
  const version = () => connection.call(remote.getLibVersion, {});
  await measure("one call after the other", 2_000, version);
  await measure("one after the other, with a name look-up", 500, hostname);
  const startMs = performance.now();
  const many = 10_000;
  await Promise.all(Array.from({ length: many }, version));
  const perSecond = (many * 1_000) / (performance.now() - startMs);
  console.log(
    `${"all at once, at most five outstanding".padEnd(44)} ${Math.round(perSecond)} calls/s`,
  );
  const stats = { domains: [], stats: 1, flags: 0 };
  const { records } = await connection.call(remote.getAllDomainStats, stats);
  await measure(`statistics of ${records.length} domains in one call`, 300, () =>
    connection.call(remote.getAllDomainStats, stats),
  );
  await connection.close();
  await measure("rival: one virsh process a question", 20, async () => {
    virshSays(daemon, uri, "hostname");
  });
} finally {
  await daemon.stop();
}

async function measure(name: string, rounds: number, work: () => Promise<unknown>): Promise<void> {
  const times: number[] = [];
  for (let n = 0; n < rounds; n += 1) {
    const startMs = performance.now();
    await work();
    times.push(performance.now() - startMs);
  }
  times.sort((left, right) => left - right);
  const at = (share: number) => (times[Math.floor(times.length * share)] ?? 0).toFixed(2);
  console.log(`${name.padEnd(44)} p50 ${at(0.5)} ms, p99 ${at(0.99)} ms`);
}
