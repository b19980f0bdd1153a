/**
 * The machine's own disk layer in a move. A small one goes with the memory, by QEMU's own copy. A large one is frozen: the
 * guest goes on with a fresh overlay, the frozen layer is shipped in ranges (operations/ship.ts), only the overlay goes
 * with the memory, and at its new host both are joined again.
 *
 *   before          frozen            after the switch     joined
 *   layer <- guest  layer, top <- guest   layer, top <- guest   layer <- guest
 *
 * A move that fails joins them again at the source; what was shipped stays at the destination, marked as not whole, so
 * that a retry sends only what is missing. What nobody came back for expires (operations/kept-layers.ts).
 */
import { Fault } from "#model/fault";
import type { Bytes, HostId, Ms } from "#model/units";
import { withBudget } from "#operations/budget";
import { baseVolume, overlayVolume } from "#operations/domain-spec";
import type { MoveAction } from "#operations/move-action";
import { limitsOf } from "#operations/move-limits";
import { needMachineWorld } from "#operations/records";
import { ship } from "#operations/ship";
import type { Look, Step, StepContext } from "#operations/step";
import { ask } from "#operations/whereabouts";
import { type DiskLayers, type ObservedDomain, topVolumeOf } from "#ports/host";

/**
 * Freezing and joining cost about a second, and a shipped layer can go on where it was cut: below that much, the direct
 * way is over before it could be cut twice.
 */
export const layeredFromBytes: Bytes = 64 * 2 ** 20;
const chainBudgetMs: Ms = 10 * 60_000;
const callMs: Ms = 60_000;
/** Supervised inside, call by call and by progress; this is only the last net. */
const shipBudgetMs: Ms = 24 * 3_600_000;

/** Which way the disk goes, and why; journaled with the move. */
interface Choice {
  readonly way: "direct" | "layered";
  readonly why: string;
  readonly layerBytes: Bytes;
}

function layersOf(action: MoveAction): DiskLayers {
  const volume = overlayVolume(action.machineId);
  return { volume, top: topVolumeOf(volume) };
}

/** Chooses the way, and freezes the layer when it is to be shipped. */
export function freezeStep(action: MoveAction, name: string): Step {
  const { machineId, fromHostId, toHostId } = action;
  const layers = layersOf(action);
  const source = (context: StepContext) => context.world.hosts.get(fromHostId);
  return {
    name: `${name}: freeze the disk layer`,
    machine: { id: machineId, state: "moving" },
    budgetMs: chainBudgetMs,
    weightMs: 200,
    async observe(context): Promise<Look> {
      const domain = await source(context).findDomain(machineId);
      if (writesToTop(domain, layers)) return { verdict: "done" };
      const choice = context.record?.outcome as Partial<Choice> | undefined;
      const done = context.phase !== "before" && choice?.way === "direct";
      return { verdict: done ? "done" : "todo" };
    },
    async do(context) {
      const { volumes } = source(context);
      const layer = await volumes.find(layers.volume);
      if (layer === undefined) throw noLayer(action);
      const kept = await context.world.hosts.get(toHostId).volumes.listPartial();
      const choice = choose({
        layerBytes: layer.allocatedBytes,
        isKept: kept.some(({ name: partial }) => partial === layers.volume),
      });
      await context.mark({ ...choice });
      if (choice.way === "layered") await source(context).freezeDisk(machineId, layers);
    },
    async undo(context) {
      const domain = await source(context).findDomain(machineId);
      // A guest that ended meanwhile starts from the overlay: it has what was written last.
      if (domain?.state !== "running") return;
      if (writesToTop(domain, layers) || (await source(context).volumes.find(layers.top))) {
        await source(context).foldDisk(machineId, layers);
      }
    },
  };
}

