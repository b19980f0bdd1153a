/**
 * The wire shapes of constraints: rule instances that an environment declares for itself. Types only; routes/constraints.ts
 * speaks them, the provider's drover_constraint and `drover constraint` read them.
 *
 *   PUT    /v1/environments/:environment/constraints/:name   body ConstraintBody -> Mutation<ConstraintView>
 *   GET    /v1/constraints?environment=&name=                ConstraintView[]    GET|PATCH|DELETE /v1/constraints/:id
 *   POST   /v1/constraint-checks                             body ConstraintCheckBody -> ConstraintCheckAnswer; changes nothing
 */
import type { ConstraintLevel } from "#model/objects";

export interface ConstraintBody {
  /** One of the rules of the environment's owner (`drover policy catalogue owner:alice`). */
  rule: string;
  /** Absent: the level that the rule is meant for; never laxer than that. */
  level?: ConstraintLevel;
  params: Record<string, unknown>;
}
export interface ConstraintPatch {
  level?: ConstraintLevel;
  params?: Record<string, unknown>;
}
export interface ConstraintView {
  id: string;
  environment_id: string;
  name: string;
  rule: string;
  level: ConstraintLevel;
  params: Readonly<Record<string, unknown>>;
  /** What findings, `drover explain` and exemptions call it. */
  instance: string;
  version: number;
}
/** A declaration that is still planned: parts may be unknown. */
export interface ConstraintCheckBody {
  /** Id or name; absent: not there yet, and then the asker's own policy is looked at. */
  environment?: string;
  rule: string;
  level?: ConstraintLevel;
  params?: Record<string, unknown>;
}
export interface ConstraintCheckAnswer {
  /** The level that the rule is meant for; null: there is no such rule to declare. */
  level: ConstraintLevel | null;
  problems: { attribute: "rule" | "level" | "params"; problem: string }[];
}
