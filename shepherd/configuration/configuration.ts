/**
 * drover.yaml: every key, its unit, its default, and what must hold between keys. Read once at start.
 * Knows the file only: no host is asked, no policy is loaded here.
 */
import { readFileSync } from "node:fs";
import { isIP } from "node:net";
import { dirname, isAbsolute, resolve } from "node:path";
import { type PoliciesConfiguration, policiesReader } from "#configuration/policies";
import {
  checked,
  integer,
  list,
  object,
  oneOf,
  optional,
  type Reader,
  readYaml,
  required,
  text,
  yesOrNo,
} from "#configuration/yaml-reader";
import { Fault } from "#model/fault";
import type { HostRecord, Site } from "#model/site";

export const defaultSocket = "/run/drover/shepherd.sock";
export const defaultStateDirectory = "/var/lib/drover";
export const defaultConfigurationFile = "/etc/drover/drover.yaml";

/** What a token may do; the socket's `local-root` may do all of it except approve. */
export const roles = ["operator", "approver", "security", "reader", "stack"] as const;
export type Role = (typeof roles)[number];

export interface TokenRecord {
  readonly name: string;
  readonly role: Role;
  /** The person who uses it; two tokens of one human are one person where people must agree. Absent: its name. */
  readonly human?: string | undefined;
  /** Hex SHA-256 of the token. */
  readonly sha256: string;
}

export interface SshConfiguration {
  readonly address: string;
  readonly port: number;
  readonly user: string;
  readonly keyFile: string;
  /** As in a known_hosts line without the name: `ssh-ed25519 AAAA…`. */
  readonly hostKey: string;
  readonly jump?: SshConfiguration | undefined;
}
export interface HostConfiguration extends HostRecord {
  /** Undefined only in the simulated world. */
  readonly ssh?: SshConfiguration | undefined;
  /** The unix socket of libvirtd on the host; absent = where distributions put it. */
  readonly libvirtSocket?: string | undefined;
  /** What its machines are run by. Default tcg: there are hosts where /dev/kvm exists and stock kernels do not boot. */
  readonly acceleration: "kvm" | "tcg";
  /** virtio-serial channels that every machine started here gets beside `dev.drover.0`: the lab's way into a guest. */
  readonly channels: readonly string[];
}
export interface SiteConfiguration extends Site {
  readonly hosts: readonly HostConfiguration[];
  /** Hosts of this site may talk to another owner's libvirt directly. Default false. */
  readonly peerMigration: boolean;
  /** What machines at this site may set of their XML beside what drover models (model/xml-patch.ts). */
  readonly rawXmlPaths: readonly string[];
  /** Folder whose files hosts that are registered at run time may name as their SSH key; absent: none may. */
  readonly keyDirectory?: string | undefined;
  /** Address of the site's tunnel end, when its hosts are not reached one by one. */
  readonly tunnelAddress?: string | undefined;
  readonly depot?: string | undefined;
}
export interface StackConfiguration {
  /** Name of the environment whose adaptations are written there. */
  readonly environment: string;
  readonly directory: string;
  readonly gitCommit: boolean;
}
export interface Configuration {
  readonly file: string;
  readonly world: "libvirt" | "simulated";
  readonly stateDirectory: string;
  /** Unix socket, mode 0600: who may open it is local-root. */
  readonly socket: string;
  /** TCP listener for tokens; absent = none. */
  readonly listen?: { readonly host: string; readonly port: number } | undefined;
  /** Certificate and key of the TCP listener; only a loopback address may do without. */
  readonly tls?: { readonly certFile: string; readonly keyFile: string } | undefined;
  readonly stacks: readonly StackConfiguration[];
  readonly sites: readonly SiteConfiguration[];
  readonly policies: PoliciesConfiguration;
  readonly tokens: readonly TokenRecord[];
  /** Pairs of sites whose traffic is not encrypted, because the operator said so; told at every start. */
  readonly clearPairs: readonly (readonly [string, string])[];
  /** Memory and disks of moves go through TLS. False only because the operator said so; told at every start. */
  readonly encryptMoves: boolean;
  /** PEM files of the Ed25519 keys whose documents break the glass; none = nobody can. */
  readonly breakGlass: { readonly publicKeyFiles: readonly string[] };
  /** What a host said longer ago is no ground for giving or moving anything. */
  readonly maxFactAgeMs: number;
  /** Of how many of the newest decisions everything is kept that makes them again elsewhere. */
  readonly keptSnapshots: number;
  /** Where traces are sent; absent: nothing is followed. */
  readonly tracing?: { readonly url: string; readonly samplePercent: number } | undefined;
  /** Only in the simulated world: wall-clock milliseconds become this many times as many. */
  readonly simulatedSpeed: number;
}

