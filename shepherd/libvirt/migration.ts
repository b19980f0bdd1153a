/**
 * The two halves of a managed live migration: the shepherd carries the cookies, the hosts never log in to each other.
 *   source            destination
 *   begin  ------xml, cookie---->  prepare (QEMU listens)
 *   perform <----uri, cookie----   (disk, then memory; the source is suspended at the end)
 *          ------cookie--------->  finish  (the guest runs here, or is dropped when cancelled)
 *   confirm <----cookie---------   (the source forgets the domain, or resumes it when cancelled)
 * Each half has a connection of its own; libvirt ties the job to it: when it ends before the source is suspended, both
 * sides roll back by themselves. The one bad window and its repair: reference/libvirt.md 4.4.
 * Decides nothing: whether to cancel is the operation's word.
 */
import type { Domains } from "#libvirt/domains";
import {
  crawlMibps,
  createPace,
  type Pace,
  type PaceLook,
  stopsForMemory,
} from "#libvirt/migration-pace";
import type { RpcConnection } from "#libvirt/rpc/connection";
import { lifecycle, subscribe } from "#libvirt/rpc/events";
import type { HostConnections } from "#libvirt/rpc/host-connections";
import { remote } from "#libvirt/rpc/procedures";
import { domainOf } from "#libvirt/rpc/references";
import { numberIn, type TypedParameter } from "#libvirt/rpc/schema";
import { readDomain } from "#libvirt/xml/read-domain";
import { Fault, isFault } from "#model/fault";
import type { Ms } from "#model/units";
import type { Clock } from "#ports/clock";
import type {
  MigrationDestination,
  MigrationParameters,
  MigrationProgress,
  MigrationSource,
} from "#ports/host";

const flag = {
  live: 1 << 0,
  persistDestination: 1 << 3,
  undefineSource: 1 << 4,
  /** Without `migrate_disks` all disks that are written to; of a chain the top, of a file by itself all of it. */
  copyTopLayer: 1 << 7,
  changeProtection: 1 << 8,
  abortOnError: 1 << 12,
  autoConverge: 1 << 13,
  postCopy: 1 << 15,
  tls: 1 << 16,
} as const;

/** QEMU's own default; the policy may allow more or less. */
const defaultMaxDowntimeMs = 300;
/** A small guest's memory takes less than a second: the pace must be looked at often. */
const pacePollMs = 50;
const progressEveryMs = 250;
/** How long the final figures of a job may take after its confirmation. */
const completionWaitMs = 2_000;
/** The phases around the copy. The copy itself has no time limit: it is supervised, and aborted on purpose. */
const phaseTimeoutMs = 60_000;
const megabitsPerMebibyte = 8.388608;
/** libvirt's own word for no limit: what its byte count can hold. */
const noLimitMibps = Math.floor(Number.MAX_SAFE_INTEGER / 1024 / 1024);

export interface MigrationRoom {
  readonly connections: HostConnections;
  readonly domains: Domains;
  readonly clock: Clock;
}

