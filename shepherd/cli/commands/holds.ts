/** `drover hold`: no new adaptations, for everything, a site or an environment; and lifting it. */
import type { Command } from "commander";
import type { HoldBody, HoldLifted, HoldView } from "#api/contract";
import { define, durationMs, exitCodes, type Streams } from "#cli/command";
import { clean, show } from "#cli/output";

interface Options {
  readonly reason?: string;
  readonly for?: number;
  readonly scope: string;
  readonly lift?: boolean;
  readonly list?: boolean;
}

export function addHold(program: Command, streams: Streams): void {
  define<[], Options>(program, streams, {
    name: "hold",
    summary: "stop new adaptations; running ones end, giving back goes on",
    description: "Examples: drover hold --reason maintenance --for 1h; drover hold --lift",
    setUp: (command) =>
      command
        .option("--reason <text>", "why; shown to everybody who is refused")
        .option(
          "--for <duration>",
          "until then: 90s, 15m, 1h, 2d (default: until lifted)",
          durationMs,
        )
        .option("--scope <scope>", "everything, site:NAME or environment:NAME", "everything")
        .option("--lift", "end the hold of this scope")
        .option("--list", "only show the holds"),
    async action(context, options) {
      const scope = scopeOf(options.scope);
      if (scope === undefined) {
        context.tell(
          `error: ${clean(options.scope)} is no scope\nnext:  Write everything, site:NAME or environment:NAME.\n`,
        );
        return exitCodes.usage;
      }
      if (options.lift === true) {
        const { was_held: wasHeld } = await context.client.call<HoldLifted>("DELETE", "/v1/hold", {
          query: scope === "everything" ? {} : { [scope.kind]: scope.name },
        });
        context.tell(
          wasHeld
            ? `lifted: ${options.scope} is no longer held\n`
            : `nothing to lift: ${options.scope} was not held\n`,
        );
      } else if (options.list !== true) {
        if (options.reason === undefined) {
          context.tell("error: a hold needs --reason\nnext:  drover hold --reason WHY\n");
          return exitCodes.usage;
        }
        const body: HoldBody = {
          scope:
            scope === "everything"
              ? scope
              : scope.kind === "site"
                ? { site_id: scope.name }
                : { environment_id: scope.name },
          reason: options.reason,
          ...(options.for === undefined ? {} : { for_ms: options.for }),
        };
        await context.client.call("PUT", "/v1/hold", { body });
      }
      const { items } = await context.client.get<{ items: HoldView[] }>("/v1/hold");
      show(context, items, () =>
        items.length === 0
          ? "nothing is held"
          : items
              .map(
                (hold) =>
                  `held: ${scopeText(hold.scope)} by ${clean(hold.by)}: ${clean(hold.reason)}`,
              )
              .join("\n"),
      );
      return exitCodes.ok;
    },
  });
}

function scopeText(scope: HoldView["scope"]): string {
  if (scope === "everything") return "everything";
  return "site_id" in scope ? `site ${scope.site_id}` : `environment ${scope.environment_id}`;
}

function scopeOf(
  text: string,
): "everything" | { readonly kind: "site" | "environment"; readonly name: string } | undefined {
  if (text === "everything") return text;
  const [kind, name, ...rest] = text.split(":");
  if ((kind !== "site" && kind !== "environment") || !name || rest.length > 0) return undefined;
  return { kind, name };
}
