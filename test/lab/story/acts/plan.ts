/** Acts 7 and 8: approved changes leave the plan empty, a foreign one shows. */
import { until } from "../process.ts";
import type { Story } from "../story.ts";
import { readJson } from "../world.ts";

export async function planIsClean(story: Story): Promise<void> {
  const { timeline } = story;
  const planned = await story.ring.plan();
  timeline.check(
    "terraform plan -detailed-exitcode: 0",
    planned.code === 0,
    planned.code === 0 ? `${(planned.ms / 1000).toFixed(2)} s` : planned.text,
  );
  const state = await story.ring.state();
  await story.ring.must(["apply", "-refresh-only", "-auto-approve"]);
  const refreshed = (await story.ring.state()).get("drover_machine.ring_rank-2")?.["effective"] as
    | Record<string, unknown>
    | undefined;
  timeline.check(
    "terraform show has the live values under effective",
    state.size > 0 && refreshed?.["memory_mib"] === 1024 && refreshed["site"] === "south",
    refreshed,
  );
  const records = readJson(story.adaptationsFile) as {
    machine: string;
    memory_mib: number;
    site: string;
  }[];
  const mine = records.find(({ machine }) => machine === "rank-2");
  timeline.check(
    "adaptations.json beside the stack holds them",
    mine?.memory_mib === 1024 && mine.site === "south",
    mine,
  );
  await story.synthesize();
  const again = await story.ring.plan();
  timeline.check(
    "a fresh synth and plan are still empty",
    again.code === 0,
    again.code === 0 ? undefined : again.text,
  );
  const rebuilt = await story.ring.run([
    "apply",
    "-auto-approve",
    "-replace=drover_machine.ring_rank-1",
  ]);
  timeline.check(
    "rank-1 is destroyed and created again",
    rebuilt.code === 0,
    rebuilt.code === 0 ? undefined : rebuilt.stdout + rebuilt.stderr,
  );
  const machine = await story.machine("rank-1");
  timeline.check(
    "it starts at its granted size",
    machine.effective.cpu_percent === 60,
    `${machine.effective.cpu_percent} %, ${machine.effective.memory_mib} MiB (baseline ${machine.cpu_percent} %, ${machine.memory_mib} MiB)`,
  );
  const clean = await story.ring.plan();
  timeline.check(
    "and the plan is empty again",
    clean.code === 0,
    clean.code === 0 ? undefined : clean.text,
  );
}

export async function foreignChange(story: Story): Promise<void> {
  const { timeline, world } = story;
  await story.world.guest("rank-0")?.read("true");
  const wanted = (await story.machine("rank-0")).effective.memory_mib;
  await world.setMemoryBehind("rank-0", 208);
  const planned = await until("the foreign change to be seen", 30_000, async () => {
    const seen = await story.ring.plan();
    return seen.code === 2 ? seen : undefined;
  });
  const [change] = planned.changes;
  const changed = Object.keys(change?.after ?? {}).filter(
    (key) =>
      JSON.stringify(change?.before?.[key]) !== JSON.stringify(change?.after?.[key]) &&
      // What is live, and by which way a change would be made, follow from the change.
      !["effective", "ways"].includes(key),
  );
  timeline.check(
    "virsh setmem behind the shepherd's back: plan shows exactly that attribute",
    planned.changes.length === 1 &&
      change?.address === "drover_machine.ring_rank-0" &&
      changed.join() === "memory_mib",
    `${change?.address}: ${changed.join()} ${String(change?.before?.["memory_mib"])} -> ${String(change?.after?.["memory_mib"])}`,
  );
  const applied = await story.ring.run(["apply", "-auto-approve"]);
  timeline.check(
    "apply puts it back",
    applied.code === 0,
    applied.code === 0 ? undefined : applied.stdout + applied.stderr,
  );
  const now = (await story.machine("rank-0")).effective.memory_mib;
  timeline.check(
    "the machine has what its record says",
    now === wanted || now === 256,
    `${now} MiB (before: ${wanted})`,
  );
  timeline.check("plan is empty", (await story.ring.plan()).code === 0);

  const remove = await world.startForeign("north-2");
  story.remembered.set("foreign", "north-2");
  story.removeForeign = remove;
  const counted = await until("the foreign domain to count", 30_000, async () => {
    const { sites } = await story.status();
    const host = sites.flatMap(({ hosts }) => hosts).find(({ id }) => id === "north-2");
    return host !== undefined && host.foreign.count === 1 ? host.foreign : undefined;
  });
  timeline.check(
    "a foreign domain counts as used room",
    counted.memory_mib >= 128,
    `${counted.memory_mib} MiB, ${counted.cpu_percent} %`,
  );
}
