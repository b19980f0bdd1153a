/** The real world behind the ports: one SSH connection a host, libvirt's RPC and the host's network over it. */
import { readFileSync } from "node:fs";
import type { Logger } from "pino";
import { openAuthority } from "#certificates/authority";
import { createHostCertificates } from "#certificates/host-certificates";
import type {
  Configuration,
  HostConfiguration,
  SshConfiguration,
} from "#configuration/configuration";
import { createLibvirtHost } from "#libvirt/host";
import { sshDialer } from "#libvirt/rpc/transports/ssh";
import { Fault } from "#model/fault";
import type { HostId } from "#model/units";
import type { HostClaim } from "#ports/claim";
import type { Clock } from "#ports/clock";
import type { Host } from "#ports/host";
import type { HostNetwork } from "#ports/host-network";
import { certificatesOnHost } from "#shell/certificates";
import { claimHost } from "#shell/claim";
import { controlGroupsOnHost } from "#shell/control-groups";
import { digestsOnHost } from "#shell/file-digests";
import { createHostNetwork } from "#shell/host-network";
import { createSshShell, type SshShell, type SshTarget } from "#shell/ssh";
import { createShellWitness } from "#shell/witness";
import type { HostWorld } from "#worlds/host-world";

/**
 * Joins its input and output to a TCP port inside a namespace, with what the host has: socat, nc, or bash alone. When
 * either side ends, all of it ends.
 */
const enterLan = `cd /; inside="nsenter --net=/run/netns/$1"
if command -v socat >/dev/null; then exec $inside socat - "TCP:$2:$3"; fi
if nc -h 2>&1 | grep -q -e '-N'; then exec $inside nc -N "$2" "$3"; fi
exec $inside bash -c 'exec 3<>"/dev/tcp/$0/$1" || exit 1
cat >&3 <&0 & writer=$!; cat <&3; kill $writer 2>/dev/null' "$2" "$3"`;

interface Access {
  readonly host: Host;
  readonly network: HostNetwork;
  readonly shell: SshShell;
}

/** Connects lazily: a host that is down is met when it is first asked, and is degraded until it answers. */
export function connectLibvirt(
  configuration: Configuration,
  {
    clock,
    log,
    claim,
  }: {
    readonly clock: Clock;
    readonly log: Logger;
    /** Absent: whoever else has the hosts, as a test that looks on. */
    readonly claim?: HostClaim | undefined;
  },
): HostWorld {
  const access = new Map<HostId, Access>();
  const add = (host: HostConfiguration) => {
    access.set(host.id, open(host, configuration.file, { clock, log, claim }));
  };
  for (const host of configuration.sites.flatMap((site) => site.hosts)) add(host);
  const get = (id: HostId): Access => {
    const found = access.get(id);
    if (found === undefined) throw new Fault("host.unknown", { host: id });
    return found;
  };
  return {
    hosts: { get: (id) => get(id).host, network: (id) => get(id).network },
    clock,
    lanDoor: {
      open: ({ hostId, namespace, address, port }) =>
        get(hostId).shell.openCommand([
          "sh",
          "-c",
          enterLan,
          "sh",
          namespace,
          address,
          String(port),
        ]),
    },
    witnesses: configuration.sites.map((site) =>
      createShellWitness(
        site.id,
        site.hosts.map(({ id }) => get(id).shell),
      ),
    ),
    ...(configuration.encryptMoves && {
      migrationTls: createHostCertificates({
        authority: openAuthority(configuration.stateDirectory),
        clock,
        placeOf: (id) => certificatesOnHost(get(id).shell),
      }),
    }),
    add,
    async remove(id) {
      const left = access.get(id);
      access.delete(id);
      await left?.host.close();
      await left?.shell.close();
    },
    async close() {
      for (const { host, shell } of access.values()) {
        await host.close();
        await shell.close();
      }
    },
  };
}

function open(
  host: HostConfiguration,
  file: string,
  {
    clock,
    log,
    claim,
  }: { readonly clock: Clock; readonly log: Logger; readonly claim: HostClaim | undefined },
): Access {
  if (host.ssh === undefined) throw new Error(`host ${host.id} has no ssh`); // configuration refuses that
  const shell = createSshShell({
    hostId: host.id,
    target: targetOf(host.ssh, file),
    ...(claim === undefined
      ? {}
      : { admit: (connection) => claimHost(host.id, connection, claim) }),
    onState: (state) => log.info({ room: "shell", ...state }, "connection"),
  });
  return {
    shell,
    network: createHostNetwork(shell),
    host: createLibvirtHost({
      id: host.id,
      dial: sshDialer(shell, ...(host.libvirtSocket === undefined ? [] : [[host.libvirtSocket]])),
      pool: host.pool,
      clock,
      acceleration: host.acceleration,
      channels: host.channels,
      fileDigests: digestsOnHost(shell),
      controlGroups: controlGroupsOnHost(shell),
    }),
  };
}

function targetOf(ssh: SshConfiguration, file: string): SshTarget {
  let privateKey: string;
  try {
    privateKey = readFileSync(ssh.keyFile, "utf8");
  } catch (cause) {
    const problem = cause instanceof Error ? cause.message : String(cause);
    throw new Fault("config.unreadable", { file: ssh.keyFile, problem, named_in: file }, { cause });
  }
  return {
    address: ssh.address,
    port: ssh.port,
    user: ssh.user,
    privateKey,
    hostKey: ssh.hostKey,
    jump: ssh.jump === undefined ? undefined : targetOf(ssh.jump, file),
  };
}
