/**
 * The journal inside one transaction: joins the statements of all tables. Every record stands as JSON in `body` (objects in
 * `spec` and `effective`); other columns are what we search by. Knows no rule beyond keys, versions and single use.
 */
import type { Kysely } from "kysely";
import type { Journal } from "#ports/store";
import { createAsks } from "#store/asks";
import { createCalls } from "#store/calls";
import { createConsents } from "#store/consents";
import { createFeeds } from "#store/feeds";
import type { KeptObjects } from "#store/kept-objects";
import { createObjects } from "#store/objects";
import type { Tables } from "#store/schema";
import { createStanding } from "#store/standing";
import { createWork } from "#store/work";

export interface JournalContext {
  readonly epoch: number;
  readonly kept: KeptObjects;
  /** Where the last appended event's sequence is left for the commit. */
  readonly appended: { last: number | undefined };
}

export function createJournal(db: Kysely<Tables>, context: JournalContext): Journal {
  return {
    objects: createObjects(db, context),
    ...createAsks(db, context),
    ...createWork(db, context),
    ...createStanding(db, context),
    ...createConsents(db, context),
    ...createFeeds(db, context),
    ...createCalls(db, context),
  };
}
