/**
 * The call in hand: which keyed call of the API a transaction belongs to, across rooms that know nothing of calls. The
 * journal notes it with the first event that is appended, in the same transaction; api/keyed-calls.ts says what follows.
 */
import { AsyncLocalStorage } from "node:async_hooks";
import type { Digest, Ms } from "#model/units";

export interface CallInHand {
  /** Digest of caller, path and key: the key itself is written nowhere. */
  readonly id: string;
  /** Of what was asked. */
  readonly digest: Digest;
  readonly atMs: Ms;
  /** True once an event of it was appended, though its transaction may have failed after that. */
  noted: boolean;
}

const inHand = new AsyncLocalStorage<{ call: CallInHand | undefined }>();

/** All that `work` journals belongs to the call, until `work` has ended: what it started goes on for itself. */
export async function withCall<T>(call: CallInHand, work: () => Promise<T>): Promise<T> {
  const scope: { call: CallInHand | undefined } = { call };
  try {
    return await inHand.run(scope, work);
  } finally {
    scope.call = undefined;
  }
}

/** Undefined: nobody's, or of a call without a key. */
export function callInHand(): CallInHand | undefined {
  return inHand.getStore()?.call;
}
