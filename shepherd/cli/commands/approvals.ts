/** `drover approvals | approve | reject | withdraw`: what waits for people, and their word on it. */
import type { Command } from "commander";
import { path } from "#api/client";
import type { ApprovalView, VoteBody } from "#api/contract";
import { define, exitCodes, type Streams } from "#cli/command";
import { follow } from "#cli/commands/operations";
import { clean, clockTime, type ExitCode, show, table } from "#cli/output";

export function addApprovals(program: Command, streams: Streams): void {
  const group = program
    .command("approvals")
    .summary("requests that wait for named people")
    .description(
      "A policy may want people to approve a request. It waits with its plan; votes are for exactly that plan.",
    );
  define<[], { all?: boolean; environment?: string }>(group, streams, {
    name: "list",
    summary: "those that wait; with --all also those that are over",
    setUp: (command) =>
      command
        .option("--all", "also those that are over")
        .option("--environment <name>", "only of this environment"),
    async action(context, options) {
      const { items } = await context.client.get<{ items: ApprovalView[] }>("/v1/approvals", {
        query: {
          state: options.all === true ? undefined : "pending",
          environment: options.environment,
        },
      });
      show(context, items, () =>
        items.length === 0
          ? "nothing waits for approval"
          : table(
              ["REQUEST", "WHAT", "BY", "STATE", "YES", "UNTIL"],
              items.map((one) => [
                one.request,
                `${one.kind} in ${one.environment}`,
                one.asked_by.name,
                one.state,
                `${yesOf(one)}/${one.needs}`,
                clockTime(one.expires_at_ms, Date.now()),
              ]),
            ),
      );
      return exitCodes.ok;
    },
  });
  define<[string], object>(group, streams, {
    name: "show",
    summary: "one of them: the plan, why it waits, who has voted",
    setUp: (command) => command.argument("<id>", "the request; its decision works too"),
    async action(context, _options, id) {
      const approval = await context.client.get<ApprovalView>(path`/v1/requests/${id}/approval`);
      show(context, approval, () => renderApproval(approval));
      return exitCodes.ok;
    },
  });

  for (const verdict of ["approve", "reject"] as const) {
    define<[string], { reason: string; plan?: string; wait?: boolean }>(program, streams, {
      name: verdict,
      summary:
        verdict === "approve"
          ? "say yes to a request that waits, for exactly the plan it waits with"
          : "say no to a request that waits",
      description:
        "Needs a token of role approver; who asked cannot approve, nor can the local root.",
      setUp: (command) =>
        command
          .argument("<id>", "the request; its decision works too")
          .requiredOption("--reason <text>", "why; kept with the decision")
          .option(
            "--plan <digest>",
            "only if it is still this plan (default: the one it waits with)",
          )
          .option("--no-wait", "do not wait until it is done"),
      async action(context, options, id) {
        const read = await context.client.get<ApprovalView>(path`/v1/requests/${id}/approval`);
        const body: VoteBody = {
          reason: options.reason,
          // What is voted on is what was read a moment ago, or what the voter named.
          plan_digest: options.plan ?? read.plan_digest,
        };
        const approval = await context.client.call<ApprovalView>(
          "POST",
          verdict === "approve"
            ? path`/v1/requests/${read.request}/approve`
            : path`/v1/requests/${read.request}/reject`,
          { body },
        );
        const operation =
          approval.operation !== null && options.wait !== false
            ? await follow(context, approval.operation)
            : undefined;
        show(context, { ...approval, outcome: operation ?? null }, () =>
          [
            renderApproval(approval),
            ...(operation === undefined ? [] : [`done:  ${operation.state}`]),
          ].join("\n"),
        );
        if (operation !== undefined && operation.state !== "succeeded") {
          return operation.state === "partial" ? exitCodes.partial : exitCodes.fault;
        }
        return exitCodeOf(approval, verdict);
      },
    });
  }

  define<[string], object>(program, streams, {
    name: "withdraw",
    summary: "take back a request of your own that waits for approval",
    setUp: (command) => command.argument("<id>", "the request; its decision works too"),
    async action(context, _options, id) {
      const approval = await context.client.call<ApprovalView>(
        "POST",
        path`/v1/requests/${id}/withdraw`,
        { body: {} },
      );
      show(context, approval, () => approval.message);
      return exitCodes.ok;
    },
  });
}

function exitCodeOf({ state }: ApprovalView, verdict: "approve" | "reject"): ExitCode {
  if (state === "pending") return exitCodes.pending;
  if (verdict === "reject") return exitCodes.ok;
  return state === "approved" ? exitCodes.ok : exitCodes.denied;
}

function yesOf({ votes }: ApprovalView): number {
  return votes.filter(({ verdict }) => verdict === "approve").length;
}

/** Also shown where somebody has asked and it waits. */
export function renderApproval(approval: ApprovalView): string {
  return [
    `${approval.state}: ${clean(approval.message)}`,
    `what:  ${approval.kind} in ${approval.environment}, asked by ${clean(approval.asked_by.name)}${approval.reason === "" ? "" : `: ${JSON.stringify(clean(approval.reason))}`}`,
    ...approval.plan_text.map((line) => `plan:  ${clean(line)}`),
    `plan:  digest ${approval.plan_digest}`,
    ...approval.findings
      .filter(({ ok }) => !ok)
      .map((finding) => `why:   ${finding.rule} (${finding.owner}): ${clean(finding.msg)}`),
    ...approval.demands
      .filter(({ approvers }) => approvers !== null)
      .map(
        ({ owner, needs, approvers, said_yes: people }) =>
          `for:   ${owner}: ${needs} of ${clean((approvers ?? []).join(", "))}; ${people.length === 0 ? "nobody yet" : clean(people.join(", "))}`,
      ),
    ...approval.votes.map(
      (vote) =>
        `vote:  ${clean(vote.by)} ${vote.verdict === "approve" ? "yes" : "no"}: ${clean(vote.reason)}`,
    ),
    ...(approval.state === "pending"
      ? [`next:  drover approve ${approval.request} --reason WHY, with an approver's token`]
      : [`next:  drover explain ${approval.request}`]),
  ].join("\n");
}
