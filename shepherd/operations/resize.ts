/**
 * Live changes of one machine: memory by balloon, vCPUs, CPU cap and weight. Each is done when the host says so; a guest gives
 * pages up later, and until then its memory is settling. Undo goes back to what the host said before.
 */
import { Fault } from "#model/fault";
import { defaultCpuWeight, type Sizing } from "#model/objects";
import type { PlanAction } from "#model/plan";
import type { MachineId, Mib } from "#model/units";
import { changeMachine, needMachine } from "#operations/records";
import { boundOf, heldFault, type Short, shortOf } from "#operations/shrink";
import type { Look, Step, StepContext, StepData } from "#operations/step";
import type { Host, ObservedDomain } from "#ports/host";
import type { Journal } from "#ports/store";

/** libvirt waits up to 30 s for a domain's job lock before it refuses. */
const resizeBudgetMs = 60_000;
/** The balloon counts pages; libvirt rounds to KiB. */
const memoryToleranceMib = 1;

export function memorySteps(
  action: Extract<PlanAction, { kind: "set_memory" }>,
  name: string,
): readonly Step[] {
  const { machineId, fromMib, toMib } = action;
  return [
    resizeStep({
      name: `${name}: memory ${toMib} MiB`,
      machineId,
      attribute: "memoryMib",
      wanted: toMib,
      of: (domain) => domain.memoryTargetMib,
      fits: (value, wanted) =>
        value !== undefined && Math.abs(value - wanted) <= memoryToleranceMib,
      // Changed behind our back, or still settling: asking once more is harmless.
      strayed: (domain, wanted) => Math.abs(domain.memoryMib - wanted) > memoryToleranceMib,
      // What grows asks nobody.
      ...(toMib < fromMib && {
        bound: (context: StepContext, host: Host) => boundOf(context, { host, machineId, toMib }),
        held: (short: Short) => heldFault(name, short),
      }),
      set: (host, value) => host.setMemory(machineId, value),
    }),
  ];
}

export function vcpuSteps(
  action: Extract<PlanAction, { kind: "set_vcpus" }>,
  name: string,
): readonly Step[] {
  const { machineId, to } = action;
  return [
    resizeStep({
      name: `${name}: ${to} vCPUs`,
      machineId,
      attribute: "vcpus",
      wanted: to,
      of: (domain) => domain.vcpus,
      fits: (value, wanted) => value === wanted,
      set: (host, value) => host.setVcpus(machineId, value),
    }),
  ];
}

export function cpuPercentSteps(
  action: Extract<PlanAction, { kind: "set_cpu_percent" }>,
  name: string,
): readonly Step[] {
  const { machineId, to } = action;
  return [
    resizeStep({
      name: `${name}: CPU ${to} %`,
      machineId,
      attribute: "cpuPercent",
      wanted: to,
      of: (domain) => domain.cpuPercent,
      fits: (value, wanted) => value === wanted,
      set: (host, value) => host.setCpuPercent(machineId, value),
    }),
  ];
}

export function cpuWeightSteps(
  action: Extract<PlanAction, { kind: "set_cpu_weight" }>,
  name: string,
): readonly Step[] {
  const { machineId, to } = action;
  return [
    resizeStep({
      name: `${name}: CPU weight ${to}`,
      machineId,
      attribute: "cpuWeight",
      wanted: to,
      of: (domain) => domain.cpuWeight ?? defaultCpuWeight,
      fits: (value, wanted) => value === wanted,
      set: (host, value) => host.setCpuWeight(machineId, value),
    }),
  ];
}

interface Resize {
  readonly name: string;
  readonly machineId: MachineId;
  readonly attribute: keyof Sizing | "cpuWeight";
  readonly wanted: number;
  /** What was last asked for; undefined: no cap. */
  of(domain: ObservedDomain): number | undefined;
  /** What undo may not see by `of`: the guest has something else than was asked. */
  strayed?(domain: ObservedDomain, wanted: number): boolean;
  fits(value: number | undefined, wanted: number): boolean;
  /** Where it cannot be all that is wanted: what is done instead. */
  bound?(context: StepContext, host: Host): Promise<Short | undefined>;
  held?(short: Short): Fault;
  set(host: Host, value: number): Promise<void>;
}

/** Journaled before anything is done; what undo goes back to. */
interface Before extends StepData {
  /** What the host said; null: it had no cap. */
  readonly live: number | null;
  /** What the journal said. */
  readonly effective: number;
  readonly memoryMib: Mib;
}

function resizeStep(resize: Resize): Step {
  const { machineId, attribute, wanted } = resize;
  // Asked each time: an earlier step of the same operation may have moved it.
  const find = async (context: StepContext) => {
    const record = await context.read((journal) => needMachine(journal, machineId));
    const host = context.world.hosts.get(record.effective.hostId);
    const domain = await host.findDomain(machineId);
    return { record, host, domain };
  };
  const put = (journal: Journal, context: StepContext, value: number, guestHasMib: Mib) =>
    changeMachine(journal, machineId, context.world.clock.nowMs(), {
      [attribute]: value,
      ...(attribute === "memoryMib" && {
        settlingFromMib:
          Math.abs(guestHasMib - value) > memoryToleranceMib ? guestHasMib : undefined,
      }),
    });
  const goalOf = (context: StepContext) => shortOf(context)?.reachedMib ?? wanted;
  return {
    name: resize.name,
    machine: { id: machineId, state: "running" },
    budgetMs: resizeBudgetMs,
    weightMs: 300,
    async observe(context): Promise<Look> {
      const { record, domain } = await find(context);
      if (domain?.state !== "running") {
        throw new Fault("machine.not_running", {
          machine: record.spec.name,
          host: record.effective.hostId,
          state: domain?.state ?? "absent",
        });
      }
      const live = resize.of(domain);
      const seen: Before = {
        live: live ?? null,
        effective: record.effective[attribute] ?? defaultCpuWeight,
        memoryMib: domain.memoryMib,
      };
      // Once asked, the target counts; how the guest follows is its own affair.
      const goal = goalOf(context);
      const strayed = context.phase === "before" && resize.strayed?.(domain, goal) === true;
      if (!resize.fits(live, goal) || strayed) return { verdict: "todo", seen };
      const short = shortOf(context);
      const fault = short && resize.held?.(short);
      return { verdict: "done", seen, ...(fault === undefined ? {} : { short: fault }) };
    },
    async do(context) {
      const { host } = await find(context);
      const short = shortOf(context) ?? (await resize.bound?.(context, host));
      if (short !== undefined) await context.mark(short);
      await resize.set(host, short?.reachedMib ?? wanted);
    },
    commit: (journal, context, seen) =>
      put(journal, context, goalOf(context), (seen as Before).memoryMib),
    async undo(context) {
      const { live } = observedBefore(context);
      if (live === null) return;
      const { host, domain } = await find(context);
      if (domain?.state !== "running" || resize.of(domain) === live) return;
      await resize.set(host, live);
    },
    async revert(journal, context) {
      const { effective, memoryMib } = observedBefore(context);
      await put(journal, context, effective, memoryMib);
    },
  };
}

function observedBefore(context: StepContext): Before {
  return context.record?.observed as Before;
}
