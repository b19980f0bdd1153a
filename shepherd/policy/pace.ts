/**
 * Rules of room and pace never keep an owner from destroying what is theirs (DESIGN 2, rule 2). Pure; used where a
 * decision is made and where it is repeated, so that both say the same.
 */
import { failedFindings } from "#policy/disclose";
import type { PolicyAnswer } from "#ports/policy-engine";

const neverBlocksDestroy = new Set([
  "cooldown",
  "disruption_budget",
  "dominant_share",
  "environment_quota",
  "growth_factor",
  "host_headroom",
  "lease_length",
  "move_occupancy",
  "moved_bytes",
  "owner_quota",
  "predicted_cost",
  "request_rate",
  "site_quota",
]);

/** An answer about a destroy that said no for nothing but room and pace says yes. */
export function withoutPace(answer: PolicyAnswer): PolicyAnswer {
  if (answer.effect === "allow") return answer;
  const rest = failedFindings(answer.findings).filter(({ rule }) => !neverBlocksDestroy.has(rule));
  const excused = failedFindings(answer.findings).length > rest.length;
  return excused && rest.length === 0 ? { ...answer, effect: "allow" } : answer;
}