function choose(layer: { readonly layerBytes: Bytes; readonly isKept: boolean }): Choice {
  const { layerBytes, isKept } = layer;
  const size = `${Math.round(layerBytes / 2 ** 20)} MiB`;
  if (isKept) {
    return {
      way: "layered",
      why: "the destination has kept blocks of an earlier move",
      layerBytes,
    };
  }
  const limit = `${layeredFromBytes / 2 ** 20} MiB`;
  return layerBytes >= layeredFromBytes
    ? { way: "layered", why: `a layer of ${size} is shipped from ${limit} on`, layerBytes }
    : { way: "direct", why: `a layer of ${size} goes with the memory below ${limit}`, layerBytes };
}

/** The disk at the destination: a fresh overlay to copy into, on the image, or on the layer shipped there. */
export function diskStep(action: MoveAction, name: string): Step {
  const { machineId, toHostId } = action;
  const layers = layersOf(action);
  return {
    name: `${name}: disk on ${toHostId}`,
    machine: { id: machineId, state: "moving" },
    budgetMs: shipBudgetMs,
    weightMs: Math.max(100, action.cost.durationMs / 2),
    // Whatever lies there under this name is left from an older move: its clusters would show through.
    observe: async ({ phase }) => ({ verdict: phase === "after" ? "done" : "todo" }),
    async do(context) {
      const quick = <T>(work: () => Promise<T>) =>
        withBudget(context.world.clock, { what: `disk of ${name}`, budgetMs: callMs }, work);
      if (!(await quick(() => isFrozen(context, action)))) {
        await quick(() => placeFreshOverlay(context, action));
        return;
      }
      const shipped = await shipLayer(context, action, name);
      await quick(() => placeFreshTop(context, action));
      return { ...shipped, bytes: shipped.sentBytes };
    },
    async undo(context) {
      const { hosts } = context.world;
      const { volumes } = hosts.get(toHostId);
      await mayRemove(context, action, toHostId);
      await volumes.remove(layers.top);
      if (!(await isFrozen(context, action))) {
        // Half a file of a direct copy is worth nothing; what was shipped before is.
        if ((await volumes.find(layers.volume)) !== undefined) await volumes.remove(layers.volume);
        return;
      }
      const layer = await volumes.find(layers.volume);
      if (layer === undefined) return;
      // Whole, but nobody's: not there for anybody who looks, until a retry finds that nothing is missing.
      await volumes.beginPartial({ name: layers.volume, sizeBytes: layer.allocatedBytes });
    },
  };
}

/** For a copy that is begun again: what the last one left of the disk that travels with the memory. */
export async function placeFreshDisk(context: StepContext, action: MoveAction): Promise<void> {
  if (await isFrozen(context, action)) await placeFreshTop(context, action);
  else await placeFreshOverlay(context, action);
}

/** Joins the layers where the machine lives now. Nothing may start it from one of them before. */
export function foldStep(action: MoveAction, name: string): Step {
  const { machineId, toHostId } = action;
  const layers = layersOf(action);
  return {
    name: `${name}: join the disk layers`,
    machine: { id: machineId, state: "moving" },
    budgetMs: chainBudgetMs,
    weightMs: 500,
    onFault: "insist",
    undoImpossible: "the machine lives there now, on both layers",
    async observe(context): Promise<Look> {
      const host = context.world.hosts.get(toHostId);
      const domain = await host.findDomain(machineId);
      // It ended by itself: its next start takes both layers as they are.
      if (domain?.state !== "running") return { verdict: "done" };
      if (writesToTop(domain, layers)) return { verdict: "todo" };
      const left = await host.volumes.find(layers.top);
      return { verdict: left === undefined ? "done" : "todo" };
    },
    do: (context) => context.world.hosts.get(toHostId).foldDisk(machineId, layers),
  };
}

/** Everything of the machine's disk that lies on a host which it has left, or never reached. */
export async function removeDisk(
  context: StepContext,
  action: MoveAction,
  hostId: HostId,
): Promise<void> {
  const layers = layersOf(action);
  await mayRemove(context, action, hostId);
  const { volumes } = context.world.hosts.get(hostId);
  await volumes.remove(layers.top);
  await volumes.remove(layers.volume);
}

