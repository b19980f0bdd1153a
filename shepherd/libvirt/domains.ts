/**
 * Domains of one host: observe, life and live resize. What libvirt answers decides, never what was asked before:
 * a call that timed out may still happen, so each change looks first and is harmless when it is already there.
 * Changes of one domain go one after the other.
 *
 * vCPUs: under QEMU's translator (TCG) libvirt never hears that a vCPU went: it waits in vain, counts wrong ever after, and
 * a later move would break; under KVM a guest may refuse to let go. Such a vCPU stays plugged (held-vcpus.ts says how it
 * counts), under a cap of as many processors as the machine is to have.
 */
import { basename } from "node:path";
import { Devices } from "#libvirt/devices";
import { countedVcpus, heldCap, shownPercent } from "#libvirt/held-vcpus";
import type { RpcConnection } from "#libvirt/rpc/connection";
import type { HostConnections } from "#libvirt/rpc/host-connections";
import { remote } from "#libvirt/rpc/procedures";
import { type DomainRef, domainOf } from "#libvirt/rpc/references";
import { cpuCapOf, schedulerParameters } from "#libvirt/xml/cpu-cap";
import { type ControlGroups, sharesOf, weightOf } from "#libvirt/xml/cpu-weight";
import { writeXml } from "#libvirt/xml/element";
import { type Mark, markContent, metadataPrefix, metadataUri } from "#libvirt/xml/metadata";
import { type DomainDescription, readDomain } from "#libvirt/xml/read-domain";
import { type DomainPlace, writeDomain } from "#libvirt/xml/write-domain";
import { Fault, isFault } from "#model/fault";
import type { CpuPercent, HostId, MachineId, Mib, Ms } from "#model/units";
import type { Clock } from "#ports/clock";
import type { DomainSpec, DomainState, Host, ObservedDomain } from "#ports/host";

const readTimeoutMs = 40_000;
/** libvirt waits at most 30 s for a domain's lock; a start may be slow on a loaded host. */
const changeTimeoutMs = 60_000;
const startTimeoutMs = 120_000;
/** How often a domain that was asked to power off is looked at. */
const powerOffPollMs = 250;

const affect = { live: 1, config: 2 } as const;
/** Of a persistent, running domain both; what is stopped has only its definition. */
const both = affect.live | affect.config;
const xmlInactive = 2;
/** Managed save image, snapshots, NVRAM and checkpoints go with the definition. */
const undefineAll = 1 | 2 | 4 | 16;
const metadataElement = 2;
const needResults = 1;

export class Domains {
  /** Cards and disks of a domain that runs. */
  readonly devices: Devices;
  readonly #hostId: HostId;
  readonly #connections: HostConnections;
  readonly #clock: Clock;
  readonly #place: () => Promise<DomainPlace>;
  readonly #controlGroups: () => Promise<ControlGroups>;
  readonly #newestLayer: (volume: string) => Promise<string>;
  readonly #turns = new Map<string, Promise<unknown>>();

  constructor(options: {
    readonly hostId: HostId;
    readonly connections: HostConnections;
    readonly clock: Clock;
    readonly place: () => Promise<DomainPlace>;
    readonly controlGroups: () => Promise<ControlGroups>;
    /** The volume that has what the guest wrote last: another one where it ended while its disk was frozen. */
    readonly newestLayer: (volume: string) => Promise<string>;
  }) {
    this.#hostId = options.hostId;
    this.#connections = options.connections;
    this.#clock = options.clock;
    this.#place = options.place;
    this.#controlGroups = options.controlGroups;
    this.#newestLayer = options.newestLayer;
    this.devices = new Devices({
      hostId: options.hostId,
      clock: options.clock,
      poolPath: async () => (await options.place()).poolPath,
      inTurn: (id, work) => this.#inTurn(id, work),
    });
  }