export async function openSource(
  room: MigrationRoom,
  parameters: MigrationParameters,
): Promise<MigrationSource> {
  const connection = await room.connections.own("migration");
  const domain = domainOf(parameters.machineId);
  const flags = flagsOf(parameters);
  const given = typedParametersOf(parameters);
  let report: ((progress: MigrationProgress) => void) | undefined;
  let suspended = false;
  const completed = Promise.withResolvers<readonly TypedParameter[]>();
  // Subscribed before anything happens; the events come on the connection of the job.
  await subscribe(
    connection,
    {
      lifecycle: (payload) => {
        if (payload.event === lifecycle.suspended) suspended = true;
      },
      jobCompleted: (payload) => completed.resolve(payload.parameters),
    },
    { domain },
  );
  let begun = false;
  let failed = false;
  let standsStill = true;
  return {
    async begin() {
      await room.domains.spreadCap(parameters.machineId, true);
      begun = true;
      const { cookie, xml } = await connection.call(
        remote.domainMigrateBegin3Params,
        { domain, parameters: given, flags },
        { timeoutMs: phaseTimeoutMs },
      );
      const { version } = await connection.call(
        remote.getVersion,
        {},
        { timeoutMs: phaseTimeoutMs },
      );
      const { acceleration } = readDomain(xml);
      standsStill = stopsForMemory({ acceleration, qemuVersion: version });
      return { cookie, domainXml: xml };
    },

    async perform(prepared, onProgress) {
      report = onProgress;
      const uri = { field: "migrate_uri", type: "string", value: prepared.uri } as const;
      const pacer = new Pacer(connection, parameters, { clock: room.clock, standsStill });
      await pacer.start();
      const performing = connection.call(remote.domainMigratePerform3Params, {
        domain,
        destinationUri: undefined,
        parameters: [...given, uri],
        cookie: prepared.cookie,
        flags,
      });
      const done = new AbortController();
      const watching = watchProgress(room.clock, connection, parameters, {
        signal: done.signal,
        onProgress,
        isSuspended: () => suspended,
        pacer,
      });
      try {
        return (await performing).cookie;
      } catch (error) {
        failed = true;
        throw error;
      } finally {
        done.abort(new Error("the copy has ended"));
        await watching;
      }
    },

    async confirm(end) {
      // A copy that failed or was aborted has ended the job already; libvirt would know of none.
      if (end.cancelled && failed) return restoreCap(room, parameters);
      await connection.call(
        remote.domainMigrateConfirm3Params,
        { domain, parameters: given, cookie: end.cookie, flags, cancelled: end.cancelled },
        { timeoutMs: phaseTimeoutMs },
      );
      if (end.cancelled) return restoreCap(room, parameters);
      const figures = await withinMs(room.clock, completed.promise, completionWaitMs);
      if (figures !== undefined) report?.(progressOf(figures, "done"));
    },

    async abort() {
      await connection.call(remote.domainAbortJob, { domain }, { timeoutMs: phaseTimeoutMs });
    },

    async setBandwidth(mbps) {
      const bandwidthMibps = mbps === undefined ? noLimitMibps : mibpsOf(mbps);
      await connection.call(
        remote.domainMigrateSetMaxSpeed,
        { domain, bandwidthMibps, flags: 0 },
        { timeoutMs: phaseTimeoutMs },
      );
    },

    async startPostCopy() {
      await connection.call(
        remote.domainMigrateStartPostCopy,
        { domain, flags: 0 },
        { timeoutMs: phaseTimeoutMs },
      );
    },

    async close() {
      await connection.close();
      // Rolled back by the loss of its connection, for instance: the guest may still be here.
      if (begun) await restoreCap(room, parameters);
    },
  };
}

export async function openDestination(
  room: MigrationRoom,
  parameters: MigrationParameters,
): Promise<MigrationDestination> {
  const connection = await room.connections.own("migration");
  // These two concern only the source; libvirt's own client takes them off as well.
  const flags = flagsOf(parameters) & ~(flag.abortOnError | flag.autoConverge);
  const base = typedParametersOf(parameters);
  let name: string | undefined;
  let arrived = false;
  return {
    async prepare(begun) {
      name = readDomain(begun.domainXml).name;
      const listen = bracketed(parameters.destinationAddress);
      const { cookie, uri } = await connection.call(
        remote.domainMigratePrepare3Params,
        {
          parameters: [
            ...base,
            { field: "destination_xml", type: "string", value: begun.domainXml },
            { field: "migrate_uri", type: "string", value: `tcp://${listen}` },
            { field: "listen_address", type: "string", value: parameters.destinationAddress },
          ],
          cookie: begun.cookie,
          flags,
        },
        { timeoutMs: phaseTimeoutMs },
      );
      if (uri === undefined) {
        throw new Fault("libvirt.protocol", { problem: "PREPARE gave no address to migrate to" });
      }
      return { cookie, uri };
    },

    async finish(performed) {
      if (name === undefined) throw new Error("finish before prepare");
      try {
        const { cookie } = await connection.call(
          remote.domainMigrateFinish3Params,
          {
            parameters: [...base, { field: "destination_name", type: "string", value: name }],
            cookie: performed.cookie,
            flags,
            cancelled: performed.cancelled,
          },
          { timeoutMs: phaseTimeoutMs },
        );
        arrived = !performed.cancelled;
        return { cookie };
      } catch (error) {
        // Of a cancelled move there is no domain to answer with: libvirt calls that an error.
        if (performed.cancelled && isFault(error) && error.code !== "libvirt.disconnected") {
          return { cookie: new Uint8Array() };
        }
        throw error;
      }
    },

    async close() {
      await connection.close();
      // The cap holds in either form: whoever waits to reach the guest does not wait for this.
      if (arrived) await restoreCap(room, parameters);
    },
  };
}

