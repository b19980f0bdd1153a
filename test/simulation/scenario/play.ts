/**
 * Plays a scenario on simulated hosts in virtual time, with a whole shepherd that may die and come back, and tells what
 * happened as a log that a person can judge. The same file and seed give the same bytes.
 */
import { acts } from "./acts.ts";
import type { ScenarioFile } from "./read.ts";
import { type Played, Stage } from "./stage.ts";

export type { Played } from "./stage.ts";

export async function playScenario(scenario: ScenarioFile, seed = 1): Promise<Played> {
  const stage = new Stage(scenario, seed);
  await stage.begin();
  for (const command of scenario.play) {
    await stage.until(command);
    const act = acts[command.verb];
    if (act === undefined) throw new Error(`no verb ${command.verb}`);
    await act(stage, command);
  }
  return await stage.end();
}
