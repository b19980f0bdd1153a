/**
 * Measures TCP between two guests, run inside them: `receive <port>` prints what each connection carried as a JSON
 * line, `send <address> <port> <ms>` fills one for that long. The first half second is left out: a program's steady
 * rate is promised, not the start of TCP. `inject <port> <frame in hex>` hands any Ethernet frame to the card: as VXLAN
 * to a device of the same guest, which unpacks it, because Node has no raw sockets. Only Node's own network modules, so
 * that it runs in any namespace.
 */
import { createSocket } from "node:dgram";
import { connect, createServer } from "node:net";

const settleMs = 500;
const [role, ...rest] = process.argv.slice(2);
if (role === "receive") receive(Number(rest[0]));
else if (role === "send") send(rest[0] ?? "", Number(rest[1]), Number(rest[2]));
else if (role === "inject") inject(Number(rest[0]), rest[1] ?? "");
else throw new Error("receive <port> | send <address> <port> <ms> | inject <port> <frame>");

function receive(port: number): void {
  const server = createServer((socket) => {
    const firstMs = performance.now();
    let fromMs = 0;
    let lastMs = 0;
    let bytes = 0;
    socket.on("data", (chunk) => {
      const nowMs = performance.now();
      if (nowMs - firstMs < settleMs) return;
      if (fromMs === 0) fromMs = nowMs;
      else bytes += chunk.length;
      lastMs = nowMs;
    });
    socket.on("error", () => socket.destroy());
    socket.on("close", () => {
      const mbps = (bytes * 8) / 1000 / (lastMs - fromMs);
      process.stdout.write(`${JSON.stringify({ from: socket.remoteAddress, bytes, mbps })}\n`);
    });
  });
  server.listen(port, () => process.stdout.write("ready\n"));
}

function send(address: string, port: number, durationMs: number): void {
  const socket = connect(port, address);
  const chunk = Buffer.alloc(65_536, 0x5a);
  const fill = (): void => {
    while (socket.writable && socket.write(chunk));
  };
  socket.on("connect", () => {
    fill();
    setTimeout(() => {
      socket.off("drain", fill);
      socket.destroy();
    }, durationMs);
  });
  socket.on("drain", fill);
  socket.on("error", (error) => {
    process.stderr.write(`${error.message}\n`);
    process.exitCode = 1;
  });
}

function inject(port: number, frame: string): void {
  const socket = createSocket("udp4");
  // VXLAN: the flag that a network identifier follows, the identifier 7, a reserved byte.
  const packet = Buffer.from(`0800000000000700${frame}`, "hex");
  socket.send(packet, port, "127.0.0.1", () => socket.close());
}
