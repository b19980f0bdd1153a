/** `drover what-if | why-not | audit`: questions that change nothing. */
import type { Command } from "commander";
import { InvalidArgumentError } from "commander";
import { path } from "#api/client";
import type { MachineView } from "#api/contract";
import type {
  AuditReport,
  WhatIfAnswer,
  WhatIfBody,
  WhyNotAnswer,
  WhyNotBody,
} from "#api/contract-people";
import { type Context, define, exitCodes, type Streams, target, wholeNumber } from "#cli/command";
import { clean, type ExitCode, show, table } from "#cli/output";
import { sarifOf } from "#cli/sarif";

type Value = string | number | boolean;

export function addQuestions(program: Command, streams: Streams): void {
  define<[string], { set: readonly (readonly [string, Value])[] }>(program, streams, {
    name: "what-if",
    summary: "what a decision would be if something were otherwise",
    description:
      "Names without dots change the ask (vcpus, cpu_percent, memory_mib, site, rate_mbps, lease_s): it is decided on the\nfacts of now. Paths with dots change what policy saw then (environment.class, environment.machines.rank-0.class,\nhold.active, now_ms): every owner's policy of now is asked again.\n\nExamples: drover what-if ID --set memory_mib=512 --set site=south\n          drover what-if ID --set environment.class=interactive",
    setUp: (command) =>
      command
        .argument("<id>", "a request or a decision")
        .requiredOption(
          "--set <name=value>",
          "what is otherwise; may be repeated",
          (text: string, before: readonly (readonly [string, Value])[] | undefined) => [
            ...(before ?? []),
            assignment(text),
          ],
        ),
    async action(context, { set }, id) {
      const body: WhatIfBody = { id, set: Object.fromEntries(set) };
      const answer = await context.client.call<WhatIfAnswer>("POST", "/v1/what-if", { body });
      show(context, answer, () => renderWhatIf(answer));
      return verdictCode(answer.after.verdict);
    },
  });

  define<[ReturnType<typeof target>], WhyNotOptions>(program, streams, {
    name: "why-not",
    summary: "why a machine did not get what it asked for, and the nearest that it would get",
    description:
      "Without values: its last ask that was not granted, else the most that its stack allows. Each value and site of the\nanswer was tried on the facts of now. Exit code: 0 it would be granted, 3 denied, 4 it waits for people.",
    setUp: (command) =>
      command
        .argument("<environment/machine>", "such as ring/rank-0", target)
        .option("--vcpus <count>", "virtual CPUs", wholeNumber)
        .option("--cpu-percent <percent>", "hard cap in percent of one host core", wholeNumber)
        .option("--memory-mib <mib>", "memory in MiB", wholeNumber)
        .option("--to <site>", "at this site"),
    async action(context, options, asked) {
      const answer = await context.client.call<WhyNotAnswer>(
        "POST",
        path`/v1/machines/${await machineId(context, asked)}/why-not`,
        { body: bodyOf(options) },
      );
      show(context, answer, () => renderWhyNot(answer));
      return verdictCode(answer.verdict);
    },
  });

  define<[], { sarif?: boolean }>(program, streams, {
    name: "audit",
    summary: "what stands against the policies of now; exit code 3 when a rule of level deny fails",
    setUp: (command) =>
      command.option("--sarif", "print the report as SARIF 2.1.0, for code scanning tools"),
    async action(context, options) {
      const report = await context.client.get<AuditReport>("/v1/audit");
      if (options.sarif === true) {
        context.write(`${JSON.stringify(sarifOf(report), undefined, 2)}\n`);
      } else {
        show(context, report, () => renderAudit(report));
      }
      return report.findings.some(({ level }) => level === "deny")
        ? exitCodes.denied
        : exitCodes.ok;
    },
  });
}

interface WhyNotOptions {
  readonly vcpus?: number;
  readonly cpuPercent?: number;
  readonly memoryMib?: number;
  readonly to?: string;
}

