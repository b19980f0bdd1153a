/**
 * Signs where the chain stands, at most once a second while something happens, and copies it to every site. A site that
 * does not answer gets the newest ones when it does; nothing waits for it.
 */
import type { Logger } from "pino";
import { keyName, signCheckpoint } from "#evidence/checkpoint";
import type { Ms } from "#model/units";
import type { Clock } from "#ports/clock";
import type { Store } from "#ports/store";
import type { CheckpointFile, SigningKeys, Witness } from "#ports/witness";

const pauseMs: Ms = 1_000;
/** The newest says it all; a few more help to tell when something was changed. */
const maxPending = 100;
const firstRetryMs: Ms = 2_000;
const lastRetryMs: Ms = 60_000;
/** A stop does not wait longer for sites. */
const farewellMs: Ms = 2_000;

export interface Checkpointer {
  start(): void;
  /** Signs the last entry and gives sites a moment. */
  stop(): Promise<void>;
}

interface Copy {
  readonly witness: Witness;
  pending: string[];
  sending: Promise<void> | undefined;
  retryMs: Ms;
}

export function createCheckpointer(world: {
  readonly store: Store;
  readonly origin: string;
  readonly epoch: number;
  readonly keys: SigningKeys;
  readonly file: CheckpointFile;
  readonly witnesses: readonly Witness[];
  readonly clock: Clock;
  readonly log: Logger;
}): Checkpointer {
  const { store, clock, keys, log } = world;
  const key = keyName(keys.publicKey);
  const copies = world.witnesses.map(
    (witness): Copy => ({ witness, pending: [], sending: undefined, retryMs: firstRetryMs }),
  );
  const stopped = new AbortController();
  let signedSeq = 0;
  let cancel: (() => void) | undefined;
  let unsubscribe: (() => void) | undefined;
  let writing: Promise<void> = Promise.resolve();

  async function write(): Promise<void> {
    const last = await store.read((journal) => journal.evidence.last());
    if (last === undefined || last.seq <= signedSeq) return;
    const { seq, hash } = last;
    const { origin, epoch } = world;
    const unsigned = { origin, epoch, seq, hash, at_ms: clock.nowMs(), key };
    const line = signCheckpoint(unsigned, keys.privateKey);
    signedSeq = seq;
    await world.file.append([line]);
    for (const copy of copies) {
      copy.pending = [...copy.pending, line].slice(-maxPending);
      send(copy);
    }
  }

  function sign(): void {
    cancel = undefined;
    writing = writing.then(write).catch((error: unknown) => {
      log.error({ err: error }, "no checkpoint could be written");
    });
  }

  function send(copy: Copy): void {
    if (copy.sending !== undefined || copy.pending.length === 0) return;
    const sent = copy.pending;
    copy.pending = [];
    copy.sending = copy.witness.append(sent, keys.publicKey).then(
      () => {
        copy.retryMs = firstRetryMs;
        copy.sending = undefined;
        send(copy);
      },
      async (error: unknown) => {
        const { siteId } = copy.witness;
        log.warn({ err: error, site: siteId }, "checkpoints wait for their site");
        copy.pending = [...sent, ...copy.pending].slice(-maxPending);
        const waitMs = copy.retryMs;
        copy.retryMs = Math.min(lastRetryMs, waitMs * 2);
        await clock.sleep(waitMs, stopped.signal).catch(() => undefined);
        copy.sending = undefined;
        if (!stopped.signal.aborted) send(copy);
      },
    );
  }

  return {
    start() {
      const soon = (): void => {
        cancel ??= clock.at(clock.nowMs() + pauseMs, sign);
      };
      unsubscribe = store.onCommit(soon);
      // what a predecessor left unsigned
      soon();
    },
    async stop() {
      unsubscribe?.();
      cancel?.();
      sign();
      await writing;
      const sent = (async () => {
        // what came while one was under way is sent after it
        for (const copy of copies) while (copy.sending !== undefined) await copy.sending;
      })();
      const patience = new AbortController();
      const late = clock.sleep(farewellMs, patience.signal).catch(() => undefined);
      await Promise.race([sent, late]);
      patience.abort();
      stopped.abort();
    },
  };
}
