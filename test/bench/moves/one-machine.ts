/** E1 of `make bench-migration`: one move of one machine, by us or by virsh, and what was seen of it. */
import { setTimeout as pause } from "node:timers/promises";
import type { StepView } from "@drover/shepherd/api/contract";
import type { GuestShell } from "@drover/shepherd/lab/guest-shell";
import type { MovingStage } from "../../lab/moving-stage.ts";
import type { Load } from "./loads.ts";
import type { MachineRun } from "./report.ts";
import { sentBytes, type Twin } from "./rival.ts";

/** What the writer did is known only when it has ended. */
export type Found = Omit<MachineRun, "run" | "wroteMibPerS">;

/** The ticker sees a stop at the next edge of the hardware clock's seconds. */
const tickerSettlesMs = 1_200;

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
  await pause(tickerSettlesMs);
  const before = await sentBytes(stage, from);
  const { answer, operation } = await stage.move({ machine: "rank-0", site: otherSite(from) });
  const sent = (await sentBytes(stage, from)) - before;
  await pause(tickerSettlesMs);
  const downtimeMs = await longestStop(guest);
  const pings = await peer.read("kill $(cat /run/pinger.pid); cat /run/pings");
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
  await pause(tickerSettlesMs);
  const before = await sentBytes(stage, from);
  const { ended, tookMs } = await twin.move(otherHost(from), cell.patienceMs);
  const sent = (await sentBytes(stage, from)) - before;
  await pause(tickerSettlesMs);
  return {
    who: "virsh",
    load: cell.load,
    rttMs: cell.rttMs,
    ended,
    why: ended ? undefined : "given up",
    tookMs,
    copyMs: undefined,
    sentBytes: sent,
    downtimeMs: await longestStop(twin.guest),
    peerSilenceMs: Number.NaN,
    predicted: undefined,
    measured: undefined,
    samples: 0,
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

function copyOf(steps: readonly StepView[]): number | undefined {
  const step = steps.find((one) => one.name.includes(": copy and switch"));
  return (step?.outcome as { readonly copy_ms?: number } | undefined)?.copy_ms;
}

async function longestStop(guest: GuestShell): Promise<number> {
  return Number((await guest.read("cat /run/ticker")).split(" ")[1]);
}
