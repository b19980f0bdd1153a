/**
 * Idempotency keys of every call that changes something: the same key of the same caller on the same path is answered the
 * same for a day, without being done twice; what comes meanwhile waits for the first. The journal notes the key with the
 * first event of the call, in its transaction, and the answer right behind; refusals are not kept, they changed nothing.
 * Source: draft-ietf-httpapi-idempotency-key-header; docs/decisions/0019. Knows no route.
 */
import { Readable } from "node:stream";
import type { FastifyRequest, RouteOptions } from "fastify";
import type { Logger } from "pino";
import { digestOf, digestOfText } from "#model/canonical";
import { Fault } from "#model/fault";
import type { Digest, Ms } from "#model/units";
import { maxPackedBytes } from "#opa/bundle-source";
import { type CallInHand, withCall } from "#ports/calls";
import type { Clock } from "#ports/clock";
import type { KeptCall, Store } from "#ports/store";

/**
 * What a key does on a route that may change something.
 * kept: the answer is written down. The default.
 * gate: the gate itself finds the ask again by its key, so nothing is written down twice.
 * secret: the answer holds a secret, so it stays in memory, for minutes; after that the call is made again.
 * none: nothing is changed, or it is the bytes of a connection, or of a file that its own digest names.
 */
export type Keys = "kept" | "gate" | "secret" | "none";

export interface KeyedCall {
  /** Caller, path and key in one. */
  readonly id: string;
  readonly digest: Digest;
  /** For the fault that names it. */
  readonly key: string;
  readonly about: string;
  readonly keys: "kept" | "secret";
  /** PUT, PATCH and DELETE say what is to be: where the answer is lost with the process, they are made again. */
  readonly isRepeatable: boolean;
}
export interface Told {
  readonly status: number;
  /** JSON text; null: nothing was said. */
  readonly body: string | null;
}

/** A client that gave up comes back within minutes, a script's next run within the day. */
const keptMs: Ms = 24 * 3_600_000;
/** As long as a client that lost the answer may go on trying. */
const secretMs: Ms = 600_000;
/** Answers in memory: those on their way to the disk, and secrets. */
const maxInMemory = 1_000;
/** Longer answers are not kept; a group of hundreds has less. */
const maxAnswerLength = 2 ** 20;
const maxKeyLength = 255;

export interface KeyedCalls {
  /** Does the work, or finds what it was answered. Faults `request.key_reused`, `request.answer_lost`. */
  answer(call: KeyedCall, work: () => Promise<Told>): Promise<Told & { readonly wasKept: boolean }>;
}

export function createKeyedCalls(world: {
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Logger;
}): KeyedCalls {
  return new JournaledCalls(world);
}

class JournaledCalls implements KeyedCalls {
  readonly #world: { readonly store: Store; readonly clock: Clock; readonly log: Logger };
  readonly #running = new Map<string, { readonly digest: Digest; readonly ended: Promise<void> }>();
  readonly #inMemory = new Map<string, KeptCall>();

  constructor(world: { readonly store: Store; readonly clock: Clock; readonly log: Logger }) {
    this.#world = world;
  }

  async answer(
    call: KeyedCall,
    work: () => Promise<Told>,
  ): Promise<Told & { readonly wasKept: boolean }> {
    for (;;) {
      const running = this.#running.get(call.id);
      if (running === undefined) break;
      if (running.digest !== call.digest) throw reused(call);
      await running.ended;
    }
    const { promise: ended, resolve: end } = Promise.withResolvers<void>();
    this.#running.set(call.id, { digest: call.digest, ended });
    try {
      const kept = await this.#find(call);
      if (kept !== undefined) return { ...kept, wasKept: true };
      return { ...(await this.#do(call, work)), wasKept: false };
    } finally {
      this.#running.delete(call.id);
      end();
    }
  }

  async #find(call: KeyedCall): Promise<Told | undefined> {
    const { store, clock } = this.#world;
    const nowMs = clock.nowMs();
    const inMemory = this.#inMemory.get(call.id);
    const lastsMs = call.keys === "secret" ? secretMs : keptMs;
    if (inMemory !== undefined && nowMs < inMemory.atMs + lastsMs) {
      if (inMemory.digest !== call.digest) throw reused(call);
      return inMemory.told;
    }
    const known = await store.read((journal) => journal.calls.get(call.id));
    if (known === undefined) return undefined;
    if (nowMs >= known.atMs + keptMs) {
      await store.transaction((journal) => journal.calls.remove(call.id));
      return undefined;
    }
    if (known.digest !== call.digest) throw reused(call);
    if (call.keys === "secret") return undefined;
    if (known.told !== undefined || call.isRepeatable) return known.told;
    const { first = 0, last = 0 } = known.events ?? {};
    throw new Fault("request.answer_lost", { about: call.about, first, last });
  }

  async #do(call: KeyedCall, work: () => Promise<Told>): Promise<Told> {
    const { store, clock } = this.#world;
    const { id, digest } = call;
    const inHand: CallInHand = { id, digest, atMs: clock.nowMs(), noted: false };
    try {
      const told = await withCall(inHand, work);
      this.#keep(call, { id, digest, atMs: clock.nowMs(), events: undefined, told });
      return told;
    } catch (error) {
      // Its asker hears what is wrong, mends it and comes again: that is no second time.
      if (inHand.noted) await store.transaction((journal) => journal.calls.remove(id));
      throw error;
    }
  }