function flagsOf(parameters: MigrationParameters): number {
  return (
    flag.live |
    flag.persistDestination |
    flag.undefineSource |
    flag.changeProtection |
    flag.abortOnError |
    (parameters.mayThrottle === false ? 0 : flag.autoConverge) |
    (parameters.mayPostCopy === true ? flag.postCopy : 0) |
    (parameters.tls === undefined ? 0 : flag.tls) |
    (parameters.copyDisk ? flag.copyTopLayer : 0)
  );
}

function typedParametersOf(parameters: MigrationParameters): readonly TypedParameter[] {
  const mibps =
    parameters.bandwidthMbps === undefined ? undefined : mibpsOf(parameters.bandwidthMbps);
  return [
    // Always said: a certificate's name is not what an address resolves to.
    ...(parameters.tls === undefined
      ? []
      : [
          {
            field: "tls.destination",
            type: "string",
            value: parameters.tls.destinationName,
          } as const,
        ]),
    ...(mibps === undefined ? [] : [{ field: "bandwidth", type: "ullong", value: mibps } as const]),
  ];
}

/** libvirt counts mebibytes. */
function mibpsOf(mbps: number): number {
  return Math.max(1, Math.floor(mbps / megabitsPerMebibyte));
}

/** Asks for figures until told to stop. Its answers decide nothing, so that errors of a passing job are no news. */
async function watchProgress(
  clock: Clock,
  connection: RpcConnection,
  parameters: MigrationParameters,
  watch: {
    readonly signal: AbortSignal;
    readonly onProgress: (progress: MigrationProgress) => void;
    readonly isSuspended: () => boolean;
    readonly pacer: Pacer;
  },
): Promise<void> {
  const args = { domain: domainOf(parameters.machineId), flags: 0 };
  let reported = { phase: "", atMs: 0 };
  while (!watch.signal.aborted) {
    try {
      const { type, parameters: figures } = await connection.call(remote.domainGetJobStats, args, {
        timeoutMs: phaseTimeoutMs,
      });
      const phase = watch.isSuspended() ? "switch" : runningPhase(figures);
      const atMs = clock.nowMs();
      if (type !== 0 && !watch.signal.aborted) {
        if (phase !== "switch") await watch.pacer.adapt(phase, figures);
        if (phase !== reported.phase || atMs - reported.atMs >= progressEveryMs) {
          reported = { phase, atMs };
          watch.onProgress(progressOf(figures, phase));
        }
      }
    } catch (error) {
      if (!isFault(error)) throw error;
    }
    await clock.sleep(pacePollMs, watch.signal).catch((error: unknown) => {
      if (!watch.signal.aborted) throw error;
    });
  }
}

/** Keeps QEMU's limit of the last stop, and its speed, at what migration-pace.ts says for the figures seen. */
class Pacer {
  readonly #connection: RpcConnection;
  readonly #parameters: MigrationParameters;
  readonly #clock: Clock;
  readonly #standsStill: boolean;
  readonly #pace: Pace;
  #limitMs: Ms | undefined;
  #crawls = false;

