/**
 * `drover break-glass plan | sign | use`: an emergency door for one plan, opened by an offline key. `sign` talks to no
 * shepherd: it is run where the key is.
 */
import { createPrivateKey, type KeyObject } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import type { Command } from "commander";
import { InvalidArgumentError } from "commander";
import { path } from "#api/client";
import type { RequestAnswer } from "#api/contract";
import type { BreakGlassBody } from "#api/contract-people";
import { define, durationMs, exitCodes, type Streams } from "#cli/command";
import { follow } from "#cli/commands/operations";
import { clean, show } from "#cli/output";
import { Fault } from "#model/fault";
import { breakGlassPurpose, longestGlassMs, signGlass } from "#policy/break-glass";

interface SignOptions {
  readonly key: string;
  readonly plan: string;
  readonly by: string;
  readonly reason: string;
  readonly for: number;
  readonly out?: string;
}

export function addGlass(program: Command, streams: Streams): void {
  const group = program
    .command("break-glass")
    .summary("run one plan that no policy allows, signed by an offline key")
    .description(
      "When policy cannot be asked or must not be waited for: print the plan of a denied request, have it signed where the\nkey is, use the document within the hour. It names one plan; everything is logged.",
    );

  define<[string], object>(group, streams, {
    name: "plan",
    summary: "what a denied request would do, and the digest to have signed",
    setUp: (command) => command.argument("<request>"),
    async action(context, _options, id) {
      const answer = await context.client.call<RequestAnswer>(
        "POST",
        path`/v1/requests/${id}/plan`,
      );
      const { plan } = answer;
      show(context, answer, () =>
        plan === null
          ? `no plan: ${clean(answer.message)}`
          : [
              ...(answer.plan_text ?? []).map((line) => `plan:  ${clean(line)}`),
              `digest ${plan.digest}`,
              `next:  where the key is: drover break-glass sign --key FILE --plan ${plan.digest} --by NAME --reason WHY --out glass.json`,
            ].join("\n"),
      );
      return plan === null ? exitCodes.denied : exitCodes.ok;
    },
  });

  define<[], SignOptions>(group, streams, {
    name: "sign",
    remote: false,
    summary: "sign one plan's digest with an Ed25519 key",
    setUp: (command) =>
      command
        .requiredOption(
          "--key <file>",
          "PEM of the private key (openssl genpkey -algorithm ed25519)",
        )
        .requiredOption("--plan <digest>", "what `drover break-glass plan` printed", planDigest)
        .requiredOption("--by <name>", "who answers for it")
        .requiredOption("--reason <text>", "why")
        .option("--for <duration>", "how long it is valid, an hour at most", glassMs, 1_800_000)
        .option("--out <file>", "where to write the document (default: standard output)"),
    async action(context, options) {
      const nowMs = Date.now();
      const signed = signGlass(
        {
          purpose: breakGlassPurpose,
          plan_digest: options.plan,
          by: options.by,
          reason: options.reason,
          not_before_ms: nowMs,
          expires_at_ms: nowMs + options.for,
        },
        readKey(options.key),
      );
      const text = `${JSON.stringify(signed, undefined, 2)}\n`;
      if (options.out === undefined) context.write(text);
      else {
        writeFileSync(options.out, text, { mode: 0o600 });
        show(
          context,
          signed,
          () => `${options.out}: valid until ${new Date(nowMs + options.for).toISOString()}`,
        );
      }
      return exitCodes.ok;
    },
  });

  define<[string, string], { wait?: boolean }>(group, streams, {
    name: "use",
    summary: "run the plan that the document names",
    setUp: (command) =>
      command
        .argument("<request>")
        .argument("<document>", "the file that `drover break-glass sign` wrote")
        .option("--no-wait", "do not wait until it is done"),
    async action(context, options, id, file) {
      const body = readDocument(file);
      const answer = await context.client.call<RequestAnswer>(
        "POST",
        path`/v1/requests/${id}/break-glass`,
        { body },
      );
      const operation =
        answer.operation !== null && options.wait !== false
          ? await follow(context, answer.operation)
          : undefined;
      show(context, { ...answer, outcome: operation ?? null }, () =>
        [
          `${operation?.state ?? answer.verdict}: ${clean(answer.message)}`,
          `next:  drover explain ${answer.decision}`,
        ].join("\n"),
      );
      if (answer.verdict === "denied") return exitCodes.denied;
      if (operation === undefined || operation.state === "succeeded") return exitCodes.ok;
      return operation.state === "partial" ? exitCodes.partial : exitCodes.fault;
    },
  });
}

/** Fault `request.invalid` names the file. */
function readKey(file: string): KeyObject {
  try {
    return createPrivateKey(readFileSync(file));
  } catch (cause) {
    throw unusable(file, cause);
  }
}

/** Its form and signature are the shepherd's to check. */
function readDocument(file: string): BreakGlassBody {
  try {
    return JSON.parse(readFileSync(file, "utf8")) as BreakGlassBody;
  } catch (cause) {
    throw unusable(file, cause);
  }
}

function unusable(file: string, cause: unknown): Fault {
  const problem = cause instanceof Error ? cause.message : String(cause);
  return new Fault("request.invalid", { where: file, problem }, { cause });
}

function planDigest(text: string): string {
  if (!/^[0-9a-f]{64}$/.test(text)) throw new InvalidArgumentError("Write the 64 hex digits.");
  return text;
}

function glassMs(text: string): number {
  const ms = durationMs(text);
  if (ms > longestGlassMs) throw new InvalidArgumentError("An hour is the longest.");
  return ms;
}
