/** `drover obligations`: what policies demanded with a yes, and a person's word that they have looked at it. */
import type { Command } from "commander";
import { path } from "#api/client";
import type { ObligationView } from "#api/contract-people";
import { define, exitCodes, type Streams } from "#cli/command";
import { clean, clockTime, show, table } from "#cli/output";

export function addObligations(program: Command, streams: Streams): void {
  const group = program
    .command("obligations")
    .summary("what policies demanded with a yes: told, verified, reviewed")
    .description(
      "A policy may allow a change and demand that something is done with it: somebody is told, the hosts are asked\nwhether it is in force, a named person looks at it afterwards.",
    );
  define<[], { all?: boolean; environment?: string }>(group, streams, {
    name: "list",
    summary: "those that wait or were missed; with --all also those that are over",
    setUp: (command) =>
      command
        .option("--all", "also those that were kept, or lost their object")
        .option("--environment <name>", "only of this environment"),
    async action(context, { all, environment }) {
      const { items } = await context.client.get<{ items: ObligationView[] }>("/v1/obligations", {
        query: { environment },
      });
      const shown = items.filter(({ state }) => all === true || isOpen(state));
      show(context, shown, () =>
        shown.length === 0
          ? "no obligation is open"
          : table(
              ["OBLIGATION", "WHAT", "FOR", "ABOUT", "STATE", "DUE"],
              shown.map((one) => [
                one.id,
                whatOf(one),
                one.demand.owner,
                `${one.environment}: ${one.machines.join(", ")}`,
                one.state,
                one.due_at_ms === undefined ? "-" : clockTime(one.due_at_ms, Date.now()),
              ]),
            ),
      );
      return exitCodes.ok;
    },
  });
  define<[string], { reason: string }>(group, streams, {
    name: "review",
    summary: "say that you have looked at a change that policy wants reviewed",
    description:
      "Needs a token of role approver; who asked for the change cannot review it, nor can the local root. Without a\nreview in time it is told, or given back, as the policy says.",
    setUp: (command) =>
      command
        .argument("<id>", "the obligation")
        .requiredOption("--reason <text>", "what you found; kept with the decision"),
    async action(context, { reason }, id) {
      const owed = await context.client.call<ObligationView>(
        "POST",
        path`/v1/obligations/${id}/review`,
        { body: { reason } },
      );
      show(context, owed, () => `${owed.state}: ${clean(owed.outcome ?? "")}`);
      return exitCodes.ok;
    },
  });
}

function isOpen(state: ObligationView["state"]): boolean {
  return state === "waiting" || state === "missed";
}

function whatOf({ demand }: ObligationView): string {
  const to = demand.params["to"];
  return to === undefined ? demand.id : `${demand.id} ${clean(String(to))}`;
}
