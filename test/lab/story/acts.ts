/**
 * The story, act by act. Every claim is checked where its truth is: inside the guests (lab), by the witness, and by the
 * real Terraform; a miss throws. Simulated guests have no inside, so there the same acts check what remains.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { GuestShell } from "@drover/shepherd/lab/guest-shell";
import { until } from "./process.ts";
import { ranks, type Story } from "./story.ts";
import { type Answer, foreignName, readJson, resultOf } from "./world.ts";

export interface Act {
  readonly name: string;
  readonly play: (story: Story) => Promise<void>;
}

const address = (machine: string) =>
  `10.42.0.${10 + ranks.indexOf(machine as (typeof ranks)[number])}`;
const ringMachines = [...ranks];
/** Megabits a second that the ring's links promise (stacks/examples/ring/main.ts). */
const promisedMbps = 10;
/** One run of the ring program: phase 1 exchanges, phase 2 computes. Sized for half a minute at 20 % of a core. */
const program = "-r 4 -k 64 -i 50 -m 8 -c 16000";

export const acts: readonly Act[] = [
  { name: "0. A neighbour lives here already", play: settleNeighbour },
  { name: "1. Declare", play: declare },
  { name: "2. Ask and get, as a group", play: askAsGroup },
  { name: "3. Ask too much", play: askTooMuch },
  { name: "4. No room here", play: noRoomHere },
  { name: "5. A site says no", play: siteSaysNo },
  { name: "6. Plan is clean", play: planIsClean },
  { name: "7. Foreign change shows", play: foreignChange },
  { name: "8. Crash", play: crash },
  { name: "9. Give back", play: giveBack },
  { name: "10. Explain", play: explain },
  { name: "11. Leave nothing", play: leaveNothing },
];

// --- 0, 1 -------------------------------------------------------------------------------------------------------------

async function settleNeighbour(story: Story): Promise<void> {
  const { timeline, world } = story;
  mkdirSync(story.neighbour.directory, { recursive: true });
  const sha256 = await import("node:crypto").then(async ({ createHash }) =>
    createHash("sha256")
      .update((await import("node:fs")).readFileSync(join(world.imageDirectory, "base.qcow2")))
      .digest("hex"),
  );
  writeFileSync(
    join(story.neighbour.directory, "main.tf"),
    `terraform {
  required_providers {
    drover = { source = "drover.dev/drover/drover" }
  }
}
resource "drover_environment" "neighbour" {
  name  = "neighbour"
  owner = "bob"
  class = "batch"
  sites = ["north"]
}
resource "drover_network" "lan" {
  environment_id = drover_environment.neighbour.id
  name           = "lan"
  cidr           = "10.42.0.0/24"
}
resource "drover_image" "neighbour" {
  name    = "neighbour"
  source  = "${world.imageDirectory}/base.qcow2"
  sha256  = "${sha256}"
  kernel  = "${world.imageDirectory}/kernel"
  initrd  = "${world.imageDirectory}/initrd"
  cmdline = "console=ttyS0 quiet"
}
resource "drover_machine" "solo" {
  environment_id = drover_environment.neighbour.id
  name           = "solo"
  image_id       = drover_image.neighbour.id
  cpu_percent    = 20
  memory_mib     = 1010
  site           = "north"
  networks       = [{ network_id = drover_network.lan.id, address = "${address("rank-0")}" }]
  adaptation     = { mode = "auto", memory_mib = { min = 192, max = 1010 } }
}
`,
  );
  await story.neighbour.init();
  const applied = await story.neighbour.run(["apply", "-auto-approve"]);
  timeline.check(
    "bob's environment `neighbour` is built by terraform apply, with the ring's CIDR and rank-0's address",
    applied.code === 0,
    applied.code === 0 ? undefined : applied.stdout + applied.stderr,
  );
  timeline.check(
    "it lives at north-2",
    (await story.hostsOf("solo", "neighbour")).join() === "north-2",
  );
}

