/** `drover operation` and `drover stuck`: one operation as a person on call needs it, and the questions only people can answer. */
import type { Command } from "commander";
import { path } from "#api/client";
import type { Explanation, OperationView, StepView } from "#api/contract";
import { type Context, define, exitCodes, type Streams } from "#cli/command";
import { exitCodeOf, follow } from "#cli/commands/operations";
import {
  clean,
  clockTime,
  comparedText,
  predictedText,
  type ShownCost,
  seconds,
  show,
} from "#cli/output";

const mib = 2 ** 20;

export function addOperation(program: Command, streams: Streams): void {
  define<[string], { readonly watch?: boolean }>(program, streams, {
    name: "operation",
    summary:
      "one operation: phase, percent, rate, time left, predicted beside measured, what comes next",
    setUp: (command) =>
      command.argument("<id>").option("--watch", "follow it until it has ended, then show it"),
    async action(context, options, id) {
      if (options.watch === true) await follow(context, id);
      const operation = await context.client.get<OperationView>(path`/v1/operations/${id}`);
      const { items: steps } = await context.client.get<{ items: StepView[] }>(
        path`/v1/operations/${id}/steps`,
      );
      const story = await context.client.get<Explanation>(path`/v1/decisions/${id}/explanation`);
      const predicted = story.plan?.cost;
      const shown = { ...operation, steps, predicted: predicted ?? null };
      show(context, shown, () => renderOne(operation, steps, predicted, Date.now()));
      return operation.ended_at_ms === undefined ? exitCodes.pending : exitCodeOf(operation);
    },
  });

  const stuck = program
    .command("stuck")
    .summary("operations that wait for a person: the question, and the commands that answer it")
    .description("Machines and disks are left as they are until the question is answered.");
  define<[], object>(stuck, streams, {
    name: "list",
    isDefault: true,
    summary: "the questions",
    async action(context) {
      const items = await stuckOnes(context);
      show(context, items, () =>
        items.length === 0 ? "nothing is stuck" : items.map(renderStuck).join("\n\n"),
      );
      return items.length === 0 ? exitCodes.ok : exitCodes.fault;
    },
  });
  define<[string], object>(stuck, streams, {
    name: "retry",
    summary: "ask the hosts again; goes on when they answer now",
    setUp: (command) => command.argument("<operation>"),
    async action(context, _options, id) {
      await context.client.call<OperationView>("POST", path`/v1/operations/${id}/retry`);
      const operation = await follow(context, id);
      show(context, operation, () =>
        operation.state === "stuck"
          ? renderStuck(operation)
          : `${operation.kind} ${operation.id}: ${operation.state}`,
      );
      return exitCodeOf(operation);
    },
  });
}

async function stuckOnes(context: Context): Promise<readonly OperationView[]> {
  const { items } = await context.client.get<{ items: OperationView[] }>("/v1/operations", {
    query: { state: "stuck" },
  });
  return items;
}

export function renderStuck(operation: OperationView): string {
  const commands = (operation.fault?.details["commands"] ?? []) as readonly string[];
  return [
    `${operation.kind} ${operation.id}, since ${clockTime(operation.ended_at_ms ?? operation.created_at_ms, Date.now())}`,
    `  ${clean(operation.fault?.message ?? "no question was journaled")}`,
    ...commands.map((command) => `  $ ${clean(command)}`),
  ].join("\n");
}

export function renderOne(
  operation: OperationView,
  steps: readonly StepView[],
  predicted: ShownCost | undefined,
  nowMs: number,
): string {
  const startedAtMs = steps.find((step) => step.started_at_ms !== undefined)?.started_at_ms;
  const tookMs = (operation.ended_at_ms ?? nowMs) - (startedAtMs ?? operation.created_at_ms);
  const { percent, message } = operation.progress;
  const current = steps.find((step) => step.state === "doing" || step.state === "undoing");
  const leftMs =
    operation.ended_at_ms !== undefined || percent === 0
      ? undefined
      : Math.round((tookMs * (100 - percent)) / percent);
  const next = steps.find((step) => step.state === "pending");
  const { measured } = operation;
  const cost = (one: { duration_ms: number; bytes: number; downtime_ms: number }) =>
    `${seconds(one.duration_ms)}, ${(one.bytes / mib).toFixed(1)} MiB copied, ${one.downtime_ms} ms down`;
  return [
    `${operation.kind} ${operation.id}: ${operation.state}, ${percent} % after ${seconds(tookMs)}`,
    `now        ${clean(current === undefined ? message : `${current.state} ${current.name}: ${message}`)}`,
    ...(next === undefined ? [] : [`next       ${clean(next.name)}`]),
    ...(leftMs === undefined ? [] : [`time left  about ${seconds(leftMs)}`]),
    ...(predicted === undefined ? [] : [`predicted  ${predictedText(predicted)}`]),
    ...(measured === undefined
      ? []
      : [
          `measured   ${cost(measured)}${measured.duration_ms > 0 ? `, ${((measured.bytes / mib / measured.duration_ms) * 1000).toFixed(1)} MiB/s` : ""}`,
          ...(predicted?.band === undefined
            ? []
            : [`           ${comparedText(predicted, measured)}`]),
        ]),
    `recovery   ${recoveryOf(operation, current)}`,
    ...steps.map((step) => {
      const ms =
        step.ended_at_ms === undefined || step.started_at_ms === undefined
          ? ""
          : `  ${seconds(step.ended_at_ms - step.started_at_ms)}`;
      return `  ${String(step.n).padStart(2)} ${step.state.padEnd(8)} ${clean(step.name)}${ms}`;
    }),
    ...(operation.fault === null
      ? []
      : [`why:   ${clean(operation.fault.message)}`, `next:  ${operation.fault.hint}`]),
  ].join("\n");
}

/** What the next shepherd would do if this one died now. */
function recoveryOf(operation: OperationView, current: StepView | undefined): string {
  if (operation.state === "stuck")
    return "it asks again at the next start, or by `drover stuck retry`";
  if (operation.ended_at_ms !== undefined) return "none: it has ended";
  if (operation.state === "pending") return "it would be started as if nothing had happened";
  const what = current === undefined ? "the next step" : `"${clean(current.name)}"`;
  return operation.state === "undoing"
    ? `the hosts are asked about ${what}, then undoing goes on`
    : `the hosts are asked about ${what}: done is kept, not done is done again, silence is waited out`;
}
