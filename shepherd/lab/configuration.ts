/** Writes the drover.yaml of a lab: the same file, keys and meaning as on real sites. Pure, but for the caller's write. */
import { stringify } from "yaml";
import { labChannel } from "#lab/guest-shell";
import { poolName } from "#lab/host";
import type { LabLayout } from "#lab/layout";

export interface ConfigurationOptions {
  readonly layout: LabLayout;
  /** SSH host keys by host id: `ssh-ed25519 AAAA…`. */
  readonly hostKeys: ReadonlyMap<string, string>;
  /** Folders in which stacks get their adaptations.json. */
  readonly stacks?:
    | readonly { readonly environment: string; readonly directory: string }[]
    | undefined;
  /** Default `<state directory>/shepherd.sock`. */
  readonly socket?: string | undefined;
  /** Default: no TCP listener. */
  readonly listen?: string | undefined;
}

/** The text of drover.yaml. */
export function configurationOf(options: ConfigurationOptions): string {
  const { layout } = options;
  const document = {
    state_dir: `${layout.stateDirectory}/shepherd`,
    ...(options.listen === undefined ? {} : { listen: options.listen }),
    socket: options.socket ?? `${layout.stateDirectory}/shepherd.sock`,
    stacks: options.stacks ?? [],
    sites: layout.sites.map((site) => ({
      id: site.id,
      owner: site.owner,
      ...(site.policy === undefined ? {} : { policy: site.policy }),
      tunnel_address: site.gateway,
      peer_migration: site.peerMigration,
      hosts: site.hosts.map((host) => ({
        id: host.id,
        ssh: {
          address: host.address,
          port: 22,
          user: "root",
          key_file: `${layout.stateDirectory}/ssh/id_ed25519`,
          host_key: options.hostKeys.get(host.id) ?? "",
        },
        pool: poolName,
        channels: [labChannel],
        migration_address: host.address,
        lend: {
          cpu_percent: host.lend.cpuPercent,
          memory_mib: host.lend.memoryMib,
          disk_gib: host.lend.diskGib,
        },
      })),
    })),
  };
  return `# Written by drover lab up; the lab ${layout.name} of this machine.\n${stringify(document, { lineWidth: 0 })}`;
}
