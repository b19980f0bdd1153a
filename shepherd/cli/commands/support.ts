/** `drover support`: everything that helps to understand a shepherd elsewhere, in one file, without secrets. */
import { writeFileSync } from "node:fs";
import type { Command } from "commander";
import { path } from "#api/client";
import type { EventView, OperationView, Status, StepView } from "#api/contract";
import { type Context, define, exitCodes, type Streams, wholeNumber } from "#cli/command";
import { clean, show } from "#cli/output";

/** Never leaves the machine: by its name, wherever it stands. What is called a digest or a hash is none. */
const secretName =
  /(token|secret|password|passphrase|private|credential|user_data)(?!.*(sha256|digest|name))/i;
const removed = "[removed]";
const pageSize = 5_000;

export function addSupport(program: Command, streams: Streams): void {
  define<[string], { readonly events: number }>(program, streams, {
    name: "support",
    summary:
      "write a support bundle: status, operations, questions, decisions with their inputs, events, numbers",
    description:
      "One JSON file. Decisions in it can be decided again elsewhere: they carry exactly what policy saw.",
    setUp: (command) =>
      command
        .argument("<file>")
        .option("--events <count>", "how many of the newest events", wholeNumber, 2_000),
    async action(context, options, file) {
      const bundle = withoutSecrets(await collect(context, options.events));
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