  constructor(
    connection: RpcConnection,
    parameters: MigrationParameters,
    given: { readonly clock: Clock; readonly standsStill: boolean },
  ) {
    this.#connection = connection;
    this.#parameters = parameters;
    this.#clock = given.clock;
    this.#standsStill = given.standsStill;
    this.#pace = createPace({
      stopsForMemory: given.standsStill,
      maxDowntimeMs: parameters.maxDowntimeMs ?? defaultMaxDowntimeMs,
      mayRaise: parameters.mayRaiseDowntime !== false,
      throttles: parameters.mayThrottle !== false,
    });
  }

  /** Before the copy. An earlier move that failed may have left the guest crawling. */
  async start(): Promise<void> {
    if (this.#standsStill) await this.#setSpeed(noLimitMibps);
    await this.#setLimit(this.#pace.firstMs);
  }

  /** libvirt gives the disk's copy its speed when it starts, and the memory's goes by what is set until then. */
  async adapt(phase: "disk" | "memory", figures: readonly TypedParameter[]): Promise<void> {
    if (this.#standsStill && !this.#crawls) {
      this.#crawls = true;
      await this.#setSpeed(crawlMibps);
    }
    if (phase !== "memory") return;
    const look: PaceLook = {
      atMs: this.#clock.nowMs(),
      round: numberIn(figures, "memory_iteration") ?? 0,
      remainingBytes: numberIn(figures, "memory_remaining") ?? 0,
    };
    await this.#setLimit(this.#pace.limitMs(look));
  }

  async #setLimit(limitMs: Ms): Promise<void> {
    if (limitMs === this.#limitMs) return;
    this.#limitMs = limitMs;
    await this.#connection.call(
      remote.domainMigrateSetMaxDowntime,
      { domain: domainOf(this.#parameters.machineId), downtimeMs: limitMs, flags: 0 },
      { timeoutMs: phaseTimeoutMs },
    );
  }

  async #setSpeed(bandwidthMibps: number): Promise<void> {
    await this.#connection.call(
      remote.domainMigrateSetMaxSpeed,
      { domain: domainOf(this.#parameters.machineId), bandwidthMibps, flags: 0 },
      { timeoutMs: phaseTimeoutMs },
    );
  }
}

function runningPhase(figures: readonly TypedParameter[]): "disk" | "memory" {
  const memoryBytes = numberIn(figures, "memory_total") ?? 0;
  return memoryBytes === 0 ? "disk" : "memory";
}

function progressOf(
  figures: readonly TypedParameter[],
  phase: MigrationProgress["phase"],
): MigrationProgress {
  return {
    phase,
    // Empty pages and clusters are not sent: what was, is known at the end.
    totalBytes: numberIn(figures, phase === "done" ? "data_processed" : "data_total") ?? 0,
    remainingBytes: phase === "done" ? 0 : (numberIn(figures, "data_remaining") ?? 0),
    elapsedMs: numberIn(figures, "time_elapsed") ?? 0,
    iteration: numberIn(figures, "memory_iteration"),
    bytesPerS: phase === "disk" ? numberIn(figures, "disk_bps") : numberIn(figures, "memory_bps"),
    dirtyBytesPerS: dirtyBytesPerS(figures),
    throttlePercent: numberIn(figures, "auto_converge_throttle"),
    downtimeMs: phase === "done" ? numberIn(figures, "downtime") : undefined,
  };
}

/** libvirt counts pages. */
function dirtyBytesPerS(figures: readonly TypedParameter[]): number | undefined {
  const pages = numberIn(figures, "memory_dirty_rate");
  return pages === undefined ? undefined : pages * (numberIn(figures, "memory_page_size") ?? 4096);
}

/** The cap holds in either form; a host that does not answer now gets the usual form with the next change. */
async function restoreCap(room: MigrationRoom, parameters: MigrationParameters): Promise<void> {
  try {
    await room.domains.spreadCap(parameters.machineId, false);
  } catch (error) {
    if (!isFault(error)) throw error;
  }
}

async function withinMs<T>(clock: Clock, promise: Promise<T>, ms: Ms): Promise<T | undefined> {
  const stop = new AbortController();
  const pause = clock.sleep(ms, stop.signal).then(
    () => undefined,
    () => undefined,
  );
  try {
    return await Promise.race([promise, pause]);
  } finally {
    stop.abort(new Error("no longer needed"));
  }
}

function bracketed(address: string): string {
  return address.includes(":") ? `[${address}]` : address;
}
