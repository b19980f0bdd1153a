/** Act 9: the shepherd is killed in the middle of moves. */
import { until } from "../process.ts";
import type { Story } from "../story.ts";
import { address, granted, guestsOf, ringMachines } from "./measuring.ts";

export async function crash(story: Story): Promise<void> {
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
