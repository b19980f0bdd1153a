/** Approvals as the interface shows them: what would be done, for whom it waits, who said what. */
import type { ApprovalView } from "#api/contract";
import { planText } from "#api/plan-text";
import type { Approval } from "#model/consent";
import type { Decision } from "#model/request";
import { toWire } from "#model/wire";
import { demandsOf, demandText, personOf, saidYes } from "#policy/approvers";
import { disclosedTo } from "#policy/disclose";
import type { Journal } from "#ports/store";

export async function approvalView(journal: Journal, approval: Approval): Promise<ApprovalView> {
  const [request, decision, plan, environment] = [
    await journal.requests.get(approval.requestId),
    await journal.decisions.get(approval.decisionId),
    await journal.plans.get(approval.planId),
    await journal.objects.get("environment", approval.environmentId),
  ];
  if (request === undefined || plan === undefined) {
    throw new Error(`approval of ${approval.requestId} has lost its request or plan`);
  }
  return {
    request: approval.requestId,
    environment: environment?.spec.name ?? approval.environmentId,
    kind: request.kind,
    asked_by: { type: request.subject.type, name: request.subject.name },
    reason: request.reason,
    state: approval.state,
    needs: approval.needs,
    wanted_by: [...approval.wantedBy],
    demands: demandsOf(approval).map((demand) => ({
      owner: demand.owner,
      needs: demand.needs,
      approvers: demand.approvers === undefined ? null : [...demand.approvers],
      said_yes: [...saidYes(demand, approval.votes)],
    })),
    decision: approval.decisionId,
    plan: toWire(plan),
    plan_text: await planText(journal, plan),
    plan_digest: approval.planDigest,
    findings: findingsOf(decision, request.subject),
    votes: approval.votes.map(({ by, human, verdict, reason, atMs }) => ({
      by,
      human: human ?? by,
      verdict,
      reason,
      at_ms: atMs,
    })),
    asked_at_ms: approval.askedAtMs,
    expires_at_ms: approval.expiresAtMs,
    operation: approval.operationId ?? null,
    message: messageOf(approval),
  };
}

/** Cut to what the asker may know; approvers read the whole decision with `drover explain`. */
function findingsOf(
  decision: Decision | undefined,
  subject: Parameters<typeof disclosedTo>[0],
): ApprovalView["findings"] {
  const open = decision?.findings.filter(({ ok }) => !ok) ?? [];
  return disclosedTo(subject, open).map((one) => toWire(one)) as ApprovalView["findings"];
}

function messageOf(approval: Approval): string {
  const { state, votes, needs, wantedBy, outcome } = approval;
  if (state !== "pending") return outcome ?? state;
  const people = needs === 1 ? "a named person" : `${needs} named people`;
  const named = demandsOf(approval).filter(({ approvers }) => approvers !== undefined);
  const wanted =
    named.length === 0 ? wantedBy.join(", ") : demandsOf(approval).map(demandText).join("; ");
  const given = votes.length === 0 ? "" : `; ${votes.map(personOf).join(", ")} said yes`;
  return `Waits for ${people} to approve it (wanted by ${wanted})${given}.`;
}