/** Reads and checks the file. Fault `config.unreadable`, or `config.invalid` with the line. */
export function loadConfiguration(file: string): Configuration {
  let content: string;
  try {
    content = readFileSync(file, "utf8");
  } catch (cause) {
    throw new Fault("config.unreadable", { file, problem: messageOf(cause) }, { cause });
  }
  return readConfiguration(content, resolve(file));
}

/** Relative paths of the file mean: from the folder of the file. */
export function readConfiguration(content: string, file: string): Configuration {
  const path = pathFrom(dirname(file));
  const found = readYaml(content, { file, reader: fileReader(path) });
  const configuration: Configuration = {
    file,
    world: found.world,
    stateDirectory: found.state_dir ?? defaultStateDirectory,
    socket: found.socket ?? defaultSocket,
    listen: found.listen,
    tls:
      found.tls === undefined
        ? undefined
        : { certFile: found.tls.cert_file, keyFile: found.tls.key_file },
    stacks: found.stacks.map((stack) => ({
      environment: stack.environment,
      directory: stack.directory,
      gitCommit: stack.git_commit,
    })),
    sites: found.sites.map((site) => ({
      id: site.id,
      owner: site.owner,
      policy: site.policy ?? shippedPolicy(`site-${site.id}`),
      tunnelAddress: site.tunnel_address,
      depot: site.depot,
      peerMigration: site.peer_migration,
      rawXmlPaths: site.raw_xml_paths,
      keyDirectory: site.key_dir,
      pathMbps: pathsOf(site.id, found.paths),
      hosts: site.hosts.map((host) => ({
        id: host.id,
        siteId: site.id,
        pool: host.pool,
        migrationAddress: host.migration_address,
        lend: {
          cpuPercent: host.lend.cpu_percent,
          memoryMib: host.lend.memory_mib,
          diskGib: host.lend.disk_gib,
        },
        ssh: host.ssh,
        libvirtSocket: host.libvirt_socket,
        acceleration: host.acceleration,
        channels: host.channels,
        uplinkMbps: host.uplink_mbps,
        tunnel:
          found.world === "simulated"
            ? undefined
            : { port: found.tunnels.port, clearSites: clearSitesOf(site.id, found.tunnels.clear) },
      })),
    })),
    clearPairs: found.tunnels.clear,
    encryptMoves: found.moves.encrypted,
    policies: found.policies,
    tokens: found.tokens,
    breakGlass: { publicKeyFiles: found.break_glass.public_key_files },
    keptSnapshots: found.snapshots.keep,
    tracing:
      found.tracing === undefined
        ? undefined
        : { url: found.tracing.url, samplePercent: found.tracing.sample_percent },
    maxFactAgeMs: found.facts.max_age_ms,
    simulatedSpeed: found.simulated_speed,
  };
  checkWhole(configuration);
  return configuration;
}

/** Bundles that ship with drover: a start to copy from, and what the examples run with. */
function shippedPolicy(name: string): string {
  return resolve(import.meta.dirname, "../../policies/data", name);
}

const nameText = text({
  pattern: /^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$/,
  like: "a name of at most 40 small letters, digits and dashes",
});
const ipText = text({}) satisfies Reader<string>;
const ip: Reader<string> = checked(ipText, (value) => {
  if (isIP(value) === 0) throw new Error(`${value} is not an IP address`);
  return value;
});

