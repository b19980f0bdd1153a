/**
 * The other way in for guests: one request of the guest protocol at a time, from whoever holds a guest's pass, judged on
 * the same path as what comes through the machine's channel. Each machine has one session here, so that its limits hold
 * over all its calls. Knows no HTTP; the route shows who asks.
 */
import { Duplex } from "node:stream";
import { GuestSession, type SessionWorld } from "#intake/guest-session";
import { RefusalCounter } from "#intake/limits";
import { Fault } from "#model/fault";
import type { EnvironmentId, MachineId, Ms } from "#model/units";

export interface GuestDoor {
  /**
   * The first answer to a request, as the protocol words it; slow work answers `pending`, and asked again with the same
   * id it tells how it ended. Fault `guest.no_answer` when it came too fast to be read at all.
   */
  ask(machine: Asker, request: GuestRequest): Promise<object>;
  stop(): Promise<void>;
}
export interface Asker {
  readonly id: MachineId;
  readonly environmentId: EnvironmentId | undefined;
}
export interface GuestRequest {
  readonly jsonrpc: "2.0";
  readonly id: string;
  readonly method: string;
  readonly params?: unknown;
}

/** Longer than the session takes to say `pending`; under a flood it says nothing at all. */
const answerMs: Ms = 15_000;
/** Machines that asked lately; the one that was silent longest makes room. */
const mostSessions = 1_000;

interface Room {
  /** Where requests go in. */
  readonly line: Duplex;
  readonly waiting: Map<string, ((answer: object) => void)[]>;
}

export function createGuestDoor(options: Omit<SessionWorld, "refusals">): GuestDoor {
  const world: SessionWorld = { ...options, refusals: new RefusalCounter(options) };
  const rooms = new Map<MachineId, Room>();

  const roomOf = (machine: Asker): Room => {
    const known = rooms.get(machine.id);
    rooms.delete(machine.id);
    const room = known ?? open(machine, world);
    rooms.set(machine.id, room); // the newest stands last
    const [oldest] = rooms.keys();
    if (rooms.size > mostSessions && oldest !== undefined) {
      rooms.get(oldest)?.line.destroy();
      rooms.delete(oldest);
    }
    return room;
  };

  return {
    async ask(machine, request) {
      const { line, waiting } = roomOf(machine);
      const late = new AbortController();
      const answered = new Promise<object>((resolve) => {
        waiting.set(request.id, [...(waiting.get(request.id) ?? []), resolve]);
      });
      line.push(`${JSON.stringify(request)}\n`);
      const tooLate = world.clock.sleep(answerMs, late.signal).then(() => {
        throw new Fault("guest.no_answer", { machine: machine.id });
      });
      tooLate.catch(() => undefined); // aborted once the answer is there
      try {
        return await Promise.race([answered, tooLate]);
      } finally {
        late.abort();
        waiting.delete(request.id);
      }
    },
    async stop() {
      for (const { line } of rooms.values()) line.destroy();
      rooms.clear();
      await world.refusals.flush();
    },
  };
}

/** A session that believes to have a channel; its answers go to who waits for them by id, the rest to nobody. */
function open(machine: Asker, world: SessionWorld): Room {
  const waiting: Room["waiting"] = new Map();
  let rest = "";
  const line = new Duplex({
    read: () => undefined,
    write: (chunk: Buffer, _encoding, done) => {
      const lines = `${rest}${chunk.toString("utf8")}`.split("\n");
      rest = lines.pop() ?? "";
      for (const text of lines) tell(text);
      done();
    },
  });
  const tell = (text: string) => {
    const message = JSON.parse(text) as { readonly id?: string | null };
    const answers = waiting.get(message.id ?? "") ?? [];
    waiting.delete(message.id ?? "");
    for (const answer of answers) answer(message);
  };
  void new GuestSession(machine, world).serve(line);
  return { line, waiting };
}
