/** What several acts share: how the ring looks, and how it is measured inside the guests. */
import type { GuestShell } from "@drover/shepherd/lab/guest-shell";
import { ranks, type Story } from "../story.ts";
import { type Answer } from "../world.ts";

export const address = (machine: string) =>
  `10.42.0.${10 + ranks.indexOf(machine as (typeof ranks)[number])}`;
export const ringMachines = [...ranks];
/** Megabits a second that the ring's links promise (stacks/examples/ring/main.ts). */
export const promisedMbps = 10;
/** One run of the ring program: phase 1 exchanges, phase 2 computes. Sized for half a minute at 20 % of a core. */
export const program = "-r 4 -k 64 -i 50 -m 8 -c 16000";

export function guestsOf(story: Story): ((machine: string) => GuestShell) | undefined {
  if (story.world.kind === "simulated") return undefined;
  return (machine) => {
    const guest = story.world.guest(machine);
    if (guest === undefined) throw new Error(`no shell in ${machine}`);
    return guest;
  };
}

export function granted(story: Story, claim: string, answer: Answer): void {
  story.timeline.check(
    claim,
    answer.code === 0 && answer.result["verdict"] === "granted",
    String(answer.result["message"] ?? JSON.stringify(answer.result)),
  );
}

export async function memoryKib(guest: GuestShell): Promise<number> {
  return Number(await guest.read("awk '/MemTotal/{print $2}' /proc/meminfo"));
}

/** One guest after the other: together they would measure how four caps share two cores. */
export async function speeds(guests: (machine: string) => GuestShell): Promise<readonly number[]> {
  const measured: number[] = [];
  for (const machine of ringMachines) measured.push(await speedOf(guests(machine)));
  return measured;
}

export async function speedOf(guest: GuestShell): Promise<number> {
  return Number(await guest.read("speed 2000"));
}

/** The best of three tries nearest to the promise: a busy machine may hold back a capped guest, never push it. */
export async function streamMbps(
  from: GuestShell,
  to: GuestShell,
  toAddress: string,
): Promise<number> {
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

export async function moveFigures(story: Story, operationId: string, name: string): Promise<void> {
  const operation = await story.operation(operationId);
  const measured = operation.measured;
  if (measured === undefined || measured === null) return;
  story.timeline.figure(
    name,
    `${(measured.duration_ms / 1000).toFixed(1)} s, ${(measured.bytes / 1048576).toFixed(0)} MiB, downtime ${measured.downtime_ms} ms`,
  );
}
