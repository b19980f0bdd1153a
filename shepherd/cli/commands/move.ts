/**
 * `drover move <machine | group | environment> --to <site | host> [--by 08:00]`: asks for a live move and follows it. What
 * the words mean is found here (is it a site or a host, when is 08:00); whether it may, and how, the shepherd says.
 */
import { type Command, InvalidArgumentError } from "commander";
import type { RequestBody, Status } from "#api/contract";
import { type Context, define, durationMs, type Streams } from "#cli/command";
import { type AskOptions, ask, askOptions } from "#cli/commands/requests";

interface MoveOptions extends AskOptions {
  readonly to: string;
  readonly by?: (nowMs: number) => number;
}
type What = Pick<RequestBody, "environment" | "machine" | "group">;

const dayMs = 86_400_000;

export function addMove(program: Command, streams: Streams): void {
  define<[ReturnType<typeof whatMoves>], MoveOptions>(program, streams, {
    name: "move",
    summary: "move a machine, a group or a whole environment to a site or a host, live",
    description: [
      "Looks first: everything in the way is told at once, and nothing is copied before it is clean.",
      "Examples: drover move ring/rank-1 --to south",
      "          drover move ring --to south --by 08:00      the whole environment, or not at all",
      "          drover move ring/rank --group --to south-1 --dry-run",
    ].join("\n"),
    setUp: (command) =>
      askOptions(
        command
          .argument(
            "<what>",
            "ENVIRONMENT, ENVIRONMENT/MACHINE, or with --group ENVIRONMENT/GROUP",
            whatMoves,
          )
          .requiredOption("--to <place>", "a site, or one host")
          .option(
            "--by <time>",
            "to have ended by 08:00, or within 30m; else it is refused",
            untilMs,
          ),
      ),
    async action(context, options, what) {
      const named = what(options.group === true);
      const nowMs = Date.now();
      const params = {
        ...(await placeOf(context, options.to)),
        ...(options.by === undefined
          ? {}
          : { within_s: Math.max(1, Math.floor((options.by(nowMs) - nowMs) / 1_000)) }),
      };
      return ask(context, named, options, { method: "move", params });
    },
  });
}

/** `ring` is all of it; `ring/rank-0` a machine, with --group a group. */
function whatMoves(text: string): (isGroup: boolean) => What {
  const [environment = "", name, ...rest] = text.split("/");
  if (environment === "" || name === "" || rest.length > 0) {
    throw new InvalidArgumentError("Write ENVIRONMENT or ENVIRONMENT/NAME, such as ring/rank-0.");
  }
  return (isGroup) => ({
    environment,
    ...(name === undefined ? {} : isGroup ? { group: name } : { machine: name }),
  });
}

/** A site of that name before a host of it. What is neither is sent as a site: the shepherd knows best what there is. */
async function placeOf(context: Context, to: string): Promise<{ site?: string; host?: string }> {
  const { sites } = await context.client.get<Status>("/v1/status");
  if (sites.some(({ id }) => id === to)) return { site: to };
  const isHost = sites.some(({ hosts }) => hosts.some(({ id }) => id === to));
  return isHost ? { host: to } : { site: to };
}

/** `08:00` is the next time that the clock here shows it; a day and time, or a duration from now, works too. */
export function untilMs(text: string): (nowMs: number) => number {
  const clock = /^([01]?\d|2[0-3]):([0-5]\d)$/.exec(text);
  if (clock !== null) {
    return (nowMs) => {
      const at = new Date(nowMs);
      at.setHours(Number(clock[1]), Number(clock[2]), 0, 0);
      return at.getTime() > nowMs ? at.getTime() : at.getTime() + dayMs;
    };
  }
  const day = Date.parse(text);
  if (text.includes("-") && Number.isFinite(day)) return () => day;
  try {
    const inMs = durationMs(text);
    return (nowMs) => nowMs + inMs;
  } catch {
    throw new InvalidArgumentError("Write a time such as 08:00, 2026-03-01T08:00, or 30m.");
  }
}
