/** E2 of `make bench-migration`: a whole environment to the other site, by us, by virsh one by one, by virsh all at once. */
import type { StepView } from "@drover/shepherd/api/contract";
import { type Ends, holdConnections } from "../../lab/held-connections.ts";
import type { MovingStage } from "../../lab/moving-stage.ts";
import { stepsOf, timed } from "./one-machine.ts";
import type { EnvironmentRun } from "./results.ts";
import { sentBytes, type Twin } from "./rival.ts";

type Seen = Omit<EnvironmentRun, "run">;

/** All of it from `from`, with a ring of connections that are held meanwhile. */
export async function ourEnvironment(
  stage: MovingStage,
  { from, site }: { readonly from: string; readonly site: string },
): Promise<Seen> {
  const talkers = stage.machines.map((machine, index) => ({
    guest: stage.rank(index),
    address: machine.networks[0]?.address ?? "",
  }));
  const connections = await holdConnections(talkers);
  const held = await connections.look();
  const before = await sentBytes(stage, from);
  const { answer, operation } = await stage.move({ site });
  if (operation === undefined) throw new Error(`refused: ${answer.message}`);
  const sent = (await sentBytes(stage, from)) - before;
  const after = await connections.untilHeardAnew();
  await connections.end();
  const { plan } = await stage.explain(operation.id);
  const steps = await stepsOf(stage, operation.id);
  return {
    who: "drover",
    ended: operation.state === "succeeded",
    tookMs: operation.measured?.duration_ms ?? Number.NaN,
    sentBytes: sent,
    splitMs: splitOf(steps),
    brokenConnections: after.filter((ends, index) => !isTheSame(ends, held[index])).length,
    longestSilenceMs: Math.max(...after.map(({ longestSilenceMs }) => longestSilenceMs)),
    predicted: plan?.cost,
    steps: timed(steps),
  };
}

export async function rivalEnvironment(
  stage: MovingStage,
  twins: readonly Twin[],
  way: {
    readonly who: "virsh one by one" | "virsh all at once";
    readonly to: string;
    readonly patienceMs: number;
  },
): Promise<Seen> {
  const from = twins[0]?.at() ?? "";
  const before = await sentBytes(stage, from);
  const startedMs = performance.now();
  const ends: number[] = [];
  const move = async (twin: Twin) => {
    const { ended } = await twin.move(way.to, way.patienceMs);
    ends.push(performance.now() - startedMs);
    return ended;
  };
  const ended: boolean[] = [];
  if (way.who === "virsh one by one") for (const twin of twins) ended.push(await move(twin));
  else ended.push(...(await Promise.all(twins.map(move))));
  return {
    who: way.who,
    ended: ended.every(Boolean),
    tookMs: performance.now() - startedMs,
    sentBytes: (await sentBytes(stage, from)) - before,
    splitMs: Math.max(...ends) - Math.min(...ends),
    brokenConnections: undefined,
    longestSilenceMs: undefined,
    predicted: undefined,
    steps: [],
  };
}

function isTheSame(after: Ends, before: Ends | undefined): boolean {
  return (
    after.wrong === "" &&
    after.sockets.join() === before?.sockets.join() &&
    after.pids.join() === before.pids.join()
  );
}

/** From the first machine that is over to the last. */
function splitOf(steps: readonly StepView[]): number {
  const ends = steps
    .filter(({ name }) => name.includes(": copy and switch"))
    .map(({ ended_at_ms }) => ended_at_ms ?? 0);
  return ends.length === 0 ? 0 : Math.max(...ends) - Math.min(...ends);
}
