/**
 * Data source `drover_decision`: one verdict with its reasons, as `drover explain` tells it. A decision never changes,
 * so it may stand in outputs and checks.
 */
import { path } from "@drover/shepherd/api/client";
import type { Explanation } from "@drover/shepherd/api/contract";
import { attributes } from "#schema/attribute";
import { defineDataSource } from "#schema/resource";
import { leaseTime } from "../resources/time.ts";
import { reading } from "./reading.ts";

/** What one decision and a list of them have in common. */
export const decisionAttributes = attributes({
  environment_id: {
    type: "string",
    computed: true,
    description: "Id of the environment that it was about.",
  },
  request_id: { type: "string", computed: true, description: "The request that it answers." },
  effect: { type: "string", computed: true, description: "`allow`, `approve` or `deny`." },
  code: {
    type: "string",
    computed: true,
    description: "Why, as a stable code: `granted`, `policy.denied`, `placement.no_host_fits`, …",
  },
  message: { type: "string", computed: true, description: "Why, in a line." },
  decided_at: { type: "string", computed: true, description: "When, in RFC 3339." },
});

const declared = attributes({
  id: {
    type: "string",
    required: true,
    description: "Id of the decision; the id of its request or operation is understood too.",
  },
  ...decisionAttributes,
  findings: {
    type: {
      nesting: "list",
      attributes: {
        rule: { type: "string", computed: true, description: "The rule." },
        constraint: {
          type: "string",
          computed: true,
          description: "The constraint that the rule was asked to enforce.",
        },
        owner: {
          type: "string",
          computed: true,
          description: "Whose policy says so: `operator`, `site:north`, `owner:alice`.",
        },
        level: {
          type: "string",
          computed: true,
          description: "`audit`, `warn`, `approve` or `deny`.",
        },
        ok: { type: "bool", computed: true, description: "Whether the rule was satisfied." },
        message: { type: "string", computed: true, description: "What it found." },
        nearest: {
          type: ["map", "string"],
          computed: true,
          description: "Nearest values that would pass, where the rule can tell.",
        },
      },
    },
    computed: true,
    description: "What each rule found, the failed ones first.",
  },
  consents: {
    type: {
      nesting: "list",
      attributes: {
        owner: { type: "string", computed: true, description: "Who was asked." },
        effect: { type: "string", computed: true, description: "`allow`, `approve` or `deny`." },
      },
    },
    computed: true,
    description: "The answer of each owner.",
  },
  explanation: {
    type: "string",
    computed: true,
    description: "The whole story in plain text, one fact a line.",
  },
});

export const decision = defineDataSource({
  name: "drover_decision",
  description: "One decision: the verdict, what each rule found, and what came of it.",
  attributes: declared,
  read: (work, { id }) =>
    reading(work, `read decision "${id}"`, ["id"], async () => {
      const told = await work.client.get<Explanation>(path`/v1/decisions/${id}/explanation`, {
        signal: work.signal,
      });
      const { decision: of, consents, text } = told;
      return {
        id,
        ...decisionState(of),
        findings: of.findings
          .toSorted((left, right) => Number(left.ok) - Number(right.ok))
          .map((finding) => ({
            rule: finding.rule,
            constraint: finding.id,
            owner: finding.owner,
            level: finding.level,
            ok: finding.ok,
            message: finding.msg,
            nearest: Object.fromEntries(
              Object.entries(finding.fix ?? {}).map(([name, value]) => [name, String(value)]),
            ),
          })),
        consents: consents.map(({ owner, effect }) => ({ owner, effect })),
        explanation: text,
      };
    }),
});

/** The attributes that both data sources show. */
export function decisionState(of: Explanation["decision"]) {
  return {
    environment_id: of.environment_id,
    request_id: of.request_id,
    effect: of.effect,
    code: of.code,
    message: of.message,
    decided_at: leaseTime(of.decided_at_ms),
  };
}
