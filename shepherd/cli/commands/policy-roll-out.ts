/** The verbs of `drover policy` that ask the shepherd: try, shadow, activate, rollback, list, catalogue, replay. */
import type { Command } from "commander";
import { ProblemError } from "#api/client";
import type {
  ActivationView,
  ExactnessView,
  FlipReport,
  PolicyDetail,
  PolicyView,
  RuleView,
  TrialView,
} from "#api/contract-policies";
import {
  type Context,
  define,
  durationMs,
  exitCodes,
  type Streams,
  wholeNumber,
} from "#cli/command";
import { clean, clockTime, type ExitCode, seconds, show, table } from "#cli/output";

/** Between two looks at a trial. */
const pollMs = 300;

export function addRollOut(policy: Command, streams: Streams): void {
  addTry(policy, streams);
  addActivate(policy, streams);
  addRollback(policy, streams);
  addList(policy, streams);
  addCatalogue(policy, streams);
  addReplay(policy, streams);
}

interface TryOptions {
  readonly owner?: string;
  readonly last?: number;
  readonly since?: number;
  readonly shadow?: number;
  readonly endShadow?: boolean;
  readonly maxFlips?: number;
}

function addTry(policy: Command, streams: Streams): void {
  define<[string | undefined], TryOptions>(policy, streams, {
    name: "try",
    summary: "who would have been told otherwise: on recorded decisions, or on live requests",
    description:
      "Asks the folder's policy about what was asked before; nothing it says is ever heard.\n" +
      "Examples: drover policy try --since 7d; drover policy try --shadow 1h; drover policy list\n" +
      "Exit code 3 when there are more flips than --max-flips.",
    setUp: (command) =>
      command
        .argument("[folder]", "with data.yaml and rules/ (default: here)")
        .option("--owner <owner>", "whose policy (default: as policy.yaml says)")
        .option("--last <n>", "at most so many decisions, newest first", wholeNumber)
        .option("--since <duration>", "decisions of the last 7d, 12h, …", durationMs)
        .option("--shadow <duration>", "overhear live requests for so long instead", durationMs)
        .option("--end-shadow", "end the shadow and show what it heard")
        .option("--max-flips <n>", "exit 3 beyond it", wholeNumber),
    async action(context, options, folder = ".") {
      const { readProject } = await import("#opa/project");
      const { owner } = await readProject(folder, options.owner);
      const at = `/v1/policies/${encodeURIComponent(owner)}`;
      if (options.endShadow === true) return await endShadow(context, at);
      const { buildBundle } = await import("#opa/bundle");
      const { packBundle } = await import("#opa/archive");
      const body = packBundle(await buildBundle({ owner, folder }));
      if (options.shadow !== undefined) {
        const view = await context.client.call<PolicyView>("PUT", `${at}/shadow`, {
          body,
          query: { for_ms: options.shadow },
        });
        const until = clockTime(view.shadow?.until_ms ?? 0, Date.now());
        show(
          context,
          view,
          () => `${owner}: the shadow listens until ${until}; see \`drover policy list\``,
        );
        return exitCodes.ok;
      }
      const begun = await context.client.call<TrialView>("POST", `${at}/trials`, {
        body,
        query: {
          last: options.last,
          since_ms: options.since === undefined ? undefined : Date.now() - options.since,
        },
      });
      const trial = await follow(context, begun);
      if (trial.problem !== null || trial.report === null) {
        context.tell(
          `error: ${clean(trial.problem?.message ?? "no report")}\nnext:  ${clean(trial.problem?.hint ?? "")}\ncode:  ${trial.problem?.code}\n`,
        );
        return exitCodes.fault;
      }
      const { report } = trial;
      show(
        context,
        trial,
        () => `${renderFlips(report)}\n\n${owner}: took ${seconds(trial.duration_ms)}`,
      );
      return report.flips > (options.maxFlips ?? Infinity) ? exitCodes.denied : exitCodes.ok;
    },
  });
}

/** Tells progress on standard error until it is done. */
async function follow(context: Context, begun: TrialView): Promise<TrialView> {
  let trial = begun;
  let told = 0;
  while (trial.state === "running") {
    await new Promise((resolve) => setTimeout(resolve, pollMs));
    trial = await context.client.get<TrialView>(`/v1/policy-trials/${trial.id}`);
    const { read, flips } = trial.progress;
    if (read === told) continue;
    told = read;
    const rate = Math.round((read * 1000) / Math.max(1, trial.duration_ms));
    context.tell(`${read} of at most ${trial.recorded} decisions, ${flips} flips, ${rate}/s\n`);
  }
  return trial;
}

