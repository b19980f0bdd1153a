/** `drover recall` and `drover exempt`: a site takes its consent back; a rule does not hold for a while. */
import type { Command } from "commander";
import { path } from "#api/client";
import type { ExemptionBody, ExemptionView, RecallBody, RecallView } from "#api/contract-people";
import { define, exitCodes, type Streams } from "#cli/command";
import { clean, clockTime, show } from "#cli/output";
import { momentMs } from "#cli/when";

const moment = (text: string) => momentMs(text, Date.now());

interface RecallOptions {
  readonly site?: string;
  readonly by?: number;
  readonly reason?: string;
  readonly lift?: string;
  readonly list?: boolean;
}

export function addConsents(program: Command, streams: Streams): void {
  define<[string | undefined], RecallOptions>(program, streams, {
    name: "recall",
    summary: "a site takes its consent back: machines are moved out, never killed",
    description:
      "For the site's owner (a token of that name) and operators. Machines go to other sites at once, as far as those\ntake them; what is still there at the deadline runs on, and is an alert.\n\nExample: drover recall ring --site north --by 08:00 --reason 'power work'",
    setUp: (command) =>
      command
        .argument("[environment/machine]", "an environment, or one machine of it")
        .option("--site <site>", "whose consent it is")
        .option("--by <time>", "deadline: 2h, 08:00, 2026-12-01T08:00Z (UTC)", moment)
        .option("--reason <text>", "why; shown to everybody concerned")
        .option("--lift <id>", "let the site take them again")
        .option("--list", "show the recalls that stand"),
    async action(context, options, target) {
      if (options.lift !== undefined) {
        const lifted = await context.client.call<RecallView>(
          "DELETE",
          path`/v1/recalls/${options.lift}`,
        );
        show(context, lifted, () => `lifted: ${whatOf(lifted)} may be at ${lifted.site_id} again`);
        return exitCodes.ok;
      }
      if (options.list === true || target === undefined) {
        const { items } = await context.client.get<{ items: RecallView[] }>("/v1/recalls");
        show(context, items, () => renderRecalls(items));
        return exitCodes.ok;
      }
      const { site, by, reason } = options;
      if (site === undefined || by === undefined || reason === undefined) {
        context.tell(
          "error: a recall needs --site, --by and --reason\nnext:  drover recall ring --site north --by 08:00 --reason WHY\n",
        );
        return exitCodes.usage;
      }
      const [environment = "", machine] = target.split("/");
      const body: RecallBody = {
        site,
        environment,
        ...(machine === undefined ? {} : { machine }),
        reason,
        deadline_ms: by,
      };
      const recall = await context.client.call<RecallView>("POST", "/v1/recalls", { body });
      show(context, recall, () =>
        [
          `recalled: ${whatOf(recall)} must leave ${recall.site_id} by ${clockTime(recall.deadline_ms, Date.now())}`,
          recall.left.length === 0
            ? "nothing of it is there"
            : `moving out: ${recall.left.join(", ")}`,
          `next:  drover recall --list, and to end it: drover recall --lift ${recall.id}`,
        ].join("\n"),
      );
      return exitCodes.ok;
    },
  });
  addExempt(program, streams);
}

function whatOf(recall: RecallView): string {
  return recall.machine === null ? recall.environment : `${recall.environment}/${recall.machine}`;
}

function renderRecalls(items: readonly RecallView[]): string {
  if (items.length === 0) return "no consent is recalled";
  return items
    .flatMap((one) => [
      `${whatOf(one)} must leave ${one.site_id} by ${clockTime(one.deadline_ms, Date.now())}${one.overdue_since_ms === undefined ? "" : ", OVERDUE"} (${clean(one.by)}: ${clean(one.reason)})`,
      `    ${one.left.length === 0 ? "nothing of it is there any more" : `still there: ${one.left.join(", ")}`}`,
      `    id ${one.id}`,
    ])
    .join("\n");
}

interface ExemptOptions {
  readonly owner: string;
  readonly rule?: string;
  readonly instance?: string;
  readonly environment?: readonly string[];
  readonly until?: number;
  readonly ticket?: string;
  readonly reason?: string;
  readonly approve?: string;
  readonly end?: string;
  readonly list?: boolean;
}

function addExempt(program: Command, streams: Streams): void {
  define<[], ExemptOptions>(program, streams, {
    name: "exempt",
    summary:
      "propose that a rule does not hold for an environment until a date; a second person approves",
    description:
      "For tokens of role security; another person (security or approver) puts it in force with --approve.\n\nExample: drover exempt --rule environment_quota --instance default --environment ring --until 7d --ticket OPS-17 --reason 'month end'",
    setUp: (command) =>
      command
        .option("--owner <owner>", "whose rule: operator, site:NAME, owner:NAME", "operator")
        .option("--rule <rule>", "the rule's id")
        .option("--instance <id>", "its instance")
        .option("--environment <name...>", "for these environments")
        .option(
          "--until <time>",
          "7d, 2026-12-01, 2026-12-01T08:00Z (UTC); 90 days at most",
          moment,
        )
        .option("--ticket <text>", "where it was agreed")
        .option("--reason <text>", "why")
        .option("--approve <id>", "put a proposal of somebody else in force")
        .option("--end <id>", "end it now")
        .option("--list", "show them"),
    async action(context, options) {
      if (options.approve !== undefined) {
        const given = await context.client.call<ExemptionView>(
          "POST",
          path`/v1/exemptions/${options.approve}/approve`,
        );
        show(context, given, () => renderExemptions([given]));
        return exitCodes.ok;
      }
      if (options.end !== undefined) {
        const ended = await context.client.call<ExemptionView>(
          "DELETE",
          path`/v1/exemptions/${options.end}`,
        );
        show(context, ended, () => `ended: ${ended.rule}/${ended.instance} holds again`);
        return exitCodes.ok;
      }
      const { rule, instance, environment, until, ticket, reason, owner } = options;
      if (options.list === true || rule === undefined) {
        const { items } = await context.client.get<{ items: ExemptionView[] }>("/v1/exemptions");
        show(context, items, () =>
          items.length === 0 ? "nothing is exempt" : renderExemptions(items),
        );
        return exitCodes.ok;
      }
      if (
        instance === undefined ||
        environment === undefined ||
        until === undefined ||
        ticket === undefined ||
        reason === undefined
      ) {
        context.tell(
          "error: an exemption needs --instance, --environment, --until, --ticket and --reason\nnext:  drover exempt --help\n",
        );
        return exitCodes.usage;
      }
      const body: ExemptionBody = {
        owner,
        rule,
        instance,
        environments: [...environment],
        expires_at_ms: until,
        ticket,
        reason,
      };
      const proposed = await context.client.call<ExemptionView>("POST", "/v1/exemptions", { body });
      show(context, proposed, () =>
        [
          renderExemptions([proposed]),
          `next:  another person: drover exempt --approve ${proposed.id}`,
        ].join("\n"),
      );
      return exitCodes.pending;
    },
  });
}

function renderExemptions(items: readonly ExemptionView[]): string {
  return items
    .flatMap((one) => [
      `${one.state.replace("_", " ")}: ${one.rule}/${one.instance} (${one.owner}) for ${one.environments.join(", ")} until ${clockTime(one.expires_at_ms, Date.now())}`,
      `    ${clean(one.ticket)}: ${clean(one.reason)}`,
      `    proposed by ${one.proposed_by}, approved by ${one.approved_by ?? "nobody yet"}; id ${one.id}`,
    ])
    .join("\n");
}
