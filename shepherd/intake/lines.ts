/**
 * Cuts a byte stream into lines, and never holds more than one line of the limit. A longer line is skipped up to its
 * end without being kept. Knows nothing of what a line says.
 */

/** docs/guest-protocol.md: at most this many bytes, the newline included. */
export const lineLimitBytes = 65_536;

export type Cut =
  | { readonly kind: "line"; readonly bytes: Uint8Array }
  /** Its end was seen; `bytes` long, newline included. */
  | { readonly kind: "too_long"; readonly bytes: number };

const newline = 0x0a;

export class LineCutter {
  readonly #limitBytes: number;
  #kept: Uint8Array[] = [];
  #length = 0;

  constructor(limitBytes: number = lineLimitBytes) {
    this.#limitBytes = limitBytes;
  }

  /** Lines that ended in this chunk, without their newline (and a carriage return before it); empty lines are left out. */
  *push(chunk: Uint8Array): Generator<Cut> {
    let start = 0;
    for (;;) {
      const end = chunk.indexOf(newline, start);
      const part = chunk.subarray(start, end === -1 ? chunk.length : end + 1);
      this.#length += part.length;
      if (this.#length <= this.#limitBytes) this.#kept.push(part);
      else this.#kept = [];
      if (end === -1) return;
      const cut = this.#take();
      if (cut !== undefined) yield cut;
      start = end + 1;
    }
  }

  /** Forgets a line that has begun: after a cut connection its rest never comes. */
  reset(): void {
    this.#kept = [];
    this.#length = 0;
  }

  #take(): Cut | undefined {
    const length = this.#length;
    const whole = Buffer.concat(this.#kept);
    this.reset();
    if (length > this.#limitBytes) return { kind: "too_long", bytes: length };
    const isCrlf = whole.at(-2) === 0x0d;
    const bytes = whole.subarray(0, isCrlf ? -2 : -1);
    return bytes.length === 0 ? undefined : { kind: "line", bytes };
  }
}
