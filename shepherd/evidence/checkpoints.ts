/**
 * Checkpoints against the log: what was gathered from the shepherd's own file and from every site, and what it proves.
 * A changed byte breaks the chain itself; a log that was cut, rolled back or replaced whole is found here.
 */
import { createPublicKey } from "node:crypto";
import { type Checkpoint, keyName, readCheckpoint } from "#evidence/checkpoint";
import { toFaultData } from "#model/fault";
import type { Digest } from "#model/units";
import type { CheckpointFile, Witness } from "#ports/witness";

/** Who keeps checkpoints, and what of them could be read. */
export interface Checkpoints {
  /** Which journal this is. */
  readonly origin: string;
  /** PEM of the key that this shepherd signs with. */
  readonly publicKey: string;
  readonly file: Pick<CheckpointFile, "read">;
  readonly witnesses: readonly Witness[];
}

export type CheckpointProblemKind =
  /** The log ends before a checkpoint: it was cut, or an old database was put back. */
  | "log.shorter"
  /** The entry has another hash: history was written again. */
  | "log.rewritten"
  /** A line that nobody with our key signed. */
  | "checkpoint.forged"
  /** A checkpoint of another journal: this database is not the one that this state belongs to. */
  | "checkpoint.foreign"
  /** A site remembers another key than the one we sign with now. */
  | "key.changed";

export interface CheckpointProblem {
  readonly kind: CheckpointProblemKind;
  /** `shepherd`, or the site's id. */
  readonly where: string;
  /** Entry that it is about. */
  readonly seq: number | undefined;
  readonly told: string;
}

export interface WitnessReport {
  readonly where: string;
  readonly checkpoints: number;
  /** Entry that the newest one is about; 0 when there is none. */
  readonly newestSeq: number;
  /** Why it could not be read. */
  readonly problem: string | undefined;
}

export interface Found {
  readonly where: string;
  readonly checkpoint: Checkpoint;
}

export interface Gathered {
  readonly found: readonly Found[];
  readonly problems: readonly CheckpointProblem[];
  readonly reports: readonly WitnessReport[];
}
export const noCheckpoints: Gathered = { found: [], problems: [], reports: [] };

/** Told in full for each place; more of the same say nothing new. */
const maxProblems = 20;

/** Reads every place; one that does not answer is a report without checkpoints. */
export async function gather(checkpoints: Checkpoints): Promise<Gathered> {
  const places = [
    {
      where: "shepherd",
      read: async () => ({
        lines: await checkpoints.file.read(),
        publicKey: checkpoints.publicKey,
      }),
    },
    ...checkpoints.witnesses.map((witness) => ({
      where: witness.siteId,
      read: () => witness.read(),
    })),
  ];
  const gathered = await Promise.all(
    places.map(async ({ where, read }): Promise<Gathered> => {
      try {
        return judge(checkpoints, where, await read());
      } catch (error) {
        const { code, message } = toFaultData(error);
        const problem = `${code}: ${message}`;
        return { ...noCheckpoints, reports: [{ where, checkpoints: 0, newestSeq: 0, problem }] };
      }
    }),
  );
  return {
    found: gathered.flatMap(({ found }) => found),
    problems: gathered.flatMap(({ problems }) => problems),
    reports: gathered.flatMap(({ reports }) => reports),
  };
}

function judge(
  { origin, publicKey }: Checkpoints,
  where: string,
  kept: { readonly lines: readonly string[]; readonly publicKey: string | undefined },
): Gathered {
  const problems: CheckpointProblem[] = [];
  const found: Found[] = [];
  const remembered = kept.publicKey ?? publicKey;
  if (keyName(remembered) !== keyName(publicKey)) {
    problems.push({
      kind: "key.changed",
      where,
      seq: undefined,
      told: `${where} remembers the key ${keyName(remembered)}, this shepherd signs with ${keyName(publicKey)}`,
    });
  }
  // what the site saw first counts: whoever changed the key here cannot have changed it there
  const key = createPublicKey(remembered);
  kept.lines.forEach((line, index) => {
    const checkpoint = readCheckpoint(line, key);
    // the last line may have been cut by a crash while it was written
    if (checkpoint === undefined && index === kept.lines.length - 1 && !line.endsWith("}")) return;
    if (checkpoint === undefined) {
      const told = `line ${index + 1} of ${where} is not signed with the key ${keyName(remembered)}`;
      problems.push({ kind: "checkpoint.forged", where, seq: undefined, told });
    } else if (checkpoint.origin !== origin) {
      const told = `${where} keeps checkpoints of the journal ${checkpoint.origin}; this is ${origin}`;
      problems.push({ kind: "checkpoint.foreign", where, seq: checkpoint.seq, told });
    } else {
      found.push({ where, checkpoint });
    }
  });
  const newestSeq = Math.max(0, ...found.map(({ checkpoint }) => checkpoint.seq));
  return {
    found,
    problems: problems.slice(0, maxProblems),
    reports: [{ where, checkpoints: found.length, newestSeq, problem: undefined }],
  };
}

/** The log that checkpoints are held against. */
export interface LogFacts {
  /** Of the entries that checkpoints are about. */
  readonly hashes: ReadonlyMap<number, Digest>;
  readonly head: number;
  readonly brokenAt: number | undefined;
}

/** Those that say the log should be another one. Behind a broken entry nothing was walked: the break itself is told. */
export function conflicting(found: readonly Found[], log: LogFacts): readonly Found[] {
  return found.filter(
    ({ checkpoint: { seq, hash } }) =>
      (log.brokenAt === undefined || seq < log.brokenAt) && log.hashes.get(seq) !== hash,
  );
}

/** Where the log is not what a checkpoint says. */
export function compare(found: readonly Found[], log: LogFacts): readonly CheckpointProblem[] {
  return conflicting(found, log)
    .slice(0, maxProblems)
    .map(({ where, checkpoint: { seq, at_ms } }): CheckpointProblem => {
      const when = new Date(at_ms).toISOString();
      if (seq > log.head) {
        const told = `${where} saw entry ${seq} at ${when}, the log ends at ${log.head}: it was cut, or an old one was put back`;
        return { kind: "log.shorter", where, seq, told };
      }
      const told = `${where} saw another entry ${seq} at ${when}: history was written again`;
      return { kind: "log.rewritten", where, seq, told };
    });
}

export function newestOfEach(found: readonly Found[]): readonly Found[] {
  const newest = new Map<string, Found>();
  for (const one of found) {
    const before = newest.get(one.where);
    if (before === undefined || before.checkpoint.seq < one.checkpoint.seq)
      newest.set(one.where, one);
  }
  return [...newest.values()];
}
