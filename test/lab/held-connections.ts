/**
 * TCP connections between guests, each machine to its next, held over whatever happens to the machines meanwhile, and
 * what is known of them inside the guests: whose ends they are, what was heard in which order, and the longest silence.
 * Nothing here ever connects anew; so the same processes with the same sockets are the same connections.
 * Needs guests of the lab (busybox: ash, nc) and their addresses, and knows nothing of moves.
 */
import { setTimeout as pause } from "node:timers/promises";
import type { GuestShell } from "@drover/shepherd/lab/guest-shell";

export interface Talker {
  readonly guest: GuestShell;
  readonly address: string;
}
/** One machine's two ends: of the connection to its next, and of the one from its former. */
export interface Ends {
  /** Programs that hold an end. */
  readonly pids: readonly string[];
  /** `local remote inode` of each established connection, as the guest's kernel lists it. */
  readonly sockets: readonly string[];
  /** Lines heard so far, the last of them with its own number. */
  readonly heard: number;
  /** Between two lines, by the listening guest's clock: its own stops are not in it. */
  readonly longestSilenceMs: number;
  /** What is wrong: an end that closed, a line out of its turn. Empty: nothing. */
  readonly wrong: string;
}
export interface HeldConnections {
  look(): Promise<readonly Ends[]>;
  /** Waits until each has heard a line that was said after this call. */
  untilHeardAnew(): Promise<readonly Ends[]>;
  end(): Promise<void>;
}

const port = 7300;
const hexPort = port.toString(16).toUpperCase();
const folder = "/run/talk";

/**
 * Both ends' standard input stays open (here by a pipe that nobody writes): busybox's nc says goodbye to its peer as soon
 * as its own input has ended, and the shell gives /dev/null to whatever it puts into the background.
 */
const hearing = `rm -rf ${folder}; mkdir -p ${folder}; cd ${folder}; : > wrong; : > heard; mkfifo open
hear() {
  n=0; longest=0; before=0
  while read -r said; do
    read -r up rest < /proc/uptime
    now=\${up%.*}\${up#*.}
    n=$((n + 1))
    [ "$said" = "$n" ] || echo "$said came in place of $n" >> wrong
    [ $before = 0 ] || [ $((now - before)) -le $longest ] || longest=$((now - before))
    before=$now
    echo "$n $((longest * 10))" > heard
  done
}
({ nc -l -p ${port} <> open; echo "the end that listens closed" >> wrong; } | hear) >/dev/null 2>&1 &
true`;

const speaking = (address: string) => `cd ${folder}
({ n=0; while [ ! -e enough ]; do n=$((n + 1)); echo $n; sleep 0.2; done; } | { nc ${address} ${port} >/dev/null; echo "the end that speaks closed" >> wrong; }) >/dev/null 2>&1 &
true`;

const looking = `cd ${folder}; pidof nc; echo --; cat /proc/net/tcp /proc/net/tcp6 2>/dev/null; echo --; cat heard; echo --; cat wrong`;

/** Joins them to a ring. Resolves when each hears its former. */
export async function holdConnections(talkers: readonly Talker[]): Promise<HeldConnections> {
  const everywhere = <T>(work: (talker: Talker, index: number) => Promise<T>) =>
    Promise.all(talkers.map(work));
  await everywhere(({ guest }) => guest.read(hearing));
  // Who is called before it listens would refuse, and nobody calls twice.
  await everywhere(({ guest }) =>
    until(async () => (await guest.read(looking)).includes(`:${hexPort} `) || undefined),
  );
  await everywhere(({ guest }, index) =>
    guest.read(speaking(talkers[(index + 1) % talkers.length]?.address ?? "")),
  );
  const look = () => everywhere(({ guest }) => endsIn(guest));
  const hasHeard = (guest: GuestShell, more: number) =>
    until(async () => {
      const ends = await endsIn(guest);
      return ends.heard > more || ends.wrong !== "" ? ends : undefined;
    });
  await everywhere(({ guest }) => hasHeard(guest, 0));
  return {
    look,
    async untilHeardAnew() {
      // A line that its speaker has said already may still be on its way: those come first.
      const before = await look();
      return everywhere(({ guest }, index) => hasHeard(guest, (before[index]?.heard ?? 0) + 5));
    },
    async end() {
      await everywhere(({ guest }) => guest.read(`touch ${folder}/enough; killall nc; true`));
    },
  };
}

async function endsIn(guest: GuestShell): Promise<Ends> {
  for (;;) {
    const [pids, sockets, heard, wrong] = (await guest.read(looking)).split(/^--$/m);
    const figures = (heard ?? "").trim().split(" ");
    // Caught between its emptying and its writing: look again.
    if (figures.length !== 2 && (heard ?? "").trim() !== "") continue;
    const [lines = 0, longestSilenceMs = 0] = figures.map(Number);
    return {
      pids: (pids ?? "").trim().split(/\s+/).toSorted(),
      sockets: establishedIn(sockets ?? ""),
      heard: lines,
      longestSilenceMs,
      wrong: (wrong ?? "").trim(),
    };
  }
}

/** Of the kernel's table; state 01 is an established connection. */
function establishedIn(table: string): readonly string[] {
  return table
    .split("\n")
    .map((line) => line.trim().split(/\s+/))
    .filter(([, local, remote, state]) => {
      const isOurs = [local, remote].some((end) => end?.endsWith(`:${hexPort}`));
      return isOurs && state === "01";
    })
    .map((fields) => [fields[1], fields[2], fields[9]].join(" "))
    .toSorted();
}

/** The test's own time limit is the only one. */
async function until<T>(look: () => Promise<T | undefined>): Promise<T> {
  for (;;) {
    const seen = await look();
    if (seen !== undefined) return seen;
    await pause(300);
  }
}
