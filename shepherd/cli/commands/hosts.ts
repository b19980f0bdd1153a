/** `drover drain`, `drover host`, `drover differences`, `drover janitor`: what people say about hosts, and what is left on them. */
import type { Command } from "commander";
import { path } from "#api/client";
import type { DifferenceView, DrainView, HostMarkView, JanitorAnswer } from "#api/contract";
import { type Context, define, exitCodes, type Streams } from "#cli/command";
import { clean, clockTime, type ExitCode, show, table } from "#cli/output";

/** Counting down for a person. */
const watchEveryMs = 2_000;

export function addHosts(program: Command, streams: Streams): void {
  addDrain(program, streams);
  addHost(program, streams);
  addJanitor(program, streams);
}

function addDrain(program: Command, streams: Streams): void {
  define<
    [string],
    {
      readonly reason?: string;
      readonly watch?: boolean;
      readonly lift?: boolean;
      readonly show?: boolean;
    }
  >(program, streams, {
    name: "drain",
    summary: "empty a host: it takes nothing more, its machines move away",
    description:
      "Each move is judged by policy; what may not leave is named with its reason and asked again every minute.\nExit code 5 while something is left, 0 when nothing is.",
    setUp: (command) =>
      command
        .argument("<host>")
        .option("--reason <text>", "why; shown in every move's story")
        .option("--watch", "count down to zero; ends when it is empty or only blockers are left")
        .option("--show", "only show how far it is")
        .option("--lift", "use the host again"),
    async action(context, options, host) {
      const url = path`/v1/hosts/${host}/drain`;
      if (options.lift === true) {
        const lifted = await context.client.call("DELETE", url);
        show(context, lifted, () => `${host} is used again`);
        return exitCodes.ok;
      }
      if (options.show !== true) {
        if (options.reason === undefined) {
          context.tell(`error: a drain needs --reason\nnext:  drover drain ${host} --reason WHY\n`);
          return exitCodes.usage;
        }
        await context.client.call("POST", url, { body: { reason: options.reason } });
      }
      const drain =
        options.watch === true
          ? await countDown(context, url)
          : await context.client.get<DrainView>(url);
      show(context, drain, () => renderDrain(drain));
      return drainCode(drain);
    },
  });
}

async function countDown(context: Context, url: string): Promise<DrainView> {
  let told = "";
  for (;;) {
    const drain = await context.client.get<DrainView>(url);
    const line = `${drain.machines} left, ${drain.moving.length} moving, ${drain.blockers.length} blocked\n`;
    if (line !== told) context.tell(line);
    told = line;
    const onlyBlocked = drain.moving.length === 0 && drain.blockers.length === drain.machines;
    if (drain.done || onlyBlocked) return drain;
    await new Promise((resolve) => setTimeout(resolve, watchEveryMs));
  }
}

function drainCode(drain: DrainView): ExitCode {
  return drain.done ? exitCodes.ok : exitCodes.partial;
}

function renderDrain(drain: DrainView): string {
  const head = drain.done
    ? `${drain.host_id} is empty`
    : `${drain.host_id}: ${drain.machines} machines left, ${drain.moving.length} moving`;
  return [
    `${head} (drained by ${clean(drain.by)}: ${clean(drain.reason)})`,
    ...drain.moving.map((one) => `  moving   ${clean(one.machine)}  operation ${one.operation}`),
    ...drain.blockers.map(
      (one) => `  blocked  ${clean(one.machine)}  ${one.code}: ${clean(one.message)}`,
    ),
  ].join("\n");
}

