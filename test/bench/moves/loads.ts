/**
 * What guests do while `make bench-migration` moves them: nothing, little as a web server does, or writing memory at a set
 * share of the line. The writer keeps its pace by the guest's own clock and says how much it really wrote.
 */
import type { GuestShell } from "@drover/shepherd/lab/guest-shell";

/** Share of the line's rate that the guest dirties. `web`: a twentieth, reading in between. */
export type Load = "idle" | "web" | number;

export interface RunningLoad {
  /** Ends it; MiB a second that it wrote since it began, by the guest's clock. */
  stop(): Promise<number>;
}

const diskWrittenMib = 12;
/** The writer goes round in so much memory; a round takes longer than any stop that is allowed. */
const arenaMib = 24;
const pageKib = 4;
const webShare = 0.05;
const ticksPerS = 10;
/** Each load ends by a file of its own: one that was not stopped is ended by the next, and cannot go on beside it. */
let begun = 0;

/** Something on its disk, and something in its memory that is not all zeros. */
export async function prepareGuest(guest: GuestShell): Promise<void> {
  await guest.read(
    [
      `head -c ${2 ** 20} /dev/urandom > /dev/shm/mib`,
      `for n in $(seq ${diskWrittenMib}); do cat /dev/shm/mib; done > /work/data; sync`,
      `for n in $(seq ${arenaMib}); do cat /dev/shm/mib; done > /dev/shm/arena`,
    ].join("\n"),
    { timeoutMs: 240_000 },
  );
}

export async function startLoad(
  guest: GuestShell,
  { load, bytesPerS }: { readonly load: Load; readonly bytesPerS: number },
): Promise<RunningLoad> {
  begun += 1;
  const goes = `/run/load-${begun}`;
  const wrote = `/run/wrote-${begun}`;
  await guest.read("rm -f /run/load-*");
  if (load === "idle") return { stop: async () => 0 };
  const share = load === "web" ? webShare : load;
  const pages = Math.max(1, Math.round((share * bytesPerS) / 1024 / pageKib / ticksPerS));
  const arenaPages = (arenaMib * 1024) / pageKib;
  // Hundredths of a second since the boot. Who is a second late does not catch up: that would be another rate.
  const loop = `
now() { read -r up rest < /proc/uptime; at=\${up%.*}\${up#*.}; }
now; start=$at; due=$at; page=0; n=0
while [ -e ${goes} ]; do
  dd if=/dev/shm/arena of=/dev/shm/arena bs=${pageKib * 1024} skip=$page seek=$page count=${pages} conv=notrunc 2>/dev/null
  ${load === "web" ? "cat /work/seed.bin > /dev/null" : ":"}
  n=$((n + 1)); page=$((page + ${pages})); [ $page -lt ${arenaPages - pages} ] || page=0
  due=$((due + ${100 / ticksPerS})); now
  [ $((at - due)) -lt 100 ] || due=$at
  [ $due -le $at ] || usleep $(((due - at) * 10000))
done
now; echo "$n $((at - start))" > ${wrote}`;
  await guest.read(
    `touch ${goes}; cat > /run/load.sh <<'LOAD'\n${loop}\nLOAD\n(sh /run/load.sh >/dev/null 2>&1 &); true`,
  );
  return {
    async stop() {
      const said = await guest.read(
        `rm -f ${goes}; while [ ! -s ${wrote} ]; do usleep 50000; done; cat ${wrote}`,
      );
      const [ticks = 0, hundredths = 0] = said.split(" ").map(Number);
      return (ticks * pages * pageKib) / 1024 / (hundredths / 100);
    },
  };
}
