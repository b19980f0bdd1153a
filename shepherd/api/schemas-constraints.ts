/** What the routes of constraints take: bodies as they are validated, proved equal to their contract. */
import { type Static, Type } from "typebox";
import type {
  ConstraintBody as ConstraintBodyContract,
  ConstraintCheckBody as ConstraintCheckBodyContract,
  ConstraintPatch as ConstraintPatchContract,
} from "#api/contract-constraints";
import { constraintLevels } from "#model/objects";

const closed = { additionalProperties: false };
const Rule = Type.String({ minLength: 1, maxLength: 128 });
const Level = Type.Enum([...constraintLevels]);
const Parameters = Type.Record(Type.String(), Type.Unknown());

export const ConstraintBody = Type.Object(
  { rule: Rule, level: Type.Optional(Level), params: Parameters },
  closed,
);
export const ConstraintPatch = Type.Object(
  { level: Type.Optional(Level), params: Type.Optional(Parameters) },
  closed,
);
export const ConstraintCheckBody = Type.Object(
  {
    environment: Type.Optional(Type.String({ minLength: 1, maxLength: 128 })),
    rule: Rule,
    level: Type.Optional(Level),
    params: Type.Optional(Parameters),
  },
  closed,
);

type Same<Left, Right> = [Left] extends [Right] ? ([Right] extends [Left] ? true : never) : never;
const same: [
  Same<keyof Static<typeof ConstraintBody>, keyof ConstraintBodyContract>,
  Same<Static<typeof ConstraintPatch>, ConstraintPatchContract>,
  Same<Static<typeof ConstraintCheckBody>, ConstraintCheckBodyContract>,
] = [true, true, true];
void same;
