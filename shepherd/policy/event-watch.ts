/**
 * Wakes somebody when an event of interest was committed: follows the journal's feed from its start on, page by page, one
 * read at a time. A wake-up and no queue: what is to be done stands in the journal. Knows no kind of event.
 */
import type { Logger } from "pino";
import type { Event } from "#model/event";
import type { Store } from "#ports/store";

/** Events read at once; a commit has a few. */
const pageSize = 200;

/** Returns what ends it. What stood before is for the caller to look at, after the start. */
export function watchEvents(
  { store, log }: { readonly store: Store; readonly log: Logger },
  watch: {
    readonly isWanted: (event: Event) => boolean;
    readonly wake: () => void;
    /** For the log, when events could not be read: who is woken later by it. */
    readonly sleeper: string;
  },
): () => void {
  let seen: number | undefined;
  let newest = 0;
  let reading = false;
  let stopped = false;

  const eventsAfter = (from: number) =>
    store.read((journal) => journal.events.since(from, pageSize));

  async function read(): Promise<void> {
    if (reading) return;
    reading = true;
    try {
      seen ??= await store.read((journal) => journal.events.last());
      for (let from: number = seen; from < newest && !stopped; from = seen) {
        const events = await eventsAfter(from);
        seen = events.at(-1)?.seq ?? newest;
        if (!stopped && events.some(watch.isWanted)) watch.wake();
      }
    } catch (error) {
      const { sleeper } = watch;
      if (!stopped) log.error({ err: error, sleeper }, "events were not read; the next wakes it");
    } finally {
      reading = false;
    }
  }

  const unlisten = store.onCommit((lastSeq) => {
    newest = lastSeq;
    void read();
  });
  void read();
  return () => {
    stopped = true;
    unlisten();
  };
}
