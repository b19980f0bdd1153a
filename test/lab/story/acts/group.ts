/** Act 2: the ring asks as a group, and its program runs faster by it. */
import type { GuestShell } from "@drover/shepherd/lab/guest-shell";
import { until } from "../process.ts";
import type { Story } from "../story.ts";
import { resultOf } from "../world.ts";
import {
  address,
  granted,
  guestsOf,
  memoryKib,
  program,
  promisedMbps,
  ringMachines,
  speeds,
  streamMbps,
} from "./measuring.ts";

export async function askAsGroup(story: Story): Promise<void> {
  const { timeline } = story;
  const guests = guestsOf(story);
  if (guests === undefined) {
    const answer = await story.world.ask("rank-0", {
      method: "resize",
      params: {
        group: "rank",
        cpu_percent: 60,
        memory_mib: 320,
        lease_s: 3600,
        reason: "lanczos phase",
      },
    });
    granted(story, "rank-0 asks for its group: one request, one decision", answer);
    story.remembered.set("group decision", String(answer.result["decision"]));
    const status = await story.status();
    const sizes =
      status.environments
        .find(({ name }) => name === "ring")
        ?.machines.map(
          ({ effective }) => `${effective.cpu_percent} % ${effective.memory_mib} MiB`,
        ) ?? [];
    timeline.check(
      "all four ranks have it",
      sizes.every((size) => size === "60 % 320 MiB") && sizes.length === 4,
      sizes.join(", "),
    );
    return;
  }

  timeline.say("the ring program, static: nobody asks");
  const fixed = await runRing(guests, "");
  timeline.figure(
    "ring program, static",
    `${(fixed.totalMs / 1000).toFixed(1)} s (phase 2: ${(fixed.phase2Ms / 1000).toFixed(1)} s)`,
  );
  const speedBefore = await speeds(guests);
  const memoryBefore = await Promise.all(ringMachines.map((machine) => memoryKib(guests(machine))));

  timeline.say("the same program; at its phase change rank-0, the group's speaker, asks");
  const seq = await story.lastSeq();
  // The program is not changed: its -x runs any command between the phases, here the ask.
  const ask =
    "drover-guest resize --group rank --cpu-percent 60 --memory-mib 320 --for 1h --reason lanczos --json > /run/ask.json";
  const adaptive = await runRing(guests, ask);
  const told = (await guests("rank-0").read("cat /run/ask.json"))
    .split("\n")
    .findLast((line) => line.startsWith("{"));
  const answer = resultOf(JSON.parse(told ?? "{}") as Record<string, unknown>);
  granted(story, "one request, one decision, all four ranks", { code: 0, result: answer });
  story.remembered.set("group decision", String(answer["decision"]));
  timeline.figure(
    "guest's ask to in force, four machines",
    `${String(answer["in_force_after_ms"])} ms`,
  );
  timeline.figure(
    "ring program, adaptive",
    `${(adaptive.totalMs / 1000).toFixed(1)} s (phase 2: ${(adaptive.phase2Ms / 1000).toFixed(1)} s)`,
  );
  timeline.check(
    "adaptive is faster, and computes the same",
    adaptive.totalMs < fixed.totalMs && adaptive.checksum === fixed.checksum,
    `${((1 - adaptive.totalMs / fixed.totalMs) * 100).toFixed(0)} % shorter`,
  );
  const decided = (await story.eventsSince(seq)).filter(
    ({ kind, data }) =>
      kind === "decision.made" && JSON.stringify(data).includes(String(answer["decision"])),
  );
  timeline.check("the journal holds one decision for it", decided.length >= 1);

  for (const [index, machine] of ringMachines.entries()) {
    const grown = await until(`${machine} to see its memory`, 10_000, async () => {
      const now = await memoryKib(guests(machine));
      return now - (memoryBefore[index] ?? 0) > 50 * 1024 ? now : undefined;
    });
    timeline.say(
      `${machine} sees ${Math.round(grown / 1024)} MiB (before: ${Math.round((memoryBefore[index] ?? 0) / 1024)} MiB)`,
    );
  }
  const speedAfter = await speeds(guests);
  timeline.check(
    "every guest's own loop runs at least 1.5 times as fast",
    speedAfter.every((speed, index) => speed > 1.5 * (speedBefore[index] ?? 0)),
    speedAfter.map((speed, index) => (speed / (speedBefore[index] ?? 1)).toFixed(1)).join(", "),
  );

  // measured now, since a guest at 20 % of a core cannot fill its links
  for (const [from, to] of [
    ["rank-0", "rank-1"],
    ["rank-2", "rank-3"],
  ] as const) {
    const measured = await streamMbps(guests(from), guests(to), address(to));
    timeline.check(
      `link ${from} - ${to} holds its ${promisedMbps} Mbit/s within 10 %`,
      Math.abs(measured - promisedMbps) <= promisedMbps * 0.1,
      `${measured.toFixed(1)} Mbit/s`,
    );
  }
  // one resize seen from inside, to the moment the guest has its memory
  const began = await guests("rank-1").run(
    "t() { cut -d' ' -f1 /proc/uptime; }; m() { awk '/MemTotal/{print $2}' /proc/meminfo; }; from=$(t); was=$(m); drover-guest resize --memory-mib 336 --for 1h --json >/dev/null; asked=$(t); n=0; while [ $(m) -eq $was ] && [ $n -lt 40 ]; do n=$((n+1)); sleep 0.05; done; echo $from $asked $(t) $was $(m)",
  );
  const [from = 0, asked = 0, seen = 0, was = 0, is = 0] = began.stdout
    .trim()
    .split(/\s+/)
    .map(Number);
  timeline.check(
    "rank-1 sees an allowed resize of its memory within 2 s of the answer",
    is > was && seen - asked <= 2,
    `${((seen - from) * 1000).toFixed(0)} ms from the ask`,
  );
  timeline.figure(
    "guest-visible latency of an allowed resize",
    `${((seen - from) * 1000).toFixed(0)} ms from the command's start, its own start-up at a capped CPU included`,
  );

  const vcpu = await story.world.ask("rank-0", {
    method: "resize",
    params: { vcpus: 2, lease_s: 3600 },
  });
  granted(story, "rank-0 is given a second vCPU, live", vcpu);
  const online = await until("the second vCPU to come online", 15_000, async () =>
    (await guests("rank-0").read("cat /sys/devices/system/cpu/online")) === "0-1"
      ? "0-1"
      : undefined,
  );
  timeline.check("it comes online in the guest", online === "0-1");
}

interface RingRun {
  readonly totalMs: number;
  readonly phase2Ms: number;
  readonly checksum: string;
}

/** Runs the program on all ranks; `ask` is what rank-0's phase change calls. */
async function runRing(guests: (machine: string) => GuestShell, ask: string): Promise<RingRun> {
  const peers = ringMachines.map(address).join(" ");
  const outputs = await Promise.all(
    ringMachines.map((machine, rank) =>
      guests(machine).read(
        `ring ${program} ${rank === 0 && ask !== "" ? `-x '${ask}'` : ""} ${rank} ${peers}`,
        { timeoutMs: 240_000 },
      ),
    ),
  );
  const numbers = outputs.map((output) =>
    /phase1_ms (\d+).*phase2_ms (\d+).*total_ms (\d+).*broken 0 checksum (\S+)/.exec(output),
  );
  const totals = numbers.map((match) => Number(match?.[3]));
  if (totals.some((total) => !Number.isFinite(total)))
    throw new Error(`the ring program said: ${outputs.join(" | ")}`);
  return {
    totalMs: Math.max(...totals),
    phase2Ms: Math.max(...numbers.map((match) => Number(match?.[2]))),
    checksum: numbers.map((match) => match?.[4]).join(),
  };
}
