/**
 * IPv4 addresses of a private network: parse, check, give the lowest free one.
 * Pure; who holds which address is the journal's (`taken`). Networks of different environments may overlap.
 */
import { Fault } from "#model/fault";

/** A parsed IPv4 CIDR. `first` is the network address as a number, `size` counts all addresses of it. */
export interface Cidr {
  readonly text: string;
  readonly first: number;
  readonly size: number;
  readonly prefixLength: number;
}

/** Longest prefix that still has room for a gateway and one machine. */
const longestPrefix = 30;
/** Shorter ones are a slip of the finger, not a LAN. */
const shortestPrefix = 8;
/** Addresses below this offset are given last: `.1` is kept for a gateway, `.2` to `.9` for what people place by hand. */
const firstGivenOffset = 10;
const gatewayOffset = 1;
/** A /29: six machines, of which the services take one. */
const leastSizeWithServices = 8;

/** Throws Fault `network.cidr_invalid` with what is wrong and the nearest that is right. */
export function parseCidr(text: string): Cidr {
  const [address = "", prefix = "", ...rest] = text.split("/");
  const number = toNumber(address);
  if (rest.length > 0 || number === undefined || !/^(0|[1-9]\d?)$/.test(prefix)) {
    throw invalidCidr(text, "it is not an IPv4 CIDR such as 10.42.0.0/24");
  }
  const prefixLength = Number(prefix);
  if (prefixLength < shortestPrefix || prefixLength > longestPrefix) {
    throw invalidCidr(text, `its prefix is not within /${shortestPrefix} to /${longestPrefix}`);
  }
  const size = 2 ** (32 - prefixLength);
  const first = number - (number % size);
  if (first !== number) {
    throw invalidCidr(
      text,
      `it has host bits set; the network is ${toText(first)}/${prefixLength}`,
    );
  }
  const top = Math.floor(first / 2 ** 24);
  if (top === 0 || top === 127 || top >= 224) {
    throw invalidCidr(text, "its addresses are not for hosts (0/8, 127/8 or from 224 up)");
  }
  return { text, first, size, prefixLength };
}

/** The address in plain form. Throws Fault `network.address_invalid`, or `network.address_in_use` when it is in `taken`. */
export function checkAddress(
  cidr: Cidr,
  address: string,
  taken: ReadonlyMap<string, string> | ReadonlySet<string>,
): string {
  const number = toNumber(address);
  if (number === undefined) throw invalidAddress(cidr, address, "it is not an IPv4 address");
  const offset = number - cidr.first;
  if (offset < 0 || offset >= cidr.size) {
    throw invalidAddress(cidr, address, "it is outside the network");
  }
  if (offset === 0) throw invalidAddress(cidr, address, "it is the network's own address");
  if (offset === cidr.size - 1) throw invalidAddress(cidr, address, "it is the broadcast address");
  if (taken.has(address)) {
    const holder = "get" in taken ? taken.get(address) : undefined;
    throw new Fault("network.address_in_use", {
      address,
      cidr: cidr.text,
      holder: holder ?? "another machine",
    });
  }
  return address;
}

/**
 * The lowest address nobody has, from `.10` up, then `.2` to `.9`; never the gateway's. One that is `announced` (somebody
 * will ask for it by name) only when there is no other. Throws Fault `network.addresses_exhausted`.
 */
export function lowestFreeAddress(
  cidr: Cidr,
  taken: ReadonlyMap<string, string> | ReadonlySet<string>,
  announced: ReadonlySet<string> = new Set(),
): string {
  const last = cidr.size - 2;
  const from = firstGivenOffset <= last ? firstGivenOffset : gatewayOffset + 1;
  const within = (first: number, end: number, also: ReadonlySet<string>): string | undefined => {
    for (let offset = first; offset < end; offset += 1) {
      const address = toText(cidr.first + offset);
      if (!taken.has(address) && !also.has(address)) return address;
    }
    return undefined;
  };
  const nobody: ReadonlySet<string> = new Set();
  for (const also of announced.size === 0 ? [nobody] : [announced, nobody]) {
    const free = within(from, last + 1, also) ?? within(gatewayOffset + 1, from, also);
    if (free !== undefined) return free;
  }
  throw new Fault("network.addresses_exhausted", { cidr: cidr.text, taken: taken.size });
}

/** Where the services of a LAN are reached: its last address. Undefined where the network is too small to spare one. */
export function serviceAddress(cidr: Cidr): string | undefined {
  return cidr.size < leastSizeWithServices ? undefined : toText(cidr.first + cidr.size - 2);
}

/** Where the gateway of a LAN is, if it has one: its first address. */
export function gatewayAddress(cidr: string): string {
  return toText(parseCidr(cidr).first + gatewayOffset);
}

/** Addresses that no machine is given, each with who has it. */
export function reservedAddresses(network: {
  readonly spec: { readonly cidr: string; readonly gateway?: unknown };
  readonly effective: { readonly serviceAddress?: string | undefined };
}): ReadonlyMap<string, string> {
  const reserved = new Map<string, string>();
  const { serviceAddress: services } = network.effective;
  if (services !== undefined) reserved.set(services, "the network's DHCP and DNS");
  if (network.spec.gateway !== undefined)
    reserved.set(gatewayAddress(network.spec.cidr), "the network's gateway");
  return reserved;
}

/** True for a dotted quad without leading zeros. */
export function isIpv4(text: string): boolean {
  return toNumber(text) !== undefined;
}

function toNumber(text: string): number | undefined {
  const parts = text.split(".");
  if (parts.length !== 4) return undefined;
  let number = 0;
  for (const part of parts) {
    // Leading zeros are octal to some programs and decimal to others: refused.
    if (!/^(0|[1-9]\d{0,2})$/.test(part) || Number(part) > 255) return undefined;
    number = number * 256 + Number(part);
  }
  return number;
}

function toText(number: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(number / 2 ** shift) % 256).join(".");
}

function invalidCidr(cidr: string, problem: string): Fault {
  return new Fault("network.cidr_invalid", { cidr, problem });
}

function invalidAddress(cidr: Cidr, address: string, problem: string): Fault {
  return new Fault("network.address_invalid", { address, cidr: cidr.text, problem });
}
