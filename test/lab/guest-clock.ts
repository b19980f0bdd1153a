/** A guest's clock against this machine's, which the lab's hosts and shepherd share: seen from outside, by no agent. */
import type { GuestShell } from "@drover/shepherd/lab/guest-shell";
import type { Ms } from "@drover/shepherd/model/units";

const questions = 12;

/** How far it is ahead, at least and at most: every answer narrows it down, however slowly it came. */
export async function clockOffset(
  guest: GuestShell,
): Promise<{ readonly least: Ms; readonly most: Ms }> {
  let [least, most] = [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY];
  for (let attempt = 0; attempt < questions; attempt += 1) {
    const askedMs = Date.now();
    const text = await guest.read("adjtimex | grep time.tv_");
    const answeredMs = Date.now();
    const of = (field: string) => Number(new RegExp(`time\\.tv_${field}: +(\\d+)`).exec(text)?.[1]);
    const saidMs = of("sec") * 1000 + Math.floor(of("usec") / 1000);
    least = Math.max(least, saidMs - answeredMs);
    most = Math.min(most, saidMs - askedMs);
  }
  return { least, most };
}
