/**
 * What every subcommand shares: --json, where the shepherd is, and how an action becomes an exit code.
 * Knows no subcommand.
 */
import { type Command, InvalidArgumentError } from "commander";
import { defaultEndpoint, ShepherdClient } from "#api/client";
import { type ExitCode, exitCodes, type Output, report } from "#cli/output";

export interface Context extends Output {
  /** The shepherd; made when first asked for. */
  readonly client: ShepherdClient;
  readonly endpoint: string;
}
export type Action<Arguments extends readonly unknown[], Options> = (
  context: Context,
  options: Options,
  ...args: Arguments
) => Promise<ExitCode>;

interface SharedOptions {
  readonly json?: boolean;
  readonly endpoint?: string;
  readonly token?: string;
  readonly caFile?: string;
}

/** Standard output and error, or what a test listens on. */
export interface Streams {
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
  readonly exit: (code: ExitCode) => void;
}

/** A subcommand whose action returns the exit code; errors are told in what/where/why/next form. */
export function define<Arguments extends readonly unknown[], Options>(
  parent: Command,
  streams: Streams,
  command: {
    readonly name: string;
    readonly summary: string;
    /** More for --help: meaning, units, examples. */
    readonly description?: string;
    readonly setUp?: (command: Command) => void;
    /** Runs when the parent is called without a subcommand. */
    readonly isDefault?: boolean;
    /** False for commands that talk to no shepherd. */
    readonly remote?: boolean;
    readonly action: Action<Arguments, Options>;
  },
): Command {
  const made = parent
    .command(command.name, { isDefault: command.isDefault === true })
    .summary(command.summary)
    .description(
      command.description === undefined
        ? command.summary
        : `${command.summary}\n\n${command.description}`,
    )
    .option("--json", "print the result as JSON");
  if (command.remote !== false) {
    made
      .option(
        "--endpoint <url>",
        `the shepherd: unix:/path or http(s)://host:port (DROVER_ENDPOINT; default ${defaultEndpoint})`,
      )
      .option("--token <token>", "bearer token for an http(s) endpoint (DROVER_TOKEN)")
      .option("--ca-file <file>", "authority of the shepherd's certificate (DROVER_CA_FILE)");
  }
  command.setUp?.(made);
  made.action(async (...given: unknown[]) => {
    // commander hands arguments, then options, then the command itself
    // commander has counted them against the declared arguments
    const args = given.slice(0, -2) as unknown as Arguments;
    const options = given.at(-2) as Options & SharedOptions;
    const context = contextOf(options, streams);
    try {
      streams.exit(await command.action(context, options, ...args));
    } catch (error) {
      streams.exit(report(context, error));
    }
  });
  return made;
}

function contextOf(options: SharedOptions, streams: Streams): Context {
  const env = (name: string) => {
    const value = process.env[name];
    return value === undefined || value === "" ? undefined : value;
  };
  const endpoint = options.endpoint ?? env("DROVER_ENDPOINT") ?? defaultEndpoint;
  let client: ShepherdClient | undefined;
  return {
    json: options.json ?? false,
    write: streams.out,
    tell: streams.err,
    endpoint,
    get client() {
      client ??= new ShepherdClient({
        endpoint,
        token: options.token ?? env("DROVER_TOKEN"),
        caFile: options.caFile ?? env("DROVER_CA_FILE"),
        userAgent: "drover",
        traceparent: env("TRACEPARENT"),
      });
      return client;
    },
  };
}

/** `90s`, `15m`, `1h`, `2d` or plain seconds, as milliseconds. */
export function durationMs(text: string): number {
  const match = /^(\d+)\s*(s|m|h|d)?$/.exec(text);
  const factors = { s: 1, m: 60, h: 3600, d: 86_400 } as const;
  const number = Number(match?.[1] ?? Number.NaN);
  if (match === null || number < 1) {
    throw new InvalidArgumentError("Write a duration such as 90s, 15m, 1h or 2d.");
  }
  return number * factors[(match[2] ?? "s") as keyof typeof factors] * 1000;
}

export function wholeNumber(text: string): number {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError("Write a whole number.");
  return Number(text);
}

/** `environment/name`. */
export function target(text: string): { environment: string; name: string } {
  const [environment, name, ...rest] = text.split("/");
  if (!environment || !name || rest.length > 0) {
    throw new InvalidArgumentError("Write ENVIRONMENT/NAME, such as ring/rank-0.");
  }
  return { environment, name };
}

export { exitCodes };
