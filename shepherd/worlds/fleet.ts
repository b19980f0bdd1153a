/**
 * The sites and hosts there are: what drover.yaml names, and the hosts that were registered while the shepherd runs. Its
 * lists are live: rooms hold them and look at them anew each time, so a host that comes is watched and used at once. What
 * drover.yaml names is read-only here. Knows no journal: who registers writes it down.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import type {
  Configuration,
  HostConfiguration,
  SiteConfiguration,
} from "#configuration/configuration";
import { Fault } from "#model/fault";
import type { HostRegistrationSpec, SiteRegistrationSpec } from "#model/objects";
import type { HostId, Ms, SiteId } from "#model/units";
import type { Clock } from "#ports/clock";
import type { Observer } from "#sensing/observer";
import type { HostWorld } from "#worlds/host-world";

/** First connection, login and libvirt's first answer, from far away. */
const firstAnswerMs: Ms = 30_000;

interface LiveSite extends Omit<SiteConfiguration, "hosts"> {
  readonly hosts: HostConfiguration[];
}

/** What a fleet needs once the world and its observer are there. */
interface Reach {
  readonly world: HostWorld;
  readonly observer: Pick<Observer, "add" | "change" | "remove" | "refresh">;
  readonly clock: Clock;
}

export class Fleet {
  /** Each with a live list of hosts. */
  readonly sites: readonly SiteConfiguration[];
  readonly hosts: readonly HostConfiguration[];
  readonly hostIds: readonly HostId[];
  readonly siteIds: readonly SiteId[];
  readonly #live: {
    readonly sites: LiveSite[];
    readonly hosts: HostConfiguration[];
    readonly hostIds: HostId[];
    readonly siteIds: SiteId[];
  };
  readonly #configuration: Configuration;
  readonly #inFile: ReadonlySet<HostId>;
  #reach: Reach | undefined;

  /** `registered` is what the journal holds; what fits no more (its site is gone, its key) is told and left out. */
  constructor(
    configuration: Configuration,
    registered: {
      readonly sites: readonly SiteRegistrationSpec[];
      readonly hosts: readonly HostRegistrationSpec[];
    },
    tell: (problem: Fault) => void,
  ) {
    this.#configuration = configuration;
    const sites = configuration.sites.map((site) => ({ ...site, hosts: [...site.hosts] }));
    const hosts = sites.flatMap((site) => site.hosts);
    const siteIds = sites.map(({ id }) => id);
    this.#live = { sites, hosts, hostIds: hosts.map(({ id }) => id), siteIds };
    this.siteIds = siteIds;
    this.sites = sites;
    this.hosts = hosts;
    this.hostIds = this.#live.hostIds;
    this.#inFile = new Set(this.hostIds);
    const tried = (work: () => void) => {
      try {
        work();
      } catch (error) {
        if (!(error instanceof Fault)) throw error;
        tell(error);
      }
    };
    for (const spec of registered.sites) tried(() => this.enterSite(spec));
    for (const spec of registered.hosts) tried(() => this.#enter(this.#configured(spec)));
  }

  /** The configuration with its live sites: what a world connects to. */
  get configuration(): Configuration {
    return { ...this.#configuration, sites: this.sites };
  }

  attach(reach: Reach): void {
    this.#reach = reach;
  }

  site(id: SiteId): SiteConfiguration | undefined {
    return this.sites.find((site) => site.id === id);
  }

  isSiteInFile(id: SiteId): boolean {
    return this.#configuration.sites.some((site) => site.id === id);
  }

  /** A site without hosts yet. Fault `site.in_file`. */
  enterSite({ name, owner, policy, keyDirectory }: SiteRegistrationSpec): void {
    if (this.isSiteInFile(name)) throw new Fault("site.in_file", { site: name });
    this.leaveSite(name);
    this.#live.sites.push({
      id: name,
      owner,
      policy,
      keyDirectory,
      peerMigration: false,
      rawXmlPaths: [],
      hosts: [],
    });
    this.#live.siteIds.push(name);
  }

  /** Its hosts have left before. */
  leaveSite(name: SiteId): void {
    const { sites, siteIds } = this.#live;
    const index = sites.findIndex((site) => site.id === name);
    if (index < 0) return;
    sites.splice(index, 1);
    siteIds.splice(siteIds.indexOf(name), 1);
  }

  isInFile(hostId: HostId): boolean {
    return this.#inFile.has(hostId);
  }

  /**
   * Connects to a host, asks it once, and uses it from then on. Faults `host.not_admitted` (what the host said is its
   * cause), `host.in_file`, `request.invalid` with the attribute.
   */
  async admit(spec: HostRegistrationSpec): Promise<void> {
    const { world, observer, clock } = this.#reached();
    if (world.add === undefined) throw new Fault("host.not_admitted", unchanging(spec));
    const host = this.#configured(spec);
    const { id } = host;
    world.add(host);
    const waited = new AbortController();
    try {
      const late = clock.sleep(firstAnswerMs, waited.signal).then(() => {
        throw new Fault("host.unreachable", {
          host: id,
          problem: `no answer within ${firstAnswerMs / 1000} s`,
        });
      });
      const answered = world.hosts.get(id).observe();
      late.catch(() => undefined); // the race tells; without a race nobody waits
      await Promise.race([answered, late]);
    } catch (cause) {
      await world.remove?.(id);
      const problem = cause instanceof Error ? cause.message : String(cause);
      throw new Fault("host.not_admitted", { host: id, attribute: "ssh", problem }, { cause });
    } finally {
      waited.abort();
    }
    this.#enter(host);
    observer.add(host);
    await observer.refresh([id]);
  }

  /** What its owner lends, and what it can carry; the rest of a registration is for good. */
  change(spec: HostRegistrationSpec): void {
    const host = this.#configured(spec, { known: true });
    this.#leave(host.id);
    this.#enter(host);
    this.#reached().observer.change(host);
  }

  /** Nobody looks at it or uses it any more. Its connection ends. */
  async release(id: HostId): Promise<void> {
    const { world, observer } = this.#reached();
    this.#leave(id);
    observer.remove(id);
    await world.remove?.(id);
  }

  /** The mesh between sites is one: a new host meets it as its neighbours do, and a new site's is encrypted to all. */
  #tunnelAt(site: SiteConfiguration): HostConfiguration["tunnel"] {
    const [neighbour] = site.hosts;
    if (neighbour !== undefined) return neighbour.tunnel;
    const mesh = this.hosts.find(({ tunnel }) => tunnel !== undefined)?.tunnel;
    return mesh === undefined ? undefined : { port: mesh.port, clearSites: [] };
  }

  #reached(): Reach {
    if (this.#reach === undefined) throw new Error("the fleet is asked before it is attached");
    return this.#reach;
  }

  #enter(host: HostConfiguration): void {
    this.#live.sites.find(({ id }) => id === host.siteId)?.hosts.push(host);
    this.#live.hosts.push(host);
    this.#live.hostIds.push(host.id);
  }

  #leave(id: HostId): void {
    for (const hosts of [this.#live.hosts, ...this.#live.sites.map((site) => site.hosts)]) {
      const index = hosts.findIndex((host) => host.id === id);
      if (index >= 0) hosts.splice(index, 1);
    }
    const index = this.#live.hostIds.indexOf(id);
    if (index >= 0) this.#live.hostIds.splice(index, 1);
  }

  /** As drover.yaml would have said it. */
  #configured(spec: HostRegistrationSpec, { known = false } = {}): HostConfiguration {
    const { name: id, siteId, ssh } = spec;
    const refuse = (attribute: string, problem: string) =>
      new Fault("request.invalid", { where: attribute, attribute, problem });
    if (this.isInFile(id)) throw new Fault("host.in_file", { host: id });
    const site = this.site(siteId);
    if (site === undefined) {
      const names = this.sites.map((one) => one.id).join(", ");
      throw refuse("site", `there is no site ${siteId}; there are ${names}`);
    }
    const others = this.hosts.filter((host) => host.id !== id);
    if (!known && others.length < this.hosts.length) throw refuse("name", `${id} is there already`);
    const twin = others.find((host) => host.migrationAddress === spec.migrationAddress);
    if (twin !== undefined)
      throw refuse("migration_address", `${spec.migrationAddress} is the address of ${twin.id}`);
    if (ssh === undefined && this.#configuration.world === "libvirt")
      throw refuse("ssh", "say how the host is reached");
    return {
      id,
      siteId,
      pool: spec.pool,
      migrationAddress: spec.migrationAddress,
      lend: spec.lend,
      uplinkMbps: spec.uplinkMbps,
      libvirtSocket: spec.libvirtSocket,
      acceleration: spec.acceleration,
      channels: [],
      tunnel: this.#tunnelAt(site),
      ssh:
        ssh === undefined
          ? undefined
          : {
              address: ssh.address,
              port: ssh.port,
              user: ssh.user,
              keyFile: keyFileOf(site, ssh.key),
              hostKey: ssh.hostKey,
            },
    };
  }
}

/**
 * A registration names a key, never a path: whoever may register a host of one site must not use the keys of another, nor
 * any file of the shepherd's computer. Fault `request.invalid`.
 */
function keyFileOf({ id, keyDirectory }: SiteConfiguration, key: string): string {
  const refuse = (problem: string) =>
    new Fault("request.invalid", { where: "ssh.key", attribute: "ssh", problem });
  if (keyDirectory === undefined)
    throw refuse(`site ${id} offers no keys: set key_dir for it in drover.yaml`);
  const file = join(keyDirectory, key);
  if (!existsSync(file)) throw refuse(`site ${id} has no key ${key} in its key_dir`);
  return file;
}

function unchanging({ name }: HostRegistrationSpec) {
  return { host: name, problem: "the hosts of this world are given" };
}
