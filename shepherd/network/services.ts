/**
 * LAN services of a network: DHCP with a fixed lease for every machine, and DNS names of the environment. They stand on
 * every host that carries the network, in a network namespace of their own, at the same address with the same MAC, and
 * hear only the machines of their host: so a move changes nothing for the machine that moves. Derived, compared and made
 * like everything else; the program is dnsmasq. Pure.
 */
import { createHash } from "node:crypto";
import type { MachineRecord, NetworkRecord, Nic } from "#model/objects";
import { gatewayAddress, parseCidr } from "#network/addresses";
import type { Changes } from "#network/changes";
import type { ObservedNetwork } from "#network/observed";
import type { BridgeConfig, LanServices } from "#ports/host-network";

/** Configuration, leases and the program's id of each network; gone with the host's power. */
export const servicesDirectory = "/run/drover-lan";
/** Fixed leases: a machine that stays away for longer asks again and gets the same. */
const leaseTime = "1h";

/** The card inside a namespace. */
const inside = "lan0";

export function deriveServices(
  network: NetworkRecord,
  attached: readonly { readonly machine: MachineRecord; readonly nic: Nic }[],
): LanServices | undefined {
  const { serviceAddress, domain, mtu } = network.effective;
  if (serviceAddress === undefined || domain === undefined) return undefined;
  // Somebody placed by hand before there were services keeps the address.
  if (attached.some(({ nic }) => nic.address === serviceAddress)) return undefined;
  const digest = createHash("sha256").update(network.id).digest("hex");
  const { prefixLength } = parseCidr(network.spec.cidr);
  return {
    namespace: `dvn${digest.slice(0, 12)}`,
    device: `dve${digest.slice(0, 12)}`,
    mac: `06${digest.slice(2, 12).replace(/../g, ":$&")}`,
    address: serviceAddress,
    prefixLength,
    domain,
    network: network.spec.cidr,
    router: network.spec.gateway === undefined ? undefined : gatewayAddress(network.spec.cidr),
    mtu,
    machines: attached
      .map(({ machine, nic }) => ({
        name: machine.spec.name,
        mac: nic.mac,
        address: nic.address,
      }))
      .toSorted((left, right) => (left.mac < right.mac ? -1 : 1)),
  };
}

/** Namespaces and programs; their cards on the bridges are ports like others (network/diff). */
export function diffServices(
  bridges: readonly BridgeConfig[],
  observed: ObservedNetwork,
  changes: Changes,
): void {
  const wished = new Set(bridges.map((bridge) => bridge.services?.namespace));
  for (const namespace of observed.services.keys()) {
    if (wished.has(namespace)) continue;
    changes.note(
      { object: `services ${namespace}`, problem: "surplus", detail: "no network wishes them" },
      { end: [removeServices(namespace)] },
    );
  }
  for (const { services } of bridges) {
    if (services !== undefined) diffService(services, observed, changes);
  }
}

function diffService(services: LanServices, observed: ObservedNetwork, changes: Changes): void {
  const { namespace, device } = services;
  const there = observed.services.get(namespace);
  const files = serviceFiles(services);
  const object = `services ${namespace}`;
  const card = observed.links.get(device);
  const running = there?.running === true;
  const settled = there?.settings === files.settingsDigest && card?.kind === "veth";
  if (!settled || !running) {
    changes.note(
      {
        object,
        problem: there === undefined ? "missing" : "different",
        detail: settled ? "the program does not run" : `DHCP and DNS at ${services.address}`,
      },
      {
        start: [
          // also what an earlier try left half made, and a card whose namespace is only just going away
          removeServices(namespace),
          `ip link delete dev ${device} 2>/dev/null || :`,
          ...make(services, files),
        ],
        end: [launch(services, files)],
      },
    );
  } else if (there.machines !== files.machinesDigest) {
    changes.note(
      { object, problem: "different", detail: `the names of ${services.machines.length} machines` },
      { end: [...writeMachines(services, files), `kill -HUP "$(cat ${pidFile(namespace)})"`] },
    );
  }
}

/** True when the services' card has to be made anew, so that what was observed of it no longer counts. */
export function servicesAreNew(services: LanServices, observed: ObservedNetwork): boolean {
  const there = observed.services.get(services.namespace);
  return (
    there?.running !== true ||
    there.settings !== serviceFiles(services).settingsDigest ||
    observed.links.get(services.device)?.kind !== "veth"
  );
}

