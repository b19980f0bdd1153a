/**
 * Puts one question to every owner concerned and joins their answers. An owner without a policy says no; of a destroy,
 * rules of room and pace are excused. Knows engines through their port, and no plan.
 */
import type { Request } from "#model/request";
import { combine, type Verdict } from "#policy/combine";
import type { PolicyInput } from "#policy/input";
import { withoutPace } from "#policy/pace";
import { inputFor } from "#policy/visible";
import type { PolicyAnswer, PolicyEngine, PolicyEntrypoint } from "#ports/policy-engine";
import { inChildSpan, tell } from "#ports/tracing";

/** By owner: `operator`, `site:north`, `owner:alice`; `owner:*` speaks for environments' owners without one of their own. */
export type Engines = ReadonlyMap<string, PolicyEngine>;

export function engineOf(engines: Engines, owner: string): PolicyEngine | undefined {
  return engines.get(owner) ?? (owner.startsWith("owner:") ? engines.get("owner:*") : undefined);
}

/** All at once; the answer of each is kept in the verdict's consents. */
export async function consult(
  engines: Engines,
  question: {
    readonly entrypoint: PolicyEntrypoint;
    readonly owners: readonly string[];
    readonly input: PolicyInput;
    readonly kind: Request["kind"];
  },
): Promise<Verdict> {
  const { entrypoint, owners, input, kind } = question;
  const answers = await Promise.all(
    owners.map(async (owner): Promise<PolicyAnswer> => {
      const engine = engineOf(engines, owner);
      if (engine === undefined) return noPolicy(owner, entrypoint);
      const answer = await inChildSpan("policy", { owner, point: entrypoint }, async () => {
        const said = await engine.evaluate(entrypoint, inputFor(owner, input));
        tell({ effect: said.effect });
        return said;
      });
      return { ...answer, owner, findings: answer.findings.map((one) => ({ ...one, owner })) };
    }),
  );
  return combine(kind === "destroy" ? answers.map(withoutPace) : answers);
}

/** An owner whose bundle is not there consents to nothing. */
function noPolicy(owner: string, entrypoint: PolicyEntrypoint): PolicyAnswer {
  return {
    owner,
    entrypoint,
    effect: "deny",
    findings: [
      {
        rule: "policy",
        id: "missing",
        level: "deny",
        ok: false,
        code: "policy.absent",
        msg: `no policy of ${owner} is loaded`,
        params: {},
        owner,
        disclose: "owner",
      },
    ],
    obligations: [],
    limits: {},
    policyDigest: "",
    dataDigest: "",
    durationMs: 0,
  };
}
