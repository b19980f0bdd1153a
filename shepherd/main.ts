/**
 * The shepherd: reads nothing by itself but what drover.yaml names, joins the rooms, starts them in the order that a
 * restart after a crash needs, and stops them in the opposite one. The only place that knows them all.
 */
import type { KeyObject } from "node:crypto";
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type Logger, destination as logDestination, pino } from "pino";
import { createTokenStore } from "#api/access";
import { createBlobStore } from "#api/blobs";
import { imageFiles } from "#api/image-files";
import { createKeyedCalls } from "#api/keyed-calls";
import { removeOrphans } from "#api/orphans";
import { Passes } from "#api/passes";
import { type Api, bySocket, byToken, createApi, listenOnSocket } from "#api/server";
import { createTurns } from "#api/turns";
import type { ApiWorld } from "#api/world";
import type { Configuration } from "#configuration/configuration";
import { withEvidence } from "#evidence/evidence";
import { keepEvidence } from "#evidence/keep";
import { createGuestChannels } from "#intake/guest-channels";
import { createGuestDoor } from "#intake/guest-door";
import { createWriteBack } from "#intake/write-back";
import { Fault } from "#model/fault";
import { standardPolicyLimits } from "#opa/activation";
import { openGenerations } from "#opa/generations";
import { openPolicies } from "#opa/policies";
import { policySources } from "#opa/policy-sources";
import { createReports } from "#opa/reports";
import { withGraves } from "#operations/graves";
import { type HostMarks, openHostMarks } from "#operations/host-marks";
import { createOperations } from "#operations/operations";
import { createPaths } from "#operations/paths";
import { withSpans } from "#operations/traced-hosts";
import { createApprovalTimer } from "#policy/approval-timer";
import { createAudit } from "#policy/audit";
import { readGlassKey } from "#policy/break-glass";
import { createDrains } from "#policy/drains";
import { createGate } from "#policy/gate";
import { createJanitor } from "#policy/janitor";
import { createLeases } from "#policy/leases";
import { createObligationKeeper } from "#policy/obligation-keeper";
import { createRecalls } from "#policy/recalls";
import { createRepairs } from "#policy/repairs";
import type { HostClaim } from "#ports/claim";
import type { Clock } from "#ports/clock";
import type { Store } from "#ports/store";
import { logWords } from "#ports/tracing";
import { createDirtyRates } from "#sensing/dirty-rates";
import { createObserver } from "#sensing/observer";
import { openCheckpointFile, openSigningKeys } from "#store/checkpoint-file";
import { openSnapshots } from "#store/snapshot-files";
import { openSqliteStore } from "#store/sqlite";
import { lockState } from "#store/state-lock";
import { createIds, systemClock } from "#system";
import { startTracing } from "#telemetry";
import { Fleet } from "#worlds/fleet";
import type { HostWorld } from "#worlds/host-world";
import { connectLibvirt } from "#worlds/libvirt";
import { connectSimulated } from "#worlds/simulated";

export const version = "0.1.0";
/** One uploaded file; larger ones are put at the shepherd by other means. */
const maxBlobBytes = 64 * 2 ** 30;

const longestTimerMs = 2 ** 31 - 1;

export interface Shepherd {
  /** Resolves when everything is stopped; running steps end or are left to the journal. */
  stop(): Promise<void>;
  /** Address of the TCP listener, with the port that the kernel chose when it was 0. */
  readonly listening: string | undefined;
}

/** Runs until SIGTERM or SIGINT. Faults `state.locked`, `socket.in_use`, `config.*`. */
export async function runShepherd(
  configuration: Configuration,
  options: { readonly logLevel: string },
): Promise<void> {
  // Synchronous: what was logged before a crash is there.
  const log = pino(
    { level: options.logLevel, name: "shepherd", mixin: logWords },
    logDestination({ fd: 2, sync: true }),
  );
  const shepherd = await startShepherd(configuration, log);
  const signal = await new Promise<string>((resolve) => {
    process.once("SIGTERM", () => resolve("SIGTERM"));
    process.once("SIGINT", () => resolve("SIGINT"));
  });
  log.info({ signal }, "stopping");
  await shepherd.stop();
  log.info("stopped");
}

