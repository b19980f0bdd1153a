/**
 * What of a network changes while its machines run: its gateway (comes, goes, gets NAT, is held at another site) and its
 * MTU. The journal is changed here; hosts follow by the built-in repair, which brings them to what it says. Knows no
 * route and no host.
 */
import type { NetworkPatch } from "#api/contract";
import { importId, journalChange } from "#api/records";
import type { ApiWorld } from "#api/world";
import { Fault } from "#model/fault";
import type { EnvironmentRecord, NetworkGateway, NetworkRecord, NetworkSpec } from "#model/objects";
import type { Request } from "#model/request";
import type { HostId, Ms, SiteId } from "#model/units";
import { gatewayAddress } from "#network/addresses";
import { newRequest, shepherdSubject } from "#policy/request";
import type { Journal } from "#ports/store";

/** VXLAN over an underlay of 1500 leaves 1450 to the guests; where nothing is measured, this is taken. */
const overlayMtu = 1450;

/** The gateway as declared. Fault `request.invalid` for a site that is not among the environment's. */
export function gatewayOf(
  environment: EnvironmentRecord,
  gateway: NetworkPatch["gateway"],
): NetworkGateway | undefined {
  if (gateway == null) return undefined;
  const { site, nat = false } = gateway;
  if (!environment.spec.sites.includes(site)) {
    throw new Fault("request.invalid", {
      where: "gateway",
      attribute: "gateway",
      problem: `${site} is not among the sites of ${environment.spec.name}: ${environment.spec.sites.join(", ")}`,
    });
  }
  return { siteId: site, nat };
}

/** It stays at this host: the first one of the site that answers. Fault `network.no_gateway_host`. */
export function gatewayHost(world: Pick<ApiWorld, "sensing">, siteId: SiteId): HostId {
  const hosts = world.sensing.sites().find((site) => site.id === siteId)?.hosts ?? [];
  const host = hosts.find((candidate) => candidate.state === "up");
  if (host === undefined) throw new Fault("network.no_gateway_host", { site: siteId });
  return host.id;
}

/** The MTU that its paths carry, measured. Faults `network.path_mtu`, `network.path_unproven`. */
export async function provenMtu(
  world: Pick<ApiWorld, "paths">,
  environment: EnvironmentRecord,
  of: { readonly name: string; readonly mtu: number | undefined },
): Promise<number> {
  const admitted = await world.paths?.admit({
    network: importId(environment, of.name),
    siteIds: environment.spec.sites,
    mtu: of.mtu,
  });
  return admitted?.mtu ?? of.mtu ?? overlayMtu;
}

/** What the patch makes of it; undefined: nothing changes. Measures paths, so it belongs outside of a transaction. */
export async function patchedNetwork(
  world: Pick<ApiWorld, "paths" | "sensing">,
  of: {
    readonly environment: EnvironmentRecord;
    readonly network: NetworkRecord;
    readonly patch: NetworkPatch;
  },
): Promise<Pick<NetworkRecord, "spec" | "effective"> | undefined> {
  const { environment, network, patch } = of;
  const { gateway: _gateway, mtu: _mtu, ...kept } = network.spec;
  const gateway =
    patch.gateway === undefined ? network.spec.gateway : gatewayOf(environment, patch.gateway);
  const mtu = patch.mtu === undefined ? network.spec.mtu : (patch.mtu ?? undefined);
  const spec: NetworkSpec = { ...kept, mtu, gateway };
  const staysAtHost =
    gateway !== undefined && gateway.siteId === network.spec.gateway?.siteId
      ? network.effective.gatewayHostId
      : undefined;
  const effective = {
    ...network.effective,
    mtu:
      mtu === network.spec.mtu
        ? network.effective.mtu
        : await provenMtu(world, environment, { name: kept.name, mtu }),
    gatewayHostId:
      gateway === undefined ? undefined : (staysAtHost ?? gatewayHost(world, gateway.siteId)),
  };
  const isSame =
    sameGateway(network.spec.gateway, gateway) &&
    mtu === network.spec.mtu &&
    effective.mtu === network.effective.mtu;
  return isSame ? undefined : { spec, effective };
}

/**
 * Writes the change. Faults `network.address_in_use` when a machine has the address of a gateway that comes,
 * `network.mtu_in_use` when machines that run would go on sending packets that no longer fit.
 */
export async function changeNetwork(
  journal: Journal,
  of: {
    readonly network: NetworkRecord;
    readonly environment: EnvironmentRecord;
    readonly change: Pick<NetworkRecord, "spec" | "effective">;
  },
  nowMs: Ms,
): Promise<NetworkRecord> {
  const { network, environment, change } = of;
  const machines = await journal.objects.list("machine", { environmentId: environment.id });
  const on = machines.filter(({ effective }) =>
    effective.nics.some(({ networkId }) => networkId === network.id),
  );
  const { cidr } = network.spec;
  if (network.spec.gateway === undefined && change.spec.gateway !== undefined) {
    const address = gatewayAddress(cidr);
    const holder = on.find(({ effective }) =>
      effective.nics.some((nic) => nic.networkId === network.id && nic.address === address),
    );
    if (holder !== undefined) {
      throw new Fault("network.address_in_use", { address, cidr, holder: holder.spec.name });
    }
  }
  const running = on.filter(({ effective }) => effective.hostId !== "");
  if (change.effective.mtu < network.effective.mtu && running.length > 0) {
    throw new Fault("network.mtu_in_use", {
      network: importId(environment, network.spec.name),
      from: network.effective.mtu,
      to: change.effective.mtu,
      machines: running
        .map(({ spec }) => spec.name)
        .toSorted()
        .slice(0, 5)
        .join(", "),
    });
  }
  const changed: NetworkRecord = { ...network, ...change, version: network.version + 1 };
  await journal.objects.put(changed);
  await journalChange(journal, changed, nowMs);
  return changed;
}

/** What brings the hosts to it, under the grant that is built in. */
export function repairAfter(
  world: Pick<ApiWorld, "ids" | "clock">,
  network: NetworkRecord,
): Request {
  return newRequest(world, {
    kind: "repair",
    environmentId: network.spec.environmentId,
    subject: shepherdSubject,
    reason: `network ${network.spec.name} was changed`,
  });
}

function sameGateway(left: NetworkGateway | undefined, right: NetworkGateway | undefined): boolean {
  return left?.siteId === right?.siteId && left?.nat === right?.nat;
}
