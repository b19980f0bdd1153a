/**
 * What was activated, on disk: the last three bundles of each owner as they came, and the policies and data that decided,
 * by digest, so that decisions can be repeated; of those that no owner can go back to any more the newest are kept. Files
 * are written whole before they are named.
 */
import { randomUUID } from "node:crypto";
import { mkdir, open, readdir, readFile, rename, rm, stat, utimes } from "node:fs/promises";
import { dirname, join } from "node:path";
import { gunzipSync, gzipSync } from "node:zlib";
import { errorCode } from "#model/error-code";
import type { Digest, Ms } from "#model/units";
import type { WholeBundle } from "#opa/archive";
import type { PolicyBundle } from "#opa/bundle";
import type { RegoSource } from "#opa/sources";
import type { PolicyData } from "#policy/data";

/** Enough to go back twice. */
const kept = 3;

/** How many of each are kept beyond those of the kept generations; a module takes 120 KB, data a few. */
export interface KeptLimits {
  readonly policies: number;
  readonly data: number;
}
const standardKept: KeptLimits = { policies: 200, data: 5_000 };

export interface Generation {
  /** Grows with every activation of this owner, rollbacks included. */
  readonly n: number;
  readonly revision: string;
  readonly policyDigest: Digest;
  readonly dataDigest: Digest;
  readonly activatedAtMs: Ms;
  readonly by: string;
  /** Why it was activated against the flip limit, or rolled back to. */
  readonly reason?: string | undefined;
  /** Set by a rollback: what must not come back by itself. */
  readonly rolledBackFrom?: Digests | undefined;
}

export interface Digests {
  readonly policyDigest: Digest;
  readonly dataDigest: Digest;
}

export interface Generations {
  /** Newest first; the first is in force. */
  list(owner: string): Promise<readonly Generation[]>;
  /** Its bytes, as they came; undefined when they are not kept any more. */
  read(owner: string, n: number): Promise<Uint8Array | undefined>;
  /** Keeps the bundle as the newest of its owner; durable when it resolves. */
  add(
    bundle: WholeBundle,
    packed: Uint8Array,
    about: Pick<Generation, "by" | "reason" | "rolledBackFrom"> & { readonly atMs: Ms },
  ): Promise<Generation>;
  /** Keeps what a decision is repeated with, as the newest of its kind. */
  keep(bundle: WholeBundle): Promise<void>;
  /** What decided under these digests; undefined when it is not kept (any more). */
  decided(owner: string, digests: Digests): Promise<PolicyBundle | undefined>;
  /** The Rego behind a policy digest. */
  sources(policyDigest: Digest): Promise<readonly RegoSource[] | undefined>;
}

