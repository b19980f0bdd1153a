/** What a world is to main.ts: the ways to its hosts, and the time it runs in. */
import type { Clock } from "#ports/clock";
import type { Hosts } from "#ports/host";
import type { Witness } from "#ports/witness";

export interface HostWorld {
  readonly hosts: Hosts;
  readonly clock: Clock;
  /** One a site: where checkpoints of the evidence log are copied to. Absent: nowhere. */
  readonly witnesses?: readonly Witness[] | undefined;
  close(): Promise<void>;
}
