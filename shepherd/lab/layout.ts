/**
 * Names, addresses and folders of a lab: a pure function of which sites it has. Everything that is created carries the
 * lab's name, so that a sweep finds it after a kill and touches nothing else. Knows no process and runs no command.
 */
import { createHash } from "node:crypto";
import { Fault } from "#model/fault";
import type { Lend } from "#model/site";

export interface LabHost {
  readonly id: string;
  readonly lend: Lend;
}
export interface LabSite {
  readonly id: string;
  readonly owner: string;
  /** Folder of the site owner's policy, as drover.yaml names it. Absent: no bundle of the site's own. */
  readonly policy?: string | undefined;
  readonly peerMigration?: boolean | undefined;
  readonly hosts: readonly LabHost[];
}

/**
 * The demo's fleet: north lends two small hosts, south one large host. Sized so that a ring of four ranks of 256 MiB
 * grows inside north, but a rank that asks for much more soon finds room only at south.
 */
export const defaultSites: readonly LabSite[] = [
  {
    id: "north",
    owner: "north-lab",
    hosts: [
      { id: "north-1", lend: { cpuPercent: 200, memoryMib: 1000, diskGib: 8 } as Lend },
      { id: "north-2", lend: { cpuPercent: 200, memoryMib: 1180, diskGib: 8 } as Lend },
    ],
  },
  {
    id: "south",
    owner: "south-lab",
    hosts: [{ id: "south-1", lend: { cpuPercent: 800, memoryMib: 4096, diskGib: 16 } as Lend }],
  },
];

export interface HostLayout {
  readonly id: string;
  readonly siteId: string;
  readonly lend: Lend;
  /** Name below /run/netns. */
  readonly namespace: string;
  /** IP literal on the site's bridge: sshd, migration and tunnels use it. */
  readonly address: string;
  /** Our end of the veth pair on the site's bridge, inside the router's namespace. */
  readonly port: string;
  /** Holds run, lib, etc, log, cache of this host; bound over the distribution's folders in its mount namespace. */
  readonly folder: string;
  /** Path below every cgroup hierarchy; the root of the host's cgroup namespace. */
  readonly cgroup: string;
}
export interface SiteLayout {
  readonly id: string;
  readonly owner: string;
  readonly policy?: string | undefined;
  readonly peerMigration: boolean;
  readonly bridge: string;
  /** The router's address on the site's bridge. */
  readonly gateway: string;
  /** Where hosts send what is for other sites while a router guest shapes the WAN. */
  readonly routerGuest: string;
  readonly cidr: string;
  readonly hosts: readonly HostLayout[];
}
export interface LabLayout {
  readonly name: string;
  readonly stateDirectory: string;
  /** Namespace of the router that joins the sites, as the wide-area network does. */
  readonly routerNamespace: string;
  /** The only link in the machine's own namespace: towards the router. */
  readonly uplink: string;
  readonly uplinkAddress: string;
  readonly uplinkPeerAddress: string;
  /** Every address of the lab. */
  readonly cidr: string;
  readonly cgroupRoot: string;
  readonly sites: readonly SiteLayout[];
}

export interface LabPlace {
  /** 1 to 6 of a-z0-9; several labs of different names live side by side. Default: DROVER_LAB, else `lab`. */
  readonly name?: string | undefined;
  /** Default `/var/lib/drover-<name>`. */
  readonly stateDirectory?: string | undefined;
}

/** Which lab is meant, with the defaults filled in. Fault `lab.layout_invalid` for a bad name. */
export function labPlace(place: LabPlace = {}): { name: string; stateDirectory: string } {
  const name = place.name ?? process.env["DROVER_LAB"] ?? "lab";
  if (!/^[a-z0-9]{1,6}$/.test(name))
    throw new Fault("lab.layout_invalid", {
      problem: `lab name ${JSON.stringify(name)} is not 1 to 6 of a-z0-9`,
    });
  return { name, stateDirectory: place.stateDirectory ?? `/var/lib/drover-${name}` };
}

/** Prefix of the network namespaces of a lab; a lab's name holds no dash, so no lab's prefix begins another's. */
export function namespacePrefix(name: string): string {
  return `dl-${name}-`;
}

