/** `drover resize | move | release | explain`: ask like a guest, with the whole answer; and read why. */
import type { Command } from "commander";
import { path } from "#api/client";
import type { Explanation, OperationView, RequestAnswer, RequestBody } from "#api/contract";
import {
  type Context,
  define,
  durationMs,
  exitCodes,
  type Streams,
  target,
  wholeNumber,
} from "#cli/command";
import { renderApproval } from "#cli/commands/approvals";
import { follow } from "#cli/commands/operations";
import { clean, clockTime, type ExitCode, predictedText, show, table } from "#cli/output";

export interface AskOptions {
  readonly group?: boolean;
  readonly for?: number;
  readonly reason?: string;
  readonly dryRun?: boolean;
  readonly wait?: boolean;
}
interface ResizeOptions extends AskOptions {
  readonly vcpus?: number;
  readonly cpuPercent?: number;
  readonly memoryMib?: number;
}
type Target = ReturnType<typeof target>;

/** What every ask may say. */
export function askOptions(command: Command): Command {
  return command
    .option("--group", "NAME is a group: ask for all of its machines at once")
    .option("--for <duration>", "how long it is wanted: 90s, 15m, 1h, 2d", durationMs)
    .option("--reason <text>", "why; kept with the decision")
    .option("--dry-run", "decide and plan, change nothing")
    .option("--no-wait", "do not wait until it is done");
}

export function addRequests(program: Command, streams: Streams): void {
  define<[Target], ResizeOptions>(program, streams, {
    name: "resize",
    summary: "ask for another size of a machine or group",
    description: "Example: drover resize ring/rank-1 --cpu-percent 60 --memory-mib 320 --for 1h",
    setUp: (command) =>
      askOptions(
        command
          .argument("<environment/name>", "the machine, or with --group the group", target)
          .option("--vcpus <count>", "virtual CPUs", wholeNumber)
          .option("--cpu-percent <percent>", "hard cap in percent of one host core", wholeNumber)
          .option("--memory-mib <mib>", "memory in MiB", wholeNumber),
      ),
    action: (context, options, asked) =>
      ask(context, aboutOf(asked, options), options, {
        method: "resize",
        params: {
          ...(options.vcpus === undefined ? {} : { vcpus: options.vcpus }),
          ...(options.cpuPercent === undefined ? {} : { cpu_percent: options.cpuPercent }),
          ...(options.memoryMib === undefined ? {} : { memory_mib: options.memoryMib }),
        },
      }),
  });

  define<[Target], AskOptions>(program, streams, {
    name: "release",
    summary: "give back what a machine or group has beyond its baseline",
    setUp: (command) =>
      askOptions(
        command.argument("<environment/name>", "the machine, or with --group the group", target),
      ),
    action: (context, options, asked) =>
      ask(context, aboutOf(asked, options), options, { method: "release", params: {} }),
  });

  define<[], { environment?: string; refused?: boolean; last: number }>(program, streams, {
    name: "decisions",
    summary: "the newest decisions: what was said, and the id to explain it by",
    setUp: (command) =>
      command
        .option("--environment <name>", "only of this environment")
        .option("--refused", "only those that did not grant")
        .option("--last <count>", "of so many newest ones", wholeNumber, 20),
    async action(context, options) {
      const { items } = await context.client.get<{ items: Explanation["decisions"] }>(
        "/v1/decisions",
        { query: { environment: options.environment, limit: options.last } },
      );
      const shown = items.filter(({ effect }) => options.refused !== true || effect !== "allow");
      show(context, shown, () =>
        shown.length === 0
          ? "nothing was decided"
          : table(
              ["DECISION", "AT", "ON", "EFFECT", "MESSAGE"],
              shown.map((one) => [
                one.id,
                clockTime(one.decided_at_ms, Date.now()),
                one.point,
                one.effect,
                one.message,
              ]),
            ),
      );
      return exitCodes.ok;
    },
  });

  define<[string], object>(program, streams, {
    name: "explain",
    summary: "tell the whole story of a decision: who, what was known, rules, plan, outcome",
    setUp: (command) => command.argument("<id>", "a decision; a request or operation works too"),
    async action(context, _options, id) {
      const story = await context.client.get<Explanation>(path`/v1/decisions/${id}/explanation`);
      show(context, story, () => story.text);
      return exitCodes.ok;
    },
  });
}

