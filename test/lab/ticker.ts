/** Reads what a guest's ticker (shepherd/lab/guest/ticker.c) knows of stops that the guest's own clock does not show. */
import type { GuestShell } from "@drover/shepherd/lab/guest-shell";

/** The edge of the hardware clock that tells of a stop, four that tell its length, one that was on its way. */
const settlesEdges = 6;

/**
 * Longest stop since /run/ticker.reset was touched, ms; 0: less than it can tell from noise, -1: no hardware clock. Waits
 * until the ticker knows how long a stop of just now was: read at once it says 0, or too little.
 */
export async function longestStopMs(guest: GuestShell): Promise<number> {
  const said = await guest.read(`read -r gap stop total ticks first < /run/ticker
seconds=$first
while [ "$seconds" -lt $((first + ${settlesEdges})) ]; do usleep 200000; read -r gap stop total ticks seconds < /run/ticker; done
echo $stop`);
  return Number(said);
}
