/**
 * The acts as a jest suite, for either world. An act begins where the one before it ended, so after a miss the rest is
 * told as not played.
 */
import { afterAll, beforeAll, test } from "@jest/globals";
import { acts } from "./acts.ts";
import { Story } from "./story.ts";
import { Timeline } from "./timeline.ts";

export function playAsSuite(options: {
  readonly world: "lab" | "simulated";
  readonly name: string;
}): void {
  const lines: string[] = [];
  const timeline = new Timeline((line) => {
    lines.push(line);
  });
  let story: Story | undefined;
  let broken: string | undefined;

  beforeAll(async () => {
    story = await Story.raise({ ...options, timeline });
  }, 180_000);

  afterAll(async () => {
    await story?.lower();
    process.stdout.write(`${lines.join("\n")}\n${timeline.summary()}\n`);
  }, 120_000);

  test.each(acts)(
    "$name",
    async ({ name, play }) => {
      if (broken !== undefined || story === undefined) {
        throw new Error(`not played: "${broken ?? "raising the world"}" failed`);
      }
      const playing = story;
      try {
        await timeline.act(name, () => play(playing));
      } catch (error) {
        broken = name;
        throw error;
      }
    },
    420_000,
  );
}