function aboutOf({ environment, name }: Target, { group }: AskOptions) {
  return { environment, ...(group === true ? { group: name } : { machine: name }) };
}

/** Asks, follows what was granted, tells the answer and why. */
export async function ask(
  context: Context,
  about: Pick<RequestBody, "environment" | "machine" | "group">,
  options: AskOptions,
  body: Pick<RequestBody, "method" | "params">,
): Promise<ExitCode> {
  const request: RequestBody = {
    ...body,
    ...about,
    params: {
      ...body.params,
      ...(options.for === undefined ? {} : { lease_s: Math.ceil(options.for / 1000) }),
      ...(options.reason === undefined ? {} : { reason: options.reason }),
    },
  };
  const answer = await context.client.call<RequestAnswer>("POST", "/v1/requests", {
    body: request,
    query: { dry_run: options.dryRun === true ? 1 : undefined },
  });
  let operation: OperationView | undefined;
  if (answer.verdict === "pending" && answer.operation !== null && options.wait !== false) {
    operation = await follow(context, answer.operation);
  }
  const verdict = operation === undefined ? answer.verdict : verdictOf(operation);
  show(context, { ...answer, verdict, outcome: operation ?? null }, () =>
    answer.approval != null && operation === undefined && options.dryRun !== true
      ? renderApproval(answer.approval)
      : renderAnswer({ ...answer, verdict }, operation, options.dryRun === true),
  );
  return exitCodeOf(verdict);
}

function verdictOf({ state }: OperationView): RequestAnswer["verdict"] {
  return state === "succeeded" ? "granted" : "partial";
}

function exitCodeOf(verdict: RequestAnswer["verdict"]): ExitCode {
  const codes = {
    granted: exitCodes.ok,
    denied: exitCodes.denied,
    pending: exitCodes.pending,
    partial: exitCodes.partial,
  };
  return codes[verdict];
}

function renderAnswer(
  answer: RequestAnswer,
  operation: OperationView | undefined,
  isDry: boolean,
): string {
  const refusals = answer.findings.filter((finding) => !finding.ok);
  const message = operation?.fault?.message ?? answer.message;
  return [
    `${isDry ? "would be " : ""}${answer.verdict}: ${clean(message)}`,
    ...refusals.map((finding) => {
      const fix = Object.entries(finding.fix ?? {}).map(([name, value]) => `${name} = ${value}`);
      return `why:   ${finding.rule} (${finding.owner}): ${clean(finding.msg)}${fix.length === 0 ? "" : `; nearest allowed: ${fix.join(", ")}`}`;
    }),
    ...(answer.plan === null
      ? []
      : [`plan:  ${actionsOf(answer.plan)}; predicted ${predictedText(answer.plan.cost)}`]),
    ...(answer.blockers ?? []).flatMap((one) => [
      `stop:  ${clean(one.machine)}: ${clean(one.problem)} (${one.check})`,
      `       ${clean(one.fix)}`,
    ]),
    ...blockersIn(operation).map(
      (one) => `fix:   ${clean(one.machine)}: ${clean(one.fix)} (${one.check})`,
    ),
    `next:  drover explain ${answer.decision}`,
  ].join("\n");
}

/** What stopped a move before its first byte, as its fault carries it. */
function blockersIn(operation: OperationView | undefined): NonNullable<RequestAnswer["blockers"]> {
  const { blockers } = operation?.fault?.details ?? {};
  return Array.isArray(blockers) ? (blockers as NonNullable<RequestAnswer["blockers"]>) : [];
}

/** `set memory (4), move machine`. */
function actionsOf(plan: NonNullable<RequestAnswer["plan"]>): string {
  const counts = new Map<string, number>();
  for (const { kind } of plan.actions) counts.set(kind, (counts.get(kind) ?? 0) + 1);
  const parts = [...counts].map(
    ([kind, count]) => `${kind.replaceAll("_", " ")}${count === 1 ? "" : ` (${count})`}`,
  );
  return parts.length === 0 ? "nothing to change" : parts.join(", ");
}
