/**
 * Keeps a good certificate on every host that takes part in a move: looked at before each move, replaced when less than
 * half of its time is left. Nothing to do by hand, and nothing to do at all for hosts that nobody moves from or to.
 * Knows how a certificate is placed only through a function of each host.
 */
import {
  type Authority,
  type HostCertificate,
  hostCertificateMs,
  hostName,
} from "#certificates/authority";
import type { HostId, Ms } from "#model/units";
import type { Clock } from "#ports/clock";
import type { MigrationTls } from "#ports/migration-tls";

export interface CertificatePlace {
  /** When the certificate that lies there ends; undefined: there is none of ours. */
  notAfterMs(): Promise<Ms | undefined>;
  place(certificate: HostCertificate): Promise<void>;
}

export function createHostCertificates(options: {
  readonly authority: Authority;
  readonly clock: Clock;
  readonly placeOf: (hostId: HostId) => CertificatePlace;
}): MigrationTls {
  const { authority, clock, placeOf } = options;
  /** One at a time for each host: moves begin together. */
  const turns = new Map<HostId, Promise<void>>();

  async function ensure(hostId: HostId): Promise<void> {
    const place = placeOf(hostId);
    const notAfterMs = await place.notAfterMs();
    const nowMs = clock.nowMs();
    if (notAfterMs !== undefined && notAfterMs - nowMs > hostCertificateMs / 2) return;
    await place.place(await authority.issue(hostId, nowMs));
  }
  function inTurn(hostId: HostId): Promise<void> {
    const running = turns.get(hostId);
    if (running !== undefined) return running;
    const turn = ensure(hostId).finally(() => turns.delete(hostId));
    turns.set(hostId, turn);
    return turn;
  }
  return {
    async look(hostId) {
      await placeOf(hostId).notAfterMs();
    },
    async between(fromHostId, toHostId) {
      await Promise.all([inTurn(fromHostId), inTurn(toHostId)]);
      return { destinationName: hostName(toHostId) };
    },
  };
}
