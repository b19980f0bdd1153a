/**
 * What a bundle answers: contract 1 of the output, in the wire's words. The door refuses any other shape, so a policy
 * that answers nonsense denies. Pure declarations; policies/main/main.rego fills them.
 */
import { type Static, Type } from "typebox";
import { contractVersion } from "#policy/input";

const closed = { additionalProperties: false };
const name = Type.String({ minLength: 1 });
const Params = Type.Record(Type.String(), Type.Unknown());

const Finding = Type.Object(
  {
    rule: name,
    id: name,
    level: Type.Enum(["audit", "warn", "approve", "deny"]),
    ok: Type.Boolean(),
    code: Type.Enum(["policy.allowed", "policy.denied", "policy.exempt", "policy.indeterminate"]),
    msg: Type.String(),
    params: Params,
    disclose: Type.Enum(["owner", "operator"]),
    path: Type.Optional(Type.String()),
    /** Nearest values that would pass this rule. */
    fix: Type.Optional(
      Type.Record(Type.String(), Type.Union([Type.Integer({ minimum: 0 }), Type.String()])),
    ),
    /** Id of the exemption that excused it. */
    exemption: Type.Optional(name),
  },
  closed,
);

const limit = Type.Optional(Type.Integer({ minimum: 0 }));

/** Places that the planner must not choose for a machine; it may stay where it is. */
const Avoid = Type.Array(
  Type.Union([
    Type.Object({ machine: name, site: name }, closed),
    Type.Object({ machine: name, host: name }, closed),
  ]),
);

/** What may be done about a copy that does not end, and may be forbidden (operations/ladder.ts). */
const rungs = ["downtime", "bandwidth", "throttle", "post_copy", "abort"] as const;

/** Machines by name, and how many: at one place together (`apart`), or how many places they may be at (`together`). */
const Company = Type.Array(
  Type.Object(
    {
      machines: Type.Array(name, { minItems: 2 }),
      per: Type.Enum(["host", "site"]),
      most: Type.Integer({ minimum: 1 }),
    },
    closed,
  ),
);

export const PolicyOutput = Type.Object(
  {
    contract: Type.Literal(contractVersion),
    effect: Type.Enum(["allow", "approve", "deny"]),
    findings: Type.Array(Finding),
    /** What must be done with a yes, and which instance wants it; obligations.ts knows what can be promised. */
    obligations: Type.Array(
      Type.Object({ id: name, params: Params, rule: name, instance: name }, closed),
    ),
    limits: Type.Object(
      {
        max_downtime_ms: limit,
        max_mbps: limit,
        ttl_ms: limit,
        avoid: Type.Optional(Avoid),
        apart: Type.Optional(Company),
        together: Type.Optional(Company),
        forbid_rungs: Type.Optional(Type.Array(Type.Enum([...rungs]))),
      },
      closed,
    ),
  },
  closed,
);
export type PolicyOutput = Static<typeof PolicyOutput>;

/** What a bundle says of itself when it is loaded; `params` of a rule is a JSON Schema. */
export const PolicySelf = Type.Object(
  {
    contract: Type.Literal(contractVersion),
    entrypoints: Type.Array(name),
    rules: Type.Record(
      Type.String(),
      Type.Object({
        title: name,
        description: name,
        custom: Type.Object({
          disclose: Type.Enum(["owner", "operator"]),
          level: Type.Enum(["off", "audit", "warn", "approve", "deny"]),
          params: Type.Record(Type.String(), Type.Unknown()),
          /** An instance to start from: docs and forms show it. */
          example: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
        }),
      }),
    ),
  },
  closed,
);
export type PolicySelf = Static<typeof PolicySelf>;
