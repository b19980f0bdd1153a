/**
 * What a guest is told: results of asks and of `status`, in the words of docs/guest-protocol.md. Pure. Numbers of its own
 * environment only; every text is inert.
 */
import { inert } from "#intake/inert";
import type { ApprovalState } from "#model/consent";
import type { Fault, FaultData } from "#model/fault";
import type { EnvironmentRecord, LinkRecord, MachineRecord, Range } from "#model/objects";
import type { Operation, Plan } from "#model/plan";
import type { Decision, Request } from "#model/request";
import type { Ms } from "#model/units";
import { explainDenial } from "#policy/disclose";

/** Longest message of an answer; with all else it stays far below the line limit. */
const maxMessageLength = 600;
/** Rows of a group's answer that fit a line whatever the names. */
const maxRows = 200;
const sizeKeys = ["vcpus", "cpu_percent", "memory_mib"] as const;

export interface Result {
  readonly verdict: "granted" | "denied" | "pending" | "partial";
  readonly code: string;
  readonly message: string;
  readonly [field: string]: unknown;
}

/** An answer before the work has ended; without a decision while its machine is in another operation. */
export function pendingResult(judged?: {
  readonly decision: Decision;
  readonly operation: Operation | undefined;
}): Result {
  const operation = judged?.operation;
  return {
    verdict: "pending",
    code: operation === undefined ? "request.waiting" : "operation.running",
    message:
      operation === undefined
        ? "waiting for other work on this machine"
        : told(operation.progress.message === "" ? "at work" : operation.progress.message),
    ...(judged === undefined ? {} : { decision: judged.decision.id }),
    ...(operation === undefined ? {} : { operation: operation.id }),
  };
}

/** An ask that waits for people; who they are, and what their policy says, is no guest's business. */
export function waitingResult(decision: Decision): Result {
  return {
    verdict: "pending",
    code: "policy.approval_needed",
    message: "a named person must approve it",
    decision: decision.id,
  };
}

/** How people decided, or that they did not. */
export function notApprovedResult(decision: Decision, state: ApprovalState): Result {
  const words: Record<ApprovalState, string> = {
    pending: "a named person must approve it",
    approved: "approved, but it did not come about",
    rejected: "a named person said no",
    expired: "nobody approved it in time",
    withdrawn: "it was taken back",
    denied: "approved, but it is not allowed or not possible any more",
  };
  return {
    verdict: "denied",
    code: `approval.${state}`,
    message: words[state],
    decision: decision.id,
  };
}

export function deniedResult(request: Request, decision: Decision): Result {
  const denial = explainDenial(request, decision);
  const byRule = decision.findings.length > 0;
  const { retry_after_ms: retryAfterMs, ...nearest } = denial.nearest;
  return {
    verdict: "denied",
    code: decision.code,
    message: told(byRule ? denial.said : decision.message),
    decision: decision.id,
    ...(byRule && denial.rule !== undefined ? { rule: denial.rule } : {}),
    ...(byRule && Object.keys(nearest).length > 0 ? { nearest } : {}),
    ...(byRule && retryAfterMs !== undefined ? { retry_after_ms: retryAfterMs } : {}),
  };
}

/** How granted work ended. `machines` and `links` are the records after it. */
export function endedResult(
  request: Request,
  ended: {
    readonly decision: Decision;
    readonly plan: Plan | undefined;
    readonly operation: Operation;
    readonly machines: readonly MachineRecord[];
    readonly links: readonly LinkRecord[];
  },
): Result {
  const { decision, operation } = ended;
  const common = { decision: decision.id, operation: operation.id };
  if (operation.state === "failed" || operation.state === "cancelled") {
    return {
      verdict: "denied",
      code: operation.fault?.code ?? `operation.${operation.state}`,
      message: told(`nothing was changed: ${whyOf(operation)}`),
      ...common,
    };
  }
  const granted = { ...grantedOf(request, ended), ...grantedWhole(request, ended) };
  const succeeded = operation.state === "succeeded";
  const [first] = ended.machines;
  const leaseUntilMs =
    ended.machines.length > 0
      ? first?.effective.leaseUntilMs
      : ended.links[0]?.effective.leaseUntilMs;
  return {
    verdict: succeeded ? "granted" : "partial",
    code: succeeded ? "granted" : (operation.fault?.code ?? `operation.${operation.state}`),
    message: told(succeeded ? inWords(granted) : whyOf(operation)),
    ...common,
    granted,
    ...(leaseUntilMs === undefined ? {} : { lease_until_ms: leaseUntilMs }),
    ...inForceAfter(request, operation),
    ...(request.group === undefined || request.kind === "scale"
      ? {}
      : { machines: rowsOf(request, ended, succeeded) }),
  };
}