async function declare(story: Story): Promise<void> {
  const { timeline, world } = story;
  await story.synthesize();
  timeline.say("the stack is synthesized; plain terraform from here");
  await story.ring.init();
  const applied = await story.ring.run(["apply", "-auto-approve"]);
  timeline.check(
    "terraform apply builds environment `ring`",
    applied.code === 0,
    applied.code === 0 ? `${(applied.ms / 1000).toFixed(1)} s` : applied.stdout + applied.stderr,
  );
  for (const machine of ringMachines) {
    const hosts = await story.hostsOf(machine);
    timeline.check(`${machine} runs once`, hosts.length === 1, hosts.join());
  }
  timeline.check("the LAN spans both owners", (await story.hostsOf("rank-1")).join() === "south-1");
  const guests = guestsOf(story);
  if (guests === undefined) return;

  await Promise.all(
    ringMachines.map((machine) =>
      until(
        `${machine} to boot`,
        90_000,
        async () => (await guests(machine).run("true")).code === 0 || undefined,
      ),
    ),
  );
  const solo = world.guest("solo", "neighbour");
  const before = Number(await solo?.read("cat /sys/class/net/eth0/statistics/rx_packets"));
  const pinged = await Promise.all(
    ringMachines.map(async (machine) => {
      const peers = ringMachines.filter((peer) => peer !== machine).map(address);
      const { stdout } = await guests(machine).run(
        peers.map((peer) => `ping -c 1 -W 3 ${peer} >/dev/null && echo ok`).join("; "),
      );
      return stdout.split("\n").filter((line) => line === "ok").length;
    }),
  );
  timeline.check("all 12 pairs ping", pinged.join() === "3,3,3,3", pinged.join());
  const lonely = await solo?.run(`ping -c 2 -W 1 ${address("rank-1")}`);
  timeline.check("neighbour's machine reaches none of the ring", lonely?.code !== 0);
  const after = Number(await solo?.read("cat /sys/class/net/eth0/statistics/rx_packets"));
  timeline.check(
    "no frame of the ring has come to neighbour's machine",
    after === before,
    `${after - before} frames`,
  );

  const { code, ms } = await story.ring.plan();
  timeline.check("a second plan has nothing to do", code === 0);
  timeline.figure("plan without a change, this stack", `${(ms / 1000).toFixed(2)} s`);
}

// --- 2 ------------------------------------------------------------------------------------------------------------------

