/**
 * The checker of a disk, inside a guest: a loop that writes numbered lines and remembers which of them the disk has
 * acknowledged. One writer always, no acknowledged write lost: whatever is done to the machine, the lines must tell so.
 */
import type { GuestShell } from "@drover/shepherd/lab/guest-shell";

export interface Inside {
  /** Changes when the guest is started anew. */
  readonly bootId: string;
  readonly acknowledged: number;
  /** Lines that are missing, twice, of another writer, or acknowledged and not there; empty when all is well. */
  readonly faults: readonly string[];
}

/** One write in each of these; quick enough to be in the middle of one at every blow. */
const pauseS = 0.05;

/** Shell: $boot is this boot's name. It begins with a letter: awk compares what looks like a number (564e0739) as one. */
const nameBoot = "boot=b$(cut -c1-8 /proc/sys/kernel/random/boot_id)";

/** Numbered lines, each synced before it counts as acknowledged in memory; every line carries the boot that wrote it. */
export async function startChecker(guest: GuestShell): Promise<void> {
  await guest.read(
    `[ -e /run/checker ] || { : >/run/checker; echo 0 >/run/acknowledged
${nameBoot}
( i=0; while :; do i=$((i+1)); echo "$i $boot" | dd of=/work/lines oflag=append conv=notrunc,fsync 2>/dev/null && echo $i >/run/acknowledged; sleep ${pauseS}; done ) >/dev/null 2>&1 & }`,
    { timeoutMs: 120_000 },
  );
}

/** From the disk itself: what memory holds of it is dropped first. */
export async function insideGuest(guest: GuestShell): Promise<Inside> {
  const said = await guest.read(
    // The loop empties that file before it writes the next number: an empty one is read again.
    `while acknowledged=$(cat /run/acknowledged); [ -z "$acknowledged" ]; do :; done; sync; echo 3 >/proc/sys/vm/drop_caches
${nameBoot}
awk -v boot=$boot '$1 != NR { print "line " NR " says " $1; bad++ } $2 != boot { print "line " NR " is of boot " $2; bad++ } bad > 3 { exit } END { print "lines " NR }' /work/lines
echo "acknowledged $acknowledged"; echo "boot $boot"`,
    { timeoutMs: 120_000 },
  );
  const lines = said.split("\n");
  const number = (key: string) =>
    Number(
      lines.find((line) => line.startsWith(`${key} `) && !line.includes("says"))?.split(" ")[1],
    );
  const acknowledged = number("acknowledged");
  const written = Number(lines.findLast((line) => /^lines \d+$/.test(line))?.split(" ")[1]);
  const faults = lines.filter((line) => /^line \d+ (says|is)/.test(line));
  if (written < acknowledged) faults.push(`${acknowledged} lines acknowledged, ${written} on disk`);
  return {
    bootId: lines.find((line) => line.startsWith("boot "))?.slice(5) ?? "",
    acknowledged,
    faults,
  };
}

/** What is wrong with a guest that was as `before` and should never have noticed anything; empty when all is well. */
export function wrongSince(before: Inside, after: Inside): readonly string[] {
  return [
    ...(after.bootId === before.bootId ? [] : ["the guest was started anew"]),
    ...(after.acknowledged >= before.acknowledged
      ? []
      : [`acknowledged ${before.acknowledged} before, ${after.acknowledged} now`]),
    ...after.faults,
  ];
}
