/**
 * The chain of evidence, pure: which events leave an entry, what an entry commits to, and whether one follows another.
 * An entry's hash covers all its other fields, and with `previousHash` everything before it.
 */
import { canonicalJson, digestOf, digestOfText, recordJson } from "#model/canonical";
import type { Event, EventKind } from "#model/event";
import type { Digest } from "#model/units";
import type { EvidenceEntry } from "#ports/store";

/** What stands before the first entry. */
export const genesisHash: Digest = "0".repeat(64);

/** Signs of life, repeated in the row that ends them: they prove nothing. */
const weightless: ReadonlySet<EventKind> = new Set(["operation.progress", "step.started"]);

export function leavesEvidence(event: Pick<Event, "kind">): boolean {
  return !weightless.has(event.kind);
}

/** `subject` is the whole record that the event tells of, for records that never change; else undefined. */
export function nextEntry(
  previous: EvidenceEntry | undefined,
  event: Event,
  subject: object | undefined,
): EvidenceEntry {
  const unsealed = {
    seq: (previous?.seq ?? 0) + 1,
    eventSeq: event.seq,
    atMs: event.atMs,
    kind: event.kind,
    bodyDigest: bodyDigest(event, subject),
    previousHash: previous?.hash ?? genesisHash,
  };
  return { ...unsealed, hash: digestOf(unsealed) };
}

/** True when the entry is exactly what the event, its subject and the entry before make of it. */
export function follows(
  entry: EvidenceEntry,
  previous: EvidenceEntry | undefined,
  event: Event,
  subject: object | undefined,
): boolean {
  return digestOf(entry) === digestOf(nextEntry(previous, event, subject));
}

/**
 * Digest of `{ event, subject }`. Canonical JSON is the same before it was written and after it was read, and the
 * subject's was made when it was journaled.
 */
function bodyDigest(event: Event, subject: object | undefined): Digest {
  const told = subject === undefined ? "" : `,"subject":${recordJson(subject)}`;
  return digestOfText(`{"event":${canonicalJson(event)}${told}}`);
}
