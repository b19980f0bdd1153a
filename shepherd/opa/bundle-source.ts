/**
 * Where an owner's bundle comes from: a folder with sources, a file or directory with `bundle.tar.gz`, or a URL that is
 * asked with the ETag of what is known. Fetches; believes nothing: signatures are checked by whoever reads the bytes.
 */
import { createHash } from "node:crypto";
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { Fault } from "#model/fault";
import type { Ms } from "#model/units";

/** What there is now; `same`: what was fetched with this tag before. */
export type Fetched =
  | { readonly kind: "same" }
  | { readonly kind: "bundle"; readonly packed: Uint8Array; readonly tag: string };

const fetchTimeoutMs: Ms = 30_000;
/** Ours take 100 KiB. */
export const maxPackedBytes = 16 << 20;

export function isUrl(source: string): boolean {
  return /^https?:\/\//.test(source);
}

/** Fault `policy.source_unreachable` with what the file system or the server said. */
export async function fetchBundle(
  {
    owner,
    source,
    tokenFile,
  }: { readonly owner: string; readonly source: string; readonly tokenFile?: string | undefined },
  known: string | undefined,
): Promise<Fetched> {
  try {
    return isUrl(source) ? await fromUrl(source, tokenFile, known) : await fromFile(source, known);
  } catch (cause) {
    const reason = cause instanceof Error && cause.cause instanceof Error ? cause.cause : cause;
    const problem = reason instanceof Error ? reason.message : String(reason);
    throw new Fault("policy.source_unreachable", { owner, source, problem }, { cause });
  }
}

async function fromFile(source: string, known: string | undefined): Promise<Fetched> {
  const file = (await stat(source)).isDirectory() ? join(source, "bundle.tar.gz") : source;
  if ((await stat(file)).size > maxPackedBytes) throw new Error("it is too large for a bundle");
  const packed = await readFile(file);
  const tag = createHash("sha256").update(packed).digest("hex");
  return tag === known ? { kind: "same" } : { kind: "bundle", packed, tag };
}

async function fromUrl(
  url: string,
  tokenFile: string | undefined,
  known: string | undefined,
): Promise<Fetched> {
  const headers = new Headers({ accept: "application/gzip" });
  if (known !== undefined) headers.set("if-none-match", known);
  if (tokenFile !== undefined)
    headers.set("authorization", `Bearer ${(await readFile(tokenFile, "utf8")).trim()}`);
  const answer = await fetch(url, { headers, signal: AbortSignal.timeout(fetchTimeoutMs) });
  if (answer.status === 304) {
    await answer.body?.cancel();
    return { kind: "same" };
  }
  if (!answer.ok) {
    await answer.body?.cancel();
    throw new Error(`HTTP ${answer.status} ${answer.statusText}`.trim());
  }
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const chunk of answer.body ?? []) {
    sizeBytes += chunk.length;
    if (sizeBytes > maxPackedBytes) throw new Error("it is too large for a bundle");
    chunks.push(chunk);
  }
  const packed = Buffer.concat(chunks);
  const tag = answer.headers.get("etag") ?? createHash("sha256").update(packed).digest("hex");
  return tag === known ? { kind: "same" } : { kind: "bundle", packed, tag };
}