export function openGenerations(folder: string, limits: KeptLimits = standardKept): Generations {
  const folderOf = (owner: string) => join(folder, "owners", encodeURIComponent(owner));
  const bundleFile = (owner: string, n: number) => join(folderOf(owner), `bundle-${n}.tar.gz`);
  const listFile = (owner: string) => join(folderOf(owner), "generations.json");
  const wasmFile = (digest: Digest) => join(folder, "decided", `${digest}.wasm.gz`);
  const sourcesFile = (digest: Digest) => join(folder, "decided", `${digest}.rego.json.gz`);
  const dataFile = (digest: Digest) => join(folder, "decided", `${digest}.data.json`);

  async function list(owner: string): Promise<readonly Generation[]> {
    const text = await ifThere(listFile(owner));
    return text === undefined ? [] : (JSON.parse(text.toString()) as Generation[]); // written below
  }

  async function keep(bundle: WholeBundle): Promise<void> {
    await writeOnce(wasmFile(bundle.policyDigest), () => gzipSync(bundle.wasm));
    await writeOnce(sourcesFile(bundle.policyDigest), () =>
      gzipSync(JSON.stringify(bundle.sources)),
    );
    await writeOnce(dataFile(bundle.dataDigest), () => Buffer.from(JSON.stringify(bundle.data)));
  }

  /** Lets the oldest go that are too many; what any owner can go back to stays. */
  async function prune(): Promise<void> {
    const owners = await namesIn(join(folder, "owners"));
    const standing = (await Promise.all(owners.map(decodeURIComponent).map(list))).flat();
    const decided = join(folder, "decided");
    const pruneKind = async (
      suffix: string,
      needed: ReadonlySet<Digest>,
      limit: number,
      filesOf: (digest: Digest) => readonly string[],
    ): Promise<void> => {
      const files = await Promise.all(
        (await namesIn(decided))
          .filter((name) => name.endsWith(suffix) && !needed.has(name.slice(0, -suffix.length)))
          .map(async (name) => ({ name, atMs: await writtenAtMs(join(decided, name)) })),
      );
      const tooOld = files.toSorted((left, right) => right.atMs - left.atMs).slice(limit);
      for (const { name } of tooOld)
        for (const file of filesOf(name.slice(0, -suffix.length))) await rm(file, { force: true });
    };
    await pruneKind(
      ".wasm.gz",
      new Set(standing.map(({ policyDigest }) => policyDigest)),
      limits.policies,
      (digest) => [wasmFile(digest), sourcesFile(digest)],
    );
    await pruneKind(
      ".data.json",
      new Set(standing.map(({ dataDigest }) => dataDigest)),
      limits.data,
      (digest) => [dataFile(digest)],
    );
  }

  return {
    list,
    keep,
    read: (owner, n) => ifThere(bundleFile(owner, n)),
    async add(bundle, packed, { atMs, by, reason, rolledBackFrom }) {
      const { owner, revision, policyDigest, dataDigest } = bundle;
      await keep(bundle);
      const before = await list(owner);
      const generation: Generation = {
        n: (before[0]?.n ?? 0) + 1,
        revision,
        policyDigest,
        dataDigest,
        activatedAtMs: atMs,
        by,
        ...(reason === undefined ? {} : { reason }),
        ...(rolledBackFrom === undefined ? {} : { rolledBackFrom }),
      };
      await writeWhole(bundleFile(owner, generation.n), packed);
      const now = [generation, ...before];
      await writeWhole(
        listFile(owner),
        Buffer.from(`${JSON.stringify(now.slice(0, kept), undefined, 2)}\n`),
      );
      for (const { n } of now.slice(kept)) await rm(bundleFile(owner, n), { force: true });
      await prune();
      return generation;
    },
    async decided(owner, { policyDigest, dataDigest }) {
      const wasm = await ifThere(wasmFile(policyDigest));
      const data = await ifThere(dataFile(dataDigest));
      if (wasm === undefined || data === undefined) return undefined;
      return {
        owner,
        wasm: new Uint8Array(gunzipSync(wasm)),
        data: JSON.parse(data.toString()) as PolicyData,
        policyDigest,
        dataDigest,
      };
    },
    async sources(policyDigest) {
      const packed = await ifThere(sourcesFile(policyDigest));
      return packed && (JSON.parse(gunzipSync(packed).toString()) as RegoSource[]);
    },
  };
}

async function ifThere(file: string): Promise<Buffer | undefined> {
  try {
    return await readFile(file);
  } catch (error) {
    if (errorCode(error) === "ENOENT") return undefined;
    throw error;
  }
}

/** Written when it is new, and in any case the newest from now on. */
async function writeOnce(file: string, content: () => Uint8Array): Promise<void> {
  const now = new Date();
  if ((await ifThere(file)) === undefined) await writeWhole(file, content());
  else await utimes(file, now, now);
}

/** 0 for one that another owner's activation has just let go. */
async function writtenAtMs(file: string): Promise<Ms> {
  try {
    return (await stat(file)).mtimeMs;
  } catch (error) {
    if (errorCode(error) === "ENOENT") return 0;
    throw error;
  }
}

async function namesIn(folder: string): Promise<readonly string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if (errorCode(error) === "ENOENT") return [];
    throw error;
  }
}

/** On the disk, under its name, or not at all. */
async function writeWhole(file: string, content: Uint8Array): Promise<void> {
  await mkdir(dirname(file), { recursive: true, mode: 0o700 });
  const unfinished = `${file}.${randomUUID()}`;
  const handle = await open(unfinished, "w", 0o600);
  try {
    await handle.writeFile(content);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(unfinished, file);
}
