/**
 * One virtio-serial port of a simulated guest: a guest end that lives as long as the guest, and a host end for each
 * opening. While nobody has it open at the host, what the guest writes waits, as in Linux. Knows bytes only.
 */
import { Duplex } from "node:stream";
import { Fault } from "#model/fault";

export interface GuestPort {
  /** What the guest's program reads and writes; survives moves. */
  readonly guest: Duplex;
  /** Opens the host's end; Fault `libvirt.operation_failed` when it is open already. */
  open(): Duplex;
  /** Ends the host's end, as when the guest leaves the host. */
  hangUp(): void;
}

export function createGuestPort(name: string): GuestPort {
  let host: Duplex | undefined;
  let waiting: { chunk: Buffer; done: () => void } | undefined;

  const deliver = (chunk: Buffer, done: () => void): void => {
    if (host === undefined || host.destroyed) {
      waiting = { chunk, done };
      return;
    }
    host.push(chunk);
    done();
  };
  const guest = new Duplex({
    read: () => undefined,
    write: (chunk: Buffer, _encoding, done) => deliver(chunk, done),
  });

  return {
    guest,
    open() {
      if (host !== undefined && !host.destroyed) {
        throw new Fault("libvirt.operation_failed", {
          procedure: "DOMAIN_OPEN_CHANNEL",
          message: `channel ${name} is open already`,
        });
      }
      const opened = new Duplex({
        read: () => undefined,
        write: (chunk: Buffer, _encoding, done) => {
          guest.push(chunk);
          done();
        },
        destroy: (error, done) => {
          if (host === opened) host = undefined;
          done(error);
        },
      });
      host = opened;
      const held = waiting;
      waiting = undefined;
      if (held !== undefined) deliver(held.chunk, held.done);
      return opened;
    },
    hangUp() {
      const ended = host;
      host = undefined;
      ended?.push(null);
      ended?.end();
    },
  };
}
