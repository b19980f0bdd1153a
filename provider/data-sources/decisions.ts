/** Data source `drover_decisions`: the newest verdicts of an environment, or of all. Changes with every request. */
import type { Explanation } from "@drover/shepherd/api/contract";
import { attributes } from "#schema/attribute";
import { defineDataSource } from "#schema/resource";
import { oneOf, wholeNumber } from "#schema/validators";
import { decisionAttributes, decisionState } from "./decision.ts";
import { reading } from "./reading.ts";

const defaultLimit = 100;

const declared = attributes({
  environment: {
    type: "string",
    optional: true,
    description: "Name or id of an environment. Absent: all.",
  },
  effect: {
    type: "string",
    optional: true,
    description: "Only decisions with this effect: `allow`, `approve` or `deny`.",
    validators: [oneOf(["allow", "approve", "deny"])],
  },
  limit: {
    type: "number",
    optional: true,
    description: `How many decisions to look back at most, from 1 to 1000. Default ${defaultLimit}.`,
    validators: [wholeNumber({ min: 1, max: 1000 })],
  },
  decisions: {
    type: {
      nesting: "list",
      attributes: {
        id: { type: "string", computed: true, description: "Id of the decision." },
        ...decisionAttributes,
      },
    },
    computed: true,
    description: "The decisions, newest first.",
  },
});

export const decisions = defineDataSource({
  name: "drover_decisions",
  description: "The newest decisions of an environment, or of all environments.",
  attributes: declared,
  read: (work, { environment, effect, limit }) =>
    reading(work, "read the decisions", ["environment"], async () => {
      const { items } = await work.client.get<{ items: readonly Explanation["decision"][] }>(
        "/v1/decisions",
        {
          query: { environment: environment ?? undefined, limit: limit ?? defaultLimit },
          signal: work.signal,
        },
      );
      return {
        environment,
        effect,
        limit,
        decisions: items
          .filter((of) => effect === null || of.effect === effect)
          .toSorted((left, right) => right.decided_at_ms - left.decided_at_ms)
          .map((of) => ({ id: of.id, ...decisionState(of) })),
      };
    }),
});
