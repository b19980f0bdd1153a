/**
 * The data beside the rules: which instance of which rule is in force, how strictly, for whom, and who is excused until
 * when. Nothing else ever reaches a policy's `data`: a base document could stand in for a rule that was not compiled.
 * Pure declarations; read from a bundle's data.yaml by opa/bundle.ts.
 */
import { type Static, Type } from "typebox";
import { points, requestKinds, subjectTypes } from "#policy/input";

const closed = { additionalProperties: false };
const name = Type.String({ minLength: 1, maxLength: 128 });
/** An empty list would excuse nothing and look as if it excused everything. */
const names = Type.Optional(Type.Array(name, { minItems: 1 }));

/** One instance of a rule. */
const Constraint = Type.Object(
  {
    level: Type.Enum(["off", "audit", "warn", "approve", "deny"]),
    /** Checked against the rule's own schema (METADATA custom.params). */
    params: Type.Record(Type.String(), Type.Unknown()),
    /** Absent: every request. All keys must match, any value of a key does. */
    match: Type.Optional(
      Type.Object(
        {
          points: Type.Optional(Type.Array(Type.Enum([...points]), { minItems: 1 })),
          kinds: Type.Optional(Type.Array(Type.Enum([...requestKinds]), { minItems: 1 })),
          subjects: Type.Optional(Type.Array(Type.Enum([...subjectTypes]), { minItems: 1 })),
          environments: names,
          owners: names,
          /** Class of the environment or of a machine that would change. */
          classes: names,
        },
        closed,
      ),
    ),
  },
  closed,
);

/** One instance of one rule does not deny these environments until then; what could not be decided is never excused. */
const Exemption = Type.Object(
  {
    id: name,
    rule: name,
    instance: name,
    environments: Type.Array(name, { minItems: 1 }),
    expires_ms: Type.Integer({ minimum: 1 }),
    approved_by: name,
    ticket: name,
  },
  closed,
);

const ruleName = "^[a-z][a-z0-9_]*$";
const instanceName = "^[a-z0-9][a-z0-9._-]*$";

export const PolicyData = Type.Object(
  {
    drover: Type.Object(
      {
        /** rule -> instance id -> instance. */
        constraints: Type.Record(
          Type.String({ pattern: ruleName }),
          Type.Record(Type.String({ pattern: instanceName }), Constraint, {
            minProperties: 1,
            ...closed,
          }),
          { minProperties: 1, ...closed },
        ),
        exemptions: Type.Array(Exemption),
      },
      closed,
    ),
  },
  closed,
);
export type PolicyData = Static<typeof PolicyData>;
