/**
 * What a guest says about its own memory, through the balloon's statistics. Our domains ask for them every two seconds
 * (xml/write-domain.ts). Reads only; a claim of the guest, never evidence.
 */
import type { RpcConnection } from "#libvirt/rpc/connection";
import { remote } from "#libvirt/rpc/procedures";
import { domainOf } from "#libvirt/rpc/references";
import { isFault } from "#model/fault";
import type { MachineId } from "#model/units";
import type { GuestMemory } from "#ports/host";

/** virDomainMemoryStatTags */
const tags = { actual: 6, usable: 8, lastUpdate: 9 } as const;
const maxStats = 32;
const timeoutMs = 20_000;

/** As `Host.guestMemory`. */
export async function guestMemory(
  connection: RpcConnection,
  id: MachineId,
): Promise<GuestMemory | undefined> {
  try {
    const args = { domain: domainOf(id), maxStats, flags: 0 };
    const { stats } = await connection.call(remote.domainMemoryStats, args, { timeoutMs });
    return readMemoryStats(stats);
  } catch (error) {
    if (isFault(error, "libvirt.invalid_now") || isFault(error, "libvirt.no_domain"))
      return undefined;
    throw error;
  }
}

/** A balloon that never spoke has no last time, or says 0. */
export function readMemoryStats(
  stats: readonly { readonly tag: number; readonly value: number | bigint }[],
): GuestMemory | undefined {
  const valueOf = (tag: number) => {
    const found = stats.find((stat) => stat.tag === tag);
    return found === undefined ? undefined : Number(found.value);
  };
  const actualKib = valueOf(tags.actual);
  const usableKib = valueOf(tags.usable);
  const saidAtS = valueOf(tags.lastUpdate);
  if (actualKib === undefined || usableKib === undefined) return undefined;
  if (saidAtS === undefined || saidAtS === 0) return undefined;
  return {
    memoryMib: Math.floor(actualKib / 1024),
    usableMib: Math.floor(usableKib / 1024),
    saidAtMs: saidAtS * 1_000,
  };
}
