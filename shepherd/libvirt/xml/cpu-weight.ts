/**
 * `cpu_weight` as libvirt's `shares`, and back. libvirt hands shares on as they are, and what they mean is the host's:
 * 1,024 is the default of the first version of control groups, 100 that of the second. Ours are those of the second.
 */
import { defaultCpuWeight } from "#model/objects";

export type ControlGroups = "v1" | "v2";

const defaultShares: Readonly<Record<ControlGroups, number>> = { v1: 1_024, v2: defaultCpuWeight };

export function sharesOf(weight: number, groups: ControlGroups): number {
  return Math.round((weight * defaultShares[groups]) / defaultCpuWeight);
}

/** The inverse for every weight; what another tool wrote is rounded. */
export function weightOf(shares: number, groups: ControlGroups): number {
  return Math.max(1, Math.round((shares * defaultCpuWeight) / defaultShares[groups]));
}