  async list(): Promise<readonly ObservedDomain[]> {
    const control = await this.#control();
    const { domains } = await control.call(
      remote.listAllDomains,
      { needResults, flags: 0 },
      { timeoutMs: readTimeoutMs },
    );
    const observed = await Promise.all(domains.map((domain) => this.#observe(control, domain)));
    return observed.filter((domain) => domain !== undefined);
  }

  async find(id: MachineId): Promise<ObservedDomain | undefined> {
    return this.#observe(await this.#control(), domainOf(id));
  }

  async findByName(name: string): Promise<ObservedDomain | undefined> {
    const control = await this.#control();
    const domain = await lookUp(control, name);
    return domain && this.#observe(control, domain);
  }

  async start(spec: DomainSpec): Promise<void> {
    const place = await this.#place();
    return this.#inTurn(spec.id, async (control) => {
      const namesake = await lookUp(control, spec.name);
      if (namesake !== undefined && namesake.uuid !== spec.id.toLowerCase()) {
        const details = { host: this.#hostId, name: spec.name, holder: namesake.uuid };
        throw new Fault("machine.name_taken", details);
      }
      const there = await this.#observe(control, domainOf(spec.id));
      if (there !== undefined && there.ours === undefined) throw this.#notOurs(there);
      if (there !== undefined && there.state !== "shut_off") return;
      const diskVolume = await this.#newestLayer(spec.diskVolume);
      // Of the default nobody has to ask how it is told.
      const controlGroups = spec.cpuWeight === undefined ? undefined : await this.#controlGroups();
      const xml = writeDomain({ ...spec, diskVolume }, { ...place, controlGroups });
      const options = { timeoutMs: startTimeoutMs };
      const { domain } = await control.call(
        remote.domainDefineXmlFlags,
        { xml, flags: 0 },
        options,
      );
      try {
        await control.call(remote.domainCreateWithFlags, { domain, flags: 0 }, options);
      } catch (error) {
        // Nothing half-made stays. After a time-out it may still be starting: leave it to whoever observes.
        if (!isFault(error, "libvirt.call_timeout")) await undefine(control, domain);
        throw error;
      }
    });
  }

  async stop(id: MachineId, options: { readonly graceMs: Ms }): Promise<void> {
    return this.#inTurn(id, async (control) => {
      const domain = domainOf(id);
      const there = await this.#observe(control, domain);
      if (there === undefined) return;
      if (there.ours === undefined) throw this.#notOurs(there);
      if (there.state === "running" && options.graceMs > 0) {
        await this.#askToPowerOff(control, domain, options.graceMs);
      }
      await quiet(["libvirt.invalid_now", "libvirt.no_domain"], () =>
        control.call(
          remote.domainDestroyFlags,
          { domain, flags: 0 },
          { timeoutMs: changeTimeoutMs },
        ),
      );
      await undefine(control, domain);
    });
  }

  /** The mark alone: metadata is no part of what a guest sees, so nothing is restarted or defined anew for it. */
  async mark(id: MachineId, mark: Parameters<Host["markDomain"]>[1]): Promise<void> {
    return this.#inTurn(id, async (control) => {
      const domain = domainOf(id);
      const there = await this.#observe(control, domain);
      if (there === undefined) {
        throw new Fault("libvirt.no_domain", { procedure: "domainSetMetadata", message: id });
      }
      const { ours, name } = there;
      if (mark === undefined && ours === undefined) return;
      if (mark !== undefined && ours !== undefined && ours.environmentId !== mark.environmentId) {
        throw this.#notOurs(there);
      }
      const metadata =
        mark === undefined ? undefined : writeXml(markContent({ ...mark, idleVcpus: 0 }));
      const where = { type: metadataElement, key: metadataPrefix, uri: metadataUri };
      try {
        await control.call(
          remote.domainSetMetadata,
          { domain, ...where, metadata, flags: affect.live | affect.config },
          { timeoutMs: changeTimeoutMs },
        );
      } catch (error) {
        if (!isFault(error, "libvirt.invalid_now")) throw error;
        const problem =
          "libvirt keeps no definition of it (it is transient); define it with virsh, then import it";
        throw new Fault("import.refused", { name, host: this.#hostId, problem }, { cause: error });
      }
    });
  }

  async resume(id: MachineId): Promise<void> {
    return this.#inTurn(id, async (control) => {
      const domain = domainOf(id);
      if ((await stateOf(control, domain)) === "running") return;
      await control.call(remote.domainResume, { domain }, { timeoutMs: changeTimeoutMs });
    });
  }

  async setMemory(id: MachineId, memoryMib: Mib): Promise<void> {
    return this.#inTurn(id, async (control) => {
      const domain = domainOf(id);
      const flags = await affected(control, domain);
      const args = { domain, memoryKib: memoryMib * 1024, flags };
      await control.call(remote.domainSetMemoryFlags, args, { timeoutMs: changeTimeoutMs });
    });
  }

  async setVcpus(id: MachineId, vcpus: number): Promise<void> {
    return this.#inTurn(id, async (control) => {
      const domain = domainOf(id);
      const flags = await affected(control, domain);
      const now = await describe(control, domain, 0);
      const unplugs = vcpus < now.vcpus;
      const plug = (count: number, where: number) =>
        control.call(
          remote.domainSetVcpusFlags,
          { domain, vcpus: count, flags: where },
          { timeoutMs: changeTimeoutMs },
        );
      if (flags === affect.config) return void (await plug(vcpus, flags));
      const cpuPercent = shownPercent(now);
      const hold = async () => {
        await plug(vcpus, affect.config);
        await holdVcpus(control, domain, { now, vcpus, cpuPercent });
      };
      if (unplugs && now.acceleration !== "kvm") return hold();
      // The form of the cap depends on the number of vCPUs, and must never leave a moment without one.
      if (vcpus > 1) await cap(control, domain, { vcpus, cpuPercent });
      try {
        await plug(vcpus, vcpus === now.vcpus ? affect.config : flags);
      } catch (error) {
        const refused =
          isFault(error, "libvirt.timeout") || isFault(error, "libvirt.operation_failed");
        if (!unplugs || !refused) throw error;
        // Its guest does not let go. It may still do so later, and then has what it was to have.
        return hold();
      }
      if (vcpus === 1) await cap(control, domain, { vcpus, cpuPercent });
      await writeMark(control, domain, now.mark, { idleVcpus: 0 });
    });
  }

  async setCpuPercent(id: MachineId, cpuPercent: CpuPercent): Promise<void> {
    return this.#inTurn(id, async (control) => {
      const domain = domainOf(id);
      const now = await describe(control, domain, 0);
      const vcpus = countedVcpus(now);
      if (vcpus < now.vcpus) return holdVcpus(control, domain, { now, vcpus, cpuPercent });
      await cap(control, domain, { vcpus: now.vcpus, cpuPercent });
    });
  }

  async setCpuWeight(id: MachineId, cpuWeight: number): Promise<void> {
    return this.#inTurn(id, async (control) => {
      const domain = domainOf(id);
      const shares = sharesOf(cpuWeight, await this.#controlGroups());
      const flags = await affected(control, domain);
      const parameters = [{ field: "cpu_shares", type: "ullong" as const, value: shares }];
      await control.call(
        remote.domainSetSchedulerParametersFlags,
        { domain, parameters, flags },
        { timeoutMs: changeTimeoutMs },
      );
    });
  }

  /** Undefined when it is gone, also half-way through. */
  async #observe(control: RpcConnection, domain: DomainRef): Promise<ObservedDomain | undefined> {
    const seen = await observe(control, domain);
    if (seen === undefined) return undefined;
    const { cpuShares, ...observed } = seen;
    if (cpuShares === undefined) return observed;
    return { ...observed, cpuWeight: weightOf(cpuShares, await this.#controlGroups()) };
  }

  /**
   * Spreads the cap over the vCPUs for a move, or puts it back on the whole domain. The cap itself stays. Does nothing
   * for one vCPU, for uncapped domains and for a domain that is not here (any more).
   */
  async spreadCap(id: MachineId, spread: boolean): Promise<void> {
    return this.#inTurn(id, async (control) => {
      const domain = domainOf(id);
      const now = await unlessGone(() => describe(control, domain, 0));
      if (now === undefined || now.vcpus === 1) return;
      await cap(control, domain, now, { spread });
    });
  }

  #notOurs(domain: ObservedDomain): Fault {
    return new Fault("machine.not_ours", { host: this.#hostId, name: domain.name, id: domain.id });
  }

  #control(): Promise<RpcConnection> {
    return this.#connections.kept("control");
  }

  async #askToPowerOff(control: RpcConnection, domain: DomainRef, graceMs: Ms): Promise<void> {
    const untilMs = this.#clock.nowMs() + graceMs;
    await quiet(["libvirt.invalid_now", "libvirt.operation_failed", "libvirt.no_domain"], () =>
      control.call(
        remote.domainShutdownFlags,
        { domain, flags: 0 },
        { timeoutMs: changeTimeoutMs },
      ),
    );
    while (this.#clock.nowMs() < untilMs) {
      const state = await unlessGone(() => stateOf(control, domain));
      if (state === undefined || state === "shut_off") return;
      await this.#clock.sleep(Math.min(powerOffPollMs, Math.max(1, untilMs - this.#clock.nowMs())));
    }
  }

  /** One change of a domain at a time: libvirt keeps no order between outstanding calls. */
  async #inTurn<T>(id: MachineId, work: (control: RpcConnection) => Promise<T>): Promise<T> {
    const before = this.#turns.get(id) ?? Promise.resolve();
    const turn = before.then(
      async () => work(await this.#control()),
      async () => work(await this.#control()),
    );
    this.#turns.set(id, turn);
    try {
      return await turn;
    } finally {
      if (this.#turns.get(id) === turn) this.#turns.delete(id);
    }
  }
}

function observe(
  control: RpcConnection,
  domain: DomainRef,
): Promise<(ObservedDomain & { readonly cpuShares: number | undefined }) | undefined> {
  const options = { timeoutMs: readTimeoutMs };
  return unlessGone(async () => {
    const [state, live, inactive, info] = await Promise.all([
      stateOf(control, domain),
      describe(control, domain, 0),
      describe(control, domain, xmlInactive),
      control.call(remote.domainGetInfo, { domain }, options),
    ]);
    const { mark } = live;
    const isOurs = mark !== undefined;
    const running = state !== "shut_off";
    const memoryMib = running ? Math.round(info.memoryKib / 1024) : live.memoryMib;
    return {
      id: live.id,
      name: live.name,
      state,
      ours: isOurs
        ? { environmentId: mark.environmentId, owner: mark.owner, epoch: mark.epoch }
        : undefined,
      otherMark: live.otherMark,
      vcpus: countedVcpus(live),
      vcpusMax: live.vcpusMax,
      guestVcpus: live.vcpus,
      cpuPercent: shownPercent(live),
      cpuShares: live.cpuShares,
      memoryMib,
      memoryTargetMib: inactive.memoryMib,
      memoryMaxMib: live.memoryMaxMib,
      cpuTimeMs: running ? Math.round(info.cpuTimeNs / 1_000_000) : undefined,
      macs: live.nics.map(({ mac }) => mac.toLowerCase()),
      diskVolumes: live.disks.flatMap(({ file, readOnly }) =>
        file === undefined || readOnly ? [] : [basename(file)],
      ),
    };
  });
}

async function describe(
  control: RpcConnection,
  domain: DomainRef,
  flags: number,
): Promise<DomainDescription> {
  const options = { timeoutMs: readTimeoutMs };
  const { xml } = await control.call(remote.domainGetXmlDesc, { domain, flags }, options);
  return readDomain(xml);
}

async function stateOf(control: RpcConnection, domain: DomainRef): Promise<DomainState> {
  const args = { domain, flags: 0 };
  const answer = await control.call(remote.domainGetState, args, { timeoutMs: readTimeoutMs });
  switch (answer.state) {
    case 1: // running
    case 2: // blocked on a resource
      return "running";
    case 3:
      return answer.reason === 2 ? "paused_migrating" : "paused";
    case 5:
      return "shut_off";
    case 6:
      return "crashed";
    default:
      return "other";
  }
}

async function lookUp(control: RpcConnection, name: string): Promise<DomainRef | undefined> {
  const options = { timeoutMs: readTimeoutMs };
  return unlessGone(async () => {
    const { domain } = await control.call(remote.domainLookupByName, { name }, options);
    return domain;
  });
}

async function affected(control: RpcConnection, domain: DomainRef): Promise<number> {
  return (await stateOf(control, domain)) === "shut_off" ? affect.config : both;
}

async function cap(
  control: RpcConnection,
  domain: DomainRef,
  size: { readonly vcpus: number; readonly cpuPercent: CpuPercent | undefined },
  options: { readonly spread?: boolean } = {},
): Promise<void> {
  if (size.cpuPercent === undefined) return;
  const parameters = schedulerParameters(
    cpuCapOf({ vcpus: size.vcpus, cpuPercent: size.cpuPercent }, options),
  );
  const flags = await affected(control, domain);
  await control.call(
    remote.domainSetSchedulerParametersFlags,
    { domain, parameters, flags },
    { timeoutMs: changeTimeoutMs },
  );
}

/** Says first that vCPUs are given back, then lowers the cap: they count as given back when both are so. */
async function holdVcpus(
  control: RpcConnection,
  domain: DomainRef,
  of: {
    readonly now: DomainDescription;
    readonly vcpus: number;
    readonly cpuPercent: CpuPercent | undefined;
  },
): Promise<void> {
  const { now, vcpus, cpuPercent } = of;
  await writeMark(control, domain, now.mark, {
    idleVcpus: now.vcpus - vcpus,
    countedVcpus: vcpus,
    askedCpuPercent: cpuPercent,
  });
  await cap(control, domain, { vcpus: now.vcpus, cpuPercent: heldCap(vcpus, cpuPercent) });
}

async function writeMark(
  control: RpcConnection,
  domain: DomainRef,
  mark: Mark | undefined,
  held: Pick<Mark, "idleVcpus" | "countedVcpus" | "askedCpuPercent">,
): Promise<void> {
  if (mark === undefined || (mark.idleVcpus === 0 && held.idleVcpus === 0)) return;
  const metadata = writeXml(markContent({ ...mark, ...held }));
  const args = { domain, type: metadataElement, metadata, key: metadataPrefix, uri: metadataUri };
  // Only the running machine has idle ones; a new start plugs what the definition says.
  await control.call(
    remote.domainSetMetadata,
    { ...args, flags: affect.live },
    { timeoutMs: changeTimeoutMs },
  );
}

async function undefine(control: RpcConnection, domain: DomainRef): Promise<void> {
  await quiet(["libvirt.no_domain", "libvirt.invalid_now"], () =>
    control.call(
      remote.domainUndefineFlags,
      { domain, flags: undefineAll },
      { timeoutMs: changeTimeoutMs },
    ),
  );
}

async function unlessGone<T>(work: () => Promise<T>): Promise<T | undefined> {
  try {
    return await work();
  } catch (error) {
    if (isFault(error, "libvirt.no_domain")) return undefined;
    throw error;
  }
}

/** Runs `work`; the named faults are as good as done. */
async function quiet(codes: readonly Fault["code"][], work: () => Promise<unknown>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!isFault(error) || !codes.includes(error.code)) throw error;
  }
}