interface ServiceFiles {
  readonly settings: string;
  readonly settingsDigest: string;
  readonly leases: string;
  readonly names: string;
  readonly machinesDigest: string;
}

function serviceFiles(services: LanServices): ServiceFiles {
  const folder = folderOf(services.namespace);
  const network = parseCidr(services.network);
  const settings = [
    `interface=${inside}`,
    "bind-interfaces",
    "except-interface=lo",
    "no-resolv",
    "no-poll",
    "no-hosts",
    "no-ping",
    "domain-needed",
    "bogus-priv",
    "expand-hosts",
    `domain=${services.domain}`,
    `local=/${services.domain}/`,
    `addn-hosts=${folder}/names`,
    `dhcp-hostsfile=${folder}/leases`,
    `dhcp-range=${network.text.split("/")[0]},static,${netmask(network.prefixLength)},${leaseTime}`,
    "dhcp-authoritative",
    "leasefile-ro",
    services.router === undefined
      ? "dhcp-option=option:router"
      : `dhcp-option=option:router,${services.router}`,
    `dhcp-option=option:dns-server,${services.address}`,
    `dhcp-option=option:mtu,${services.mtu}`,
    `pid-file=${pidFile(services.namespace)}`,
  ].join("\n");
  const leases = services.machines
    .map(({ mac, address, name }) => `${mac},${address},${name},${leaseTime}`)
    .join("\n");
  const names = services.machines.map(({ address, name }) => `${address} ${name}`).join("\n");
  const card = `${services.mac} ${services.address}/${services.prefixLength}`;
  return {
    settings,
    settingsDigest: digestOf(`${settings}\n${card}`),
    leases,
    names,
    machinesDigest: digestOf(`${leases}\n${names}`),
  };
}

/** A namespace with one card. The bridge does not exist yet: the card becomes its port later in the batch. */
function make(services: LanServices, files: ServiceFiles): readonly string[] {
  const { namespace, device, mac, address, prefixLength, mtu } = services;
  return [
    `ip netns add ${namespace}`,
    `ip link add name ${device} mtu ${mtu} type veth peer name ${inside} mtu ${mtu} address ${mac} netns ${namespace}`,
    `ip -n ${namespace} address add ${address}/${prefixLength} dev ${inside}`,
    `ip -n ${namespace} link set dev ${inside} up`,
    `mkdir -p -m 755 ${servicesDirectory}`,
    `mkdir -p -m 755 ${folderOf(namespace)}`,
    ...write(`${folderOf(namespace)}/settings`, files.settings),
    ...writeMachines(services, files),
  ];
}

/** Last of all, when its card is a port of the bridge. */
function launch({ namespace }: LanServices, files: ServiceFiles): string {
  const folder = folderOf(namespace);
  return [
    `nsenter --net=/run/netns/${namespace} dnsmasq --conf-file=${folder}/settings </dev/null >/dev/null`,
    `echo ${files.settingsDigest} >${folder}/settings.digest`,
  ].join(" && ");
}

function writeMachines({ namespace }: LanServices, files: ServiceFiles): readonly string[] {
  const folder = folderOf(namespace);
  return [
    ...write(`${folder}/leases`, files.leases),
    ...write(`${folder}/names`, files.names),
    `echo ${files.machinesDigest} >${folder}/machines.digest`,
  ];
}

function removeServices(namespace: string): string {
  return [
    `[ ! -e ${pidFile(namespace)} ] || kill "$(cat ${pidFile(namespace)})" 2>/dev/null || :`,
    `ip netns delete ${namespace} 2>/dev/null || :`,
    `rm -rf ${folderOf(namespace)}`,
  ].join("; ");
}

/** Line by line: none of them holds a quote (network/diff checks every value that goes in). */
function write(file: string, text: string): readonly string[] {
  const lines = text.split("\n").map((line) => `'${line}'`);
  return [`printf '%s\\n' ${lines.join(" ")} >${file}`];
}

function folderOf(namespace: string): string {
  return `${servicesDirectory}/${namespace}`;
}

function pidFile(namespace: string): string {
  return `${folderOf(namespace)}/pid`;
}

function netmask(prefixLength: number): string {
  const bits = 2 ** 32 - 2 ** (32 - prefixLength);
  return [24, 16, 8, 0].map((shift) => Math.floor(bits / 2 ** shift) % 256).join(".");
}

function digestOf(text: string): string {
  return createHash("sha256").update(text).digest("hex").slice(0, 16);
}