/** Whether anything of the machine's disk is still on the host. */
export async function hasDisk(
  context: StepContext,
  action: MoveAction,
  hostId: HostId,
): Promise<boolean> {
  const { volume, top } = layersOf(action);
  const { volumes } = context.world.hosts.get(hostId);
  return (await volumes.find(volume)) !== undefined || (await volumes.find(top)) !== undefined;
}

async function shipLayer(context: StepContext, action: MoveAction, name: string) {
  const { machineId, fromHostId, toHostId } = action;
  const { hosts, clock } = context.world;
  if ((await ask(context.world, machineId, toHostId)) !== "absent") {
    throw new Fault("migration.disk_in_doubt", {
      machine: machineId,
      host: toHostId,
      here: "perhaps",
      other: fromHostId,
      elsewhere: "running",
    });
  }
  const { bandwidthMbps } = await limitsOf(context);
  return ship({
    name: layersOf(action).volume,
    from: hosts.get(fromHostId).volumes,
    to: hosts.get(toHostId).volumes,
    toHostId,
    clock,
    maxMbps: bandwidthMbps,
    signal: context.signal,
    onProgress({ sentBytes, missingBytes }) {
      const done = missingBytes === 0 ? 1 : Math.min(1, sentBytes / missingBytes);
      const mib = (bytes: Bytes) => Math.round(bytes / 2 ** 20);
      context.progress(
        done,
        `${name}: shipping the disk layer, ${mib(sentBytes)} of ${mib(missingBytes)} MiB`,
      );
    },
  });
}

/** Exactly the source layer's size: the copy compares sizes. */
async function placeFreshOverlay(context: StepContext, action: MoveAction): Promise<void> {
  const { machineId, fromHostId, toHostId } = action;
  const { image } = await context.read((journal) => needMachineWorld(journal, machineId));
  const { volume } = layersOf(action);
  const source = await context.world.hosts.get(fromHostId).volumes.find(volume);
  if (source === undefined) throw noLayer(action);
  await removeDisk(context, action, toHostId);
  await context.world.hosts.get(toHostId).volumes.createOverlay({
    name: volume,
    backing: baseVolume(image),
    capacityBytes: source.capacityBytes,
  });
}

async function placeFreshTop(context: StepContext, action: MoveAction): Promise<void> {
  const { fromHostId, toHostId } = action;
  const { volume, top } = layersOf(action);
  const source = await context.world.hosts.get(fromHostId).volumes.find(top);
  if (source === undefined) throw noLayer(action);
  await mayRemove(context, action, toHostId);
  const { volumes } = context.world.hosts.get(toHostId);
  await volumes.remove(top);
  const { capacityBytes } = source;
  await volumes.createOverlay({ name: top, backing: volume, capacityBytes });
}

async function isFrozen(context: StepContext, action: MoveAction): Promise<boolean> {
  const { machineId, fromHostId } = action;
  const domain = await context.world.hosts.get(fromHostId).findDomain(machineId);
  return writesToTop(domain, layersOf(action));
}

function writesToTop(domain: ObservedDomain | undefined, { top }: DiskLayers): boolean {
  return domain?.diskVolumes?.includes(top) === true;
}

function noLayer({ machineId, fromHostId, toHostId }: MoveAction): Fault {
  return new Fault("migration.refused", {
    machine: machineId,
    from: fromHostId,
    to: toHostId,
    problem: "its disk layer is not in the source's pool",
  });
}

/** Only where the host itself says that no domain of the machine is there, and the machine runs at the other. */
export async function mayRemove(
  context: StepContext,
  action: MoveAction,
  hostId: HostId,
): Promise<void> {
  const { machineId, fromHostId, toHostId } = action;
  const other = hostId === toHostId ? fromHostId : toHostId;
  const [here, elsewhere] = await Promise.all([
    ask(context.world, machineId, hostId),
    ask(context.world, machineId, other),
  ]);
  if (here === "silent") {
    throw new Fault("host.unreachable", { host: hostId, problem: "it was asked for the machine" });
  }
  if (here !== "absent" || elsewhere !== "running") {
    const details = { machine: machineId, host: hostId, here, other, elsewhere };
    throw new Fault("migration.disk_in_doubt", details);
  }
}
