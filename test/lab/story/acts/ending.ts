/** Acts 10 to 12: leases end, decisions explain themselves, nothing is left behind. */
import { until, whyOf } from "../process.ts";
import type { Story } from "../story.ts";
import { foreignName, readJson } from "../world.ts";
import { granted, guestsOf, memoryKib } from "./measuring.ts";

export async function giveBack(story: Story): Promise<void> {
  const { timeline, world } = story;
  const asked = await world.ask("rank-1", {
    method: "resize",
    params: { cpu_percent: 40, lease_s: 8 },
  });
  granted(story, "rank-1 takes a lease of 8 s", asked);
  const machine = await until("the lease to end", 60_000, async () => {
    const now = await story.machine("rank-1");
    return now.effective.cpu_percent === now.cpu_percent && now.effective.adaptation_id === null
      ? now
      : undefined;
  });
  timeline.check(
    "at its end the shepherd releases to the baseline by itself",
    machine.effective.memory_mib === machine.memory_mib,
    `${machine.effective.cpu_percent} %, ${machine.effective.memory_mib} MiB`,
  );
  const gone = await until("the record to be written", 10_000, () => {
    const records = readJson(story.adaptationsFile) as { machine: string }[];
    return records.every((record) => record.machine !== "rank-1") ? records : undefined;
  });
  timeline.check(
    "adaptations.json has lost the entry",
    gone.every((record) => record.machine !== "rank-1"),
    gone.map((record) => record.machine).join(),
  );
  const planned = await story.ring.plan();
  timeline.check(
    "plan is still empty",
    planned.code === 0,
    planned.code === 0 ? undefined : planned.text,
  );
  const guests = guestsOf(story);
  if (guests !== undefined) {
    const memory = await until("rank-1's memory to shrink", 20_000, async () => {
      const now = await memoryKib(guests("rank-1"));
      return now < 260 * 1024 ? now : undefined;
    });
    timeline.say(`rank-1 sees ${Math.round(memory / 1024)} MiB again`);
  }
}

export async function explain(story: Story): Promise<void> {
  const { timeline } = story;
  const decision = story.remembered.get("move decision") ?? "";
  const explained = await story.drover("explain", decision);
  timeline.check(
    "drover explain tells the cross-owner move",
    explained.code === 0,
    explained.code === 0 ? undefined : explained.stderr,
  );
  timeline.say(explained.stdout.trimEnd());
  const wanted = [
    "rank-2",
    "more than north has",
    "site:north",
    "site:south",
    "operator",
    "predicted",
    "measured",
  ];
  const missing = wanted.filter((word) => !explained.stdout.includes(word));
  timeline.check(
    "who asked, which rules, whose consent, plan with predicted and measured",
    missing.length === 0,
    missing.length === 0 ? undefined : `missing: ${missing.join()}`,
  );
  const verified = await story.drover("log", "verify");
  timeline.check(
    "drover log verify: the evidence is whole",
    verified.code === 0,
    verified.stdout.trim(),
  );
  const report = JSON.parse((await story.drover("log", "verify", "--json")).stdout) as {
    readonly witnesses: readonly { readonly where: string; readonly checkpoints: number }[];
  };
  const keeping = report.witnesses.filter(({ checkpoints }) => checkpoints > 0);
  timeline.check(
    "every site keeps signed checkpoints of it",
    ["north", "south"].every((site) => keeping.some(({ where }) => where === site)),
    keeping.map(({ where, checkpoints }) => `${where} ${checkpoints}`).join(", "),
  );
  await policyFigures(story);
}

export async function leaveNothing(story: Story): Promise<void> {
  const { timeline, world } = story;
  for (const stack of [story.ring, story.neighbour]) {
    const destroyed = await stack.run(["destroy", "-auto-approve"]);
    timeline.check(
      `terraform destroy ${stack === story.ring ? "ring" : "neighbour"}`,
      destroyed.code === 0,
      destroyed.code === 0 ? `${(destroyed.ms / 1000).toFixed(1)} s` : whyOf(destroyed),
    );
  }
  const left = (await world.witness()).map((seen) => ({
    host: seen.host,
    domains: seen.domains.filter(({ name }) => name !== foreignName).map(({ name }) => name),
    // placed image parts stay for the next machine, as a cache, and carry no machine's data
    volumes: seen.volumes.filter((volume) => !/^drover-[0-9a-f]{64}\./.test(volume)),
    network: seen.network,
  }));
  timeline.check(
    "the hosts hold no domain, disk, bridge, VXLAN, tc or nft object of ours",
    left.every(
      ({ domains, volumes, network }) => domains.length + volumes.length + network.length === 0,
    ),
    left.every(
      ({ domains, volumes, network }) => domains.length + volumes.length + network.length === 0,
    )
      ? undefined
      : left,
  );
  const foreign = (await world.witness())
    .find(({ host }) => host === story.remembered.get("foreign"))
    ?.domains.find(({ name }) => name === foreignName);
  timeline.check("the foreign domain still runs", foreign?.state === "running", foreign?.state);
  await story.removeForeign?.();
}

async function policyFigures(story: Story): Promise<void> {
  const { items } = await story.get<{
    items: { consents: { durationMs?: number; duration_ms?: number }[] }[];
  }>("/v1/decisions?limit=200");
  const times = items
    .map(({ consents }) => consents.reduce((sum, consent) => sum + (consent.duration_ms ?? 0), 0))
    .sort((left, right) => left - right);
  const at = (share: number) =>
    times[Math.min(times.length - 1, Math.floor(times.length * share))] ?? 0;
  story.timeline.figure(
    `policy, all owners together, ${times.length} decisions`,
    `p50 ${at(0.5).toFixed(1)} ms, p99 ${at(0.99).toFixed(1)} ms`,
  );
}
