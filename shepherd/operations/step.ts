/**
 * A step: one idempotent unit of an operation. The engine looks, does, looks again; a step tells it how.
 * What a step journals must be enough for a later run, in another process, to go on or to undo.
 */
import type { Fault } from "#model/fault";
import type { Operation, Plan, StepRecord } from "#model/plan";
import type { HostRecord } from "#model/site";
import type { HostId, MachineId, Ms } from "#model/units";
import type { Exclusives } from "#operations/exclusives";
import type { Clock, Ids } from "#ports/clock";
import type { Hosts } from "#ports/host";
import type { ImageFiles } from "#ports/image-files";
import type { MigrationTls } from "#ports/migration-tls";
import type { Journal, Store } from "#ports/store";

/** The part of a pino logger that operations use. */
export interface Log {
  debug?(data: object, message: string): void;
  info(data: object, message: string): void;
  warn(data: object, message: string): void;
  error(data: object, message: string): void;
}

export interface OperationWorld {
  readonly store: Store;
  readonly hosts: Hosts;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly fleet: readonly HostRecord[];
  readonly images: ImageFiles;
  /** Fencing epoch of this shepherd, stamped on operations and domains. */
  readonly epoch: number;
  readonly log: Log;
  /** Whether a host answered at the last look, or counts as dead; absent: each is tried. */
  readonly answers?: ((hostId: HostId) => boolean) | undefined;
  /** How memory and disks are encrypted on their way; absent: they go in the clear. */
  readonly migrationTls?: MigrationTls | undefined;
}

/** Plain data, journaled. */
export type StepData = Readonly<Record<string, unknown>>;

/**
 * What the world says about a step.
 * unknown: a host has not answered; ask again, do nothing. broken: only a person can answer, `question` says what and
 * `commands` how.
 */
export type Look =
  | {
      readonly verdict: "done";
      readonly seen?: StepData;
      readonly outcome?: StepData;
      /** It is as far as it goes, and less than was asked for: the operation goes on, and ends `partial` with this. */
      readonly short?: Fault;
    }
  | { readonly verdict: "todo"; readonly seen?: StepData }
  | { readonly verdict: "unknown"; readonly question: string }
  | {
      readonly verdict: "broken";
      readonly question: string;
      /** What a person may run to find or give the answer, most likely first. */
      readonly commands: readonly string[];
    };

export interface StepContext {
  readonly world: OperationWorld;
  readonly exclusives: Exclusives;
  readonly operation: Operation;
  readonly plan: Plan;
  /** As journaled; `observed` is what was seen before anything was done. */
  readonly record: StepRecord | undefined;
  /** before: nothing done by this run yet. after: `do` ended well. after_fault: it did not, or did not answer. */
  readonly phase: "before" | "after" | "after_fault";
  /** An earlier run of the shepherd had begun this step. */
  readonly resumed: boolean;
  /** Aborted when the operation is to be cancelled. */
  readonly signal: AbortSignal;
  read<T>(work: (journal: Journal) => Promise<T>): Promise<T>;
  /** For people; `fraction` of this step, 0 to 1. */
  progress(fraction: number, message: string): void;
  /** Journals `outcome` on the running step together with `work`, in one transaction. */
  mark(outcome: StepData, work?: (journal: Journal) => Promise<void>): Promise<void>;
}

export interface Step {
  /** Unique in its operation: `rank-2: copy and switch`. */
  readonly name: string;
  /** The machine whose state is `unknown` while this step waits for a host, and its state otherwise. */
  readonly machine?: {
    readonly id: MachineId;
    readonly state: "creating" | "running" | "moving" | "destroying";
  };
  /** After that long an unanswered `do` counts as failed; the world is looked at, never assumed. */
  readonly budgetMs: Ms;
  /** Share of the operation's progress. */
  readonly weightMs: Ms;
  observe(context: StepContext): Promise<Look>;
  do(context: StepContext, seen: StepData): Promise<StepData | void>;
  /** Puts back what `observed` says; safe to run twice, and when `do` did not happen. */
  readonly undo?: (context: StepContext) => Promise<void>;
  /** Why there is no undo. */
  readonly undoImpossible?: string;
  readonly undoNeedless?: string;
  /** In the transaction that says `done`: what is in force now. `seen` is what the last look said. */
  readonly commit?: (journal: Journal, context: StepContext, seen: StepData) => Promise<void>;
  /** In the transaction that says `undone`. */
  readonly revert?: (journal: Journal, context: StepContext) => Promise<void>;
  /**
   * What this step belongs to, when several things of one operation succeed or fail for themselves (each machine of an
   * environment that moves). A lane past its pivot stays where it came; the others are undone. Absent: all of it is one.
   */
  readonly lane?: string;
  /** Steps of one stage follow each other, and the lanes of one stage run at once. Absent: alone. */
  readonly stage?: string;
  /** Nothing of its lane before this step is undone once it is done: the machine lives elsewhere now. */
  readonly pivot?: true;
  /**
   * undo (default): a fault ends the operation. go_on: the operation continues and ends `partial`.
   * insist: again and again until the world agrees; what follows must not happen before.
   */
  readonly onFault?: "undo" | "go_on" | "insist";
}

/** Codes that mean: it did not answer, so nothing is known. */
const silences: ReadonlySet<string> = new Set<Fault["code"]>([
  "host.unreachable",
  // A newer shepherd has the host: it knows, we do not.
  "host.claimed",
  "libvirt.disconnected",
  "libvirt.call_timeout",
  "shell.timeout",
  "operation.step_timeout",
]);

export function isSilence(error: unknown): boolean {
  return (
    typeof error === "object" &&
    error !== null &&
    "code" in error &&
    silences.has(String(error.code))
  );
}

/** The hosts that an operation may not do without, for messages. */
export function hostNames(hostIds: readonly HostId[]): string {
  return hostIds.toSorted().join(", ");
}
