/**
 * The switch itself: begin, prepare, perform, finish, confirm, driven by us over a connection to each host. No host
 * gets credentials of the other. The price is one bad window: when the source has handed everything over and we die
 * before the destination was told, the guest waits paused at the source. Recovery asks both hosts:
 *
 *   source               destination          then
 *   running              no such domain       nothing happened: copy again, or undo
 *   paused, handed over  no such domain       resume the source, then as above
 *   any                  running              it has moved: clean the source
 *   running              running              a human must look; nothing is touched
 *   a host is silent, or a copy is still arriving: unknown; keep everything, ask again
 */
import { Fault } from "#model/fault";
import type { Bytes, Ms } from "#model/units";
import { withBudget } from "#operations/budget";
import { attempt, callMs, stallMs, watchCopy } from "#operations/copy-watch";
import { armCutOver, type CutOver } from "#operations/cut-over";
import { mustHaveAll, placeFreshVolumes } from "#operations/data-disks";
import { defaultRungs, type Rung } from "#operations/ladder";
import { placeFreshDisk } from "#operations/layers";
import { bothSuspected, type MoveAction } from "#operations/move-action";
import { limitsOf } from "#operations/move-limits";
import { applyNetworks } from "#operations/networks";
import { changePlace, needMachine } from "#operations/records";
import type { Look, Step, StepContext, StepData } from "#operations/step";
import { askBoth, whereabouts } from "#operations/whereabouts";
import type { MigrationDestination, MigrationParameters, MigrationSource } from "#ports/host";

/** A copy that takes ten times what was predicted is given up. */
const leastBudgetMs: Ms = 15 * 60_000;
const overrun = 10;
/** Journaled on the step while it runs. */
interface Handover extends StepData {
  readonly phase: "begun" | "prepared" | "handed_over" | "switched";
  /** From the copy's begin to the source's suspension. */
  readonly copyMs?: Ms;
  readonly bytes?: Bytes;
  readonly diskBytes?: Bytes;
  readonly memoryBytes?: Bytes;
  readonly downtimeMs?: Ms;
  readonly iterations?: number;
  readonly climbed?: readonly Rung[];
  readonly encrypted?: boolean;
}

export function migrateStep(action: MoveAction, name: string): Step {
  const { machineId, fromHostId, fromSiteId, toHostId, toSiteId, volumeIds = [] } = action;
  const budgetMs = Math.max(leastBudgetMs, action.cost.durationMs * overrun);
  const observe = async (context: StepContext): Promise<Look> => {
    const both = await askBoth(context.world, machineId, action);
    const found = whereabouts(both.source, both.destination);
    switch (found.verdict) {
      case "running_here":
        return { verdict: "todo", seen: { ...both, paused: found.paused } };
      case "running_there":
        return { verdict: "done", seen: { ...both } };
      case "both_suspected":
        return bothSuspected(name, action);
      case "none":
        return {
          verdict: "broken",
          question: `${name} runs on neither ${fromHostId} (${both.source}) nor ${toHostId} (${both.destination}): did it stop by itself? Start or destroy it.`,
          commands: [
            `ssh ${fromHostId} virsh start ${machineId}   # its disk is there until the move has ended`,
            "drover host confirm-dead HOST --fenced-by HOW   # when the host that had it is gone for good",
          ],
        };
      case "unknown":
        return { verdict: "unknown", question: `${name}: ${found.why}` };
    }
  };
  return {
    name: `${name}: copy and switch to ${toHostId}`,
    machine: { id: machineId, state: "moving" },
    // supervised inside by progress; this is only the last net
    budgetMs: budgetMs + stallMs + 10 * callMs,
    weightMs: Math.max(2_000, action.cost.durationMs),
    pivot: true,
    observe,
    async do(context, seen) {
      if (seen["paused"] === true)
        await context.world.hosts.get(fromHostId).resumeDomain(machineId);
      // A copy that was interrupted left half a disk.
      if (context.resumed) {
        await placeFreshDisk(context, action);
        await placeFreshVolumes(context, action);
      }
      return migrate(context, action, name, budgetMs);
    },
    commit: (journal, context) =>
      changePlace(journal, {
        machineId,
        volumeIds,
        nowMs: context.world.clock.nowMs(),
        place: { hostId: toHostId, siteId: toSiteId, state: "moving" },
      }),
    async undo(context) {
      const look = await observe(context);
      if (look.verdict === "unknown" || look.verdict === "broken") {
        throw new Fault("operation.question", { question: look.question });
      }
      if (look.verdict === "done")
        throw new Fault("migration.switched", { machine: name, to: toHostId });
      if (look.seen?.["paused"] === true) {
        await context.world.hosts.get(fromHostId).resumeDomain(machineId);
      }
      const { effective } = await context.read((journal) => needMachine(journal, machineId));
      if (effective.hostId === fromHostId) return;
      // The destination had it for a moment and lost it: back to where it lives.
      await context.mark({}, (journal) =>
        changePlace(journal, {
          machineId,
          volumeIds,
          nowMs: context.world.clock.nowMs(),
          place: { hostId: fromHostId, siteId: fromSiteId },
        }),
      );
      await flip(context, action);
    },
  };
}

