/** What a world is to main.ts: the ways to its hosts, and the time it runs in. */
import type { Clock } from "#ports/clock";
import type { Hosts, LanDoor } from "#ports/host";
import type { Witness } from "#ports/witness";

export interface HostWorld {
  readonly hosts: Hosts;
  readonly clock: Clock;
  /** One a site: where checkpoints of the evidence log are copied to. Absent: nowhere. */
  readonly witnesses?: readonly Witness[] | undefined;
  /** Absent in worlds without LANs that anybody could enter. */
  readonly lanDoor?: LanDoor | undefined;
  close(): Promise<void>;
}
