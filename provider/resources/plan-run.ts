/**
 * What one run of Terraform has told the shepherd of its plan, so that a shepherd that was started anew in its midst is
 * told again and judges the rest by the whole. Knows how to ask; what an answer means is plan-check's.
 */
import { ProblemError, type ShepherdClient } from "@drover/shepherd/api/client";
import type { PlanCheckAnswer, PlanCheckBody } from "@drover/shepherd/api/contract";

interface Told {
  /** Answered, in the order of the answers. */
  readonly bodies: PlanCheckBody[];
  /** Being told again, for all who wait for it. */
  again: Promise<void> | undefined;
}

const runs = new WeakMap<ShepherdClient, Map<string, Told>>();

/** Asks for a dry decision. `earlier` lets the shepherd notice that it has forgotten what it was told before. */
export async function askCheck(
  client: ShepherdClient,
  body: PlanCheckBody,
  signal: AbortSignal,
): Promise<PlanCheckAnswer> {
  const told = toldOf(client, body.run);
  const answer = await post(client, { ...body, earlier: told.bodies.length }, signal).catch(
    async (error: unknown) => {
      if (!(error instanceof ProblemError) || error.code !== "plan.forgotten") throw error;
      told.again ??= tellAgain(client, told.bodies, signal).finally(() => {
        told.again = undefined;
      });
      await told.again;
      return await post(client, { ...body, earlier: 0 }, signal);
    },
  );
  told.bodies.push(body);
  return answer;
}

async function tellAgain(
  client: ShepherdClient,
  bodies: readonly PlanCheckBody[],
  signal: AbortSignal,
): Promise<void> {
  for (const body of bodies.slice()) await post(client, { ...body, earlier: 0 }, signal);
}

function post(
  client: ShepherdClient,
  body: PlanCheckBody,
  signal: AbortSignal,
): Promise<PlanCheckAnswer> {
  return client.call<PlanCheckAnswer>("POST", "/v1/plan-checks", { body, signal });
}

function toldOf(client: ShepherdClient, run: string): Told {
  const all = runs.get(client) ?? new Map<string, Told>();
  runs.set(client, all);
  const told = all.get(run) ?? { bodies: [], again: undefined };
  all.set(run, told);
  return told;
}
