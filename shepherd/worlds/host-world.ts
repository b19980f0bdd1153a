/** What a world is to main.ts: the ways to its hosts, and the time it runs in. */
import type { Clock } from "#ports/clock";
import type { Hosts } from "#ports/host";

export interface HostWorld {
  readonly hosts: Hosts;
  readonly clock: Clock;
  close(): Promise<void>;
}