async function endShadow(context: Context, at: string): Promise<ExitCode> {
  const { shadow } = await context.client.get<PolicyView>(at);
  await context.client.call("DELETE", `${at}/shadow`);
  if (shadow === null) context.tell("there was no shadow\n");
  else show(context, shadow, () => renderFlips(shadow.report));
  return shadow === null ? exitCodes.fault : exitCodes.ok;
}

function addActivate(policy: Command, streams: Streams): void {
  define<[string], { override?: string }>(policy, streams, {
    name: "activate",
    summary: "check what the source of OWNER's policy has now, and put it in force",
    description:
      "Signature, sources, built-ins, an ordinary request, vectors, the last decisions: one that fails leaves\n" +
      "the policy in force in force. Exit code 3 when too many decisions would flip.",
    setUp: (command) =>
      command
        .argument("<owner>", "operator, site:NAME or owner:NAME")
        .option("--override <reason>", "pass the flip limit; needs a named person's token"),
    async action(context, options, owner) {
      try {
        const report = await context.client.call<ActivationView>(
          "POST",
          `/v1/policies/${encodeURIComponent(owner)}/activate`,
          {
            body: options.override === undefined ? {} : { override_reason: options.override },
            waitMs: 600_000,
          },
        );
        show(context, report, () => renderActivation(report));
        return exitCodes.ok;
      } catch (error) {
        if (!(error instanceof ProblemError) || error.code !== "policy.flips") throw error;
        const { problem } = error;
        // what the route puts into `details` of this code
        const report = problem.details as unknown as FlipReport & { readonly limit: number };
        show(context, problem, () =>
          renderFlips({ ...report, outcomes: report.flips, undecided: 0 }),
        );
        context.tell(
          `error: ${clean(problem.title)}\nnext:  ${clean(problem.hint)}\ncode:  ${problem.code}\n`,
        );
        return exitCodes.denied;
      }
    },
  });
}

function addRollback(policy: Command, streams: Streams): void {
  define<[string], { reason: string; to?: number }>(policy, streams, {
    name: "rollback",
    summary: "put the generation before this one in force again, at once",
    setUp: (command) =>
      command
        .argument("<owner>", "operator, site:NAME or owner:NAME")
        .requiredOption("--reason <text>", "why; it is logged")
        .option("--to <generation>", "another generation that is kept", wholeNumber),
    async action(context, options, owner) {
      const report = await context.client.call<ActivationView>(
        "POST",
        `/v1/policies/${encodeURIComponent(owner)}/rollback`,
        {
          body: {
            reason: options.reason,
            ...(options.to === undefined ? {} : { generation: options.to }),
          },
        },
      );
      show(context, report, () => renderActivation(report));
      return exitCodes.ok;
    },
  });
}

function addList(policy: Command, streams: Streams): void {
  define<[], object>(policy, streams, {
    name: "list",
    summary: "what policy is in force for every owner, what waits, what listens",
    async action(context) {
      const { items } = await context.client.get<{ items: PolicyView[] }>("/v1/policies");
      show(context, items, () =>
        [
          table(
            ["OWNER", "REVISION", "SINCE", "BY", "KEPT", "WAITING", "SHADOW", "PROBLEM"],
            items.map((view) => [
              view.owner,
              view.active?.revision ?? "NONE: denies all",
              view.active === null ? "-" : clockTime(view.active.activated_at_ms, Date.now()),
              view.active?.by ?? "-",
              view.generations.length,
              view.staged ?? "-",
              view.shadow === null
                ? "-"
                : `${view.shadow.report.flips} of ${view.shadow.report.replayed} flip`,
              view.is_stale ? "stale" : (view.problem?.code ?? "-"),
            ]),
          ),
        ].join("\n"),
      );
      return items.some(({ active }) => active === null) ? exitCodes.fault : exitCodes.ok;
    },
  });
}

function addCatalogue(policy: Command, streams: Streams): void {
  define<[string | undefined], { folder?: string; rule?: string }>(policy, streams, {
    name: "catalogue",
    summary: "the rules there are, their parameters, and the instances in force",
    setUp: (command) =>
      command
        .argument("[owner]", "of this owner's policy in force (default: operator)")
        .option("--folder <folder>", "of a folder instead; needs no shepherd")
        .option("--rule <rule>", "only this one, with its parameters' schema"),
    async action(context, options, owner = "operator") {
      const all =
        options.folder === undefined
          ? (await context.client.get<PolicyDetail>(`/v1/policies/${encodeURIComponent(owner)}`))
              .rules
          : await rulesOf(options.folder);
      const rules = all.filter(({ rule }) => options.rule === undefined || rule === options.rule);
      show(context, rules, () =>
        options.rule === undefined ? renderRules(rules) : rules.map(renderRule).join("\n\n"),
      );
      return rules.length > 0 ? exitCodes.ok : exitCodes.fault;
    },
  });
}