/** Lays a lab out. Fault `lab.layout_invalid` names what does not fit. */
export function layOut(
  place: LabPlace,
  sites: readonly LabSite[] = defaultSites,
  /** One of `networksFor`. */
  network = networksFor(labPlace(place).name)[0],
): LabLayout {
  const { name, stateDirectory } = labPlace(place);
  check(sites);
  const prefix = namespacePrefix(name);
  const cgroupRoot = `drover-${name}`;
  return {
    name,
    stateDirectory,
    routerNamespace: `${prefix}wan`,
    uplink: `dl-${name}`,
    uplinkAddress: `${network}.0.2`,
    uplinkPeerAddress: `${network}.0.1`,
    cidr: `${network}.0.0/16`,
    cgroupRoot,
    sites: sites.map((site, siteIndex) => {
      const subnet = `${network}.${siteIndex + 1}`;
      return {
        id: site.id,
        owner: site.owner,
        policy: site.policy,
        peerMigration: site.peerMigration ?? false,
        bridge: `dl-${site.id}`,
        gateway: `${subnet}.1`,
        routerGuest: `${subnet}.2`,
        cidr: `${subnet}.0/24`,
        hosts: site.hosts.map((host, hostIndex) => ({
          id: host.id,
          siteId: site.id,
          lend: host.lend,
          namespace: `${prefix}${host.id}`,
          address: `${subnet}.${11 + hostIndex}`,
          port: `dp-${host.id}`,
          folder: `${stateDirectory}/hosts/${host.id}`,
          cgroup: `${cgroupRoot}/${host.id}`,
        })),
      };
    }),
  };
}

/** All hosts of all sites. */
export function hostsOf(layout: LabLayout): readonly HostLayout[] {
  return layout.sites.flatMap((site) => site.hosts);
}

/** Fault `lab.host_unknown`, naming the hosts there are. */
export function hostOf(layout: LabLayout, id: string): HostLayout {
  const hosts = hostsOf(layout);
  const host = hosts.find((candidate) => candidate.id === id);
  if (host === undefined)
    throw new Fault("lab.host_unknown", {
      host: id,
      hosts: hosts.map((known) => known.id).join(", "),
    });
  return host;
}

/** Second octets that labs may have: 100 to this; the last is the default lab's. */
const lastOctet = 219;

/**
 * The first two octets of the /16s that a lab may have, the one it takes when nothing else has it first. 10.219 is the
 * default lab's; other names are spread over the rest, so that labs rarely meet.
 */
export function networksFor(name: string): readonly [string, ...string[]] {
  const count = lastOctet - 100;
  const hash = createHash("sha256").update(name).digest().readUInt16BE(0);
  const [first = 0, ...rest] = Array.from(
    { length: count },
    (_, at) => 100 + ((hash + at) % count),
  );
  const octets: readonly [number, ...number[]] =
    name === "lab" ? [lastOctet, first, ...rest] : [first, ...rest];
  const [own, ...others] = octets;
  return [`10.${own}`, ...others.map((octet) => `10.${octet}`)];
}

/** The kernel takes 15 characters for an interface; `dl-` and `dp-` leave 12. */
const idPattern = /^[a-z][a-z0-9-]{0,11}$/;

function check(sites: readonly LabSite[]): void {
  const refuse = (problem: string): never => {
    throw new Fault("lab.layout_invalid", { problem });
  };
  if (sites.length === 0 || sites.length > 200) refuse(`${sites.length} sites; 1 to 200 fit`);
  const seen = new Set<string>();
  for (const site of sites) {
    if (site.hosts.length === 0 || site.hosts.length > 200)
      refuse(`site ${site.id} has ${site.hosts.length} hosts; 1 to 200 fit`);
    for (const id of [site.id, ...site.hosts.map((host) => host.id)]) {
      if (!idPattern.test(id))
        refuse(`id ${JSON.stringify(id)} is not 1 to 12 of a-z0-9- after a letter`);
      if (id === "wan") refuse("the id wan is the router's");
      if (seen.has(id)) refuse(`id ${id} is used twice`);
      seen.add(id);
    }
  }
}