  /** Nobody waits for it: until it is durable it is found in memory. */
  #keep({ keys }: KeyedCall, kept: KeptCall): void {
    const { store, clock, log } = this.#world;
    const { id, told } = kept;
    this.#inMemory.set(id, kept);
    for (const oldest of this.#inMemory.keys()) {
      if (this.#inMemory.size <= maxInMemory) break;
      this.#inMemory.delete(oldest);
    }
    const isLong = (told?.body?.length ?? 0) > maxAnswerLength;
    store
      .transaction(async (journal) => {
        await journal.calls.removeBefore(clock.nowMs() - keptMs);
        await journal.calls.put(keys === "secret" || isLong ? { ...kept, told: undefined } : kept);
      })
      .then(
        () => {
          if (keys === "kept" && this.#inMemory.get(id) === kept) this.#inMemory.delete(id);
        },
        (error: unknown) => log.warn({ err: error }, "an answer was not written down"),
      );
  }
}

function reused({ key, about }: KeyedCall): Fault {
  return new Fault("request.key_reused", { key, request: about });
}

/** Whether a key means something on this route, and what; undefined: it only reads. */
export function keysOf({
  method,
  config,
}: Pick<RouteOptions, "method" | "config">): Keys | undefined {
  const reads = [method].flat().every((one) => one === "GET" || one === "HEAD");
  return reads ? undefined : (config?.keys ?? "kept");
}

/** The route's handler, which answers a key as it did before. The caller is known by then, and the body is checked. */
export function withKeys(route: RouteOptions, calls: KeyedCalls): RouteOptions["handler"] {
  const { handler } = route;
  const keys = keysOf(route);
  if (keys !== "kept" && keys !== "secret") return handler;
  return async function keyed(request, reply) {
    const key = request.headers["idempotency-key"];
    if (key === undefined) return await handler.call(this, request, reply);
    const call = await keyedCall(request, keys, key);
    const { status, body, wasKept } = await calls.answer(call, async () => {
      const said: unknown = await handler.call(this, request, reply);
      return { status: reply.statusCode, body: said === undefined ? null : JSON.stringify(said) };
    });
    reply.code(status);
    if (wasKept) reply.header("idempotency-replayed", "true");
    if (body === null) return undefined;
    reply.type("application/json; charset=utf-8");
    return Buffer.from(body); // a string would be written as JSON once more
  };
}

async function keyedCall(
  request: FastifyRequest,
  keys: "kept" | "secret",
  key: string | string[],
): Promise<KeyedCall> {
  if (typeof key !== "string" || key === "" || key.length > maxKeyLength) {
    const problem = `one key of 1 to ${maxKeyLength} characters`;
    throw new Fault("request.invalid", { where: "Idempotency-Key", problem });
  }
  const { method, url, principal } = request;
  return {
    id: digestOfText(JSON.stringify([principal.name, method, url, key])),
    digest: await bodyDigest(request),
    key,
    about: `${method} ${url}`,
    keys,
    isRepeatable: method !== "POST",
  };
}

/** Of what was asked; a bundle of policies comes as bytes, and is handed on as such. */
async function bodyDigest(request: FastifyRequest): Promise<Digest> {
  if (!(request.body instanceof Readable)) return digestOf(request.body ?? null);
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const chunk of request.body) {
    sizeBytes += (chunk as Uint8Array).length;
    if (sizeBytes > maxPackedBytes) {
      throw new Fault("request.too_large", { limit_bytes: maxPackedBytes });
    }
    chunks.push(chunk as Uint8Array);
  }
  const bytes = Buffer.concat(chunks);
  request.body = Readable.from([bytes]);
  return digestOfText(bytes.toString("base64"));
}