function sshReader(path: Reader<string>, depth = 0): Reader<SshConfiguration> {
  const read = object({
    address: required(text()),
    port: optional(integer({ unit: "port", min: 1, max: 65_535 }), 22),
    user: optional(text(), "root"),
    key_file: required(path),
    host_key: required(
      text({
        pattern: /^(ssh-|ecdsa-)\S+ [A-Za-z0-9+/=]+/,
        like: "a host key such as `ssh-ed25519 AAAA…`",
      }),
    ),
    // One host in between is what people have; more would be a mistake.
    jump: optional(
      depth === 0
        ? sshReader(path, 1)
        : checked(text(), (): SshConfiguration => {
            throw new Error("a jump host cannot have a jump host");
          }),
    ),
  });
  return (node, at) => {
    const found = read(node, at);
    return {
      address: found.address,
      port: found.port,
      user: found.user,
      keyFile: found.key_file,
      hostKey: found.host_key,
      jump: found.jump,
    };
  };
}

function fileReader(path: Reader<string>) {
  const policies = policiesReader(path, shippedPolicy);
  return object({
    world: optional(oneOf("libvirt", "simulated"), "libvirt"),
    state_dir: optional(path),
    socket: optional(path),
    listen: optional(checked(text(), parseListen)),
    tls: optional(object({ cert_file: required(path), key_file: required(path) })),
    stacks: optional(
      list(
        object({
          environment: required(nameText),
          directory: required(path),
          git_commit: optional(yesOrNo(), false),
        }),
      ),
      [],
    ),
    policies: optional(policies.read, policies.absent),
    paths: optional(
      list(
        object({
          sites: required(checked(text(), parseSitePair)),
          rate_mbps: required(integer({ unit: "mbps", min: 1, max: 1_000_000 })),
        }),
      ),
      [],
    ),
    tunnels: optional(
      object({
        // the second port of the pair is used while keys are rotated
        port: optional(integer({ unit: "port", min: 1, max: 65_534 }), 51_820),
        clear: optional(list(checked(text(), parseSitePair)), []),
      }),
      { port: 51_820, clear: [] },
    ),
    tokens: optional(
      list(
        object({
          name: required(nameText),
          role: required(oneOf(...roles)),
          human: optional(nameText),
          sha256: required(
            text({ pattern: /^[0-9a-f]{64}$/, like: "the token's SHA-256 as 64 hex digits" }),
          ),
        }),
      ),
      [],
    ),
    moves: optional(object({ encrypted: optional(yesOrNo(), true) }), { encrypted: true }),
    break_glass: optional(object({ public_key_files: required(list(path)) }), {
      public_key_files: [],
    }),
    snapshots: optional(
      object({ keep: optional(integer({ unit: "count", min: 0, max: 10_000 }), 200) }),
      { keep: 200 },
    ),
    tracing: optional(
      object({
        url: required(text({ pattern: /^https?:\/\/\S+$/, like: "an http or https URL" })),
        sample_percent: optional(integer({ unit: "count", min: 0, max: 100 }), 100),
      }),
    ),
    // a look every 2 s, and up to 5 s for an answer: below 10 s a busy host would be refused now and then
    facts: optional(
      object({
        max_age_ms: optional(integer({ unit: "ms", min: 10_000, max: 3_600_000 }), 120_000),
      }),
      { max_age_ms: 120_000 },
    ),
    simulated_speed: optional(integer({ unit: "count", min: 1, max: 10_000 }), 1),
    sites: required(
      list(
        object({
          id: required(nameText),
          owner: required(nameText),
          policy: optional(path),
          tunnel_address: optional(ip),
          depot: optional(text()),
          peer_migration: optional(yesOrNo(), false),
          // `cpu/topology@sockets`, or with a slash at its end everything below; nothing by default
          raw_xml_paths: optional(list(text()), []),
          key_dir: optional(path),
          hosts: required(
            list(
              object({
                id: required(nameText),
                ssh: optional(sshReader(path)),
                libvirt_socket: optional(text({ pattern: /^\//, like: "an absolute path" })),
                acceleration: optional(oneOf("kvm", "tcg"), "tcg"),
                channels: optional(
                  list(
                    text({
                      pattern: /^[a-z0-9][a-z0-9.-]{0,62}$/,
                      like: "a channel's name such as `org.qemu.guest_agent.0`",
                    }),
                  ),
                  [],
                ),
                uplink_mbps: optional(integer({ unit: "mbps", min: 1, max: 1_000_000 })),
                pool: optional(text(), "drover"),
                migration_address: required(ip),
                lend: required(
                  object({
                    cpu_percent: required(integer({ unit: "percent", min: 1, max: 1_000_000 })),
                    memory_mib: required(integer({ unit: "mib", min: 1, max: 1_000_000_000 })),
                    disk_gib: required(integer({ unit: "gib", min: 1, max: 1_000_000_000 })),
                  }),
                ),
              }),
              { min: 1 },
            ),
          ),
        }),
        { min: 1 },
      ),
    ),
  });
}

function parseSitePair(value: string): readonly [string, string] {
  const [left = "", right = "", ...rest] = value.split(":");
  if (left === "" || right === "" || left === right || rest.length > 0)
    throw new Error(`${value} is no pair of sites such as north:south`);
  return [left, right];
}

/** What `paths` says of a site's ways to others; undefined: nothing. */
function pathsOf(
  siteId: string,
  paths: readonly { readonly sites: readonly [string, string]; readonly rate_mbps: number }[],
): Readonly<Record<string, number>> | undefined {
  const own = paths.flatMap(({ sites: [left, right], rate_mbps }): [string, number][] =>
    left === siteId ? [[right, rate_mbps]] : right === siteId ? [[left, rate_mbps]] : [],
  );
  return own.length === 0 ? undefined : Object.fromEntries(own);
}

function clearSitesOf(
  siteId: string,
  pairs: readonly (readonly [string, string])[],
): readonly string[] {
  return pairs.flatMap(([left, right]) =>
    left === siteId ? [right] : right === siteId ? [left] : [],
  );
}

function pathFrom(folder: string): Reader<string> {
  return checked(text(), (value) => (isAbsolute(value) ? value : resolve(folder, value)));
}

function parseListen(value: string): { host: string; port: number } {
  const match = /^(?:\[([0-9a-f:]+)\]|([^:\s]+)):(\d{1,5})$/i.exec(value);
  const port = Number(match?.[3] ?? Number.NaN);
  if (match === null || port > 65_535) {
    throw new Error(`${value} is not ADDRESS:PORT such as 127.0.0.1:8420`);
  }
  return { host: match[1] ?? match[2] ?? "", port };
}

/** What no single key can tell: names used twice, hosts that cannot be reached. */
function checkWhole(configuration: Configuration): void {
  const problem = (text: string) =>
    new Fault("config.invalid", { file: configuration.file, line: 1, problem: text });
  const hosts = configuration.sites.flatMap((site) => site.hosts);
  for (const [what, names] of [
    ["site", configuration.sites.map((site) => site.id)],
    ["host", hosts.map((host) => host.id)],
    ["token", configuration.tokens.map((token) => token.name)],
    ["migration address", hosts.map((host) => host.migrationAddress)],
  ] as const) {
    const twice = names.find((name, index) => names.indexOf(name) !== index);
    if (twice !== undefined) throw problem(`the ${what} ${twice} is there twice`);
  }
  const { listen, tls } = configuration;
  if (listen !== undefined && tls === undefined && !isLoopback(listen.host)) {
    throw problem(
      `listen on ${listen.host} needs tls: tokens would cross the network in the clear`,
    );
  }
  const siteIds = new Set(configuration.sites.map((site) => site.id));
  const stranger = configuration.clearPairs.flat().find((id) => !siteIds.has(id));
  if (stranger !== undefined) throw problem(`tunnels.clear names ${stranger}, which is no site`);
  const nowhere = configuration.sites
    .flatMap((site) => Object.keys(site.pathMbps ?? {}))
    .find((id) => !siteIds.has(id));
  if (nowhere !== undefined) throw problem(`paths names ${nowhere}, which is no site`);
  const unreached = hosts.find((host) => host.ssh === undefined);
  if (configuration.world === "libvirt" && unreached !== undefined) {
    throw problem(`host ${unreached.id} lacks the key ssh`);
  }
}

function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127(\.\d+){3}$/.test(host);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
