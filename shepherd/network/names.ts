/**
 * What our objects on a host are called: every name starts with `dv`, has the kernel's 15 characters at most and
 * follows from an id alone, so that any host, any shepherd and any test writes the same. The way back from a name to
 * its id is the link's alias (`ip link show` prints it) and the journal; a hash cannot be undone.
 */
import { createHash } from "node:crypto";
import { Fault } from "#model/fault";
import type { MachineId, NetworkId } from "#model/units";

/** Interfaces with this prefix are ours; nothing else is touched on a host. */
export const namePrefix = "dv";
/** The nft table of family `bridge` that holds our filters. */
export const filterTable = "drover";

/** The bridge of a network, the same name on every host. */
export function bridgeName(networkId: NetworkId): string {
  return `dvb${digest(networkId, 12)}`;
}

/** The VXLAN device that joins a network's bridges across hosts. */
export function vxlanName(networkId: NetworkId): string {
  return `dvx${digest(networkId, 12)}`;
}

/** The tap of a machine's NIC; `index` counts its NICs from 0. Fixed over moves. libvirt makes and removes the device. */
export function tapName(machineId: MachineId, index: number): string {
  return `dvt${digest(`${machineId}/${index}`, 12)}`;
}

/** The device through which frames from a tap's guest are shaped. */
export function shaperName(tap: string): string {
  return `dvi${tap.slice("dvt".length)}`;
}

/**
 * The bridge's own address. Fixed, because a bridge without one takes its lowest port's, and with every change of it
 * the kernel forgets the bridge's neighbour entries. Nobody speaks to it: the filters end what would reach it.
 */
export function bridgeMac(bridge: string): string {
  return `02${bridge.slice("dvb".length + 2).replace(/../g, ":$&")}`;
}

/** `52:54:00` + 3 bytes of a hash of (machine id, index). Two machines may collide: ask `freeMacAddress` when giving one. */
export function macAddress(machineId: MachineId, index: number): string {
  return macOf(`${machineId}/${index}`);
}

/** The machine's MAC, or the next of its row when another NIC has it. `taken` in lower case. */
export function freeMacAddress(
  machineId: MachineId,
  index: number,
  taken: ReadonlySet<string>,
): string {
  for (let attempt = 0; attempt < maxMacAttempts; attempt += 1) {
    const mac =
      attempt === 0 ? macAddress(machineId, index) : macOf(`${machineId}/${index}/${attempt}`);
    if (!taken.has(mac)) return mac;
  }
  throw new Fault("network.macs_exhausted", { machine: machineId, index });
}

/** The lowest VXLAN network identifier of our range that no network has. Give it in the transaction that stores it. */
export function lowestFreeVni(taken: ReadonlySet<number>): number {
  for (let vni = firstVni; vni <= lastVni; vni += 1) {
    if (!taken.has(vni)) return vni;
  }
  throw new Fault("network.vnis_exhausted", { first: firstVni, last: lastVni });
}

/** High up, so that a person's own VXLANs (which start low) do not meet ours. */
export const firstVni = 0xd0_00_00;
const lastVni = 0xff_ff_fe;
/** With 2^24 MACs and thousands of NICs one retry is rare; sixteen failing means a bug. */
const maxMacAttempts = 16;

function macOf(seed: string): string {
  return `52:54:00:${digest(seed, 6).replace(/(..)(..)(..)/, "$1:$2:$3")}`;
}

function digest(text: string, length: number): string {
  return createHash("sha256").update(text).digest("hex").slice(0, length);
}
