/**
 * The serial console of a simulated guest: says who it is, and gives back each line that is typed, as a login prompt
 * would. Enough to see that bytes go both ways to the right machine.
 */
import { Duplex } from "node:stream";

export function openSimulatedConsole(name: string): Duplex {
  const console = new Duplex({
    read: () => undefined,
    write: (chunk: Buffer, _encoding, done) => {
      console.push(chunk.toString("latin1").replaceAll("\r", "\r\n"), "latin1");
      done();
    },
    final: (done) => {
      console.push(null);
      done();
    },
  });
  console.push(`\r\n${name} login: `);
  return console;
}
