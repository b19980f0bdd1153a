/**
 * The story, act by act. Every claim is checked where its truth is: inside the guests (lab), by the witness, and by the
 * real Terraform; a miss throws. Simulated guests have no inside, so there the same acts check what remains.
 */
import { crash } from "./acts/crash.ts";
import { declare, settleNeighbour } from "./acts/declare.ts";
import { explain, giveBack, leaveNothing } from "./acts/ending.ts";
import { askAsGroup } from "./acts/group.ts";
import { noRoomHere } from "./acts/no-room.ts";
import { siteSaysNo } from "./acts/owners.ts";
import { personSaysYes } from "./acts/people.ts";
import { foreignChange, planIsClean } from "./acts/plan.ts";
import { askTooMuch } from "./acts/too-much.ts";
import type { Story } from "./story.ts";

export interface Act {
  readonly name: string;
  readonly play: (story: Story) => Promise<void>;
}

export const acts: readonly Act[] = [
  { name: "0. A neighbour lives here already", play: settleNeighbour },
  { name: "1. Declare", play: declare },
  { name: "2. Ask and get, as a group", play: askAsGroup },
  { name: "3. Ask too much", play: askTooMuch },
  { name: "4. No room here", play: noRoomHere },
  { name: "5. A site says no", play: siteSaysNo },
  { name: "6. A person says yes", play: personSaysYes },
  { name: "7. Plan is clean", play: planIsClean },
  { name: "8. Foreign change shows", play: foreignChange },
  { name: "9. Crash", play: crash },
  { name: "10. Give back", play: giveBack },
  { name: "11. Explain", play: explain },
  { name: "12. Leave nothing", play: leaveNothing },
];
