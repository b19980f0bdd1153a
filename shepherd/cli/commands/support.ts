/**
 * `drover support`: everything that helps to understand a shepherd elsewhere, in one file, without secrets; `drover
 * replay`: decides again, elsewhere and offline, what that file holds.
 */
import { readFileSync, writeFileSync } from "node:fs";
import type { Command } from "commander";
import { ProblemError, path } from "#api/client";
import type { DecidedPolicy, EventView, OperationView, Status, StepView } from "#api/contract";
import { type Context, define, exitCodes, type Streams, wholeNumber } from "#cli/command";
import { clean, show } from "#cli/output";
import { type Bundle, keyOf, type Replayed, replayBundle } from "#cli/replay-bundle";
import { type DecisionSnapshot, policiesOf } from "#policy/snapshot";

/** Never leaves the machine: by its name, wherever it stands. What is called a digest or a hash is none. */
const secretName =
  /(token|secret|password|passphrase|private|credential|user_data)(?!.*(sha256|digest|name))/i;
const removed = "[removed]";
const pageSize = 5_000;

export function addSupport(program: Command, streams: Streams): void {
  define<[string], { readonly events: number; readonly snapshots: number }>(program, streams, {
    name: "support",
    summary:
      "write a support bundle: status, operations, questions, decisions with their inputs, events, numbers",
    description:
      "One JSON file. The newest decisions in it carry the facts and policies that made them: `drover replay` decides\nthem again elsewhere, without this shepherd and its hosts.",
    setUp: (command) =>
      command
        .argument("<file>")
        .option("--events <count>", "how many of the newest events", wholeNumber, 2_000)
        .option("--snapshots <count>", "how many decisions can be decided again", wholeNumber, 20),
    async action(context, options, file) {
      const told = withoutSecrets(await collect(context, options.events));
      // Secrets never were in these; their digests would not be those of a changed text.
      const bundle = { ...(told as object), ...(await snapshotsOf(context, options.snapshots)) };
      const text = `${JSON.stringify(bundle, undefined, 1)}\n`;
      writeFileSync(file, text, { mode: 0o600, flag: "wx" });
      const shown = { file, bytes: text.length };
      show(
        context,
        shown,
        () =>
          `${clean(file)}: ${(text.length / 1024).toFixed(0)} KiB. Look through it before you send it.`,
      );
      return exitCodes.ok;
    },
  });
}

export function addReplay(program: Command, streams: Streams): void {
  define<[string, string | undefined], Record<string, never>>(program, streams, {
    name: "replay",
    remote: false,
    summary: "decide again what a support bundle holds, offline, and compare",
    description:
      "Plans and judges with the facts and policies of then. Without a decision's id: all of them. Exit 1 when an answer\nor a plan is another one now. What is asked for is only this file: no shepherd, no host.",
    setUp: (command) =>
      command.argument("<bundle>", "what `drover support` wrote").argument("[decision]", "its id"),
    async action(context, _options, file, decision) {
      const replayed = await replayBundle(readFileSync(file, "utf8"), { file, decision });
      show(context, { replayed }, () => replayed.map(inWords).join("\n"));
      return replayed.every(({ same }) => same) ? exitCodes.ok : exitCodes.fault;
    },
  });
}

function inWords({ request, kind, effect, code, plan, same, differences }: Replayed): string {
  const head = `${same ? "same   " : "differs"} ${clean(request)} ${kind}: ${effect} (${code})`;
  const planned =
    plan === undefined ? "no plan" : `plan ${plan.digest.slice(0, 12)}: ${plan.actions}`;
  return [`${head}, ${planned}`, ...differences.map((line) => `        ${clean(line)}`)].join("\n");
}

/** The newest decisions that the shepherd still can tell whole, and each policy once. */
async function snapshotsOf(
  { client }: Context,
  count: number,
): Promise<Pick<Bundle, "snapshots" | "policies">> {
  const { items } = await client.get<{ items: { id: string }[] }>("/v1/decisions", {
    query: { limit: 1_000 },
  });
  const snapshots: DecisionSnapshot[] = [];
  const policies = new Map<string, DecidedPolicy>();
  for (const { id } of items) {
    if (snapshots.length >= count) break;
    if (snapshots.some(({ decisions }) => decisions.some((one) => one.id === id))) continue;
    const snapshot = await orNothing(
      client.get<DecisionSnapshot>(path`/v1/decisions/${id}/snapshot`),
    );
    if (snapshot === undefined) continue;
    snapshots.push(snapshot);
    if (policiesOf(snapshot).every((one) => policies.has(keyOf(one)))) continue;
    const used = await client.get<{ items: DecidedPolicy[] }>(path`/v1/decisions/${id}/policies`);
    for (const one of used.items) {
      const of = { owner: one.owner, policyDigest: one.policy_digest, dataDigest: one.data_digest };
      policies.set(keyOf(of), one);
    }
  }
  return { snapshots, policies: [...policies.values()] };
}

/** What is not kept, or not for this caller's eyes, is left out. */
async function orNothing<T>(asked: Promise<T>): Promise<T | undefined> {
  try {
    return await asked;
  } catch (error) {
    if (error instanceof ProblemError && (error.status === 404 || error.status === 403))
      return undefined;
    throw error;
  }
}

async function collect({ client }: Context, events: number): Promise<unknown> {
  const status = await client.get<Status>("/v1/status");
  const { items: operations } = await client.get<{ items: OperationView[] }>("/v1/operations");
  const steps: Record<string, readonly StepView[]> = {};
  for (const { id } of operations) {
    const answer = await client.get<{ items: StepView[] }>(path`/v1/operations/${id}/steps`);
    steps[id] = answer.items;
  }
  const list = async (where: string) => (await client.get<{ items: unknown[] }>(where)).items;
  return {
    taken_at_ms: Date.now(),
    status,
    operations,
    steps,
    host_marks: await list("/v1/host-marks"),
    differences: await list("/v1/differences"),
    adaptations: await list("/v1/adaptations"),
    decisions: await list("/v1/decisions"),
    events: await newestEvents(client, events),
  };
}

async function newestEvents(
  client: Context["client"],
  count: number,
): Promise<readonly EventView[]> {
  let newest: readonly EventView[] = [];
  for (let since = 0; ; ) {
    const { items } = await client.get<{ items: EventView[] }>("/v1/events", {
      query: { once: 1, since, limit: pageSize },
    });
    newest = [...newest, ...items].slice(-count);
    since = items.at(-1)?.seq ?? since;
    if (items.length < pageSize) return newest;
  }
}

/** By the names of fields; text that people and guests wrote stays, it is what explains. */
export function withoutSecrets(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutSecrets);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => [
      key,
      secretName.test(key) && item !== null ? removed : withoutSecrets(item),
    ]),
  );
}