function bodyOf({ vcpus, cpuPercent, memoryMib, to }: WhyNotOptions): WhyNotBody {
  return {
    ...(vcpus === undefined ? {} : { vcpus }),
    ...(cpuPercent === undefined ? {} : { cpu_percent: cpuPercent }),
    ...(memoryMib === undefined ? {} : { memory_mib: memoryMib }),
    ...(to === undefined ? {} : { site: to }),
  };
}

async function machineId(context: Context, { environment, name }: ReturnType<typeof target>) {
  const { items } = await context.client.get<{ items: MachineView[] }>("/v1/machines", {
    query: { environment, name },
  });
  const [machine] = items;
  // The shepherd's own words for a name that it does not know.
  return machine?.id ?? `${environment}/${name}`;
}

function assignment(text: string): readonly [string, Value] {
  const match = /^([A-Za-z0-9_.-]+)=(.*)$/.exec(text);
  if (match === null) throw new InvalidArgumentError("Write NAME=VALUE.");
  const [, name = "", value = ""] = match;
  if (value === "true" || value === "false") return [name, value === "true"];
  return [name, /^-?\d+(\.\d+)?$/.test(value) ? Number(value) : value];
}

function verdictCode(verdict: WhyNotAnswer["verdict"]): ExitCode {
  const codes = {
    granted: exitCodes.ok,
    denied: exitCodes.denied,
    pending: exitCodes.pending,
    partial: exitCodes.partial,
  };
  return codes[verdict];
}

function renderWhatIf({ on, before, after, flips }: WhatIfAnswer): string {
  return [
    ...(before === null ? [] : [`was:   ${before.verdict}: ${clean(before.message)}`]),
    `would be ${after.verdict}: ${clean(after.message)}`,
    ...flips.map(
      (flip) =>
        `flip:  ${flip.rule}/${flip.id} (${flip.owner}): ${flip.before} -> ${flip.after}: ${clean(flip.msg)}`,
    ),
    ...(on === "now"
      ? after.findings
          .filter(({ ok }) => !ok)
          .map((finding) => `why:   ${finding.rule} (${finding.owner}): ${clean(finding.msg)}`)
      : []),
    ...(after.plan_text ?? []).map((line) => `plan:  ${clean(line)}`),
    on === "now"
      ? "decided on the facts of now; nothing was changed"
      : "decided on what policy saw then, with these changes; nothing was changed",
  ].join("\n");
}

function renderWhyNot(answer: WhyNotAnswer): string {
  const values = (of: WhyNotBody) =>
    Object.entries(of)
      .map(([name, value]) => `${name} ${value}`)
      .join(", ") || "nothing";
  return [
    `${answer.environment}/${answer.machine}: ${values(answer.asked)}${answer.request === null ? "" : ` (request ${answer.request})`}`,
    `now:   ${answer.verdict}: ${clean(answer.message)}`,
    ...answer.findings.map(
      (finding) => `why:   ${finding.rule} (${finding.owner}): ${clean(finding.msg)}`,
    ),
    ...(answer.verdict === "granted"
      ? []
      : [
          answer.nearest === null
            ? "nearest: nothing between what it has and what was asked would be granted"
            : `nearest: ${values(answer.nearest)} would be granted now`,
        ]),
    ...(answer.sites.length === 0
      ? []
      : [
          "",
          table(
            ["AT SITE", "VERDICT", "WHY"],
            answer.sites.map((one) => [one.site, one.verdict, one.message]),
          ),
        ]),
    "",
    `${answer.tried} decisions tried; nothing was changed`,
  ].join("\n");
}

function renderAudit(report: AuditReport): string {
  const { findings, environments, checks } = report;
  const summary = `${environments} environments, ${checks} checks, ${findings.length} findings`;
  if (findings.length === 0) return `ok: ${summary}`;
  return [
    ...findings.flatMap((one) => [
      `${one.environment}  ${one.level}  ${one.rule}/${one.id} (${one.owner}): ${clean(one.msg)}`,
      `    since ${new Date(one.first_seen_ms).toISOString().slice(0, 16).replace("T", " ")}${one.source === null ? "" : `, ${one.source.file}:${one.source.line}`}${one.path === null ? "" : `, ${clean(one.path)}`}`,
    ]),
    "",
    summary,
  ].join("\n");
}
