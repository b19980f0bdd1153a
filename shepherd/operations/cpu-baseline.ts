/**
 * The processor a machine starts with: the best that every host of the sites it may live at can give, so that it can be
 * moved to any of them as long as it runs. Asked of the hosts at each start, for hosts come and go; machines that run keep
 * what they were started with. A host that does not answer in time is left out: it takes the machine if it can, and
 * pre-flight says so when it cannot.
 */
import { isFault, toFaultData } from "#model/fault";
import type { Ms } from "#model/units";
import { withBudget } from "#operations/budget";
import type { MachineWorld } from "#operations/records";
import type { OperationWorld } from "#operations/step";

/** A start does not wait for silent hosts. */
const askBudgetMs: Ms = 10_000;

/** In the hypervisor's words; undefined: nobody could say, and the machine gets what its host has. */
export async function commonCpu(
  world: OperationWorld,
  { machine, environment }: Pick<MachineWorld, "machine" | "environment">,
): Promise<string | undefined> {
  const { baseline, envelope } = machine.spec;
  const lent = new Set(environment.spec.sites);
  const siteIds = new Set([
    baseline.siteId,
    machine.effective.siteId,
    ...(envelope.sites ?? []).filter((site) => lent.has(site)),
  ]);
  const hosts = world.fleet.filter(({ siteId }) => siteIds.has(siteId));
  const models = await Promise.all(
    hosts.map(({ id }) =>
      quietly(world, `the processor of ${id}`, () => world.hosts.get(id).guestCpu()),
    ),
  );
  const known = [...new Set(models.filter((model) => model !== undefined))];
  const here = machine.effective.hostId;
  if (known.length === 0 || here === "") return undefined;
  return quietly(world, "the processor in common", () => world.hosts.get(here).commonCpu(known));
}

async function quietly<T>(
  world: OperationWorld,
  what: string,
  ask: () => Promise<T>,
): Promise<T | undefined> {
  try {
    return await withBudget(world.clock, { what, budgetMs: askBudgetMs }, ask);
  } catch (error) {
    if (!isFault(error)) throw error;
    world.log.warn({ fault: toFaultData(error) }, `${what} is not known`);
    return undefined;
  }
}
