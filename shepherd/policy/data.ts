/**
 * The data beside the rules: which instance of which rule is in force, how strictly, for whom, and who is excused until
 * when. Nothing else ever reaches a policy's `data`: a base document could stand in for a rule that was not compiled.
 * Pure declarations; read from a bundle's data.yaml by opa/bundle.ts.
 */
import { type Static, Type } from "typebox";
import { exemption, judgedKinds, points, subjectTypes } from "#policy/input";

/** What may be done through the API; the entrypoint `roles` answers who may. */
export const accessActions = ["read", "declare", "ask", "operate", "approve", "secure"] as const;

const closed = { additionalProperties: false };
const name = Type.String({ minLength: 1, maxLength: 128 });
/** An empty list would excuse nothing and look as if it excused everything. */
const names = Type.Optional(Type.Array(name, { minItems: 1 }));

const Level = Type.Enum(["off", "audit", "warn", "approve", "deny"]);
/** Another level at some points of enforcement or for some environments; of several that apply the strictest counts. */
const Levels = Type.Object(
  {
    points: Type.Optional(
      Type.Object(Object.fromEntries(points.map((point) => [point, Type.Optional(Level)])), closed),
    ),
    environments: Type.Optional(Type.Record(name, Level, { minProperties: 1 })),
  },
  closed,
);

/** One instance of a rule. */
const Constraint = Type.Object(
  {
    level: Level,
    levels: Type.Optional(Levels),
    /** Checked against the rule's own schema (METADATA custom.params). */
    params: Type.Record(Type.String(), Type.Unknown()),
    /** Absent: every request. All keys must match, any value of a key does. */
    match: Type.Optional(
      Type.Object(
        {
          points: Type.Optional(Type.Array(Type.Enum([...points]), { minItems: 1 })),
          kinds: Type.Optional(Type.Array(Type.Enum([...judgedKinds]), { minItems: 1 })),
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

const Exemption = Type.Object(exemption, closed);
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
        /** What roles may do through the API, instead of what ships; read from the operator's bundle only. */
        roles: Type.Optional(
          Type.Record(name, Type.Array(Type.Enum([...accessActions])), { minProperties: 1 }),
        ),
        /** People whose yes counts where this bundle wants an approval; absent: everybody who may approve. */
        approvers: Type.Optional(Type.Array(name, { minItems: 1 })),
        /** JSON pointers into a decision's event that decision logs leave out, beside those that ship. */
        mask: Type.Optional(Type.Array(Type.String({ pattern: "^/(input|result)/." }))),
      },
      closed,
    ),
  },
  closed,
);
export type PolicyData = Static<typeof PolicyData>;
