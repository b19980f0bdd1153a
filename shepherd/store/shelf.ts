/**
 * The objects of one kind in memory: by id, by key, and in the order of their keys, all of them, those of an environment,
 * those on a host. Lists are handed out frozen and copied at the next change, so that nobody's list changes under him.
 * Knows no table and no transaction.
 */
import type { AnyObjectRecord } from "#model/objects";
import type { EnvironmentId, HostId } from "#model/units";

export class Shelf {
  readonly #byId = new Map<string, AnyObjectRecord>();
  readonly #idOfKey = new Map<string, string>();
  readonly #all = new Row();
  readonly #ofEnvironment = new Map<EnvironmentId, Row>();
  readonly #onHost = new Map<HostId, Row>();

  get(id: string): AnyObjectRecord | undefined {
    return this.#byId.get(id);
  }

  findByKey(key: string): AnyObjectRecord | undefined {
    const id = this.#idOfKey.get(key);
    return id === undefined ? undefined : this.#byId.get(id);
  }

  list(filter: Filter): readonly AnyObjectRecord[] {
    const { environmentId, hostId } = filter;
    if (hostId !== undefined) {
      const here = this.#onHost.get(hostId)?.list() ?? [];
      return environmentId === undefined
        ? here
        : here.filter((record) => record.environmentId === environmentId);
    }
    if (environmentId !== undefined) return this.#ofEnvironment.get(environmentId)?.list() ?? [];
    return this.#all.list();
  }

  /** The record in place of the one with its id; undefined takes that one away. Returns what was there. */
  replace(id: string, record: AnyObjectRecord | undefined): AnyObjectRecord | undefined {
    const before = this.#byId.get(id);
    if (before !== undefined) this.#takeOut(before, record);
    if (record === undefined) return before;
    this.#byId.set(id, record);
    this.#idOfKey.set(record.key, id);
    this.#all.put(record);
    const { environmentId } = record;
    if (environmentId !== undefined) rowOf(this.#ofEnvironment, environmentId).put(record);
    rowOf(this.#onHost, hostOf(record)).put(record);
    return before;
  }

  /** Stays where the next one will stand too: it is replaced there. */
  #takeOut(before: AnyObjectRecord, next: AnyObjectRecord | undefined): void {
    const isSameKey = next?.key === before.key;
    if (next === undefined) this.#byId.delete(before.id);
    if (!isSameKey) {
      this.#idOfKey.delete(before.key);
      this.#all.remove(before);
    }
    const { environmentId } = before;
    if (environmentId !== undefined && !(isSameKey && next.environmentId === environmentId)) {
      removeFrom(this.#ofEnvironment, environmentId, before);
    }
    const hostId = hostOf(before);
    if (!(isSameKey && hostOf(next) === hostId)) removeFrom(this.#onHost, hostId, before);
  }
}

export interface Filter {
  readonly environmentId?: EnvironmentId;
  readonly hostId?: HostId;
}

/** In the order of their keys. */
class Row {
  #records: AnyObjectRecord[] = [];
  /** Somebody holds the list: the next change is made to a copy. */
  #isOut = false;

  get isEmpty(): boolean {
    return this.#records.length === 0;
  }

  list(): readonly AnyObjectRecord[] {
    if (!this.#isOut) Object.freeze(this.#records);
    this.#isOut = true;
    return this.#records;
  }

  put(record: AnyObjectRecord): void {
    const at = this.#placeOf(record.key);
    this.#own().splice(at, this.#records[at]?.key === record.key ? 1 : 0, record);
  }

  remove({ key }: AnyObjectRecord): void {
    const at = this.#placeOf(key);
    if (this.#records[at]?.key === key) this.#own().splice(at, 1);
  }

  /** One that nobody else holds. */
  #own(): AnyObjectRecord[] {
    if (this.#isOut) this.#records = [...this.#records];
    this.#isOut = false;
    return this.#records;
  }

  /** Where the key stands or would stand. */
  #placeOf(key: string): number {
    let [from, to] = [0, this.#records.length];
    // rows are read in order: mostly it is the end
    const last = this.#records.at(-1);
    if (last !== undefined && last.key < key) return to;
    while (from < to) {
      const middle = (from + to) >> 1;
      if ((this.#records[middle]?.key ?? "") < key) from = middle + 1;
      else to = middle;
    }
    return from;
  }
}

function rowOf(rows: Map<string, Row>, name: string): Row {
  const known = rows.get(name);
  if (known !== undefined) return known;
  const made = new Row();
  rows.set(name, made);
  return made;
}

function removeFrom(rows: Map<string, Row>, name: string, record: AnyObjectRecord): void {
  const row = rows.get(name);
  row?.remove(record);
  if (row?.isEmpty === true) rows.delete(name);
}

/** Where it is in force; empty for what is nowhere. */
function hostOf(record: AnyObjectRecord | undefined): HostId {
  return record !== undefined && "hostId" in record.effective
    ? (record.effective.hostId ?? "")
    : "";
}
