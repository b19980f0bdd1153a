/**
 * Memory on its way down. A balloon that takes more than its guest can give does not stop politely: the guest hangs in
 * looking for pages, and says nothing any more. So the guest is heard first, and what it cannot give is not asked for:
 * the operation ends `partial`, and what was asked for instead is what the machine has from then on. Afterwards each
 * balloon is followed; where one stands still all the same, it goes back up to where the guest can live.
 * What a guest says is a claim: it may keep by it what it was granted, as it could by using it; it never gets more.
 */
import { Fault, isFault } from "#model/fault";
import type { PlanAction } from "#model/plan";
import type { MachineId, Mib, Ms } from "#model/units";
import { withBudget } from "#operations/budget";
import { changeMachine, needMachine } from "#operations/records";
import type { Look, Step, StepContext, StepData } from "#operations/step";
import type { GuestMemory, Host } from "#ports/host";

/** The balloon counts pages; libvirt rounds to KiB. */
const toleranceMib = 1;
/** What a guest keeps free: at the end of its memory the next thing that it starts would have something else killed. */
const roomToLiveMib: Mib = 16;
/** With so much more to spare a word that is some seconds old will do. */
const comfortMib: Mib = 32;
const pollMs: Ms = 250;
/** Guests speak every two seconds (libvirt/xml/write-domain.ts); a busy one later. */
const nextWordMs: Ms = 8_000;
/** Longest that one balloon is followed; what is still on its way then goes on settling. */
const followMs: Ms = 40_000;
/** One call to a host that may be silent. */
const callMs: Ms = 10_000;

/** Journaled as a step's outcome before less is taken than was asked for. */
export interface Short extends StepData {
  readonly askedMib: Mib;
  readonly reachedMib: Mib;
  /** What the guest has in use and cannot give up. */
  readonly usedMib: Mib;
}

export function shortOf({ record }: StepContext): Short | undefined {
  const outcome = record?.outcome as Partial<Short> | undefined;
  return outcome?.reachedMib === undefined ? undefined : (outcome as Short);
}

export function heldFault(machine: string, short: Short): Fault {
  return new Fault("machine.memory_held", { machine, ...short });
}

interface Target {
  readonly host: Host;
  readonly machineId: MachineId;
  readonly toMib: Mib;
}

/** What may be asked of a guest where it cannot give all; undefined: all of it, or nothing is known of it. */
export async function boundOf(context: StepContext, of: Target): Promise<Short | undefined> {
  let said = await listen(context, of);
  if (said === undefined || canSpare(said, of.toMib)) return undefined;
  const { clock } = context.world;
  const { saidAtMs } = said;
  const untilMs = clock.nowMs() + nextWordMs;
  while (said.saidAtMs === saidAtMs && clock.nowMs() < untilMs && !context.signal.aborted) {
    await clock.sleep(pollMs);
    said = (await listen(context, of)) ?? said;
  }
  return shortBy(said, of.toMib);
}

/** So much that even a word of some seconds ago says enough. */
function canSpare({ memoryMib, usableMib }: GuestMemory, toMib: Mib): boolean {
  return memoryMib <= toMib || usableMib >= memoryMib - toMib + roomToLiveMib + comfortMib;
}

/** Undefined: the guest can give it all, and live. Pure. */
export function shortBy(
  { memoryMib, usableMib }: Pick<GuestMemory, "memoryMib" | "usableMib">,
  toMib: Mib,
): Short | undefined {
  const usedMib = Math.max(0, memoryMib - usableMib);
  const least = Math.min(memoryMib, usedMib + roomToLiveMib);
  return least <= toMib ? undefined : { askedMib: toMib, reachedMib: least, usedMib };
}

/** How a balloon moves, as it was looked at. */
export interface Descent {
  readonly memoryMib: Mib;
  /** Since when it is this low. */
  readonly sinceMs: Ms;
  /** What the guest said last, and how often it has spoken since then. */
  readonly said: GuestMemory;
  readonly timesSaid: number;
}

/**
 * A guest that spoke so often since the balloon stopped is alive and gives nothing: soon when what it could still give is
 * less than what is missing, later when it says that it could. One that says nothing any more looks for pages.
 */
const spokenUnable = 3;
const spokenAble = 6;
const speechlessMs: Ms = 20_000;

/** What the next look adds. Pure. */
export function descend(
  before: Descent | undefined,
  { atMs, said }: { readonly atMs: Ms; readonly said: GuestMemory },
): Descent {
  const { memoryMib } = said;
  if (before === undefined || memoryMib < before.memoryMib) {
    return { memoryMib, sinceMs: atMs, said, timesSaid: 0 };
  }
  const spoke = said.saidAtMs > before.said.saidAtMs ? 1 : 0;
  return { ...before, said, timesSaid: before.timesSaid + spoke };
}

/** Whether the guest will not give up what is missing to `toMib`. Pure. */
export function isHeld(
  { memoryMib, sinceMs, said, timesSaid }: Descent,
  { toMib, atMs }: { readonly toMib: Mib; readonly atMs: Ms },
): boolean {
  if (timesSaid < spokenUnable) return atMs - sinceMs >= speechlessMs;
  const canGive = said.usableMib >= memoryMib - toMib;
  return !canGive || timesSaid >= spokenAble;
}