async function askAsGroup(story: Story): Promise<void> {
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

// --- 3 ------------------------------------------------------------------------------------------------------------------

async function askTooMuch(story: Story): Promise<void> {
  const { timeline, world } = story;
  const answer = await world.ask("rank-1", { method: "resize", params: { cpu_percent: 6400 } });
  timeline.check(
    "rank-1 asks for 6,400 % and is denied",
    answer.code === 3 && answer.result["rule"] === "envelope",
    String(answer.result["message"]),
  );
  timeline.check(
    "it is told the nearest allowed",
    typeof (answer.result["nearest"] as Record<string, unknown> | undefined)?.["cpu_percent"] ===
      "number",
    answer.result["nearest"],
  );
  const guests = guestsOf(story);
  if (guests === undefined) return;

  const seq = await story.lastSeq();
  // drover-guest opens the port exclusively and lets go a moment after its answer
  const port = "/dev/virtio-ports/dev.drover.0";
  const flood = guests("rank-1").run(
    `i=0; while [ $i -lt 1000 ]; do i=$((i+1)); echo '{"jsonrpc":"2.0","id":"f'$i'","method":"resize","params":{"cpu_percent":60}}'; done > /run/flood; until ( exec 3<>${port} ) 2>/dev/null; do sleep 0.2; done; ( exec 3<>${port}; cat /run/flood >&3; timeout 5 cat <&3 > /run/flood.out; true ); grep -c '"id"' /run/flood.out`,
    { timeoutMs: 120_000 },
  );
  const honest: { code: number; ms: number }[] = [];
  for (let round = 0; round < 6; round++) {
    const from = performance.now();
    const got = await world.ask("rank-2", { method: "status", params: {} });
    honest.push({ code: got.code, ms: performance.now() - from });
  }
  await flood;
  const late = honest.filter(({ ms }) => ms > 5_000).length;
  timeline.figure(
    "honest guest during the flood of 1,000",
    `${honest.filter(({ code }) => code === 0).length} of ${honest.length} answered, ${late} late, slowest ${Math.max(...honest.map(({ ms }) => ms)).toFixed(0)} ms`,
  );
  timeline.check(
    "every honest ask is answered",
    honest.every(({ code }) => code === 0),
  );
  const afterFlood = await story.eventsSince(seq);
  const limited = afterFlood
    .filter(({ kind }) => kind === "request.refused")
    .reduce((sum, { data }) => sum + Number(data["count"] ?? 1), 0);
  const judged = afterFlood.filter(({ kind }) => kind === "request.received").length;
  timeline.check(
    "the flood is limited before policy",
    limited >= 900 && judged <= 100,
    `${limited} refused unread, ${judged} judged`,
  );

  const garbageSeq = await story.lastSeq();
  const other = "rank-2";
  const lines = [
    `printf 'no json at all\\n'`,
    `printf '\\377\\376\\200\\n'`,
    `printf '{"jsonrpc":"2.0","id":"e1","method":"resize","params":{"machine":"${other}","cpu_percent":60}}\\n'`,
    `printf '{"jsonrpc":"2.0","id":"e2","method":"resize","params":{"cpu_percent":60,"reason":"\\\\u001b[31mred\\\\u0007"}}\\n'`,
    `(head -c 10485760 /dev/zero | tr '\\000' a; echo)`,
    `printf '{"jsonrpc":"2.0","id":"e3","method":"status","params":{}}\\n'`,
  ];
  await new Promise((resolve) => setTimeout(resolve, 3_000)); // the flood's token bucket fills again
  const bad = await guests("rank-1").run(
    `until ( exec 3<>${port} ) 2>/dev/null; do sleep 0.2; done; ( exec 3<>${port}; (timeout 25 cat <&3 > /run/bad.out) & ${lines.map((line) => `${line} >&3; sleep 1`).join("; ")}; sleep 3; wait ); cat /run/bad.out`,
    { timeoutMs: 90_000 },
  );
  const answers = bad.stdout.split("\n").filter((line) => line.startsWith("{"));
  timeline.check(
    "garbage, invalid UTF-8 and a 10 MB line are refused, and the channel still answers",
    answers.some((line) => line.includes('"e3"') && line.includes("result")),
    `${answers.length} answers`,
  );
  timeline.check(
    "a request that names another machine is refused",
    answers.some((line) => line.includes('"e1"') && line.includes("error")),
  );
  const after = await story.eventsSince(garbageSeq);
  timeline.check(
    "escape sequences in a reason are inert in the journal",
    !JSON.stringify(after).includes("\\u001b"),
  );
  const counted = after.filter(({ kind }) => kind === "request.refused");
  timeline.check(
    "what was refused is counted",
    counted.length >= 2,
    counted
      .map(({ data }) => `${String(data["reason"] ?? data["code"])}: ${String(data["count"] ?? 1)}`)
      .join(", "),
  );
  timeline.check(
    "nothing of rank-2 changed",
    (await story.machine(other)).effective.cpu_percent === 60,
  );
}

// --- 4, 5 ---------------------------------------------------------------------------------------------------------------

async function noRoomHere(story: Story): Promise<void> {
  const { timeline, world } = story;
  const free = await world.ask(
    "solo",
    { method: "resize", params: { memory_mib: 256 } },
    "neighbour",
  );
  granted(story, "neighbour's machine needs less and gives back: north-2 has room", free);
  await until("neighbour's guest to have given its memory back", 30_000, async () =>
    (await world.guestMemoryMib("solo", "neighbour")) < 300 ? true : undefined,
  );
  await until("north-2 to have room for rank-2, by a dry run", 30_000, async () => {
    const dry = await story.client.call<{ plan: { actions: { to_host_id?: string }[] } | null }>(
      "POST",
      "/v1/requests?dry_run=1",
      {
        body: {
          method: "resize",
          environment: "ring",
          machine: "rank-2",
          params: { memory_mib: 512, lease_s: 3600 },
        },
      },
    );
    return dry.plan?.actions.some((action) => action.to_host_id === "north-2") || undefined;
  });
  const guests = guestsOf(story);
  const guest = guests?.("rank-2");
  const inside = async () =>
    await guest?.read(
      "cat /proc/sys/kernel/random/boot_id; pidof ring; ip -4 -o address show eth0 | awk '{print $4}'; sha256sum < /work/file; wc -c < /work/file",
    );
  let before: string | undefined;
  if (guests !== undefined && guest !== undefined) {
    await guest.read("head -c 8388608 /dev/urandom > /work/file; sync");
    const peers = ringMachines.map(address).join(" ");
    for (const [rank, machine] of ringMachines.entries()) {
      await guests(machine).read(
        `(ring -r 2 -k 64 -i 1000000 -m 4 -c 50 -f /run/ring.state ${rank} ${peers} > /run/ring.out 2>&1 </dev/null &) ; true`,
      );
    }
    await until("the ring program to reach phase 2", 60_000, async () =>
      (await guest.run("cat /run/ring.state")).stdout.startsWith("2") ? true : undefined,
    );
    await guest.run("touch /run/ticker.reset");
    await guests("rank-0").read(
      `rm -f /run/ping; (pinger ${address("rank-2")} 2400 50 /run/ping >/dev/null 2>&1 &) ; true`,
    );
    before = await inside();
  }

  const first = await world.ask("rank-2", {
    method: "resize",
    params: { memory_mib: 512, lease_s: 3600, reason: "more than north-1 has" },
  });
  granted(story, "rank-2 asks for 512 MiB: its host has no room, so it is moved live", first);
  timeline.check(
    "it now runs at north's other host, once",
    (await story.hostsOf("rank-2")).join() === "north-2",
  );
  await moveFigures(story, String(first.result["operation"]), "move inside north");

  const second = await world.ask("rank-2", {
    method: "resize",
    params: { memory_mib: 1024, lease_s: 3600, reason: "more than north has" },
  });
  granted(story, "then for 1,024 MiB, which only south can hold: it crosses owners", second);
  story.remembered.set("move decision", String(second.result["decision"]));
  timeline.check(
    "it now runs at south, once",
    (await story.hostsOf("rank-2")).join() === "south-1",
  );
  const seen = await world.witness();
  const machine = await story.machine("rank-2");
  timeline.check(
    "its disk left north",
    seen
      .filter(({ volumes }) => volumes.some((volume) => volume.includes(machine.id)))
      .map(({ host }) => host)
      .join() === "south-1",
  );
  const explanation = await story.get<{
    consents: { owner: string; effect: string }[];
    decisions: { consents: { owner: string; effect: string }[] }[];
  }>(`/v1/decisions/${String(second.result["decision"])}/explanation`);
  const consents = explanation.decisions
    .flatMap((decision) => decision.consents)
    .map(({ owner, effect }) => `${owner} ${effect}`);
  timeline.check(
    "both sites' policies consented",
    consents.some((line) => line.startsWith("site:north allow")) &&
      consents.some((line) => line.startsWith("site:south allow")),
    [...new Set(consents)].join(", "),
  );
  await moveFigures(story, String(second.result["operation"]), "move north to south");

  if (guests !== undefined && guest !== undefined) {
    const after = await inside();
    timeline.check(
      "in the guest: same boot id, process, address, checksum",
      after === before,
      after === before ? undefined : `${before} -> ${after}`,
    );
    const [, longestStop = "?"] = (await guest.read("cat /run/ticker")).split(/\s+/);
    timeline.figure(
      "longest stop of the moved guest, by its own hardware clock",
      `${longestStop} ms`,
    );
    const state = await guest.read("cat /run/ring.state");
    const later = await until("the ring program to go on", 20_000, async () => {
      const now = await guest.read("cat /run/ring.state");
      return now === state ? undefined : now;
    });
    const alive = await Promise.all(
      ringMachines.map(async (rank) => (await guests(rank).run("pidof ring")).code),
    );
    timeline.check(
      "the ring's connections never broke: all four programs go on",
      alive.every((code) => code === 0),
      `iteration ${later.split(" ")[1]}`,
    );
    const [sent = "", , lost = ""] = (await guests("rank-0").read("cat /run/ping")).split(/\s+/);
    timeline.figure("pings at a peer, 50 ms apart, over both moves", `${sent} sent, ${lost} lost`);
    for (const rank of ringMachines)
      await guests(rank).run("kill $(pidof ring) $(pidof pinger); true");
    const memory = await memoryKib(guest);
    timeline.check(
      "the guest has its memory there",
      memory > 700 * 1024,
      `${Math.round(memory / 1024)} MiB`,
    );
  }
  const rival = await world.moveTwin({
    machine: "rank-2",
    from: "north-2",
    to: "south-1",
    memoryMib: 512,
  });
  if (rival !== undefined) {
    timeline.figure(
      "virsh migrate --copy-storage-all of a twin, same way",
      `${rival.seconds.toFixed(1)} s, longest stop ${rival.longestStopMs} ms`,
    );
  }
}

async function siteSaysNo(story: Story): Promise<void> {
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
}

// --- 6, 7 ---------------------------------------------------------------------------------------------------------------

async function planIsClean(story: Story): Promise<void> {
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

async function foreignChange(story: Story): Promise<void> {
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
      key !== "effective",
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
  removeForeign = remove;
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
let removeForeign: (() => Promise<void>) | undefined;

// --- 8, 9, 10, 11 -------------------------------------------------------------------------------------------------------

async function crash(story: Story): Promise<void> {
  await crashDuring(story, { label: "in the copy", machine: "rank-0", to: "south", window: false });
  await crashDuring(story, {
    label: "after the source has suspended",
    machine: "rank-3",
    to: "north",
    window: true,
  });
}

async function crashDuring(
  story: Story,
  options: { label: string; machine: string; to: string; window: boolean },
): Promise<void> {
  const { timeline, world } = story;
  const guests = guestsOf(story);
  // rank-3 may not cross owners: it goes to whichever host of north it is not on, by growing past its host's room
  const machine = options.window ? "rank-2" : options.machine;
  const [source = ""] = await story.hostsOf(machine);
  const destination = options.window ? "north" : options.to;
  const guest = guests?.(machine);
  const boot = await guest?.read(
    "head -c 1048576 /dev/urandom > /work/crash; sync; cat /proc/sys/kernel/random/boot_id; sha256sum < /work/crash",
  );
  if (options.window) {
    const shrunk = await world.ask(machine, {
      method: "resize",
      params: { memory_mib: 256, lease_s: 3600 },
    });
    granted(story, `${machine} gives memory back, so that north has room for it again`, shrunk);
  }
  const ordered = await story.drover(
    "move",
    `ring/${machine}`,
    "--to",
    destination,
    "--no-wait",
    "--json",
  );
  timeline.check(
    `an operator moves ${machine} from ${source} to ${destination}`,
    ordered.code === 0 || ordered.code === 4,
    ordered.code === 0 || ordered.code === 4 ? undefined : ordered.stdout + ordered.stderr,
  );
  const operationId = String((JSON.parse(ordered.stdout) as Record<string, unknown>)["operation"]);
  if (options.window && world.kind === "lab") {
    await until(
      "the source to suspend",
      60_000,
      async () => {
        return (await world.stateAt(source, machine)) === "paused" || undefined;
      },
      1,
    );
    await story.freezeThenCrashShepherd(1_500);
  } else {
    await until(
      "the copy to run",
      60_000,
      async () => {
        const operation = await story.operation(operationId);
        return /copy|disk|memory|migrat|moving/i.test(operation.progress.message) ||
          operation.state !== "running"
          ? operation
          : undefined;
      },
      20,
    );
    await story.crashShepherd();
  }
  // simulated hosts live in the shepherd's process: only real ones can be looked at now
  const hosts = world.kind === "lab" ? await story.hostsOf(machine) : [];
  timeline.say(
    `kill -9 of the shepherd ${options.label}${hosts.length === 0 ? "" : `; ${machine} is seen at ${hosts.join(" and ")}`}`,
  );
  if (guests !== undefined) {
    const others = ringMachines.filter((name) => name !== machine);
    const [one = "", two = ""] = others;
    timeline.check(
      "LAN and machines carry on without it",
      (await guests(one).run(`ping -c 2 -W 2 ${address(two)}`)).code === 0,
    );
  }
  await story.startShepherd();
  const ended = await until("the operation to end", 120_000, async () => {
    const operation = await story.operation(operationId);
    return ["succeeded", "failed", "partial", "cancelled", "stuck"].includes(operation.state)
      ? operation
      : undefined;
  });
  timeline.check(
    "after the restart the operation has ended",
    ended.state !== "stuck",
    `${ended.state}: ${ended.fault?.message ?? ended.progress.message}`,
  );
  const once = await until(`${machine} to run once`, 60_000, async () => {
    const seen = await world.witness();
    const running = seen.filter((host) =>
      host.domains.some(
        ({ name, state }) => name === `drover-ring-${machine}` && state === "running",
      ),
    );
    const any = await story.hostsOf(machine);
    return running.length === 1 && any.length === 1 ? running[0]?.host : undefined;
  });
  const view = await story.machine(machine);
  timeline.check(
    "the machine runs exactly once, where the record says",
    view.effective.host === once,
    once,
  );
  const volumes = (await world.witness()).filter((seen) =>
    seen.volumes.some((volume) => volume.includes(view.id)),
  );
  timeline.check(
    "its disk is there and nowhere else",
    volumes.map(({ host }) => host).join() === once,
    volumes.map(({ host }) => host).join(),
  );
  if (guest !== undefined) {
    const now = await guest.read("cat /proc/sys/kernel/random/boot_id; sha256sum < /work/crash");
    timeline.check("in the guest: same boot, disk intact", now === boot);
    const peer = ringMachines.find((name) => name !== machine) ?? "rank-1";
    await until("the LAN to reach it", 20_000, async () =>
      (await guest.run(`ping -c 1 -W 1 ${address(peer)}`)).code === 0 ? true : undefined,
    );
  }
}

async function giveBack(story: Story): Promise<void> {
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

async function explain(story: Story): Promise<void> {
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
  await policyFigures(story);
}

async function leaveNothing(story: Story): Promise<void> {
  const { timeline, world } = story;
  for (const stack of [story.ring, story.neighbour]) {
    const destroyed = await stack.run(["destroy", "-auto-approve"]);
    timeline.check(
      `terraform destroy ${stack === story.ring ? "ring" : "neighbour"}`,
      destroyed.code === 0,
      destroyed.code === 0
        ? `${(destroyed.ms / 1000).toFixed(1)} s`
        : destroyed.stdout + destroyed.stderr,
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
  await removeForeign?.();
}

// --- measuring ----------------------------------------------------------------------------------------------------------

function guestsOf(story: Story): ((machine: string) => GuestShell) | undefined {
  if (story.world.kind === "simulated") return undefined;
  return (machine) => {
    const guest = story.world.guest(machine);
    if (guest === undefined) throw new Error(`no shell in ${machine}`);
    return guest;
  };
}

function granted(story: Story, claim: string, answer: Answer): void {
  story.timeline.check(
    claim,
    answer.code === 0 && answer.result["verdict"] === "granted",
    String(answer.result["message"] ?? JSON.stringify(answer.result)),
  );
}

async function memoryKib(guest: GuestShell): Promise<number> {
  return Number(await guest.read("awk '/MemTotal/{print $2}' /proc/meminfo"));
}

/** One guest after the other: together they would measure how four caps share two cores. */
async function speeds(guests: (machine: string) => GuestShell): Promise<readonly number[]> {
  const measured: number[] = [];
  for (const machine of ringMachines) measured.push(await speedOf(guests(machine)));
  return measured;
}

async function speedOf(guest: GuestShell): Promise<number> {
  return Number(await guest.read("speed 2000"));
}

/** The best of three tries nearest to the promise: a busy machine may hold back a capped guest, never push it. */
async function streamMbps(from: GuestShell, to: GuestShell, toAddress: string): Promise<number> {
  await to.read("(stream serve 5201 >/dev/null 2>&1 &) ; sleep 1");
  let best = 0;
  for (
    let attempt = 0;
    attempt < 3 && Math.abs(best - promisedMbps) > promisedMbps * 0.1;
    attempt++
  ) {
    const measured = Number((await from.read(`stream send ${toAddress} 5201 5`)).split(/\s+/)[0]);
    if (Math.abs(measured - promisedMbps) < Math.abs(best - promisedMbps)) best = measured;
  }
  await to.run("kill $(pidof stream)");
  return best;
}

async function moveFigures(story: Story, operationId: string, name: string): Promise<void> {
  const operation = await story.operation(operationId);
  const measured = operation.measured;
  if (measured === undefined || measured === null) return;
  story.timeline.figure(
    name,
    `${(measured.duration_ms / 1000).toFixed(1)} s, ${(measured.bytes / 1048576).toFixed(0)} MiB, downtime ${measured.downtime_ms} ms`,
  );
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
