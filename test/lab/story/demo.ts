/**
 * `make demo`: raises a world, plays every act, prints the timeline and its figures, takes all down. Any miss is exit 1.
 *   node test/lab/story/demo.ts [--world lab|simulated] [--stay]
 * --stay leaves the lab and the shepherd running after the first two acts, to play with.
 */
import { parseArgs } from "node:util";
import { acts } from "./acts.ts";
import { Story } from "./story.ts";
import { Miss, Timeline } from "./timeline.ts";

const { values } = parseArgs({
  options: {
    world: { type: "string", default: "lab" },
    stay: { type: "boolean", default: false },
    acts: { type: "string" },
  },
});
const world = values.world === "simulated" ? "simulated" : "lab";
const name = process.env["DROVER_LAB"] ?? "lab";
const timeline = new Timeline();
let story: Story | undefined;
let failed = false;

async function lower(): Promise<void> {
  await story?.lower();
}
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => {
    timeline.say(`${signal}: taking the lab down`);
    void lower().finally(() => process.exit(130));
  });
}

try {
  story = await timeline.act(
    world === "lab"
      ? "Raise the lab: two sites, three hosts"
      : "Raise two simulated sites, three hosts",
    async () => await Story.raise({ world, name, timeline }),
  );
  const playing = story;
  const chosen = values.stay ? acts.slice(0, 2) : acts;
  for (const act of chosen) await timeline.act(act.name, async () => await act.play(playing));
} catch (error) {
  failed = true;
  timeline.say(
    error instanceof Miss
      ? `MISSED: ${error.message}`
      : `FAILED: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`,
  );
  if (story !== undefined) timeline.say(`the shepherd's last words:\n${story.shepherdLog(15)}`);
}
if (values.stay && !failed && story !== undefined) {
  timeline.say(`The lab and its shepherd stay. Try:
  export DROVER_ENDPOINT=unix:${story.world.socket}
  npx drover status
  npx drover lab exec rank-0 'drover-guest status'
and \`make clean-lab\` to remove all of it.`);
  process.exit(0);
}
await timeline.act("Take it down", lower);
console.log(timeline.summary());
process.exitCode = failed ? 1 : 0;