/** Opens the world that drover.yaml names. */
export function connectWorld(
  configuration: Configuration,
  log: Logger,
  claim?: HostClaim,
): HostWorld {
  return configuration.world === "simulated"
    ? connectSimulated(configuration, claim)
    : connectLibvirt(configuration, { clock: systemClock, log, claim });
}

/**
 * Starts everything; resolves when the API answers. What was started is stopped again when a later part fails.
 * `connect` is for tests that hold the simulated world in their own hands.
 */
export async function startShepherd(
  configuration: Configuration,
  log: Logger,
  connect: (claim: HostClaim, whole: Configuration) => HostWorld = (claim, whole) =>
    connectWorld(whole, log, claim),
): Promise<Shepherd> {
  const started: (() => Promise<void> | void)[] = [];
  const stop = async () => {
    for (const end of started.splice(0).toReversed()) {
      try {
        await end();
      } catch (error) {
        log.error({ err: error }, "a part did not stop cleanly");
      }
    }
  };
  try {
    const listening = await start(configuration, {
      log,
      connect,
      onStop: (end) => started.push(end),
    });
    return { stop, listening };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function start(
  configuration: Configuration,
  {
    log,
    connect,
    onStop,
  }: {
    readonly log: Logger;
    readonly connect: (claim: HostClaim, whole: Configuration) => HostWorld;
    readonly onStop: (end: () => Promise<void> | void) => void;
  },
): Promise<string | undefined> {
  const { stateDirectory } = configuration;
  // No timer of a room keeps the process: this one does, until everything is stopped.
  const alive = setInterval(() => undefined, longestTimerMs);
  onStop(() => clearInterval(alive));
  onStop(lockState(stateDirectory));
  const { tracing } = configuration;
  if (tracing !== undefined) {
    const about = { version, instance: randomUUID(), log: log.child({ room: "tracing" }) };
    onStop(await startTracing(tracing, about));
  }
  const store = withEvidence(openSqliteStore(join(stateDirectory, "journal.sqlite")));
  onStop(() => store.close());
  // Sites and hosts that were registered are like those of drover.yaml, from the first look on.
  const registered = await store.read(async (journal) => ({
    sites: (await journal.objects.list("site")).map(({ spec }) => spec),
    hosts: (await journal.objects.list("host")).map(({ spec }) => spec),
  }));
  const lists = new Fleet(configuration, registered, (fault) =>
    log.error({ err: fault }, "a registered site or host is left out"),
  );
  const { sites, hosts: fleet } = lists;
  const world = connect(
    { lineage: store.lineage, epoch: store.epoch, holder: randomUUID() },
    lists.configuration,
  );
  onStop(() => world.close());
  const { clock } = world;
  const hosts = withSpans(world.hosts, log.child({ room: "hosts" }));
  const ids = createIds(clock);
  const evidenceFolder = join(stateDirectory, "evidence");
  const { evidence, stop: stopEvidence } = keepEvidence({
    store,
    origin: store.lineage,
    epoch: store.epoch,
    keys: openSigningKeys(evidenceFolder),
    file: openCheckpointFile(join(evidenceFolder, "checkpoints")),
    witnesses: world.witnesses ?? [],
    clock,
    log: log.child({ room: "evidence" }),
  });
  onStop(stopEvidence);

  const generations = openGenerations(join(stateDirectory, "policies"));
  const policies = await openPolicies({
    sources: policySources(lists.configuration),
    limits: {
      replayLast: configuration.policies.replayLast ?? standardPolicyLimits.replayLast,
      maxFlips: configuration.policies.maxFlips ?? standardPolicyLimits.maxFlips,
    },
    generations,
    store,
    clock,
    ids,
    log: log.child({ room: "policies" }),
  });
  const { engines } = policies;
  const glassKeys = configuration.breakGlass.publicKeyFiles.map(readGlassKeyFile);
  onStop(() => policies.stop());
  policies.start();
  const { report } = configuration.policies;
  if (report !== undefined) {
    const reports = createReports({
      target: report,
      cursorFile: join(stateDirectory, "policies", "reported"),
      labels: { app: "drover", id: store.lineage, version },
      store,
      states: () => policies.states(),
      mask: engines.get("operator"),
      clock,
      log: log.child({ room: "policies" }),
    });
    reports.start();
    onStop(() => reports.stop());
  }
  let marked: HostMarks | undefined;
  const dirtyRates = createDirtyRates({
    hosts,
    hostIds: () => lists.hostIds,
    observed: () => observer.observed(),
    clock,
  });
  const observer = createObserver({
    dirtyRateOf: dirtyRates.of,
    hosts,
    sites,
    clock,
    store,
    maxAgeMs: configuration.maxFactAgeMs,
    log: log.child({ room: "sensing" }),
    markOf: (hostId) => marked?.markOf(hostId),
  });
  const marks = await openHostMarks({
    store,
    clock,
    hostIds: lists.hostIds,
    answers: observer.answers,
  });
  marked = marks;
  lists.attach({ world, observer, clock });
  const operations = createOperations({
    store,
    hosts: withGraves(hosts, marks.isDead),
    clock,
    ids,
    fleet,
    images: imageFiles,
    epoch: store.epoch,
    log: log.child({ room: "operations" }),
    answers: (hostId) => marks.isDead(hostId) || observer.answers(hostId),
    migrationTls: world.migrationTls,
  });
  onStop(() => operations.stop());
  const snapshots = openSnapshots({
    folder: join(stateDirectory, "snapshots"),
    keep: configuration.keptSnapshots,
    log: log.child({ room: "snapshots" }),
  });
  onStop(() => snapshots.settled());
  const gate = await createGate({
    store,
    clock,
    ids,
    log: log.child({ room: "gate" }),
    sensed: observer,
    operations,
    engines,
    glassKeys,
    record: snapshots.record,
  });

  // What a predecessor left is looked at before anything new may start.
  observer.start();
  onStop(() => observer.stop());
  dirtyRates.start();
  onStop(async () => dirtyRates.stop());
  await observer.refresh();
  await store.transaction((journal) =>
    journal.events.append({
      kind: "shepherd.started",
      atMs: clock.nowMs(),
      data: { version, epoch: store.epoch, world: configuration.world },
    }),
  );
  await tellClearPairs(configuration, { store, clock, log });
  const orphans = await removeOrphans({ store, clock });
  if (orphans > 0) log.info({ orphans }, "declarations that never began were taken back");
  await operations.recover();

  const leases = createLeases({
    store,
    gate,
    operations,
    clock,
    ids,
    log: log.child({ room: "leases" }),
  });
  leases.start();
  onStop(() => leases.stop());
  const approvals = createApprovalTimer({ gate, clock, log: log.child({ room: "approvals" }) });
  approvals.start();
  onStop(() => approvals.stop());
  const recalls = createRecalls({
    store,
    gate,
    operations,
    clock,
    ids,
    log: log.child({ room: "recalls" }),
  });
  recalls.start();
  onStop(() => recalls.stop());
  const obligations = createObligationKeeper({
    store,
    sensed: observer,
    clock,
    log: log.child({ room: "obligations" }),
  });
  obligations.start();
  onStop(() => obligations.stop());
  const audit = createAudit({
    store,
    sensed: observer,
    engines,
    clock,
    log: log.child({ room: "audit" }),
  });
  audit.start();
  onStop(() => audit.stop());
  const repairs = createRepairs({
    store,
    onHostBack: () => leases.retryNow(),
    gate,
    operations,
    clock,
    ids,
    log: log.child({ room: "repairs" }),
  });
  repairs.start();
  onStop(() => repairs.stop());
  const drains = createDrains({
    store,
    marks,
    gate,
    operations,
    clock,
    ids,
    log: log.child({ room: "drains" }),
  });
  drains.start();
  onStop(() => drains.stop());
  const janitor = createJanitor({
    store,
    hosts,
    fleet,
    marks,
    answers: observer.answers,
    operations,
    repair: () => repairs.repairSoon(),
    clock,
    ids,
    log: log.child({ room: "janitor" }),
  });
  janitor.start();
  onStop(() => janitor.stop());
  const channels = createGuestChannels({
    store,
    hosts,
    gate,
    operations,
    clock,
    ids,
    log: log.child({ room: "guests" }),
  });
  channels.start();
  onStop(() => channels.stop());
  const guestDoor = createGuestDoor({
    store,
    gate,
    operations,
    clock,
    ids,
    log: log.child({ room: "guests" }),
  });
  onStop(() => guestDoor.stop());
  const writeBack = createWriteBack({
    store,
    stacks: configuration.stacks,
    log: log.child({ room: "write-back" }),
  });
  await writeBack.start();
  onStop(() => writeBack.stop());

  return await listen(
    configuration,
    {
      store,
      gate,
      operations,
      sensing: observer,
      fleet: lists,
      hostCare: { marks, drains, janitor, kick: () => operations.kick() },
      evidence,
      engines,
      policies,
      audit,
      ruleSources: policies.sources,
      snapshots: {
        read: snapshots.read,
        policy: (of) => generations.decided(of.owner, of),
      },
      paths: createPaths({ hosts, fleet, clock }),
      lanDoor: world.lanDoor,
      tunnels: { rotate: () => operations.rotateTunnels() },
      tokens: createTokenStore({
        configured: configuration.tokens,
        file: join(stateDirectory, "tokens.json"),
        nowMs: () => clock.nowMs(),
      }),
      blobs: createBlobStore({ directory: join(stateDirectory, "blobs"), maxBytes: maxBlobBytes }),
      passes: new Passes({ clock, ids }),
      guestDoor,
      consoles: { open: (hostId, id) => hosts.get(hostId).openConsole(id) },
      turns: createTurns(),
      calls: createKeyedCalls({ store, clock, log: log.child({ room: "api" }) }),
      clock,
      ids,
      log: log.child({ room: "api" }),
      siteIds: lists.siteIds,
      rawXmlPaths: Object.fromEntries(sites.map((site) => [site.id, site.rawXmlPaths])),
      world: configuration.world,
      version,
    },
    { log, onStop },
  );
}

/** Traffic in the clear is the operator's word, never a default: it stands in the log and the evidence. */
async function tellClearPairs(
  { clearPairs, encryptMoves }: Configuration,
  { store, clock, log }: { readonly store: Store; readonly clock: Clock; readonly log: Logger },
): Promise<void> {
  if (!encryptMoves) {
    log.warn({}, "memory and disks of moves are not encrypted, as drover.yaml says");
    await store.transaction((journal) =>
      journal.events.append({ kind: "moves.clear", atMs: clock.nowMs(), data: {} }),
    );
  }
  for (const sites of clearPairs) {
    log.warn({ sites }, "LANs between these sites are not encrypted, as drover.yaml says");
    await store.transaction((journal) =>
      journal.events.append({ kind: "tunnel.clear", atMs: clock.nowMs(), data: { sites } }),
    );
  }
}

/** The unix socket always, TCP when configured. */
async function listen(
  configuration: Configuration,
  world: ApiWorld,
  { log, onStop }: { log: Logger; onStop: (end: () => Promise<void>) => void },
): Promise<string | undefined> {
  const open = (api: Api) => {
    onStop(() => api.close());
    return api;
  };
  const local = open(createApi(world, bySocket(world.tokens)));
  await listenOnSocket(local, configuration.socket);
  log.info({ socket: configuration.socket }, "listening");
  if (configuration.listen === undefined) return undefined;
  const remote = open(createApi(world, byToken(world.tokens), readTls(configuration)));
  const bound = await remote.listen(configuration.listen);
  // Fastify does not see that the server it was handed speaks TLS.
  const address = configuration.tls === undefined ? bound : bound.replace(/^http:/, "https:");
  log.info({ address }, "listening");
  return address;
}

/** Fault `config.unreadable` names the file, also when it holds no Ed25519 key. */
function readGlassKeyFile(file: string): KeyObject {
  try {
    return readGlassKey(readFileSync(file, "utf8"));
  } catch (cause) {
    const problem = cause instanceof Error ? cause.message : String(cause);
    throw new Fault("config.unreadable", { file, problem }, { cause });
  }
}

/** Fault `config.unreadable` names the file. */
function readTls({ tls }: Configuration): { cert: string; key: string } | undefined {
  if (tls === undefined) return undefined;
  const read = (file: string) => {
    try {
      return readFileSync(file, "utf8");
    } catch (cause) {
      const problem = cause instanceof Error ? cause.message : String(cause);
      throw new Fault("config.unreadable", { file, problem }, { cause });
    }
  };
  return { cert: read(tls.certFile), key: read(tls.keyFile) };
}
