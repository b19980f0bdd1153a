/**
 * The signing key of the evidence log and the shepherd's own file of checkpoints, below the state directory. The copies
 * that count against whoever holds this machine are at the sites (ports/witness).
 */
import { createPrivateKey, createPublicKey, generateKeyPairSync } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { appendFile, readFile, rename, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { errorCode } from "#model/error-code";
import type { CheckpointFile, SigningKeys } from "#ports/witness";

/** A line is 400 bytes; beyond this the older half is let go: the newest covers all before it. */
const maxBytes = 16 << 20;
const keptLines = 20_000;

/** Made at the first start, mode 0600. */
export function openSigningKeys(folder: string): SigningKeys {
  const file = join(folder, "key.pem");
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  if (!existsSync(file)) {
    const { privateKey } = generateKeyPairSync("ed25519");
    const pem = privateKey.export({ type: "pkcs8", format: "pem" });
    writeFileSync(file, pem, { mode: 0o600, flag: "wx", flush: true });
  }
  const privateKey = createPrivateKey(readFileSync(file));
  const publicKey = createPublicKey(privateKey).export({ type: "spki", format: "pem" }).toString();
  // for whoever verifies elsewhere
  writeFileSync(join(folder, "key.pub"), publicKey);
  return { privateKey, publicKey };
}

export function openCheckpointFile(file: string): CheckpointFile {
  const read = async (): Promise<readonly string[]> => {
    try {
      return (await readFile(file, "utf8")).split("\n").filter(Boolean);
    } catch (error) {
      if (errorCode(error) === "ENOENT") return [];
      throw error;
    }
  };
  return {
    read,
    async append(lines) {
      await appendFile(file, lines.map((line) => `${line}\n`).join(""), {
        mode: 0o600,
        flush: true,
      });
      if ((await stat(file)).size < maxBytes) return;
      const newest = (await read()).slice(-keptLines);
      await writeFile(`${file}.new`, newest.map((line) => `${line}\n`).join(""), { mode: 0o600 });
      await rename(`${file}.new`, file);
    },
  };
}
