/** What a world is to main.ts: the ways to its hosts, and the time it runs in. */
import type { HostConfiguration } from "#configuration/configuration";
import type { HostId } from "#model/units";
import type { Clock } from "#ports/clock";
import type { Hosts, LanDoor } from "#ports/host";
import type { MigrationTls } from "#ports/migration-tls";
import type { Witness } from "#ports/witness";

export interface HostWorld {
  readonly hosts: Hosts;
  readonly clock: Clock;
  /** One a site: where checkpoints of the evidence log are copied to. Absent: nowhere. */
  readonly witnesses?: readonly Witness[] | undefined;
  /** Certificates of hosts for moves; absent: moves go in the clear. */
  readonly migrationTls?: MigrationTls | undefined;
  /** Absent in worlds without LANs that anybody could enter. */
  readonly lanDoor?: LanDoor | undefined;
  /** From now on the host can be asked. Absent, with `remove`: the hosts of this world are given. */
  add?(host: HostConfiguration): void;
  /** Its connections end; what is asked of it later is asked of an unknown host. */
  remove?(id: HostId): Promise<void>;
  close(): Promise<void>;
}