export function statusResult(
  machine: MachineRecord,
  environment: EnvironmentRecord,
  nowMs: Ms,
): Readonly<Record<string, unknown>> {
  const { spec, effective } = machine;
  const { envelope, baseline } = spec;
  const sizes = (of: { vcpus: number; cpuPercent: number; memoryMib: number }) => ({
    vcpus: of.vcpus,
    cpu_percent: of.cpuPercent,
    memory_mib: of.memoryMib,
  });
  const range = (of: Range | undefined) => (of === undefined ? null : { min: of.min, max: of.max });
  return {
    protocol: 1,
    environment: environment.spec.name,
    machine: spec.name,
    group: spec.group ?? null,
    speaker: spec.speaker,
    site: effective.siteId,
    state: effective.state,
    effective: sizes(effective),
    baseline: { ...sizes(baseline), site: baseline.siteId },
    envelope: {
      mode: envelope.mode,
      vcpus: range(envelope.vcpus),
      cpu_percent: range(envelope.cpuPercent),
      memory_mib: range(envelope.memoryMib),
      sites: envelope.sites ?? [baseline.siteId],
    },
    lease_until_ms: effective.leaseUntilMs ?? null,
    adaptation_id: effective.adaptationId ?? null,
    now_ms: nowMs,
  };
}

/** Of an ask about several things: the number of machines of a group, the links as they are now. */
function grantedWhole(
  request: Request,
  ended: { readonly machines: readonly MachineRecord[]; readonly links: readonly LinkRecord[] },
): Record<string, unknown> {
  if (request.kind === "scale") return { machines: request.scale?.machineCount };
  if (request.kind !== "topology") return {};
  return {
    links: ended.links.slice(0, maxRows).map(({ spec, effective }) => ({
      machines: spec.machines,
      rate_mbps: effective.rateMbps,
    })),
  };
}

/** What stands of the request now: the attributes asked for, and the site when it has changed. */
function grantedOf(
  request: Request,
  ended: {
    readonly plan: Plan | undefined;
    readonly machines: readonly MachineRecord[];
    readonly links: readonly LinkRecord[];
  },
  machine: MachineRecord | undefined = ended.machines[0],
): Record<string, number | string> {
  const ask = request.machines.find(({ machineId }) => machineId === machine?.id);
  const all = request.kind === "release";
  const granted: Record<string, number | string> = {};
  if (machine !== undefined) {
    const { effective } = machine;
    if (all || ask?.vcpus !== undefined) granted["vcpus"] = effective.vcpus;
    if (all || ask?.cpuPercent !== undefined) granted["cpu_percent"] = effective.cpuPercent;
    if (all || ask?.memoryMib !== undefined) granted["memory_mib"] = effective.memoryMib;
    const moved = ended.plan?.actions.some(
      (action) =>
        action.kind === "move_machine" &&
        action.machineId === machine.id &&
        action.fromSiteId !== action.toSiteId,
    );
    if (ask?.siteId !== undefined || moved === true) granted["site"] = effective.siteId;
  }
  const [link] = ended.links;
  if (request.kind === "rate" && link !== undefined) granted["rate_mbps"] = link.effective.rateMbps;
  return granted;
}

function rowsOf(
  request: Request,
  ended: Parameters<typeof endedResult>[1],
  succeeded: boolean,
): readonly unknown[] {
  return ended.machines.slice(0, maxRows).map((machine) => {
    const granted = grantedOf(request, ended, machine);
    return {
      machine: machine.spec.name,
      verdict: succeeded ? "granted" : "partial",
      granted,
      message: told(inWords(granted)),
    };
  });
}

function inForceAfter(request: Request, { endedAtMs }: Operation): { in_force_after_ms?: Ms } {
  return endedAtMs === undefined
    ? {}
    : { in_force_after_ms: Math.max(0, endedAtMs - request.receivedAtMs) };
}

/** `60 % of a core, 800 MiB, at south`. */
function inWords(granted: Readonly<Record<string, unknown>>): string {
  const words: Record<string, (value: number | string) => string> = {
    vcpus: (value) => `${value} vCPU${value === 1 ? "" : "s"}`,
    cpu_percent: (value) => `${value} % of a core`,
    memory_mib: (value) => `${value} MiB`,
    rate_mbps: (value) => `${value} Mbit/s`,
    site: (value) => `at ${value}`,
    machines: (value) => `${value} machines`,
  };
  return [...sizeKeys, "rate_mbps", "site", "machines"]
    .flatMap((key) => {
      const value = granted[key];
      const isPlain = typeof value === "number" || typeof value === "string";
      return isPlain ? [words[key]?.(value) ?? ""] : [];
    })
    .concat(Array.isArray(granted["links"]) ? [`${granted["links"].length} links`] : [])
    .join(", ");
}

/** Faults whose words are about the guest alone. */
const ofTheGuest: ReadonlySet<string> = new Set<Fault["code"]>(["machine.memory_held"]);

/** A fault's details name hosts; a guest reads its code and whether to ask again. */
function whyOf({ state, fault }: Operation): string {
  const codeOf = (of: FaultData | undefined) => (of === undefined ? "" : ` (${of.code})`);
  switch (state) {
    case "cancelled":
      return "it was cancelled";
    case "stuck":
      return `an operator must look at it${codeOf(fault)}`;
    default:
      if (fault !== undefined && ofTheGuest.has(fault.code)) return fault.message;
      return `the work did not succeed${codeOf(fault)}`;
  }
}

function told(text: string): string {
  return inert(text, maxMessageLength);
}