/** One managed migration from begin to confirm. Throws before the switch; never after it. */
async function migrate(
  context: StepContext,
  action: MoveAction,
  name: string,
  budgetMs: Ms,
): Promise<Handover> {
  const { machineId, fromHostId, toHostId, toSiteId, volumeIds = [] } = action;
  const { world } = context;
  const destinationAddress = world.fleet.find((host) => host.id === toHostId)?.migrationAddress;
  if (destinationAddress === undefined) throw new Fault("host.unknown", { host: toHostId });
  await mustHaveAll(context, action);
  const limits = await limitsOf(context);
  const may = (rung: Rung) => (limits.rungs ?? defaultRungs).includes(rung);
  const parameters: MigrationParameters = {
    machineId,
    destinationAddress,
    copyDisk: true,
    maxDowntimeMs: limits.maxDowntimeMs,
    bandwidthMbps: limits.bandwidthMbps,
    mayRaiseDowntime: may("downtime"),
    mayThrottle: may("throttle"),
    mayPostCopy: may("post_copy"),
    tls: await world.migrationTls?.between(fromHostId, toHostId),
  };

  const within = <T>(what: string, work: () => Promise<T>) =>
    withBudget(world.clock, { what: `${what} of ${name}`, budgetMs: callMs }, work);

  const source = await within("opening", () => world.hosts.get(fromHostId).migrateFrom(parameters));
  let destination: MigrationDestination | undefined;
  try {
    destination = await within("opening", () => world.hosts.get(toHostId).migrateTo(parameters));
    const begun = await within("begin", () => source.begin());
    await context.mark({ phase: "begun" });
    const there = destination;
    const prepared = await within("prepare", () => there.prepare(begun));
    await context.mark({ phase: "prepared" });
    // Beside the copy, which takes longer; a copy that is quicker waits for it when its guest runs already.
    let cutOver: CutOver | undefined;
    const armed = attempt(world, async () => {
      cutOver = await armCutOver(context, action);
    });

    const copied = watchCopy(context, { name, source, limits, budgetMs });
    const copyFromMs = world.clock.nowMs();
    const performed = await copied
      .over(() => source.perform(prepared, copied.follow))
      .catch(async (error: unknown) => {
        // Both ends are told, so that neither waits for the other; the guest goes on at the source.
        await attempt(world, () =>
          destination?.finish({ cookie: prepared.cookie, cancelled: true }),
        );
        await attempt(world, () => source.confirm({ cookie: begun.cookie, cancelled: true }));
        await armed;
        throw error;
      });
    const suspendedAtMs = world.clock.nowMs();
    await context.mark({ phase: "handed_over" });

    const finished = await finish(context, action, { source, destination, cookie: performed });
    const handoverOf = (): Handover => ({
      phase: "switched",
      copyMs: suspendedAtMs - copyFromMs,
      ...copied.figures(),
      downtimeMs: copied.figures().downtimeMs ?? switchedAtMs - suspendedAtMs,
      encrypted: parameters.tls !== undefined,
    });
    const switchedAtMs = world.clock.nowMs();
    // In force before it is applied: forwarding is derived from the journal.
    await context.mark(handoverOf(), (journal) =>
      changePlace(journal, {
        machineId,
        volumeIds,
        nowMs: world.clock.nowMs(),
        place: { hostId: toHostId, siteId: toSiteId },
      }),
    );
    await armed;
    cutOver?.fire();
    // The source takes seconds to end an emulated guest's process; nothing waits for that any more.
    await Promise.all([
      attempt(world, () => flip(context, action)),
      attempt(world, () => source.confirm({ cookie: finished, cancelled: false })),
    ]);
    // The hypervisor's own figures come with the confirmation.
    return handoverOf();
  } finally {
    await attempt(world, () => destination?.close());
    await attempt(world, () => source.close());
  }
}

/** Starts the guest at the destination; when that fails there, and the destination says so itself, resumes the source. */
async function finish(
  context: StepContext,
  action: MoveAction,
  ends: {
    readonly source: MigrationSource;
    readonly destination: MigrationDestination;
    readonly cookie: Uint8Array;
  },
): Promise<Uint8Array> {
  try {
    const { cookie } = await withBudget(
      context.world.clock,
      { what: `finish of ${action.machineId}`, budgetMs: callMs },
      () => ends.destination.finish({ cookie: ends.cookie, cancelled: false }),
    );
    return cookie;
  } catch (error) {
    const both = await askBoth(context.world, action.machineId, action);
    if (both.destination === "running") return ends.cookie;
    if (both.destination === "absent") {
      await ends.source.confirm({ cookie: ends.cookie, cancelled: true });
    }
    // Anything else is not known: the source stays paused until both have answered.
    throw error;
  }
}

/** All hosts of the machine's networks at once; the source too, for its other machines. */
async function flip(context: StepContext, action: MoveAction): Promise<void> {
  const { effective } = await context.read((journal) => needMachine(journal, action.machineId));
  await applyNetworks(context, {
    required: [action.toHostId],
    networkIds: effective.nics.map((nic) => nic.networkId),
  });
}
