/**
 * Lines that tell how far an operation is: phase, percent, rate and time left. They go to Terraform's log, and to the file
 * that DROVER_PROGRESS names (`/dev/tty` shows them at once: Terraform itself has no place for them).
 */
import { appendFileSync } from "node:fs";
import type { OperationView } from "@drover/shepherd/api/contract";
import type { Work } from "#schema/resource";

/** Makes a teller for one change; `what` opens each line: `create machine "rank-0"`. */
export function progressTeller(
  work: Pick<Work, "log">,
  what: string,
  nowMs: () => number = () => performance.now(),
): (operation: Pick<OperationView, "id" | "state" | "progress">) => void {
  let first: { readonly atMs: number; readonly percent: number } | undefined;
  return ({ id, state, progress }) => {
    const { percent, message } = progress;
    first ??= { atMs: nowMs(), percent };
    const pace = paceOf(first, { atMs: nowMs(), percent });
    const line = `${what}: ${percent} % ${message}${state === "running" ? pace : ""}`;
    work.log(line, { operation: id, state });
    show(work, line);
  };
}

/** `, 12 %/s, about 4 s left`; empty while nothing can be said. */
export function paceOf(
  first: { readonly atMs: number; readonly percent: number },
  now: { readonly atMs: number; readonly percent: number },
): string {
  const percentPerS = ((now.percent - first.percent) * 1000) / (now.atMs - first.atMs);
  if (!Number.isFinite(percentPerS) || percentPerS <= 0 || now.percent >= 100) return "";
  const leftS = (100 - now.percent) / percentPerS;
  return `, ${Number(percentPerS.toPrecision(2))} %/s, about ${Math.ceil(leftS)} s left`;
}

let broken = false;

/** Also what is no progress but must reach the user while an apply waits: whom it waits for. */
export function show(work: Pick<Work, "log">, line: string): void {
  const file = process.env["DROVER_PROGRESS"];
  if (file === undefined || file === "" || broken) return;
  try {
    appendFileSync(file, `drover: ${line}\n`);
  } catch (error) {
    broken = true; // said once; progress must not fail an apply
    work.log(`DROVER_PROGRESS: ${file} cannot be written: ${String(error)}`);
  }
}
