/**
 * Every call to a host as a span under whatever called, whichever world the host is of: `host.setMemory`,
 * `volumes.upload`, `network.apply`; and as a line of the log, at level debug, when an operation makes it. Calls that nobody
 * follows pass straight through. Decides nothing.
 */
import type { Logger } from "pino";
import { toFaultData } from "#model/fault";
import type { HostId } from "#model/units";
import type { Hosts } from "#ports/host";
import { isOfOperation, openChildSpan } from "#ports/tracing";

/** Parts of a host that have calls of their own. */
const parts: ReadonlySet<string> = new Set(["volumes"]);

type CallLog = Pick<Logger, "debug" | "isLevelEnabled">;

export function withSpans(hosts: Hosts, log?: CallLog): Hosts {
  const known = new WeakMap<object, object>();
  /** The same host stays the same object: whoever compares them must find them equal. */
  const traced = <T extends object>(target: T, prefix: string, hostId: HostId): T => {
    const made =
      (known.get(target) as T | undefined) ?? traceCalls(target, prefix, { hostId, log });
    known.set(target, made);
    return made;
  };
  return {
    get: (id) => traced(hosts.get(id), "host", id),
    network: (id) => traced(hosts.network(id), "network", id),
  };
}

interface Place {
  readonly hostId: HostId;
  readonly log: CallLog | undefined;
}

function traceCalls<T extends object>(target: T, prefix: string, at: Place): T {
  const made = new Map<PropertyKey, unknown>();
  return new Proxy(target, {
    get(_, key) {
      const value: unknown = Reflect.get(target, key, target);
      if (typeof key !== "string") return value;
      if (typeof value === "function") {
        // The same function for the same call: whoever compares them must find them equal.
        const same = made.get(key) ?? traceCall(value.bind(target), `${prefix}.${key}`, at);
        made.set(key, same);
        return same;
      }
      if (!parts.has(key) || typeof value !== "object" || value === null) return value;
      const part = made.get(key) ?? traceCalls(value, key, at);
      made.set(key, part);
      return part;
    },
  });
}

type Call = (...args: readonly unknown[]) => unknown;

/** Only what answers with a promise takes time; the rest (watch, paths, names) ends at once. */
function traceCall(call: Call, name: string, at: Place): Call {
  return (...args) => {
    const span = openCall(name, at);
    if (span === undefined) return call(...args);
    try {
      const value = span.within(() => call(...args));
      if (!(value instanceof Promise)) {
        span.end();
        return value;
      }
      return value.then(
        (given: unknown) => {
          span.end();
          return given;
        },
        (error: unknown) => {
          span.fail(error);
          throw error;
        },
      );
    } catch (error) {
      span.fail(error);
      throw error;
    }
  };
}

/** Undefined: neither followed nor told. */
function openCall(name: string, { hostId, log }: Place): ReturnType<typeof openChildSpan> {
  const span = openChildSpan(name, { host: hostId });
  if (log?.isLevelEnabled("debug") !== true || !isOfOperation()) return span;
  const beganMs = performance.now();
  const say = (more: object = {}) => {
    const durationMs = Math.round(performance.now() - beganMs);
    log.debug({ host: hostId, call: name, durationMs, ...more }, "host called");
  };
  return {
    within: (work) => (span === undefined ? work() : span.within(work)),
    end() {
      span?.end();
      say();
    },
    fail(error) {
      span?.fail(error);
      say({ fault: toFaultData(error) });
    },
  };
}
