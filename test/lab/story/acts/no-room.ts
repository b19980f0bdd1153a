/** Act 4: no room on its host, then none at its site: live moves, the second one between owners. */
import { longestStopMs } from "../../ticker.ts";
import { until } from "../process.ts";
import type { Story } from "../story.ts";
import { address, granted, guestsOf, memoryKib, moveFigures, ringMachines } from "./measuring.ts";

export async function noRoomHere(story: Story): Promise<void> {
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
    timeline.figure(
      "longest stop of the moved guest, by its own hardware clock",
      stopText(await longestStopMs(guest)),
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
      `${rival.seconds.toFixed(1)} s, longest stop ${stopText(rival.longestStopMs)}`,
    );
  }
}

function stopText(stopMs: number): string {
  return stopMs > 0 ? `${stopMs} ms` : "none that its hardware clock could tell";
}
