/** Act 6: a stack wants a person's word on adaptations; a named human gives it, and nobody else can. */
import { until } from "../process.ts";
import type { Story } from "../story.ts";
import { granted } from "./measuring.ts";

interface Waiting {
  readonly request: string;
  readonly plan_digest: string;
}

export async function personSaysYes(story: Story): Promise<void> {
  const { timeline, world } = story;
  const ada = await story.tokenOf("ada", "approver");
  const asking = world.ask(
    "solo",
    { method: "resize", params: { cpu_percent: 40, reason: "month end" } },
    "neighbour",
  );
  const waiting = await until("the ask to wait for a person", 30_000, async () => {
    const { items } = await story.get<{ items: Waiting[] }>("/v1/approvals?state=pending");
    return items[0];
  });
  timeline.check(
    "solo, whose stack says mode = approve, asks for 40 %: it waits, with its plan",
    /^[0-9a-f]{64}$/.test(waiting.plan_digest),
    `plan ${waiting.plan_digest.slice(0, 12)}`,
  );
  const own = await story.drover("approve", waiting.request, "--reason", "I am root here");
  timeline.check("the local root cannot approve", own.code === 3, own.stderr.split("\n")[0]);
  const shown = await story.droverAs(ada, "approvals", "show", waiting.request);
  timeline.say(shown.stdout.trimEnd());
  const approved = await story.droverAs(
    ada,
    "approve",
    waiting.request,
    "--plan",
    waiting.plan_digest,
    "--reason",
    "month end, agreed",
  );
  timeline.check(
    "ada, a named human, approves exactly this plan",
    approved.code === 0,
    approved.code === 0 ? undefined : approved.stderr,
  );
  granted(story, "and the guest, which waited, hears that it is granted", await asking);
  timeline.check(
    "solo has 40 %",
    (await story.machine("solo", "neighbour")).effective.cpu_percent === 40,
  );
  const explained = await story.drover("explain", waiting.request);
  timeline.check(
    "drover explain names who approved, and the rule that wanted it with its line",
    explained.stdout.includes("ada") && /adaptation_mode\.rego:\d+/.test(explained.stdout),
    explained.stdout
      .split("\n")
      .find((line) => line.includes("by ada"))
      ?.trim(),
  );
  const clean = await story.neighbour.plan();
  timeline.check(
    "bob's plan stays empty",
    clean.code === 0,
    clean.code === 0 ? undefined : clean.text,
  );
}
