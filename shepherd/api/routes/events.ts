/**
 * The event feed: server-sent events straight from the journal, the journal's sequence as event id. A reader that went
 * away comes back with Last-Event-ID and misses nothing; a reader that is too slow is cut off and does the same.
 */
import { Type } from "typebox";
import type { EventView } from "#api/contract";
import type { ApiRouter } from "#api/server";
import type { ApiWorld } from "#api/world";
import type { Event } from "#model/event";
import { toWire } from "#model/wire";

/** Rows of one read of the journal. */
const batchSize = 256;
/** Proxies cut silent connections after 30 to 60 s. */
const heartbeatMs = 15_000;
/** A reader that lets this much pile up is cut off; the journal has it all when it comes back. */
const maxUnsentBytes = 4 * 1024 * 1024;

export function eventRoutes(router: ApiRouter, world: ApiWorld): void {
  const { store, log } = world;
  const open = new Set<() => void>();
  router.addHook("preClose", async () => {
    for (const end of open) end(); // each takes itself out, which a Set allows
  });

  router.get(
    "/v1/events",
    {
      config: { access: "read" },
      schema: {
        querystring: Type.Object({
          since: Type.Optional(Type.String({ pattern: "^\\d{1,15}$" })),
          once: Type.Optional(Type.String({ description: "1: answer JSON and end" })),
          limit: Type.Optional(Type.String({ pattern: "^\\d{1,4}$" })),
        }),
      },
    },
    async (request, reply) => {
      const { since, once, limit } = request.query;
      const resume = request.headers["last-event-id"];
      const from = Number((typeof resume === "string" ? resume : undefined) ?? since);
      if (once === "1") {
        const events = await store.read((journal) =>
          journal.events.since(Number.isInteger(from) ? from : 0, Number(limit ?? batchSize)),
        );
        return { items: events.map(eventView) };
      }
      // Without a place to resume from, a reader wants what comes, not the whole past.
      const start = Number.isInteger(from)
        ? from
        : await store.read((journal) => journal.events.last());
      reply.hijack();
      const { raw } = reply;
      raw.writeHead(200, {
        "content-type": "text/event-stream",
        "cache-control": "no-store",
        "x-accel-buffering": "no",
      });
      raw.write(`retry: 1000\n\n`);

      let sent = start;
      let sending = false;
      let again = false;
      let ended = false;
      const end = () => {
        if (ended) return;
        ended = true;
        open.delete(end);
        unsubscribe();
        clearInterval(heartbeat);
        raw.end();
      };
      const send = async (): Promise<void> => {
        again = true;
        if (sending) return;
        sending = true;
        try {
          while (again && !ended) {
            again = false;
            const events = await store.read((journal) => journal.events.since(sent, batchSize));
            for (const event of events) {
              raw.write(
                `id: ${event.seq}\nevent: ${event.kind}\ndata: ${JSON.stringify(eventView(event))}\n\n`,
              );
              sent = event.seq;
            }
            if (raw.writableLength > maxUnsentBytes) end();
            if (events.length === batchSize) again = true;
          }
        } catch (error) {
          log.warn({ err: error }, "an event stream ended");
          end();
        } finally {
          sending = false;
        }
      };
      const unsubscribe = store.onCommit(() => void send());
      const heartbeat = setInterval(() => raw.write(": still here\n\n"), heartbeatMs);
      heartbeat.unref();
      open.add(end);
      request.raw.socket.once("close", end);
      await send();
      return reply;
    },
  );
}

/** `data` keeps its keys as journaled: ids, numbers and codes of the kind. */
function eventView(event: Event): EventView {
  return toWire(event);
}
