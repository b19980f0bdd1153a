/**
 * How libvirt names its objects on the wire. Of a domain, network, pool or filter the server looks only at the UUID,
 * so a stored UUID alone is a valid handle (`domainOf`). Knows no calls.
 */
import { i32, type Of, string, struct, uuid } from "#libvirt/rpc/schema";

export const domainRef = struct({ name: string, uuid, id: i32 });
export type DomainRef = Of<typeof domainRef>;

const named = struct({ name: string, uuid });
export const networkRef = named;
export const poolRef = named;
export const filterRef = named;
export type NetworkRef = Of<typeof networkRef>;
export type PoolRef = Of<typeof poolRef>;

export const volumeRef = struct({ pool: string, name: string, key: string });
export type VolumeRef = Of<typeof volumeRef>;

export const secretRef = struct({ uuid, usageType: i32, usageId: string });
export const snapshotRef = struct({ name: string, domain: domainRef });

/** A handle from a machine's id; name and number are not looked at by the server (measured). */
export function domainOf(id: string): DomainRef {
  return { name: "", uuid: id, id: -1 };
}
