/** A list of existing objects for `terraform query`: each with its identity, so that it can be imported. */
import type { Attributes, PlannedOf, Rule, StateOf } from "#schema/attribute";
import type { Report } from "#schema/report";
import type { ObjectAttributes, Work } from "#schema/resource";
import type { ObjectValue } from "#schema/value";

export interface Listed {
  /** Of the resource of the same name. */
  readonly identity: ObjectValue;
  readonly displayName: string;
  /** State of the resource of the same name; made only when it was asked for. */
  readonly state?: () => Promise<ObjectValue | null> | ObjectValue | null;
}

export interface ListType<A = ObjectAttributes> {
  /** Name of a resource that has an identity. */
  readonly name: string;
  readonly description: string;
  /** What narrows the list; nothing computed. */
  readonly attributes: Attributes;
  readonly rules?: readonly Rule[];
  readonly validate?: (config: PlannedOf<A>, report: Report) => void;
  /** Not asked for more than `limit`, which ends the iteration. */
  readonly list: (
    work: Work,
    config: StateOf<A>,
    options: { readonly limit: number },
  ) => AsyncIterable<Listed>;
}

export function defineList<const A extends Attributes>(
  declared: { attributes: A } & Omit<ListType<A>, "attributes">,
): ListType {
  // its own attributes type is for its author; the catalogue keeps them all under the uniform one
  return declared as unknown as ListType;
}
