/** An action: a verb that a user calls without declaring anything, `action "drover_move" …` (Terraform 1.14 and newer). */
import type { Attributes, PlannedOf, Rule, StateOf } from "#schema/attribute";
import type { Report } from "#schema/report";
import type { ObjectAttributes, Work } from "#schema/resource";

export interface ActionType<A = ObjectAttributes> {
  readonly name: string;
  readonly description: string;
  /** Nothing computed: an action returns no value. */
  readonly attributes: Attributes;
  readonly rules?: readonly Rule[];
  readonly validate?: (config: PlannedOf<A>, report: Report) => void;
  /** Looks ahead; reports what would be refused. Anything may be unknown. */
  readonly plan?: (work: Work, config: PlannedOf<A>) => Promise<void>;
  /** `progress` shows a line to the user at once. `config` is wholly known. */
  readonly invoke: (
    work: Work,
    config: StateOf<A>,
    progress: (message: string) => void,
  ) => Promise<void>;
  readonly deprecated?: string;
}

export function defineAction<const A extends Attributes>(
  declared: { attributes: A } & Omit<ActionType<A>, "attributes">,
): ActionType {
  // its own attributes type is for its author; the catalogue keeps them all under the uniform one
  return declared as unknown as ActionType;
}
