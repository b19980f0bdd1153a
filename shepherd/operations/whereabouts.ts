/**
 * Where a machine is in the middle of a move, from what both hosts say and nothing else. Pure verdicts; asking is
 * `askBoth`. Rule: what did not answer is not gone, and nothing is started or removed on `unknown`.
 */
import type { HostId, MachineId, Ms } from "#model/units";
import { withBudget } from "#operations/budget";
import { isSilence, type OperationWorld } from "#operations/step";
import type { DomainState } from "#ports/host";

/** One host's answer. */
export type Answer = DomainState | "absent" | "silent";

export type Whereabouts =
  /** At the source, and not yet at the destination. paused: it was handed over and nobody took it. */
  | { readonly verdict: "running_here"; readonly paused: boolean }
  | { readonly verdict: "running_there" }
  | { readonly verdict: "both_suspected" }
  | { readonly verdict: "none" }
  | { readonly verdict: "unknown"; readonly why: string };

const askBudgetMs: Ms = 15_000;

export function whereabouts(source: Answer, destination: Answer): Whereabouts {
  const incoming = destination === "paused" || destination === "paused_migrating";
  const handedOver = source === "paused" || source === "paused_migrating";
  if (source === "running") {
    if (destination === "running") return { verdict: "both_suspected" };
    // The copy, or its roll-back, is under way: the hosts themselves will end it.
    if (incoming) return { verdict: "unknown", why: "a copy is still arriving" };
    return { verdict: "running_here", paused: false };
  }
  // A source that is silent cannot run it: it was suspended before the destination could resume.
  if (destination === "running") return { verdict: "running_there" };
  if (source === "silent") return { verdict: "unknown", why: "the source does not answer" };
  if (destination === "silent")
    return { verdict: "unknown", why: "the destination does not answer" };
  if (handedOver && destination === "absent") return { verdict: "running_here", paused: true };
  if (handedOver && incoming) return { verdict: "unknown", why: "the hosts are switching over" };
  return { verdict: "none" };
}

export interface Both {
  readonly source: Answer;
  readonly destination: Answer;
}

export async function askBoth(
  world: OperationWorld,
  machineId: MachineId,
  hosts: { readonly fromHostId: HostId; readonly toHostId: HostId },
): Promise<Both> {
  const [source, destination] = await Promise.all([
    ask(world, machineId, hosts.fromHostId),
    ask(world, machineId, hosts.toHostId),
  ]);
  return { source, destination };
}

export async function ask(
  world: OperationWorld,
  machineId: MachineId,
  hostId: HostId,
): Promise<Answer> {
  try {
    const domain = await withBudget(
      world.clock,
      { what: `question to ${hostId}`, budgetMs: askBudgetMs },
      () => world.hosts.get(hostId).findDomain(machineId),
    );
    return domain?.state ?? "absent";
  } catch (error) {
    if (!isSilence(error)) throw error;
    return "silent";
  }
}
