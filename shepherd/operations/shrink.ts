/**
 * Memory on its way down: the balloon takes what the guest gives up, and stops where the guest cannot give more. This
 * follows it until it is there, or stands still although the guest speaks. Then the target goes up to what was reached and
 * a little room to live in, so that the guest is not squeezed for ever; that is what the machine has from then on, and the
 * operation ends `partial` and says so.
 * A guest that says nothing (it boots, it has no balloon) is left settling, as is one that is slow; no host is waited for.
 */
import { Fault } from "#model/fault";
import type { PlanAction } from "#model/plan";
import type { MachineId, Mib, Ms } from "#model/units";
import { withBudget } from "#operations/budget";
import { changeMachine, needMachine } from "#operations/records";
import { isSilence, type Look, type Step, type StepContext, type StepData } from "#operations/step";
import type { Host, ObservedDomain } from "#ports/host";

/** The balloon counts pages; libvirt rounds to KiB. */
const toleranceMib = 1;
const pollMs: Ms = 250;
/** Longest that one guest is followed; what is still on its way then goes on settling. */
const followMs: Ms = 30_000;
/** One look at a host that may be silent. */
const lookMs: Ms = 10_000;

/**
 * What a guest gets back that gave all it could: at the end of its memory the next thing that it starts would have
 * something else killed.
 */
const roomToLiveMib: Mib = 16;

/** How a balloon moves, as it was looked at. */
export interface Descent {
  readonly memoryMib: Mib;
  /** What the guest said last, and how often it has spoken since it was this low. */
  readonly usableMib: Mib;
  readonly saidAtMs: Ms;
  readonly timesSaid: number;
}

/**
 * A guest that has spoken this often since the balloon stopped is alive and gives nothing: at once when what it could
 * still give up is less than what is missing, later when it says that it could.
 */
const spokenUnable = 3;
const spokenAble = 6;

/** What the next look adds. Pure. */
export function descend(before: Descent | undefined, look: Omit<Descent, "timesSaid">): Descent {
  const { memoryMib, usableMib, saidAtMs } = look;
  if (before === undefined || memoryMib < before.memoryMib) return { ...look, timesSaid: 0 };
  const spoke = saidAtMs > before.saidAtMs ? 1 : 0;
  return { ...before, usableMib, saidAtMs, timesSaid: before.timesSaid + spoke };
}

/** Whether the guest will not give up what is missing to `toMib`. Pure. */
export function isHeld({ memoryMib, usableMib, timesSaid }: Descent, toMib: Mib): boolean {
  const canGive = usableMib >= memoryMib - toMib;
  return timesSaid >= (canGive ? spokenAble : spokenUnable);
}

/** In `outcome`, journaled before the target goes up. */
interface Short extends StepData {
  readonly askedMib: Mib;
  readonly reachedMib: Mib;
  readonly usedMib: Mib;
}

/** One for each machine of a plan that is to have less memory than it has; after all else, for balloons move at once. */
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
  { machineId, fromMib, toMib }: Extract<PlanAction, { kind: "set_memory" }>,
  name: string,
): Step {
  const find = async (context: StepContext) => {
    const record = await context.read((journal) => needMachine(journal, machineId));
    const host = context.world.hosts.get(record.effective.hostId);
    const limit = { what: `${name}: memory`, budgetMs: lookMs };
    const look = () => host.findDomain(machineId);
    return { host, domain: await withBudget(context.world.clock, limit, look) };
  };
  return {
    name: `${name}: memory given up`,
    machine: { id: machineId, state: "running" },
    budgetMs: followMs + 2 * lookMs,
    weightMs: 1_000,
    async observe(context): Promise<Look> {
      const short = shortOf(context);
      const domain = await unlessSilent(async () => (await find(context)).domain);
      // Not there to be asked: it settles, and whoever looks next sees how far it came.
      if (domain?.state !== "running") return { verdict: "done" };
      if (short !== undefined && isNear(domain.memoryTargetMib, short.reachedMib)) {
        const details = { machine: name, ...short };
        return { verdict: "done", short: new Fault("machine.memory_held", details) };
      }
      if (short === undefined && context.phase !== "before") return { verdict: "done" };
      // Somebody asked for another size meanwhile: that is theirs.
      if (!isNear(domain.memoryTargetMib, toMib)) return { verdict: "done" };
      return { verdict: domain.memoryMib <= toMib + toleranceMib ? "done" : "todo" };
    },
    async do(context) {
      await unlessSilent(async () => {
        const { host } = await find(context);
        const short =
          shortOf(context) ?? (await follow(context, { host, machineId, fromMib, toMib }));
        if (short === undefined) return;
        await context.mark(short);
        await host.setMemory(machineId, short.reachedMib);
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
  of: {
    readonly host: Host;
    readonly machineId: MachineId;
    readonly fromMib: Mib;
    readonly toMib: Mib;
  },
): Promise<Short | undefined> {
  const { host, machineId, fromMib, toMib } = of;
  const { clock } = context.world;
  const untilMs = clock.nowMs() + followMs;
  let descent: Descent | undefined;
  while (clock.nowMs() < untilMs && !context.signal.aborted) {
    const domain: ObservedDomain | undefined = await host.findDomain(machineId);
    if (domain?.state !== "running" || !isNear(domain.memoryTargetMib, toMib)) return undefined;
    const { memoryMib } = domain;
    if (memoryMib <= toMib + toleranceMib) return undefined;
    const said = await host.guestMemory(machineId);
    if (said === undefined) return undefined;
    descent = descend(descent, { memoryMib, ...said });
    if (isHeld(descent, toMib)) {
      const usedMib = Math.max(0, memoryMib - descent.usableMib);
      const reachedMib = Math.max(memoryMib, Math.min(fromMib, memoryMib + roomToLiveMib));
      return { askedMib: toMib, reachedMib, usedMib };
    }
    context.progress(0.5, `memory at ${memoryMib} MiB on its way to ${toMib} MiB`);
    await clock.sleep(pollMs);
  }
  return undefined;
}

function shortOf({ record }: StepContext): Short | undefined {
  const outcome = record?.outcome as Partial<Short> | undefined;
  return outcome?.reachedMib === undefined ? undefined : (outcome as Short);
}

function isNear(oneMib: Mib, otherMib: Mib): boolean {
  return Math.abs(oneMib - otherMib) <= toleranceMib;
}

/** Memory that nobody can look at settles by itself; no operation waits for its host. */
async function unlessSilent<T>(work: () => Promise<T>): Promise<T | undefined> {
  try {
    return await work();
  } catch (error) {
    if (isSilence(error)) return undefined;
    throw error;
  }
}