async function rulesOf(folder: string): Promise<RuleView[]> {
  const { buildBundle } = await import("#opa/bundle");
  const { loadPolicy } = await import("#opa/engine");
  const { readProject } = await import("#opa/project");
  const { owner } = await readProject(folder, undefined);
  const engine = await loadPolicy(await buildBundle({ owner, folder }));
  await engine.close();
  const { constraints } = engine.bundle.data.drover;
  return Object.entries(engine.self.rules)
    .toSorted(([left], [right]) => (left < right ? -1 : 1))
    .map(([rule, { title, description, custom }]) => ({
      rule,
      title,
      description,
      disclose: custom.disclose,
      params: custom.params,
      instances: Object.entries(constraints[rule] ?? {}).map(([id, { level, params }]) => ({
        id,
        level,
        params,
      })),
    }));
}

function addReplay(policy: Command, streams: Streams): void {
  define<[], { last?: number }>(policy, streams, {
    name: "replay",
    summary:
      "repeat recorded decisions with the policies that made them: every answer must be the same",
    setUp: (command) =>
      command.option("--last <n>", "newest decisions (default 10000)", wholeNumber),
    async action(context, options) {
      const report = await context.client.get<ExactnessView>("/v1/policy-replay", {
        query: { last: options.last },
        waitMs: 600_000,
      });
      show(context, report, () =>
        [
          `${report.replayed} answers repeated, ${report.differing.length} differ, ${report.missing} by policies that are not kept`,
          ...(report.unanswered === 0
            ? []
            : [
                `${report.unanswered} were no policy's word (none was loaded, or its time ran out)`,
              ]),
          ...renderUnfit(report),
          ...report.differing.map(
            ({ decision, owner }) => `decision ${decision}: ${owner} answers otherwise now`,
          ),
        ].join("\n"),
      );
      return report.differing.length === 0 ? exitCodes.ok : exitCodes.fault;
    },
  });
}

function renderActivation(report: ActivationView): string {
  const { generation } = report;
  return [
    ...(report.steps.length === 0
      ? []
      : [
          table(
            ["STEP", "TOOK", "WHAT"],
            report.steps.map(({ step, told, duration_ms }) => [step, seconds(duration_ms), told]),
          ),
        ]),
    ...(report.overridden ? [`the flip limit was passed: ${clean(generation.reason ?? "")}`] : []),
    `${report.owner}: revision ${clean(generation.revision)} is in force (generation ${generation.n})`,
  ].join("\n");
}

/** By rule, environment and subject, then the newest examples. */
export function renderFlips(report: FlipReport): string {
  const groups = [
    ["RULE", report.by_rule],
    ["ENVIRONMENT", report.by_environment],
    ["SUBJECT", report.by_subject],
  ] as const;
  return [
    `${report.flips} of ${report.replayed} decisions would flip, ${report.outcomes} with the other owners counted`,
    ...renderUnfit(report),
    ...(report.undecided === 0 ? [] : [`${report.undecided} got no verdict, which denies`]),
    ...(report.flips === 0
      ? []
      : groups.map(
          ([title, rows]) =>
            `\n${table(
              [title, "TO DENY", "TO APPROVE", "TO ALLOW"],
              rows.map((row) => [row.name, row.to_deny, row.to_approve, row.to_allow]),
            )}`,
        )),
    ...(report.examples.length === 0
      ? []
      : [
          `\n${table(
            ["DECISION", "WHO", "FLIP", "WHY"],
            report.examples
              .slice(0, 10)
              .map((flip) => [
                flip.decision,
                flip.subject,
                `${flip.before} > ${flip.after}`,
                flip.message,
              ]),
          )}`,
        ]),
  ].join("\n");
}

/** What could not be asked again, and why. */
function renderUnfit({
  unfit,
  unfit_by,
}: Pick<FlipReport, "unfit" | "unfit_by">): readonly string[] {
  if (unfit === 0) return [];
  return [
    `${unfit} recorded ${unfit === 1 ? "question" : "questions"} could not be asked again:`,
    ...unfit_by.map(({ why, count }) => `  ${count}: ${clean(why)}`),
  ];
}

function renderRules(rules: readonly RuleView[]): string {
  return table(
    ["RULE", "TITLE", "TOLD TO", "INSTANCES"],
    rules.map(({ rule, title, disclose, instances }) => [
      rule,
      title,
      disclose,
      instances.map(({ id, level }) => `${id}: ${level}`).join(", ") || "-",
    ]),
  );
}

function renderRule(rule: RuleView): string {
  return [
    `${rule.rule}: ${clean(rule.title)}`,
    clean(rule.description),
    `told to: ${rule.disclose}`,
    `params: ${JSON.stringify(rule.params, undefined, 2)}`,
    ...rule.instances.map(({ id, level, params }) => `${id}: ${level} ${JSON.stringify(params)}`),
  ].join("\n");
}
