/** What stands in the way of a live move, each with its remedy. Plain data, shown to people as it stands; knows no host. */
import type { MachineId } from "#model/units";

/** What pre-flight looks at, in the order in which it is told. */
export const blockerChecks = [
  "source",
  "destination",
  "name",
  "version",
  "machine_type",
  "cpu",
  "disks",
  "pool",
  "space",
  "memory",
  "addresses",
  "keys",
  "certificates",
  "ports",
  "mtu",
  "clock",
] as const;
export type BlockerCheck = (typeof blockerChecks)[number];

export interface Blocker {
  readonly check: BlockerCheck;
  /** What was found, with its numbers. */
  readonly problem: string;
  /** What a person does about it. */
  readonly fix: string;
}

export interface MachineBlocker extends Blocker {
  readonly machineId: MachineId;
  readonly machine: string;
}