function addHost(program: Command, streams: Streams): void {
  const group = program
    .command("host")
    .summary("say that a host is dead, or back")
    .description("What a person knows of a host and the shepherd cannot: journaled as evidence.");

  define<[], object>(group, streams, {
    name: "list",
    summary: "hosts that people drain or confirmed dead",
    async action(context) {
      const { items } = await context.client.get<{ items: HostMarkView[] }>("/v1/host-marks");
      show(context, items, () =>
        items.length === 0
          ? "nothing is said of any host"
          : table(
              ["HOST", "IS", "SINCE", "BY", "REASON", "FENCED BY"],
              items.map((mark) => [
                mark.host_id,
                mark.kind,
                clockTime(mark.since_ms, Date.now()),
                mark.by,
                mark.reason,
                mark.fenced_by ?? "-",
              ]),
            ),
      );
      return exitCodes.ok;
    },
  });

  define<[string], { readonly reason?: string; readonly fencedBy?: string }>(group, streams, {
    name: "confirm-dead",
    summary: "nothing runs there any more and never will by itself; what waits for it goes on",
    description:
      "Refused while the host answers. Machines there are lost with their disks. Only you can know: a host that is cut off\nlooks the same from here, and its machines would go on beside their successors.",
    setUp: (command) =>
      command
        .argument("<host>")
        .option("--reason <text>", "what happened")
        .option("--fenced-by <text>", "how it was made sure that it cannot come back by itself"),
    async action(context, options, host) {
      const { reason, fencedBy } = options;
      if (reason === undefined || fencedBy === undefined) {
        context.tell(
          `error: it needs --reason and --fenced-by\nnext:  drover host confirm-dead ${host} --reason "mainboard burnt" --fenced-by "power off at the rack"\n`,
        );
        return exitCodes.usage;
      }
      const mark = await context.client.call<HostMarkView>(
        "POST",
        path`/v1/hosts/${host}/confirm-dead`,
        { body: { reason, fenced_by: fencedBy } },
      );
      show(
        context,
        mark,
        () => `${host} is dead: its machines have failed, what waited for it goes on`,
      );
      return exitCodes.ok;
    },
  });

  define<[string], object>(group, streams, {
    name: "return",
    summary:
      "a dead host is back: what lives elsewhere now is removed there, then it is used again",
    setUp: (command) => command.argument("<host>"),
    async action(context, _options, host) {
      const answer = await context.client.call<{ removed: { kind: string; id: string }[] }>(
        "POST",
        path`/v1/hosts/${host}/return`,
      );
      show(context, answer, () =>
        [
          ...answer.removed.map((item) => `removed ${item.kind} ${clean(item.id)}`),
          `${host} is used again`,
        ].join("\n"),
      );
      return exitCodes.ok;
    },
  });
}

function addJanitor(program: Command, streams: Streams): void {
  define<[], object>(program, streams, {
    name: "differences",
    summary: "what hosts hold that the journal does not say; looks now",
    async action(context) {
      const { items } = await context.client.get<{ items: DifferenceView[] }>("/v1/differences");
      show(context, items, () => renderDifferences(items, "every host is as the journal says"));
      return exitCodes.ok;
    },
  });

  define<[], { readonly remove?: boolean }>(program, streams, {
    name: "janitor",
    summary: "list what is left over on hosts; with --remove, remove it",
    description: "Only what carries drover's mark, what nothing claims, and what does not run.",
    setUp: (command) => command.option("--remove", "remove what is listed, as operations"),
    async action(context, options) {
      const answer = await context.client.call<JanitorAnswer>("POST", "/v1/janitor", {
        body: { remove: options.remove === true },
      });
      show(context, answer, () =>
        [
          renderDifferences(answer.litter, "nothing is left over"),
          ...answer.operations.map((one) => `${one.state}: operation ${one.id}`),
        ].join("\n"),
      );
      const all = answer.operations.every(({ state }) => state === "succeeded");
      return all ? exitCodes.ok : exitCodes.partial;
    },
  });
}

function renderDifferences(items: readonly DifferenceView[], none: string): string {
  if (items.length === 0) return none;
  return table(
    ["HOST", "CLASS", "ANSWER", "OBJECT", "DETAIL"],
    items.map((one) => [one.host_id, one.class, one.answer, one.object, one.detail]),
  );
}
