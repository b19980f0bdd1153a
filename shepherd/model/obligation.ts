/**
 * What a yes brings with it: a policy allows a change and demands that something is done with it. Plain data, journaled
 * as it stands here; policy/obligations.ts says which demands the shepherd can keep and keeps them.
 */
import type {
  DecisionId,
  EnvironmentId,
  MachineId,
  Ms,
  OperationId,
  RequestId,
} from "#model/units";

/** One demand, as the rule's instance made it. */
export interface Obligation {
  /** `notify`, `verify`, `review`; any other denies. */
  readonly id: string;
  readonly params: Readonly<Record<string, unknown>>;
  /** Whose bundle demands it: `operator`, `site:north`, `owner:alice`. */
  readonly owner: string;
  readonly rule: string;
  readonly instance: string;
}

/**
 * kept: done, or seen, or looked at. missed: not in time. void: what it was about never came in force, or something else
 * was granted since.
 */
export type ObligationState = "waiting" | "kept" | "missed" | "void";

/** A demand that came with a grant, until it is over and after. */
export interface OwedObligation {
  readonly id: string;
  readonly demand: Obligation;
  readonly environmentId: EnvironmentId;
  readonly requestId: RequestId;
  readonly decisionId: DecisionId;
  readonly operationId: OperationId;
  readonly machineIds: readonly MachineId[];
  /** The person or program that asked: nobody reviews their own request. */
  readonly askedBy: string;
  /** As the rule's: `operator` = the environment's owner and its guests do not know of it. */
  readonly disclose: "owner" | "operator";
  readonly state: ObligationState;
  readonly owedAtMs: Ms;
  /** Known once the operation has ended; absent for what is kept at once. */
  readonly dueAtMs?: Ms | undefined;
  readonly endedAtMs?: Ms | undefined;
  /** How it ended, in one line. */
  readonly outcome?: string | undefined;
}
