/**
 * Which pending operations may start now, and what the others wait for. Pure. A machine's operations run one at a time in
 * the order of admission; between machines what gives back goes first, then what leaves a host, then people, then
 * automation; among equals the environment that has least under way. Hosts, sites and the lines between sites have
 * budgets, so that a burst of moves does not starve what already runs.
 */
import type { Operation, Plan } from "#model/plan";
import type { Request } from "#model/request";
import type { EnvironmentId, HostId, MachineId, OperationId, SiteId } from "#model/units";
import { onlyLowers } from "#planner/lowering";

/** In the order in which they are served. */
export const priorities = ["release", "evacuate", "user", "automation"] as const;
export type Priority = (typeof priorities)[number];

/** What the schedule needs to know of an operation; does not change while it lives. */
export interface Work {
  readonly operation: Pick<Operation, "id" | "environmentId" | "machineIds">;
  readonly priority: Priority;
  readonly hostIds: readonly HostId[];
  /** Moves: what they load. `a>b`, also inside a site. */
  readonly lines: readonly string[];
  readonly siteIds: readonly SiteId[];
  /** Somebody asked for less: while its host is silent it waits, and takes no place of others. */
  readonly patient?: boolean | undefined;
}

export interface Budgets {
  /** Each holds a connection or two to a host, and the daemons serve a limited number. */
  readonly operations: number;
  readonly perHost: number;
  /** A copy takes what the line gives; more at once only make each other longer (measured, papers.md G3). */
  readonly movesPerHost: number;
  readonly movesPerLine: number;
  readonly perSite: number;
}
export const defaultBudgets: Budgets = {
  operations: 8,
  perHost: 6,
  movesPerHost: 2,
  movesPerLine: 2,
  perSite: 8,
};

export interface Schedule {
  readonly start: readonly OperationId[];
  /** For people: what each of the others waits for. */
  readonly waiting: ReadonlyMap<OperationId, string>;
}

export function workOf(operation: Operation, plan: Plan, request: Request | undefined): Work {
  const hostIds = new Set<HostId>();
  const siteIds = new Set<SiteId>();
  const lines: string[] = [];
  for (const action of plan.actions) {
    if ("hostId" in action) hostIds.add(action.hostId);
    if (action.kind === "create_machine") siteIds.add(action.siteId);
    if (action.kind !== "move_machine") continue;
    hostIds.add(action.fromHostId).add(action.toHostId);
    siteIds.add(action.fromSiteId).add(action.toSiteId);
    lines.push(`${action.fromSiteId}>${action.toSiteId}`);
  }
  return {
    operation,
    priority: priorityOf(operation, request),
    hostIds: [...hostIds],
    siteIds: [...siteIds],
    lines,
    // The end of a lease is not: it is tried again by itself, and must not stand in the way of a destroy.
    patient: request?.subject.type !== "shepherd" && onlyLowers(plan.actions),
  };
}

function priorityOf({ kind }: Operation, request: Request | undefined): Priority {
  // What ends something frees room for everybody else.
  if (kind === "release" || kind === "destroy" || kind === "repair") return "release";
  const type = request?.subject.type;
  if (request?.kind === "move" && type === "shepherd") return "evacuate";
  return type === "operator" || type === "stack" ? "user" : "automation";
}

/** `open` in the order of admission, running ones among them; `silent`: the host that an operation waits for. */
export function schedule(
  open: readonly Work[],
  running: ReadonlySet<OperationId>,
  {
    budgets = defaultBudgets,
    silent = new Map(),
  }: {
    readonly budgets?: Budgets;
    readonly silent?: ReadonlyMap<OperationId, HostId>;
  } = {},
): Schedule {
  const waiting = new Map<OperationId, string>();
  const use = new Use(budgets);
  for (const work of open) if (running.has(work.operation.id)) use.take(work);

  const holder = new Map<MachineId, OperationId>();
  const free: Work[] = [];
  for (const work of open) {
    const { id, machineIds } = work.operation;
    const before = machineIds.flatMap((machineId) => holder.get(machineId) ?? [])[0];
    for (const machineId of machineIds) holder.set(machineId, holder.get(machineId) ?? id);
    if (running.has(id)) continue;
    // In order of admission: a later one never overtakes an earlier one of the same machine.
    const hostId = silent.get(id);
    if (before !== undefined)
      waiting.set(id, `waiting for operation ${before} on the same machine`);
    else if (hostId !== undefined) waiting.set(id, `waiting for host ${hostId} to answer`);
    else free.push(work);
  }

  const start: OperationId[] = [];
  let left: readonly Work[] = free;
  while (left.length > 0) {
    // Who comes next changes only when something starts, and that is few times: a thousand that wait are sorted, not
    // searched through for each of them. Equal ones keep the order of admission.
    const inOrder = left.toSorted((one, other) => use.compare(one, other));
    const next = inOrder.findIndex((work) => use.shortOf(work) === undefined);
    const short = next === -1 ? inOrder : inOrder.slice(0, next);
    for (const work of short) waiting.set(work.operation.id, use.shortOf(work) ?? "");
    const first = inOrder[next];
    if (first === undefined) break;
    use.take(first);
    start.push(first.operation.id);
    const after = new Set(inOrder.slice(next + 1));
    left = left.filter((work) => after.has(work));
  }
  return { start, waiting };
}

/** What is under way, counted. */
class Use {
  readonly #budgets: Budgets;
  readonly #counts = new Map<string, number>();
  /** The same as in the counts, without making a key for each comparison. */
  readonly #ofEnvironment = new Map<EnvironmentId, number>();

  constructor(budgets: Budgets) {
    this.#budgets = budgets;
  }

  take(work: Work): void {
    for (const key of this.#keysOf(work)) this.#counts.set(key, this.#count(key) + 1);
    const { environmentId } = work.operation;
    this.#ofEnvironment.set(environmentId, (this.#ofEnvironment.get(environmentId) ?? 0) + 1);
  }

  compare(left: Work, right: Work): number {
    return (
      priorities.indexOf(left.priority) - priorities.indexOf(right.priority) ||
      (this.#ofEnvironment.get(left.operation.environmentId) ?? 0) -
        (this.#ofEnvironment.get(right.operation.environmentId) ?? 0)
    );
  }

  /** What it would be too much for; undefined when it may start. */
  shortOf(work: Work): string | undefined {
    const key = this.#keysOf(work).find((each) => this.#count(each) >= this.#limitOf(each));
    return key && `waiting: ${key} has ${this.#count(key)} under way, the most it may`;
  }

  #keysOf(work: Work): readonly string[] {
    return [
      "the shepherd",
      ...work.hostIds.map((id) => `host ${id}`),
      ...work.siteIds.map((id) => `site ${id}`),
      ...(work.lines.length === 0 ? [] : work.hostIds.map((id) => `moves of ${id}`)),
      ...new Set(work.lines.map((line) => `line ${line}`)),
      `environment ${work.operation.environmentId}`,
    ];
  }

  #limitOf(key: string): number {
    const { operations, perHost, perSite, movesPerHost, movesPerLine } = this.#budgets;
    if (key === "the shepherd") return operations;
    if (key.startsWith("host ")) return perHost;
    if (key.startsWith("site ")) return perSite;
    if (key.startsWith("moves of ")) return movesPerHost;
    if (key.startsWith("line ")) return movesPerLine;
    return Number.POSITIVE_INFINITY;
  }

  #count(key: string): number {
    return this.#counts.get(key) ?? 0;
  }
}
