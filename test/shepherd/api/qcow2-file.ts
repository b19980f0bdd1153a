/** Builds the beginning of a qcow2 file, right or wrong, byte by byte; no tool of QEMU's is needed. */
export function minimalQcow2(options: {
  readonly version?: number;
  readonly virtualBytes?: number;
  readonly clusterBits?: number;
  readonly cryptMethod?: number;
  readonly incompatible?: bigint;
  readonly backing?: string;
}): Buffer {
  const bytes = Buffer.alloc(4096);
  bytes.writeUInt32BE(0x514649fb, 0);
  bytes.writeUInt32BE(options.version ?? 3, 4);
  bytes.writeUInt32BE(options.clusterBits ?? 16, 20);
  bytes.writeBigUInt64BE(BigInt(options.virtualBytes ?? 2 ** 30), 24);
  bytes.writeUInt32BE(options.cryptMethod ?? 0, 32);
  bytes.writeBigUInt64BE(options.incompatible ?? 0n, 72);
  bytes.writeUInt32BE(104, 100);
  if (options.backing !== undefined) {
    bytes.writeBigUInt64BE(1024n, 8);
    bytes.writeUInt32BE(Buffer.byteLength(options.backing), 16);
    bytes.write(options.backing, 1024);
  }
  return bytes;
}

/** The name that older benches know it by. */
export { minimalQcow2 as qcow2 };
