/** Bodies of the calls in which people take part in decisions; the types stand in the contracts, checked equal below. */
import { type Static, Type } from "typebox";
import type { VoteBody as VoteBodyContract } from "#api/contract";
import type {
  BreakGlassBody as BreakGlassBodyContract,
  ExemptionBody as ExemptionBodyContract,
  RecallBody as RecallBodyContract,
  ReviewBody as ReviewBodyContract,
  WhyNotBody as WhyNotBodyContract,
} from "#api/contract-people";
import { Name, RequestBody } from "#api/schemas";

const closed = { additionalProperties: false };
const text = (most: number) => Type.String({ minLength: 1, maxLength: most });
const digest = Type.String({ pattern: "^[0-9a-f]{64}$" });
const timeMs = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
const size = Type.Optional(Type.Integer({ minimum: 1, maximum: 16 * 2 ** 20 }));

export const Reason = Type.Object({ reason: Type.Optional(text(500)) }, closed);
export const VoteBody = Type.Object(
  { reason: text(500), plan_digest: Type.Optional(digest) },
  closed,
);
export const ReviewBody = Type.Object({ reason: text(500) }, closed);
export const BreakGlassBody = Type.Object(
  {
    document: Type.Object(
      {
        purpose: Type.Literal("drover-break-glass-1"),
        plan_digest: digest,
        by: text(100),
        reason: text(500),
        not_before_ms: timeMs,
        expires_at_ms: timeMs,
      },
      closed,
    ),
    signature: Type.String({ pattern: "^[A-Za-z0-9+/]{86}==$" }),
  },
  closed,
);
export const RecallBody = Type.Object(
  {
    site: Name,
    environment: text(128),
    machine: Type.Optional(text(128)),
    reason: text(500),
    deadline_ms: timeMs,
  },
  closed,
);
export const ExemptionBody = Type.Object(
  {
    owner: Type.String({ pattern: "^(operator|(site|owner):[A-Za-z0-9_.-]{1,100})$" }),
    rule: Type.String({ pattern: "^[a-z][a-z0-9_]{0,63}$" }),
    instance: text(128),
    environments: Type.Array(text(128), { minItems: 1, maxItems: 100 }),
    expires_at_ms: timeMs,
    ticket: text(200),
    reason: text(500),
  },
  closed,
);
export const WhyNotBody = Type.Object(
  { vcpus: size, cpu_percent: size, memory_mib: size, site: Type.Optional(Name) },
  closed,
);
export const WhatIfBody = Type.Object(
  {
    id: Type.Optional(text(100)),
    request: Type.Optional(RequestBody),
    set: Type.Record(
      Type.String({ pattern: "^[A-Za-z0-9_.-]{1,200}$" }),
      Type.Union([Type.String({ maxLength: 200 }), Type.Number(), Type.Boolean()]),
      { maxProperties: 50 },
    ),
  },
  closed,
);

type Same<Schema, Contract> = [Schema] extends [Contract] ? true : never;
/** Compiles only while every schema fits its contract. */
export const bodiesFit: [
  Same<Static<typeof VoteBody>, VoteBodyContract>,
  Same<Static<typeof BreakGlassBody>, BreakGlassBodyContract>,
  Same<Static<typeof RecallBody>, RecallBodyContract>,
  Same<Static<typeof ExemptionBody>, ExemptionBodyContract>,
  Same<Static<typeof ReviewBody>, ReviewBodyContract>,
  Same<Static<typeof WhyNotBody>, WhyNotBodyContract>,
] = [true, true, true, true, true, true];
