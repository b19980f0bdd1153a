/** How the hosts of a move prove to each other who they are, as the core needs it. Implemented by certificates/. */
import type { HostId } from "#model/units";

export interface MigrationTls {
  /**
   * Looks whether a certificate of ours lies on the host or could be placed there; changes nothing. Faults
   * `tls.foreign_certificates`, `host.unreachable`, `shell.exit`.
   */
  look(hostId: HostId): Promise<void>;
  /**
   * Sees to it that both hosts have a certificate that is good for long enough; returns the name that the destination
   * proves to have. Faults `tls.foreign_certificates`, `host.unreachable`, `shell.exit`.
   */
  between(
    fromHostId: HostId,
    toHostId: HostId,
  ): Promise<{ readonly destinationName: string } | undefined>;
}