/** One for each machine of a plan that is to have less memory; after all else, for balloons move at once. */
export function shrinkSteps(
  actions: readonly PlanAction[],
  nameOf: (machineId: MachineId) => string,
): readonly Step[] {
  return actions.flatMap((action) =>
    action.kind === "set_memory" && action.toMib < action.fromMib
      ? [shrinkStep(action, nameOf(action.machineId))]
      : [],
  );
}

function shrinkStep(
  { machineId, fromMib, toMib: askedMib }: Extract<PlanAction, { kind: "set_memory" }>,
  name: string,
): Step {
  const find = async (context: StepContext) => {
    const { effective } = await context.read((journal) => needMachine(journal, machineId));
    const host = context.world.hosts.get(effective.hostId);
    // What an earlier step of this operation has asked for.
    return { host, machineId, toMib: effective.memoryMib };
  };
  return {
    name: `${name}: memory given up`,
    machine: { id: machineId, state: "running" },
    budgetMs: followMs + 2 * callMs,
    weightMs: 1_000,
    async observe(context): Promise<Look> {
      const short = shortOf(context);
      if (short === undefined && context.phase !== "before") return { verdict: "done" };
      const target = await find(context);
      const look = () => target.host.findDomain(machineId);
      const domain = await unlessFault(() => limited(context, look));
      // Not there to be asked: it settles, and whoever looks next sees how far it came. No operation waits for that.
      if (domain?.state !== "running") return { verdict: "done" };
      if (short !== undefined && isNear(domain.memoryTargetMib, short.reachedMib)) {
        return { verdict: "done", short: heldFault(name, short) };
      }
      // Somebody asked for another size meanwhile: that is theirs.
      if (!isNear(domain.memoryTargetMib, target.toMib)) return { verdict: "done" };
      // A domain's own word of its memory may be from before it grew, a second ago: then it is not here yet.
      const { memoryMib } = (await listen(context, target)) ?? domain;
      return { verdict: hasArrived(memoryMib, target.toMib) ? "done" : "todo" };
    },
    async do(context) {
      await unlessFault(async () => {
        const target = await find(context);
        const short = shortOf(context) ?? (await follow(context, target, { fromMib, askedMib }));
        if (short === undefined) return;
        await context.mark(short);
        await target.host.setMemory(machineId, short.reachedMib);
      });
    },
    async commit(journal, context) {
      const short = shortOf(context);
      if (short === undefined) return;
      await changeMachine(journal, machineId, context.world.clock.nowMs(), {
        memoryMib: short.reachedMib,
        settlingFromMib: undefined,
      });
    },
    undoNeedless: "the step that asked for less goes back to what there was",
    onFault: "go_on",
  };
}

/** Undefined: it is there, or on its way, or nothing can be said. */
async function follow(
  context: StepContext,
  target: Target,
  was: { readonly fromMib: Mib; readonly askedMib: Mib },
): Promise<Short | undefined> {
  const { host, machineId, toMib } = target;
  const { clock } = context.world;
  const untilMs = clock.nowMs() + followMs;
  let descent: Descent | undefined;
  while (clock.nowMs() < untilMs && !context.signal.aborted) {
    const domain = await host.findDomain(machineId);
    if (domain?.state !== "running" || !isNear(domain.memoryTargetMib, toMib)) return undefined;
    const said = await listen(context, target);
    if (said === undefined || hasArrived(said.memoryMib, toMib)) return undefined;
    const { memoryMib } = said;
    const atMs = clock.nowMs();
    descent = descend(descent, { atMs, said });
    if (isHeld(descent, { toMib, atMs })) {
      const reachedMib = Math.max(memoryMib, Math.min(was.fromMib, memoryMib + roomToLiveMib));
      const usedMib = Math.max(0, memoryMib - said.usableMib);
      return { askedMib: was.askedMib, reachedMib, usedMib };
    }
    context.progress(0.5, `memory at ${memoryMib} MiB on its way to ${toMib} MiB`);
    await clock.sleep(pollMs);
  }
  return undefined;
}

/** What it says is advice: nothing fails for the lack of it. */
function listen(context: StepContext, { host, machineId }: Target) {
  return unlessFault(() => limited(context, () => host.guestMemory(machineId)));
}

function limited<T>({ world }: StepContext, work: () => Promise<T>): Promise<T> {
  return withBudget(world.clock, { what: "a look at memory", budgetMs: callMs }, work);
}

async function unlessFault<T>(work: () => Promise<T>): Promise<T | undefined> {
  try {
    return await work();
  } catch (error) {
    if (isFault(error)) return undefined;
    throw error;
  }
}

function hasArrived(memoryMib: Mib, toMib: Mib): boolean {
  return memoryMib <= toMib + toleranceMib;
}

function isNear(oneMib: Mib, otherMib: Mib): boolean {
  return Math.abs(oneMib - otherMib) <= toleranceMib;
}
