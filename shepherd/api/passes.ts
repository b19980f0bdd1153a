/**
 * Passes: short-lived words that open one thing for whoever shows them, without a token of this shepherd. Kept in memory
 * as hashes and gone with the process: whoever had one asks for another. Knows no route.
 */
import { createHash, randomBytes } from "node:crypto";
import { Fault } from "#model/fault";
import type { MachineId, Ms } from "#model/units";
import type { Clock, Ids } from "#ports/clock";

/** console: the machine's serial console, once. guest: asks in the machine's name, as often as its limits allow. */
export type PassKind = "console" | "guest";

export interface Pass {
  readonly id: string;
  readonly kind: PassKind;
  readonly machineId: MachineId;
  /** Name of the principal that asked for it; only that one renews or ends it. */
  readonly by: string;
  /** What it may ask for; of a guest's pass only. */
  readonly methods: readonly string[];
  readonly lastsMs: Ms;
  readonly expiresAtMs: Ms;
}

/** One that forgets to end its passes, or leaks them, fills no memory. */
const mostAtOnce = 1_000;
const secretBytes = 32;

export class Passes {
  readonly #clock: Clock;
  readonly #ids: Ids;
  /** By the hash of what is shown. */
  readonly #known = new Map<string, Pass>();

  constructor(world: { readonly clock: Clock; readonly ids: Ids }) {
    this.#clock = world.clock;
    this.#ids = world.ids;
  }

  /** `secret` is told this once. Fault `pass.too_many`. */
  issue(asked: Omit<Pass, "id" | "expiresAtMs">): { readonly pass: Pass; readonly secret: string } {
    this.#forget();
    if (this.#known.size >= mostAtOnce) throw new Fault("pass.too_many", { limit: mostAtOnce });
    const secret = `${asked.kind}_${randomBytes(secretBytes).toString("base64url")}`;
    const pass = {
      ...asked,
      id: this.#ids.next(),
      expiresAtMs: this.#clock.nowMs() + asked.lastsMs,
    };
    this.#known.set(hashOf(secret), pass);
    return { pass, secret };
  }

  /** Whose pass this is; a console's is used up by it. Fault `pass.unknown`. */
  show(kind: PassKind, secret: string): Pass {
    this.#forget();
    const hash = hashOf(secret);
    const pass = this.#known.get(hash);
    if (pass?.kind !== kind) throw new Fault("pass.unknown");
    if (kind === "console") this.#known.delete(hash);
    return pass;
  }

  /** Good for as long again from now. Fault `pass.unknown`. */
  renew(id: string, by: string): Pass {
    const [hash, pass] = this.#own(id, by);
    const renewed = { ...pass, expiresAtMs: this.#clock.nowMs() + pass.lastsMs };
    this.#known.set(hash, renewed);
    return renewed;
  }

  /** Ending what has ended is no error. */
  end(id: string, by: string): void {
    for (const [hash, pass] of this.#known) {
      if (pass.id === id && pass.by === by) this.#known.delete(hash);
    }
  }

  #own(id: string, by: string): [string, Pass] {
    this.#forget();
    const found = [...this.#known].find(([, pass]) => pass.id === id && pass.by === by);
    if (found === undefined) throw new Fault("pass.unknown");
    return found;
  }

  #forget(): void {
    const nowMs = this.#clock.nowMs();
    for (const [hash, { expiresAtMs }] of this.#known) {
      if (expiresAtMs <= nowMs) this.#known.delete(hash);
    }
  }
}

function hashOf(secret: string): string {
  return createHash("sha256").update(secret).digest("hex");
}
