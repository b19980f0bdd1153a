/**
 * Takes away what others may still name: Terraform destroys side by side what does not refer to each other, so what stands
 * in the way is often going just now. Asked again until the verb's time is over; then it is told who is left.
 */
import { setTimeout as pause } from "node:timers/promises";
import { ProblemError } from "@drover/shepherd/api/client";
import type { Work } from "#schema/resource";
import { type Failing, reportError } from "./problems.ts";

const againMs = 1_000;

/** Resolves when it is gone, also when it was gone before; else an error was reported. */
export async function removeWhenFree(work: Work, path: string, failing: Failing): Promise<void> {
  const { client, signal } = work;
  for (;;) {
    try {
      await client.call("DELETE", path);
      return;
    } catch (error) {
      const isUsed = error instanceof ProblemError && error.code === "object.in_use";
      if (error instanceof ProblemError && error.status === 404) return;
      if (!isUsed || signal.aborted) return reportError(work, error, failing);
      work.log(`${failing.what}: ${error.problem.detail}; trying again`);
    }
    await pause(againMs, undefined, { signal }).catch(() => undefined); // over: one last try tells who is left
  }
}
