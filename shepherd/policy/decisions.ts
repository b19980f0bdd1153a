/**
 * Writes decision records: what a verdict, a refusal of code or a built-in grant becomes in the journal, with the one
 * line that its asker may read. Pure but for id and time.
 */
import type { Approval, SignedBreakGlass } from "#model/consent";
import type { Plan, PlanAction } from "#model/plan";
import type { Decision, Request } from "#model/request";
import type { FactAges } from "#policy/ages";
import type { Verdict } from "#policy/combine";
import { explainDenial, failedFindings, seesAll } from "#policy/disclose";
import type { Clock, Ids } from "#ports/clock";

type Made = Readonly<{ ids: Ids; clock: Clock }>;

/** What policy said at one point. */
export function decisionOf(
  made: Made,
  request: Request,
  of: {
    readonly point: Decision["point"];
    readonly verdict: Verdict;
    readonly input: unknown;
    /** Set when enough people have approved what policy wants approved. */
    readonly approval?: Approval | undefined;
  },
): Decision {
  const { point, verdict, input, approval } = of;
  const plain = {
    ...plainDecision(made, request, point),
    findings: verdict.findings,
    obligations: verdict.obligations,
    limits: verdict.limits,
    consents: verdict.consents,
    input,
  };
  switch (verdict.effect) {
    case "allow":
      return { ...plain, effect: "allow", code: "granted", message: "Granted." };
    case "approve": {
      if (approval !== undefined) {
        const names = approval.votes.map(({ by }) => by).join(", ");
        return {
          ...plain,
          effect: "allow",
          code: "granted",
          message: `Approved by ${names}.`,
          approvedBy: approval.votes,
        };
      }
      const { message } = explainDenial(request, plain);
      return {
        ...plain,
        effect: "approve",
        code: "policy.approval_needed",
        message: `A named person must approve this: ${message}`,
      };
    }
    case "deny": {
      const { message } = explainDenial(request, plain);
      return { ...plain, effect: "deny", code: verdict.code, message };
    }
  }
}

/** A no of code, not of policy. */
export function denialOf(
  made: Made,
  request: Request,
  of: {
    readonly point: Decision["point"];
    readonly code: string;
    readonly message: string;
    readonly ages?: FactAges | undefined;
  },
): Decision {
  const { point, code, message, ages } = of;
  const input = ages === undefined ? null : { fact_ages_ms: ages };
  return { ...plainDecision(made, request, point), effect: "deny", code, message, input };
}

/** What those are told who may not know how much room hosts and paths have. */
const roomTexts: Readonly<Partial<Record<Decision["code"], string>>> = {
  "placement.no_host_fits": "No room: no host at the sites it may use can hold it now.",
  "placement.uplink_full": "No room: what lies between its machines cannot carry that promise now.",
};

/** No room: an operator reads which hosts lack what; others only that there is none. */
export function planRefusalOf(
  made: Made,
  request: Request,
  refusal: {
    readonly code: Decision["code"];
    readonly message: string;
    readonly ages?: FactAges | undefined;
  },
): Decision {
  const withoutNumbers = seesAll(request.subject) ? undefined : roomTexts[refusal.code];
  const message = withoutNumbers ?? refusal.message;
  const { code, ages } = refusal;
  return denialOf(made, request, { point: "plan", code, message, ages });
}

const keepsDisks = "Destroying compute needs no consent; its disks are kept as volumes.";
const builtInWords = {
  release: "Giving back towards the baseline needs no consent.",
  repair: "Brings hosts to what was granted before.",
} as const;

/** Grants of code: giving back, and repair. */
export function builtInDecision(
  made: Made,
  request: Request,
  of: { readonly kind: "release" | "repair"; readonly plan: Plan; readonly ages: FactAges },
): Decision {
  return {
    ...plainDecision(made, request, "plan"),
    effect: "allow",
    code: "granted",
    message: request.kind === "destroy" ? keepsDisks : builtInWords[of.kind],
    input: { built_in: of.kind, plan_digest: of.plan.digest, fact_ages_ms: of.ages },
  };
}

/** The whole document stands in it: who broke the glass, why, and what exactly for. */
export function glassDecision(
  made: Made,
  request: Request,
  of: { readonly signed: SignedBreakGlass; readonly plan: Plan; readonly ages: FactAges },
): Decision {
  const { by, reason } = of.signed.document;
  return {
    ...plainDecision(made, request, "plan"),
    effect: "allow",
    code: "granted",
    message: `Glass broken by ${by}: ${reason}`,
    input: {
      built_in: "break_glass",
      plan_digest: of.plan.digest,
      fact_ages_ms: of.ages,
      ...of.signed,
    },
  };
}

/** True when nothing but the stack's mode `advise` stands in the way. */
export function isAdvised(denied: Pick<Decision, "findings">): boolean {
  const failed = failedFindings(denied.findings);
  return (
    failed.length > 0 &&
    failed.every(({ rule, params }) => rule === "adaptation_mode" && params["mode"] === "advise")
  );
}

/** The no of mode `advise`, which says what would have been done. */
export function adviceOf(denied: Decision, plan: Plan): Decision {
  const words = plan.actions.map(inWords).filter((word) => word !== "");
  const what = words.length === 0 ? "nothing would have to change" : words.join(", ");
  return {
    ...denied,
    code: "policy.advised",
    message: `Advice only, as the stack's mode says; it would be: ${what}.`,
  };
}

/** Without hosts: whoever reads it may know sites and sizes only. */
function inWords(action: PlanAction): string {
  switch (action.kind) {
    case "move_machine":
      return action.fromSiteId === action.toSiteId
        ? "a move within the site"
        : `a move to ${action.toSiteId}`;
    case "set_memory":
      return `${action.toMib} MiB`;
    case "set_vcpus":
      return `${action.to} vCPUs`;
    case "set_cpu_percent":
      return `${action.to} % of a core`;
    case "set_cpu_weight":
      return `CPU weight ${action.to}`;
    case "set_rate":
      return `${action.toMbps} Mbit/s`;
    default:
      return "";
  }
}

function plainDecision({ ids, clock }: Made, request: Request, point: Decision["point"]) {
  return {
    id: ids.next(),
    requestId: request.id,
    environmentId: request.environmentId,
    point,
    findings: [],
    obligations: [],
    limits: {},
    consents: [],
    input: null,
    decidedAtMs: clock.nowMs(),
  };
}
