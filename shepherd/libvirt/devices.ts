/**
 * Devices that come, go and grow while their domain runs: network cards and disks. What is done holds for this run and
 * for the next start. A guest lets go of a card by its own will; one that does not is told of, never forced.
 */
import type { RpcConnection } from "#libvirt/rpc/connection";
import { remote } from "#libvirt/rpc/procedures";
import { type DomainRef, domainOf } from "#libvirt/rpc/references";
import { element, writeXml } from "#libvirt/xml/element";
import { type DomainDescription, readDomain } from "#libvirt/xml/read-domain";
import { nicElement } from "#libvirt/xml/write-domain";
import { Fault, isFault } from "#model/fault";
import type { HostId, MachineId, Ms } from "#model/units";
import type { Clock } from "#ports/clock";
import type { Host } from "#ports/host";

const readTimeoutMs = 40_000;
/** libvirt waits at most 30 s for a domain's lock, and 5 s for a guest to let go. */
const changeTimeoutMs = 60_000;
/** A guest without KVM on a busy host answers an unplug within 2 s; one that is still booting does not at all. */
const letGoMs: Ms = 30_000;
const letGoPollMs: Ms = 500;
const live = 1;
const liveAndStored = 1 | 2;
/** The size is given in bytes, not KiB. */
const inBytes = 1;

export class Devices {
  readonly #hostId: HostId;
  readonly #clock: Clock;
  readonly #poolPath: () => Promise<string>;
  readonly #inTurn: <T>(id: MachineId, work: (control: RpcConnection) => Promise<T>) => Promise<T>;

  constructor(options: {
    readonly hostId: HostId;
    readonly clock: Clock;
    readonly poolPath: () => Promise<string>;
    /** One change of a domain at a time. */
    readonly inTurn: <T>(id: MachineId, work: (control: RpcConnection) => Promise<T>) => Promise<T>;
  }) {
    this.#hostId = options.hostId;
    this.#clock = options.clock;
    this.#poolPath = options.poolPath;
    this.#inTurn = options.inTurn;
  }

  attachNic: Host["attachNic"] = (id, nic) =>
    this.#inTurn(id, async (control) => {
      const domain = domainOf(id);
      if (cardOf(await this.#ours(control, domain), nic.mac) !== undefined) return;
      const xml = writeXml(nicElement(nic));
      await control.call(
        remote.domainAttachDeviceFlags,
        { domain, xml, flags: liveAndStored },
        { timeoutMs: changeTimeoutMs },
      );
    });

  detachNic: Host["detachNic"] = (id, mac) =>
    this.#inTurn(id, async (control) => {
      const domain = domainOf(id);
      const there = await this.#ours(control, domain);
      const card = cardOf(there, mac);
      if (card === undefined) return;
      const xml = writeXml(
        element(
          "interface",
          { type: "bridge" },
          element("mac", { address: card.mac }),
          element("source", { bridge: card.bridge }),
        ),
      );
      const untilMs = this.#clock.nowMs() + letGoMs;
      const cause = await askToLetGo(control, domain, xml);
      while (cardOf(await this.#ours(control, domain), mac) !== undefined) {
        if (this.#clock.nowMs() >= untilMs) {
          const details = { machine: there.name, host: this.#hostId, mac };
          throw new Fault("machine.card_held", details, cause && { cause });
        }
        await this.#clock.sleep(letGoPollMs);
      }
    });

  growDisk: Host["growDisk"] = (id, { volume, capacityBytes }) =>
    this.#inTurn(id, async (control) => {
      const domain = domainOf(id);
      const file = `${await this.#poolPath()}/${volume}`;
      const { disks } = await this.#ours(control, domain);
      const disk = disks.find((one) => one.file === file);
      if (disk === undefined) {
        const message = `no disk of the domain is ${file}`;
        throw new Fault("libvirt.bad_argument", { procedure: "domainBlockResize", message });
      }
      await control.call(
        remote.domainBlockResize,
        { domain, disk: disk.target, size: capacityBytes, flags: inBytes },
        { timeoutMs: changeTimeoutMs },
      );
    });

  /** As it runs. Fault `machine.not_ours` for a domain that is another's. */
  async #ours(control: RpcConnection, domain: DomainRef): Promise<DomainDescription> {
    const { xml } = await control.call(
      remote.domainGetXmlDesc,
      { domain, flags: 0 },
      { timeoutMs: readTimeoutMs },
    );
    const description = readDomain(xml);
    if (description.mark !== undefined) return description;
    const { id, name } = description;
    throw new Fault("machine.not_ours", { host: this.#hostId, name, id });
  }
}

function cardOf(
  { nics }: DomainDescription,
  mac: string,
): DomainDescription["nics"][number] | undefined {
  return nics.find((nic) => nic.mac.toLowerCase() === mac.toLowerCase());
}

/** Of a card that is on its way out, or that the stored definition does not have. */
const mayStillLetGo: ReadonlySet<string> = new Set<Fault["code"]>([
  "libvirt.operation_failed",
  "libvirt.internal",
  "libvirt.other",
]);

/**
 * Asks for this run and the next; where the stored definition has lost the card already, for this run alone. Gives back
 * libvirt's refusal: one that was asked before refuses to be asked again and may let go all the same.
 */
async function askToLetGo(
  control: RpcConnection,
  domain: DomainRef,
  xml: string,
): Promise<Fault | undefined> {
  let refusal: Fault | undefined;
  for (const flags of [liveAndStored, live]) {
    try {
      await control.call(
        remote.domainDetachDeviceFlags,
        { domain, xml, flags },
        { timeoutMs: changeTimeoutMs },
      );
      return undefined;
    } catch (error) {
      if (!isFault(error) || !mayStillLetGo.has(error.code)) throw error;
      refusal = error;
    }
  }
  return refusal;
}
