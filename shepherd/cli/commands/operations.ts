/** `drover operations`: what runs and what ran; follow one, cancel one. */
import type { Command } from "commander";
import { path } from "#api/client";
import type { OperationView, StepView } from "#api/contract";
import { type Context, define, exitCodes, type Streams } from "#cli/command";
import { clean, clockTime, type ExitCode, seconds, show, table } from "#cli/output";

/** A person who waits wants to see that it goes on. */
const progressEveryMs = 500;
const watchEveryMs = 1_000;

export function addOperations(program: Command, streams: Streams): void {
  const group = program
    .command("operations")
    .summary("list, show, follow and cancel operations")
    .description("Operations are the durable execution of granted plans.");

  define<[], { all?: boolean; environment?: string; watch?: boolean }>(group, streams, {
    name: "list",
    isDefault: true,
    summary: "those that run; with --all the newest hundred",
    setUp: (command) =>
      command
        .option("--all", "also those that have ended")
        .option("--watch", "again and again, until interrupted")
        .option("--environment <name>", "only of this environment"),
    async action(context, options) {
      const list = async () => {
        const { items } = await context.client.get<{ items: OperationView[] }>("/v1/operations", {
          query: { active: options.all === true ? undefined : 1, environment: options.environment },
        });
        return items;
      };
      if (options.watch === true) {
        await watchList(context, list);
        return exitCodes.ok;
      }
      const items = await list();
      show(context, items, () => renderList(items));
      return exitCodes.ok;
    },
  });

  define<[string], object>(group, streams, {
    name: "show",
    summary: "one operation with its steps",
    setUp: (command) => command.argument("<id>"),
    async action(context, _options, id) {
      const operation = await context.client.get<OperationView>(path`/v1/operations/${id}`);
      const { items: steps } = await context.client.get<{ items: StepView[] }>(
        path`/v1/operations/${id}/steps`,
      );
      show(context, { ...operation, steps }, () => renderOperation(operation, steps));
      return exitCodes.ok;
    },
  });

  define<[string], object>(group, streams, {
    name: "wait",
    summary: "follow one until it has ended",
    setUp: (command) => command.argument("<id>"),
    async action(context, _options, id) {
      const operation = await follow(context, id);
      show(context, operation, () => renderOperation(operation, []));
      return exitCodeOf(operation);
    },
  });

  define<[string], object>(group, streams, {
    name: "cancel",
    summary: "ask one to stop; what it did is undone",
    setUp: (command) => command.argument("<id>"),
    async action(context, _options, id) {
      const operation = await context.client.call<OperationView>(
        "POST",
        path`/v1/operations/${id}/cancel`,
      );
      show(context, operation, () => renderOperation(operation, []));
      return exitCodes.ok;
    },
  });
}

/** The list as it changes; ends with an interrupt. */
async function watchList(
  context: Context,
  list: () => Promise<readonly OperationView[]>,
): Promise<void> {
  const stop = new AbortController();
  process.once("SIGINT", () => stop.abort());
  let told = "";
  while (!stop.signal.aborted) {
    const items = await list();
    const text = context.json ? JSON.stringify(items) : renderList(items);
    if (text !== told) context.write(`${text}\n${context.json ? "" : "\n"}`);
    told = text;
    await new Promise((resolve) => setTimeout(resolve, watchEveryMs));
  }
}

function renderList(items: readonly OperationView[]): string {
  if (items.length === 0) return "nothing runs";
  return table(
    ["OPERATION", "KIND", "STATE", "DONE", "STARTED", "TOOK", "NOW"],
    items.map((one) => [
      one.id,
      one.kind,
      one.state,
      `${one.progress.percent} %`,
      clockTime(one.created_at_ms, Date.now()),
      one.ended_at_ms === undefined ? "-" : seconds(one.ended_at_ms - one.created_at_ms),
      one.fault?.message ?? one.progress.message,
    ]),
  );
}

/** Waits for its end and tells each change of progress. */
export async function follow(context: Context, id: string): Promise<OperationView> {
  let told = "";
  for (;;) {
    const operation = await context.client.get<OperationView>(path`/v1/operations/${id}`, {
      query: { wait_ms: progressEveryMs },
    });
    const { progress, kind } = operation;
    const line = `${kind}: ${String(progress.percent).padStart(3)} % ${clean(progress.message)}\n`;
    if (line !== told) context.tell(line);
    told = line;
    if (operation.ended_at_ms !== undefined) return operation;
  }
}

export function exitCodeOf({ state }: OperationView): ExitCode {
  if (state === "succeeded") return exitCodes.ok;
  return state === "partial" ? exitCodes.partial : exitCodes.fault;
}

function renderOperation(operation: OperationView, steps: readonly StepView[]): string {
  const took =
    operation.ended_at_ms === undefined
      ? ""
      : ` after ${seconds(operation.ended_at_ms - operation.created_at_ms)}`;
  return [
    `${operation.kind} ${operation.id}: ${operation.state}${took}, ${operation.progress.percent} % ${clean(operation.progress.message)}`,
    ...steps.map((step) => `  ${String(step.n).padStart(2)} ${step.state.padEnd(8)} ${step.name}`),
    ...(operation.fault === null
      ? []
      : [`why:   ${clean(operation.fault.message)}`, `next:  ${operation.fault.hint}`]),
  ].join("\n");
}
