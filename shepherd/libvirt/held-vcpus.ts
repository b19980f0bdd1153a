/**
 * vCPUs that a machine has given back and that stay plugged, because its guest or its hypervisor does not let go of them:
 * how they count. Our mark says how many, and what cap was asked for; the cap in force is lowered to what the counted ones
 * could use, so that the machine computes no more than if they were gone. Pure.
 */
import type { Mark } from "#libvirt/xml/metadata";
import type { CpuPercent } from "#model/units";

interface Seen {
  readonly mark: Mark | undefined;
  /** Plugged. */
  readonly vcpus: number;
  /** In force; undefined: none. */
  readonly cpuPercent: CpuPercent | undefined;
}

/** The cap for this many counted vCPUs, whatever is plugged. */
export function heldCap(vcpus: number, asked: CpuPercent | undefined): CpuPercent {
  return Math.min(asked ?? Number.POSITIVE_INFINITY, vcpus * 100);
}

/**
 * How many are the machine's. Given-back ones count again when somebody has changed the cap that stands for them; one that
 * its guest let go of later is not plugged any more. A mark of an older shepherd knows no cap.
 */
export function countedVcpus({ mark, vcpus, cpuPercent }: Seen): number {
  if (mark === undefined || mark.idleVcpus === 0) return vcpus;
  const counted = Math.min(vcpus, mark.countedVcpus ?? vcpus - mark.idleVcpus);
  const { askedCpuPercent: asked } = mark;
  return asked === undefined || cpuPercent === heldCap(counted, asked) ? counted : vcpus;
}

/** The cap that was asked for, where the one in force is that one lowered to what counts; else the one in force. */
export function shownPercent(seen: Seen): CpuPercent | undefined {
  const asked = seen.mark?.askedCpuPercent;
  if (asked === undefined) return seen.cpuPercent;
  return seen.cpuPercent === heldCap(countedVcpus(seen), asked) ? asked : seen.cpuPercent;
}
