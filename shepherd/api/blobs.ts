/**
 * Uploaded files by their SHA-256, below the state directory. A blob is there whole and verified, or not at all.
 * Knows bytes only; what an image must look like is api/qcow2.ts.
 */
import { createHash, randomUUID } from "node:crypto";
import { createReadStream, createWriteStream, existsSync, mkdirSync } from "node:fs";
import { rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { type Readable, Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { Fault } from "#model/fault";

export interface BlobStore {
  has(sha256: string): boolean;
  /** Streams to disk. Fault `blob.digest_mismatch`, `blob.too_large`; nothing is left behind then. */
  put(sha256: string, content: Readable): Promise<{ readonly sizeBytes: number }>;
  /** The file of `blob:<sha256>`, or the path itself. Fault `blob.unknown`. */
  resolve(source: string): string;
}

const blobScheme = "blob:";

export function createBlobStore(options: {
  readonly directory: string;
  readonly maxBytes: number;
}): BlobStore {
  const fileOf = (sha256: string) => join(options.directory, sha256);
  return {
    has: (sha256) => existsSync(fileOf(sha256)),
    async put(sha256, content) {
      mkdirSync(options.directory, { recursive: true, mode: 0o700 });
      const temporary = join(options.directory, `.${randomUUID()}`);
      const hash = createHash("sha256");
      let sizeBytes = 0;
      const measure = new Transform({
        transform(chunk: Buffer, _encoding, done) {
          sizeBytes += chunk.length;
          hash.update(chunk);
          if (sizeBytes > options.maxBytes) {
            done(new Fault("blob.too_large", { limit_bytes: options.maxBytes }));
          } else {
            done(null, chunk);
          }
        },
      });
      try {
        await pipeline(
          content,
          measure,
          createWriteStream(temporary, { mode: 0o600, flush: true, flags: "wx" }),
        );
        const found = hash.digest("hex");
        if (found !== sha256) {
          throw new Fault("blob.digest_mismatch", {
            expected: sha256,
            found,
            size_bytes: sizeBytes,
          });
        }
        await rename(temporary, fileOf(sha256));
      } catch (error) {
        await rm(temporary, { force: true });
        throw error;
      }
      return { sizeBytes };
    },
    resolve(source) {
      if (!source.startsWith(blobScheme)) return source;
      const sha256 = source.slice(blobScheme.length);
      if (!/^[0-9a-f]{64}$/.test(sha256) || !existsSync(fileOf(sha256))) {
        throw new Fault("blob.unknown", { source });
      }
      return fileOf(sha256);
    },
  };
}

/** SHA-256 and size of a file, read as a stream. Fault `image.unreadable`. */
export async function digestFile(
  path: string,
): Promise<{ readonly sha256: string; readonly sizeBytes: number }> {
  try {
    const hash = createHash("sha256");
    await pipeline(createReadStream(path), hash);
    return { sha256: hash.digest("hex"), sizeBytes: (await stat(path)).size };
  } catch (cause) {
    const problem = cause instanceof Error ? cause.message : String(cause);
    throw new Fault("image.unreadable", { path, problem }, { cause });
  }
}
