/**
 * libvirt's domain events: what each carries, registration, and dispatch to listeners. There is no replay: after a
 * reconnect register first, then read everything, and only then trust events (host-connections.ts does).
 * Events may come before the reply of the call that caused them; listeners must not await calls of this connection.
 */

import type { RpcConnection } from "#libvirt/rpc/connection";
import { programs } from "#libvirt/rpc/frame";
import { remote } from "#libvirt/rpc/procedures";
import { domainRef } from "#libvirt/rpc/references";
import type { Codec } from "#libvirt/rpc/schema";
import { i32, type Of, optional, string, struct, typedParameters, u64 } from "#libvirt/rpc/schema";
import { limits, XdrReader } from "#libvirt/rpc/xdr";

interface EventRow<T> {
  /** The number to register with. */
  readonly id: number;
  /** The number of the message that brings it. */
  readonly procedure: number;
  readonly payload: Codec<T>;
}
function event<T>(id: number, procedure: number, payload: Codec<T>): EventRow<T> {
  return { id, procedure, payload };
}
const head = { callbackId: i32, domain: domainRef };

export const events = {
  lifecycle: event(0, 318, struct({ ...head, event: i32, detail: i32 })),
  ioErrorReason: event(
    6,
    324,
    struct({ ...head, path: string, alias: string, action: i32, reason: string }),
  ),
  balloonChange: event(13, 331, struct({ ...head, memoryKib: u64 })),
  deviceRemoved: event(15, 333, struct({ ...head, alias: string })),
  blockJob: event(16, 339, struct({ ...head, target: string, type: i32, status: i32 })),
  tunable: event(17, 346, struct({ ...head, parameters: typedParameters() })),
  agentLifecycle: event(18, 348, struct({ ...head, state: i32, reason: i32 })),
  deviceAdded: event(19, 354, struct({ ...head, alias: string })),
  migrationIteration: event(20, 359, struct({ ...head, iteration: i32 })),
  jobCompleted: event(
    21,
    363,
    struct({ ...head, parameters: typedParameters(limits.jobStatsParameters) }),
  ),
  deviceRemovalFailed: event(22, 367, struct({ ...head, alias: string })),
  blockThreshold: event(
    24,
    385,
    struct({
      ...head,
      device: string,
      path: optional(string),
      thresholdBytes: u64,
      excessBytes: u64,
    }),
  ),
  memoryDeviceSize: event(26, 438, struct({ ...head, alias: string, sizeKib: u64 })),
} as const;
export type EventName = keyof typeof events;
export type EventPayload<Name extends EventName> = Of<(typeof events)[Name]["payload"]>;

/** Message number of "the daemon's own connection to its driver closed"; needs no registration. */
const driverConnectionClosed = 362;

/** Lifecycle numbers of libvirt. */
export const lifecycle = {
  defined: 0,
  undefined: 1,
  started: 2,
  suspended: 3,
  resumed: 4,
  stopped: 5,
  shutdown: 6,
  pmSuspended: 7,
  crashed: 8,
} as const;

/** Why a migration appears in lifecycle details. */
export const lifecycleDetails = {
  startedMigrated: 1,
  suspendedMigrated: 1,
  resumedMigrated: 1,
  stoppedMigrated: 3,
} as const;

export type EventListeners = {
  readonly [Name in EventName]?: (payload: EventPayload<Name>) => void;
};

export interface Subscription {
  /** Deregisters; quiet when the connection is gone already. */
  close(): Promise<void>;
}

/**
 * Registers for the named events of all domains, or of one. Events that arrive between the daemon's registration and
 * its reply are kept. A payload that does not decode closes the connection: the two ends disagree about types.
 */
export async function subscribe(
  connection: RpcConnection,
  listeners: EventListeners,
  options: { readonly domain?: Of<typeof domainRef>; readonly onDriverLost?: () => void } = {},
): Promise<Subscription> {
  const names = Object.keys(listeners) as EventName[];
  const wanted = new Map(names.map((name) => [events[name].procedure, name]));
  const callbackIds = new Set<number>();
  let early: (() => void)[] | undefined = [];

  const stopListening = connection.onMessage((frame) => {
    if (frame.program !== programs.remote) return;
    if (frame.procedure === driverConnectionClosed) return options.onDriverLost?.();
    const name = wanted.get(frame.procedure);
    if (name === undefined) return;
    const payload = decode(name, frame.payload);
    const deliver = () => {
      if (callbackIds.has(payload.callbackId)) call(listeners, name, payload);
    };
    if (early === undefined) deliver();
    else early.push(deliver);
  });
  try {
    for (const name of names) {
      const { callbackId } = await connection.call(remote.registerDomainEvent, {
        eventId: events[name].id,
        domain: options.domain,
      });
      callbackIds.add(callbackId);
    }
  } catch (error) {
    stopListening();
    throw error;
  }
  const kept = early;
  early = undefined;
  for (const deliver of kept) deliver();

  return {
    close: async () => {
      stopListening();
      if (!connection.isOpen) return;
      const ids = [...callbackIds];
      await Promise.all(
        ids.map((callbackId) => connection.call(remote.deregisterDomainEvent, { callbackId })),
      );
    },
  };
}

function decode<Name extends EventName>(name: Name, bytes: Buffer): EventPayload<Name> {
  const reader = new XdrReader(bytes);
  const payload = events[name].payload.decode(reader);
  reader.end();
  return payload as EventPayload<Name>;
}

function call<Name extends EventName>(
  listeners: EventListeners,
  name: Name,
  payload: EventPayload<Name>,
): void {
  const listener = listeners[name] as ((payload: EventPayload<Name>) => void) | undefined;
  listener?.(payload);
}
