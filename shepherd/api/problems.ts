/**
 * Errors as RFC 9457 problem details: the fault's own words, with findings and decision when a policy said no.
 * The only place that turns a thrown value into a status.
 */
import type { FastifyError } from "fastify";
import type { Problem } from "#api/contract";
import type { GateAnswer } from "#api/world";
import { Fault, toFaultData } from "#model/fault";
import { faultCatalogue } from "#model/fault-catalogue";
import type { FaultEntry } from "#model/faults/entry";
import type { Decision, Subject } from "#model/request";
import { toWire } from "#model/wire";
import { decisionFor } from "#policy/disclose";

/** A no of the gate, thrown through a route: an answer, not a failure. */
export class Refused extends Error {
  override readonly name = "Refused";
  readonly decision: Decision;
  constructor(decision: Decision) {
    super(decision.message);
    this.decision = decision;
  }
}

/** Nobody is known before authentication. */
const stranger: Pick<Subject, "type" | "roles"> = { type: "stack", roles: [] };

/** The answer when it allowed; throws Refused when it did not. */
export function mustAllow(answer: GateAnswer): GateAnswer {
  // Waiting for people is no refusal: the route answers with the approval.
  if (answer.decision.effect === "deny") throw new Refused(answer.decision);
  return answer;
}

/** For this reader: a denial tells a stack, or anybody who does not run the shepherd, no number of another owner. */
export function problemOf(error: unknown, reader?: Pick<Subject, "type" | "roles">): Problem {
  if (error instanceof Refused)
    return problemOfDecision(decisionFor(reader ?? stranger, error.decision));
  if (error instanceof Fault) return problemOfFault(error);
  if (isFastifyError(error)) return problemOfFault(faultOfFastify(error));
  const data = toFaultData(error);
  // What broke stays in the log: a stranger's error message may quote anything.
  return problem(faultCatalogue.internal, {
    code: "internal",
    title: faultCatalogue.internal.title,
    detail: data.message.split("\n")[0] ?? "",
    details: {},
  });
}

function problemOfFault(fault: Fault): Problem {
  const data = fault.toData();
  const causes: string[] = [];
  for (let cause = data.cause; cause !== undefined; cause = cause.cause) causes.push(cause.message);
  return problem(fault.entry, {
    code: fault.code,
    title: fault.message,
    detail: [fault.message, ...causes].join("; because: "),
    details: { ...fault.details, retry: fault.entry.retry },
    hint: importHint(fault),
  });
}

function problemOfDecision(decision: Decision): Problem {
  const entry: FaultEntry | undefined = (faultCatalogue as Record<string, FaultEntry>)[
    decision.code
  ];
  const denied = decision.findings.filter((finding) => !finding.ok);
  const fixes = denied.flatMap((finding) =>
    Object.entries(finding.fix ?? {}).map(([name, value]) => `${name} = ${value}`),
  );
  const hint =
    fixes.length > 0
      ? `Nearest that would pass: ${fixes.join(", ")}. See drover explain ${decision.id}.`
      : `See drover explain ${decision.id}.`;
  return {
    ...problem(entry ?? { title: "", hint, status: 403, retry: "never" }, {
      code: decision.code,
      title: decision.message,
      detail: [
        decision.message,
        ...denied.map((finding) => `${finding.rule}: ${finding.msg}`),
      ].join("\n"),
      details: { effect: decision.effect },
      hint,
    }),
    findings: toWire(decision.findings) as NonNullable<Problem["findings"]>,
    decision: decision.id,
  };
}

function problem(
  entry: FaultEntry,
  said: {
    code: string;
    title: string;
    detail: string;
    details: Record<string, unknown>;
    hint?: string | undefined;
  },
): Problem {
  return {
    type: `urn:drover:error:${said.code}`,
    title: said.title,
    status: entry.status,
    detail: said.detail,
    code: said.code,
    hint: said.hint ?? entry.hint,
    details: said.details,
  };
}

/** How to take an existing object over, with the id that `terraform import` accepts. */
function importHint(fault: Fault): string | undefined {
  const { kind, importId } = fault.details;
  if (fault.code !== "conflict.exists" || typeof importId !== "string") return undefined;
  return `To manage it with this stack: terraform import drover_${kind}.NAME ${importId}. Else choose another name.`;
}

function isFastifyError(error: unknown): error is FastifyError {
  return error instanceof Error && "statusCode" in error && typeof error.statusCode === "number";
}

function faultOfFastify(error: FastifyError): Fault {
  if (error.code === "FST_ERR_CTP_BODY_TOO_LARGE") {
    return new Fault("request.too_large", { limit_bytes: "what this route takes" });
  }
  const first = error.validation?.[0];
  if (first !== undefined) {
    const extra = first.params["additionalProperty"];
    const path = `${error.validationContext ?? "body"}${first.instancePath}`.replaceAll("/", ".");
    return new Fault("request.invalid", {
      where: path,
      problem:
        extra === undefined ? (first.message ?? "not allowed") : `unknown field ${String(extra)}`,
    });
  }
  if ((error.statusCode ?? 500) < 500) {
    return new Fault("request.invalid", { where: "body", problem: error.message });
  }
  return new Fault("internal", {}, { cause: error });
}
