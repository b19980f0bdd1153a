/** Act 5: sites' owners keep the last word: a policy says no, and a person takes consent back. */
import { until } from "../process.ts";
import type { Story } from "../story.ts";

export async function siteSaysNo(story: Story): Promise<void> {
  const { timeline, world } = story;
  const before = await world.witness();
  const answer = await world.ask("rank-3", {
    method: "resize",
    params: { memory_mib: 1024, reason: "more than north lends" },
  });
  timeline.check(
    "rank-3, of class sensitive, asks for what only south could hold: denied",
    answer.code === 3,
    String(answer.result["message"]),
  );
  const explanation = await story.get<{
    decisions: { findings: { rule: string; owner: string; ok: boolean }[] }[];
  }>(`/v1/decisions/${String(answer.result["decision"])}/explanation`);
  const denials = explanation.decisions.flatMap(({ findings }) => findings).filter(({ ok }) => !ok);
  timeline.check(
    "by the destination's own policy",
    denials.some(({ owner, rule }) => owner === "site:south" && rule === "site_accepts_class"),
    denials.map(({ owner, rule }) => `${owner}: ${rule}`).join(", "),
  );
  timeline.check(
    "nothing was copied, nothing changed",
    JSON.stringify(await world.witness()) === JSON.stringify(before),
  );
  await ownerRecalls(story);
}

/** The site's owner takes consent back. Only south can hold rank-2, so nobody takes it: it runs on, and that is an alert. */
async function ownerRecalls(story: Story): Promise<void> {
  const { timeline, world } = story;
  const owner = await story.tokenOf("south-lab", "reader");
  const stranger = await story.tokenOf("north-lab", "reader");
  const recall = [
    "recall",
    "ring/rank-2",
    "--site",
    "south",
    "--by",
    "3s",
    "--reason",
    "power work",
  ];
  const refused = await story.droverAs(stranger, ...recall);
  timeline.check(
    "north's owner cannot recall for south",
    refused.code === 3,
    refused.stderr.split("\n")[0],
  );
  const since = await story.lastSeq();
  const recalled = await story.droverAs(owner, ...recall, "--json");
  timeline.check(
    "south's owner recalls its consent to rank-2",
    recalled.code === 0,
    recalled.code === 0 ? undefined : recalled.stderr,
  );
  const denied = await world.ask("rank-2", { method: "resize", params: { cpu_percent: 70 } });
  timeline.check(
    "it gets nothing more there",
    denied.code === 3 && denied.result["code"] === "consent.recalled",
    String(denied.result["message"]),
  );
  await until("the recall to be overdue", 60_000, async () =>
    (await story.eventsSince(since)).some(({ kind }) => kind === "recall.overdue")
      ? true
      : undefined,
  );
  timeline.check(
    "nobody else can hold it: it is an alert, and it runs on where it is",
    (await story.hostsOf("rank-2")).join() === "south-1",
  );
  const { id } = JSON.parse(recalled.stdout) as { id: string };
  const lifted = await story.droverAs(owner, "recall", "--lift", id);
  timeline.check("and who recalled lifts it", lifted.code === 0, lifted.stdout.trim());
  await until("the last try to move it to end", 60_000, async () =>
    (await story.running()).length === 0 ? true : undefined,
  );
}
