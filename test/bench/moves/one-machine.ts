/** E1 of `make bench-migration`: one move of one machine, by us or by virsh, and what was seen of it. */
import { setTimeout as pause } from "node:timers/promises";
import type { StepView } from "@drover/shepherd/api/contract";
import type { MovingStage } from "../../lab/moving-stage.ts";
import { longestStopMs } from "../../lab/ticker.ts";
import type { Load } from "./loads.ts";
import type { MachineRun, TimedStep } from "./results.ts";
import { sentBytes, type Twin } from "./rival.ts";

/** What the writer did is known only when it has ended. */
export type Found = Omit<MachineRun, "run" | "wroteMibPerS">;

/** A reset is seen within a tenth of a second of the guest's, which may be a slow one. */
const resetMs = 1_200;

/** rank-0 to the other site, with rank-1 pinging it. */
export async function ourMove(
  stage: MovingStage,
  cell: { readonly load: Load; readonly rttMs: number },
): Promise<Found> {
  const [guest, peer] = [stage.rank(0), stage.rank(1)];
  const from = (await stage.machine(0)).effective.host;
  const address = stage.machines[0]?.networks[0]?.address ?? "";
  await guest.read("echo > /run/ticker.reset");
  await peer.read(
    `rm -f /run/pings; (pinger ${address} 100000 20 /run/pings >/dev/null 2>&1 & echo $! > /run/pinger.pid); true`,
  );
  await pause(resetMs);
  const before = await sentBytes(stage, from);
  const { answer, operation } = await stage.move({ machine: "rank-0", site: otherSite(from) });
  const sent = (await sentBytes(stage, from)) - before;
  // What was still on its way is heard as well.
  const pings = await peer.read("sleep 1; kill $(cat /run/pinger.pid); cat /run/pings");
  const downtimeMs = await longestStopMs(guest);
  // What is hopeless may be refused before it begins.
  const plan = operation === undefined ? null : (await stage.explain(operation.id)).plan;
  const steps = operation === undefined ? [] : await stepsOf(stage, operation.id);
  const [action] = plan?.actions ?? [];
  return {
    who: "drover",
    ...cell,
    ended: operation?.state === "succeeded",
    why: operation === undefined ? `refused: ${answer.code}` : operation.fault?.code,
    tookMs: operation?.measured?.duration_ms ?? Number.NaN,
    copyMs: copyOf(steps),
    sentBytes: sent,
    downtimeMs,
    peerSilenceMs: Number(pings.split(" ")[3] ?? Number.NaN),
    predicted: plan?.cost,
    measured: operation?.measured,
    samples: action?.kind === "move_machine" ? (action.basis?.samples ?? 0) : 0,
    steps: timed(steps),
  };
}

/** The twin, to the other site. */
export async function rivalMove(
  stage: MovingStage,
  twin: Twin,
  cell: { readonly load: Load; readonly rttMs: number; readonly patienceMs: number },
): Promise<Found> {
  const from = twin.at();
  await twin.guest.read("echo > /run/ticker.reset");
  await pause(resetMs);
  const before = await sentBytes(stage, from);
  const { ended, tookMs } = await twin.move(otherHost(from), cell.patienceMs);
  const sent = (await sentBytes(stage, from)) - before;
  return {
    who: "virsh",
    load: cell.load,
    rttMs: cell.rttMs,
    ended,
    why: ended ? undefined : "given up",
    tookMs,
    copyMs: undefined,
    sentBytes: sent,
    downtimeMs: await longestStopMs(twin.guest),
    peerSilenceMs: Number.NaN,
    predicted: undefined,
    measured: undefined,
    samples: 0,
    steps: [],
  };
}

export function otherSite(host: string): string {
  return host === "south-1" ? "north" : "south";
}
export function otherHost(host: string): string {
  return `${otherSite(host)}-1`;
}

export async function stepsOf(stage: MovingStage, operation: string): Promise<readonly StepView[]> {
  const { items } = await stage.client.get<{ items: StepView[] }>(
    `/v1/operations/${operation}/steps`,
  );
  return items;
}

export function timed(steps: readonly StepView[]): readonly TimedStep[] {
  return steps.map(({ name, started_at_ms, ended_at_ms, outcome }) => ({
    name,
    fromMs: started_at_ms ?? 0,
    toMs: ended_at_ms ?? 0,
    outcome,
  }));
}

function copyOf(steps: readonly StepView[]): number | undefined {
  const step = steps.find((one) => one.name.includes(": copy and switch"));
  return (step?.outcome as { readonly copy_ms?: number } | undefined)?.copy_ms;
}
