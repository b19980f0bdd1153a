/**
 * Keeps the evidence of a running shepherd: holds what sites remember against the journal once at the start, and signs
 * and copies checkpoints from then on. A conflict is told loudly and stops nothing: machines do not pay for a bad disk.
 */
import type { Logger } from "pino";
import { createCheckpointer } from "#evidence/checkpointer";
import type { Checkpoints } from "#evidence/checkpoints";
import { createEvidence, type Evidence } from "#evidence/evidence";
import type { Clock } from "#ports/clock";
import type { Store } from "#ports/store";
import type { CheckpointFile, SigningKeys, Witness } from "#ports/witness";

export interface KeptEvidence {
  readonly evidence: Evidence;
  /** Signs the last entry; gives sites a moment to take it. */
  stop(): Promise<void>;
}

export function keepEvidence(world: {
  readonly store: Store;
  readonly origin: string;
  readonly epoch: number;
  readonly keys: SigningKeys;
  readonly file: CheckpointFile;
  readonly witnesses: readonly Witness[];
  readonly clock: Clock;
  readonly log: Logger;
}): KeptEvidence {
  const { store, clock, log } = world;
  const checkpoints: Checkpoints = { ...world, publicKey: world.keys.publicKey };
  const evidence = createEvidence(store, checkpoints);
  const checkpointer = createCheckpointer(world);
  // sites may be slow or down: the start does not wait for them
  const looked = evidence
    .verifyHeads()
    .then(async (problems) => {
      for (const { kind, where, seq, told } of problems) {
        log.error({ kind, where, seq }, `evidence: ${told}`);
        await store.transaction((journal) =>
          journal.events.append({
            kind: "evidence.conflict",
            atMs: clock.nowMs(),
            data: { kind, where, ...(seq === undefined ? {} : { seq }), told },
          }),
        );
      }
    })
    .catch((error: unknown) => {
      log.error({ err: error }, "checkpoints could not be held against the log");
    });
  checkpointer.start();
  return {
    evidence,
    async stop() {
      await looked;
      await checkpointer.stop();
    },
  };
}
