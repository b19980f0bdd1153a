/**
 * What was made of the last few objects, for whoever asks again in a moment. Where a WeakMap would do but its values are
 * large and many: the collector's frequent small rounds carry each of them along until a full one (measured with texts of
 * 20 to 30 KB: 3 to 6 ms a round instead of 0.3, one round in a hundred decisions). Holds as many as it was made for.
 */
export class Recent<Key extends object, Value> {
  /** Overwritten in turn and never longer: a Map that is emptied by hand leaves a trail of tables that hold on to it all. */
  readonly #keys: (Key | undefined)[];
  readonly #values: (Value | undefined)[];
  #next = 0;

  constructor(count: number) {
    this.#keys = Array.from({ length: count });
    this.#values = Array.from({ length: count });
  }

  get(key: Key): Value | undefined {
    const at = this.#keys.indexOf(key);
    return at === -1 ? undefined : this.#values[at];
  }

  /** Forgets the oldest. */
  set(key: Key, value: Value): void {
    this.#keys[this.#next] = key;
    this.#values[this.#next] = value;
    this.#next = (this.#next + 1) % this.#keys.length;
  }
}
