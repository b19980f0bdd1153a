/** `drover adaptations`, `drover log`, `drover token`: what was granted, the proof of it, and who may ask. */

import { join } from "node:path";
import type { Command } from "commander";
import { InvalidArgumentError } from "commander";
import type {
  AcceptedRestoreView,
  AcceptRestoreBody,
  AdaptationRow,
  EvidenceReport,
  TokenAnswer,
  TokenBody,
} from "#api/contract";
import { define, exitCodes, type Streams } from "#cli/command";
import { clean, clockTime, show, table } from "#cli/output";
import { adaptationsFile, writeAdaptations } from "#intake/write-back";

const roles = ["operator", "approver", "security", "reader", "stack"] as const;

export function addRecords(program: Command, streams: Streams): void {
  const adaptations = program
    .command("adaptations")
    .summary("what machines have beyond their baselines");

  define<[], { environment?: string; to: string }>(adaptations, streams, {
    name: "pull",
    summary: `write ${adaptationsFile} into a stack's directory, as the shepherd would`,
    setUp: (command) =>
      command
        .option("--environment <name>", "only of this environment")
        .option("--to <directory>", "where to write it", "."),
    async action(context, options) {
      const { items } = await context.client.get<{ items: AdaptationRow[] }>(
        "/v1/adaptations/rows",
        { query: { environment: options.environment } },
      );
      const file = join(options.to, adaptationsFile);
      const changed = await writeAdaptations(options.to, items);
      show(context, { file, changed, adaptations: items }, () =>
        changed ? `${file}: ${items.length} adaptations` : `${file}: already so`,
      );
      return exitCodes.ok;
    },
  });

  define<[], { environment?: string }>(adaptations, streams, {
    name: "list",
    summary: "the adaptations in force",
    setUp: (command) => command.option("--environment <name>", "only of this environment"),
    async action(context, options) {
      const { items } = await context.client.get<{ items: AdaptationRow[] }>(
        "/v1/adaptations/rows",
        { query: { environment: options.environment } },
      );
      show(context, items, () =>
        items.length === 0
          ? "nothing is adapted"
          : table(
              ["WHAT", "VCPUS", "CPU %", "MEMORY MIB", "MBPS", "SITE", "UNTIL", "DECISION"],
              items.map((row) => [
                `${row.environment}/${row.machine ?? row.link ?? ""}`,
                row.vcpus ?? "-",
                row.cpu_percent ?? "-",
                row.memory_mib ?? "-",
                row.rate_mbps ?? "-",
                row.site ?? "-",
                row.lease_until_ms === null
                  ? "released"
                  : clockTime(row.lease_until_ms, Date.now()),
                row.decision,
              ]),
            ),
      );
      return exitCodes.ok;
    },
  });

  const log = program.command("log").summary("the evidence log");
  define<[], object>(log, streams, {
    name: "verify",
    summary:
      "check the chain of everything that was asked, decided and done, and every site's checkpoints",
    async action(context) {
      const report = await context.client.get<EvidenceReport>("/v1/evidence/verify");
      show(context, report, () =>
        [
          report.broken_at === null
            ? `${report.ok ? "ok" : "NOT WHAT SITES SAW"}: ${report.entries} entries, head ${report.head}`
            : `BROKEN at entry ${report.broken_at}: of ${report.entries} entries the rest cannot be trusted`,
          ...report.problems.map(({ kind, told }) => `${kind}: ${clean(told)}`),
          ...report.witnesses.map(({ where, checkpoints, newest_seq, problem }) =>
            problem === null
              ? `${where}: ${checkpoints} checkpoints, the newest of entry ${newest_seq}`
              : `${where}: could not be read: ${clean(problem)}`,
          ),
          ...report.restores.map((one) => `restore: ${renderRestore(one)}`),
        ].join("\n"),
      );
      return report.ok ? exitCodes.ok : exitCodes.fault;
    },
  });

  define<[], { reason: string }>(log, streams, {
    name: "accept-restore",
    summary:
      "own up to an old database that was put back; what sites saw of the rest counts no more",
    setUp: (command) =>
      command.requiredOption("--reason <text>", "why it was put back; stays in the log for good"),
    async action(context, { reason }) {
      const restore = await context.client.call<AcceptedRestoreView>(
        "POST",
        "/v1/evidence/restores",
        { body: { reason } satisfies AcceptRestoreBody },
      );
      show(context, restore, () => renderRestore(restore));
      return exitCodes.ok;
    },
  });

  const token = program.command("token").summary("tokens for the shepherd's TCP listener");
  define<[], TokenBody>(token, streams, {
    name: "create",
    summary: "make a named token; it is printed once, the shepherd keeps its hash",
    setUp: (command) =>
      command
        .requiredOption("--name <name>", "who uses it; environments are owned by this name")
        .requiredOption("--role <role>", roles.join(", "), (role) => {
          if (!(roles as readonly string[]).includes(role)) {
            throw new InvalidArgumentError(`Choose one of ${roles.join(", ")}.`);
          }
          return role;
        })
        .option(
          "--human <name>",
          "the person behind it: two tokens of one human are one person where people must agree",
        ),
    async action(context, { name, role, human }) {
      const answer = await context.client.call<TokenAnswer>("POST", "/v1/tokens", {
        body: {
          name,
          role,
          ...(human === undefined ? {} : { human }),
        } satisfies TokenBody,
      });
      show(context, answer, () => `DROVER_TOKEN=${answer.token}`);
      return exitCodes.ok;
    },
  });
  define<[], object>(token, streams, {
    name: "list",
    summary: "names and roles of the tokens",
    async action(context) {
      const { items } = await context.client.get<{ items: TokenBody[] }>("/v1/tokens");
      show(context, items, () =>
        table(
          ["NAME", "ROLE", "HUMAN"],
          items.map((one) => [one.name, one.role, one.human ?? "-"]),
        ),
      );
      return exitCodes.ok;
    },
  });
}

function renderRestore(restore: AcceptedRestoreView): string {
  const { kept_seq, until_seq, by, reason, at_ms } = restore;
  return `entries ${kept_seq + 1} to ${until_seq} as sites saw them were given up, says ${clean(by)} at ${new Date(at_ms).toISOString()}: ${clean(reason)}`;
}
