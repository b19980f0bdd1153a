/**
 * Makes a Request of what is asked: the one place that fills in id, time, key and the empty rest. Knows no way in; who
 * asks was found out before.
 */
import type { Request, Subject } from "#model/request";
import type { Clock, Ids } from "#ports/clock";

export type NewRequest = Pick<Request, "kind" | "environmentId" | "subject" | "reason"> &
  Partial<Omit<Request, "id" | "receivedAtMs">>;

/** The shepherd itself, where it acts by its own promise: leases, repairs, recalls, drains. */
export const shepherdSubject: Subject = { type: "shepherd", name: "shepherd", roles: [] };

/** Without a key of the asker its id is its key: nobody asks for the same thing again. */
export function newRequest(
  world: { readonly ids: Ids; readonly clock: Clock },
  asked: NewRequest,
): Request {
  const id = world.ids.next();
  return {
    machines: [],
    links: [],
    idempotencyKey: id,
    ...asked,
    id,
    receivedAtMs: world.clock.nowMs(),
  };
}
