/** What every store must do, whatever it is made of; store/sqlite runs it in memory and on a file. */
import { isFault } from "@drover/shepherd/model/fault";
import type { EnvironmentRecord } from "@drover/shepherd/model/objects";
import type { Operation } from "@drover/shepherd/model/plan";
import type { Grant, Request } from "@drover/shepherd/model/request";
import { withCall } from "@drover/shepherd/ports/calls";
import type { Store } from "@drover/shepherd/ports/store";
import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";

export function storeContract(name: string, open: () => Store): void {
  describe(`store contract: ${name}`, () => {
    let store: Store;
    beforeEach(() => {
      store = open();
    });
    afterEach(() => store.close());

    test("an object comes back as it was put, by id, by key and in the list", async () => {
      const ring = environment({ id: "e1", key: "ring", version: 1 });
      await store.transaction((journal) => journal.objects.put(ring));
      await store.read(async (journal) => {
        expect(await journal.objects.get("environment", "e1")).toEqual(ring);
        expect(await journal.objects.findByKey("environment", "ring")).toEqual(ring);
        expect(await journal.objects.list("environment")).toEqual([ring]);
        expect(await journal.objects.get("machine", "e1")).toBeUndefined();
      });
    });

    test("a key belongs to one id", async () => {
      await store.transaction((journal) =>
        journal.objects.put(environment({ id: "e1", key: "ring", version: 1 })),
      );
      await expectFault(
        store.transaction((journal) =>
          journal.objects.put(environment({ id: "e2", key: "ring", version: 1 })),
        ),
        "conflict.exists",
      );
    });

    test.each([
      { version: 1, refused: true },
      { version: 2, refused: false },
      { version: 3, refused: true },
    ])("version $version on a stored version 1: refused $refused", async ({ version, refused }) => {
      await store.transaction((journal) =>
        journal.objects.put(environment({ id: "e1", key: "ring", version: 1 })),
      );
      const change = store.transaction((journal) =>
        journal.objects.put(environment({ id: "e1", key: "ring", version })),
      );
      if (refused) await expectFault(change, "conflict.version");
      else await change;
    });

    test("the key of a call stands and falls with the call's first event, and keeps which events are its own", async () => {
      const event = { kind: "hold.changed", atMs: 5, data: {} } as const;
      const call = { id: "c1", digest: "d1", atMs: 5, noted: false };
      const stop = new Error("stop");
      const kept = () => store.read((journal) => journal.calls.get("c1"));
      await expect(
        withCall(call, () =>
          store.transaction(async (journal) => {
            await journal.events.append(event);
            throw stop;
          }),
        ),
      ).rejects.toBe(stop);
      expect([call.noted, await kept()]).toEqual([true, undefined]);
      const [first, last] = await withCall(call, () =>
        store.transaction(async (journal) => [
          (await journal.events.append(event)).seq,
          (await journal.events.append(event)).seq,
        ]),
      );
      // What goes on after its end is nobody's.
      await store.transaction((journal) => journal.events.append(event));
      const noted = { id: "c1", digest: "d1", atMs: 5, events: { first, last } };
      expect(await kept()).toEqual({ ...noted, told: undefined });
      const told = { status: 201, body: "{}" };
      await store.transaction((journal) => journal.calls.put({ ...noted, told }));
      expect(await kept()).toEqual({ ...noted, told });
      await store.transaction((journal) => journal.calls.removeBefore(5));
      expect(await kept()).toEqual({ ...noted, told });
      await store.transaction((journal) => journal.calls.removeBefore(6));
      expect(await kept()).toBeUndefined();
    });

    test("a transaction that throws leaves nothing, not even its events", async () => {
      const seen: number[] = [];
      store.onCommit((seq) => seen.push(seq));
      await expect(
        store.transaction(async (journal) => {
          await journal.objects.put(environment({ id: "e1", key: "ring", version: 1 }));
          await journal.events.append({ kind: "object.changed", atMs: 1, data: {} });
          throw new Error("no");
        }),
      ).rejects.toThrow("no");
      await store.read(async (journal) => {
        expect(await journal.objects.list("environment")).toEqual([]);
        expect(await journal.events.last()).toBe(0);
      });
      expect(seen).toEqual([]);
    });

    test("transactions run one after the other", async () => {
      await store.transaction((journal) =>
        journal.objects.put(environment({ id: "e1", key: "ring", version: 1 })),
      );
      await Promise.all(
        Array.from({ length: 20 }, () =>
          store.transaction(async (journal) => {
            const record = await journal.objects.get("environment", "e1");
            if (record === undefined) throw new Error("gone");
            await Promise.resolve();
            await journal.objects.put({ ...record, version: record.version + 1 });
          }),
        ),
      );
      const record = await store.read((journal) => journal.objects.get("environment", "e1"));
      expect(record?.version).toBe(21);
    });

    test("events count up and are told after the commit, once a transaction", async () => {
      const seen: number[] = [];
      const end = store.onCommit((seq) => seen.push(seq));
      await store.transaction(async (journal) => {
        await journal.events.append({ kind: "host.state", atMs: 1, data: { host: "a" } });
        await journal.events.append({ kind: "host.state", atMs: 2, machineId: "m", data: {} });
      });
      await store.transaction(async () => undefined);
      end();
      await store.transaction((journal) =>
        journal.events.append({ kind: "host.state", atMs: 3, data: {} }),
      );
      expect(seen).toEqual([2]);
      expect(await store.read((journal) => journal.events.since(1, 1))).toEqual([
        { seq: 2, kind: "host.state", atMs: 2, environmentId: undefined, machineId: "m", data: {} },
      ]);
      expect(await store.read((journal) => journal.events.last())).toBe(3);
    });

    test("the asker's request is found by its key, another asker's is not", async () => {
      const request = requestOf("r1", "rank-0", "7");
      await store.transaction((journal) => journal.requests.add(request));
      await store.read(async (journal) => {
        expect(await journal.requests.findByKey("rank-0", "7")).toEqual(request);
        expect(await journal.requests.findByKey("rank-1", "7")).toBeUndefined();
        expect(await journal.requests.since(11)).toEqual([]);
        expect(await journal.requests.since(10)).toEqual([request]);
      });
    });

    test("a grant is used once; the same operation may say so again", async () => {
      const grant: Grant = {
        id: "g1",
        kind: "decision",
        planId: "p1",
        planDigest: "d",
        expiresAtMs: 5,
      };
      await store.transaction((journal) => journal.grants.add(grant));
      await store.transaction((journal) => journal.grants.use("g1", "o1"));
      await store.transaction((journal) => journal.grants.use("g1", "o1"));
      await expectFault(
        store.transaction((journal) => journal.grants.use("g1", "o2")),
        "grant.used",
      );
      await expectFault(
        store.transaction((journal) => journal.grants.use("g2", "o2")),
        "grant.unknown",
      );
      expect(await store.read((journal) => journal.grants.get("g1"))).toEqual({
        ...grant,
        usedBy: "o1",
      });
    });

    test("operations are listed by state, machine, environment and request, oldest first", async () => {
      const first = operation({ id: "o1", state: "succeeded", machineIds: ["m1"] });
      const second = operation({ id: "o2", state: "running", machineIds: ["m1", "m2"] });
      await store.transaction(async (journal) => {
        await journal.operations.put({ ...first, state: "pending" });
        await journal.operations.put(second);
        await journal.operations.put(first);
      });
      await store.read(async (journal) => {
        expect(await journal.operations.list({})).toEqual([first, second]);
        expect(await journal.operations.list({ limit: 1 })).toEqual([second]);
        expect(await journal.operations.list({ states: ["running"] })).toEqual([second]);
        expect(await journal.operations.list({ machineId: "m1" })).toEqual([first, second]);
        expect(await journal.operations.list({ machineId: "m2" })).toEqual([second]);
        expect(await journal.operations.list({ requestId: "r2" })).toEqual([]);
      });
    });

    test("a hold is kept by its scope", async () => {
      const hold = { by: "root", reason: "", sinceMs: 1 };
      await store.transaction(async (journal) => {
        await journal.holds.put({ ...hold, scope: "everything" });
        await journal.holds.put({ ...hold, scope: { siteId: "north" } });
        await journal.holds.put({ ...hold, scope: { siteId: "north" }, by: "eve" });
        await journal.holds.remove("everything");
      });
      expect(await store.read((journal) => journal.holds.list())).toEqual([
        { ...hold, scope: { siteId: "north" }, by: "eve" },
      ]);
    });

    test("calling the store inside a transaction is a loud bug, not a deadlock", async () => {
      await expect(store.transaction(() => store.read(async () => undefined))).rejects.toThrow(
        "inside a transaction",
      );
      await store.transaction(async () => undefined);
    });
  });
}

async function expectFault(work: Promise<unknown>, code: string): Promise<void> {
  const error: unknown = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(isFault(error) ? error.code : error).toBe(code);
}

function environment(fields: { id: string; key: string; version: number }): EnvironmentRecord {
  return {
    kind: "environment",
    ...fields,
    environmentId: undefined,
    spec: { name: fields.key, owner: "alice", class: "batch", sites: ["north"] },
    effective: {},
    claimed: false,
    createdAtMs: 1,
  };
}

function requestOf(id: string, subject: string, idempotencyKey: string): Request {
  return {
    id,
    kind: "resize",
    environmentId: "e1",
    subject: { type: "guest", name: subject, roles: [] },
    machines: [{ machineId: "m1", memoryMib: 300 }],
    links: [],
    reason: "",
    idempotencyKey,
    receivedAtMs: 10,
  };
}

function operation(fields: Pick<Operation, "id" | "state" | "machineIds">): Operation {
  return {
    ...fields,
    kind: "adapt",
    environmentId: "e1",
    requestId: "r1",
    planId: "p1",
    grantId: "g1",
    epoch: 1,
    progress: { percent: 0, message: "" },
    cancelRequested: false,
    createdAtMs: 1,
  };
}
