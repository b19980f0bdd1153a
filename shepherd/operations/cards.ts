/**
 * Network cards that come and go while their machine runs. The journal first, with old and new cards, so that both have
 * their bridges; then the cards; then the journal with what stays. A card that goes keeps its address until the last
 * moment, so that undoing always finds it free.
 */
import { Fault } from "#model/fault";
import type { Nic } from "#model/objects";
import type { PlanAction } from "#model/plan";
import type { HostId, MachineId } from "#model/units";
import { giveNics } from "#operations/declare";
import { domainSpecOf } from "#operations/domain-spec";
import { applyNetworks, type NetworkTargets } from "#operations/networks";
import { changeMachine, needMachine, needMachineWorld } from "#operations/records";
import type { Look, Step, StepContext, StepData } from "#operations/step";
import type { Journal } from "#ports/store";

/** Plugging is quick; a guest may take half a minute to let go, one card after the other. */
const cardsBudgetMs = 300_000;
const networkBudgetMs = 60_000;

/** What it had, journaled before anything is done; what undo goes back to. */
interface Before extends StepData {
  readonly nics: readonly Nic[];
}
/** What it is to have, journaled when the addresses were given. */
interface Given extends StepData {
  readonly nics?: readonly Nic[];
}

export function cardSteps(
  action: Extract<PlanAction, { kind: "set_networks" }>,
  name: string,
): readonly Step[] {
  return [
    {
      name: `${name}: ${action.networks.length} network cards`,
      machine: { id: action.machineId, state: "running" },
      budgetMs: cardsBudgetMs,
      weightMs: 700,
      observe: (context) => observe(context, action),
      async do(context) {
        const before = beforeOf(context);
        const nics = givenOf(context) ?? (await give(context, action, before));
        await become(context, action, { from: before, to: nics });
      },
      // The addresses of cards that are gone are free again.
      async commit(journal, context) {
        const given = givenOf(context);
        if (given !== undefined) await release(journal, beforeOf(context), given);
      },
      async undo(context) {
        const before = beforeOf(context);
        const given = givenOf(context);
        if (given === undefined) return;
        await become(context, action, { from: given, to: before });
        await applyNetworks(context, await ofEnvironment(context, action));
      },
      async revert(journal, context) {
        const given = givenOf(context);
        if (given !== undefined) await release(journal, given, beforeOf(context));
      },
    },
    {
      // Now that the new taps exist: filters and rates of their ports. What carried only old ones goes.
      name: `${name}: ports`,
      machine: { id: action.machineId, state: "running" },
      budgetMs: networkBudgetMs,
      weightMs: 100,
      undoNeedless: "putting the cards back applies their networks again",
      observe: async ({ phase }) => ({ verdict: phase === "after" ? "done" : "todo" }),
      do: async (context) => applyNetworks(context, await ofEnvironment(context, action)),
    },
  ];
}

async function observe(
  context: StepContext,
  action: Extract<PlanAction, { kind: "set_networks" }>,
): Promise<Look> {
  const { machineId, hostId } = action;
  const record = await context.read((journal) => needMachine(journal, machineId));
  const domain = await context.world.hosts.get(hostId).findDomain(machineId);
  const { nics } = record.effective;
  if (domain?.state !== "running" && context.phase === "before" && !context.resumed) {
    const state = domain?.state ?? "absent";
    throw new Fault("machine.not_running", { machine: record.spec.name, host: hostId, state });
  }
  const seen: Before = { nics };
  const given = givenOf(context);
  const gone = context.record === undefined ? [] : without(beforeOf(context), given ?? []);
  const macs = new Set(domain?.macs);
  const isDone =
    given !== undefined &&
    sameCards(nics, given) &&
    given.every(({ mac }) => macs.has(mac)) &&
    !gone.some(({ mac }) => macs.has(mac));
  return { verdict: isDone ? "done" : "todo", seen };
}

/** Addresses, MACs and names of what is new, held from here on. */
async function give(
  context: StepContext,
  { machineId, networks }: Extract<PlanAction, { kind: "set_networks" }>,
  has: readonly Nic[],
): Promise<readonly Nic[]> {
  const nowMs = context.world.clock.nowMs();
  const choose = async (journal: Journal) => {
    const { environmentId } = (await needMachine(journal, machineId)).spec;
    const spec = { environmentId, networks };
    return await giveNics(journal, { spec, id: machineId, nowMs, has });
  };
  const nics = await context.read(choose);
  const given: Given = { nics };
  await context.mark(given, async (journal) => {
    // Somebody may have been given one of them since.
    const still = new Set((await choose(journal)).map(({ address }) => address));
    for (const { networkId, address } of without(nics, has)) {
      if (!still.has(address)) {
        throw new Fault("network.address_in_use", { address, cidr: networkId, holder: "another" });
      }
      await journal.addresses.put({ networkId, address, machineId });
    }
  });
  return nics;
}

async function become(
  context: StepContext,
  { machineId, hostId }: Extract<PlanAction, { kind: "set_networks" }>,
  { from, to }: { readonly from: readonly Nic[]; readonly to: readonly Nic[] },
): Promise<void> {
  const gone = without(from, to);
  const networkIds = [...new Set([...from, ...to].map(({ networkId }) => networkId))];
  const put = (nics: readonly Nic[]) =>
    context.mark({}, (journal) =>
      changeMachine(journal, machineId, context.world.clock.nowMs(), { nics }),
    );
  const host = context.world.hosts.get(hostId);

  await put([...to, ...gone]);
  // A card is connected to its bridge while it is plugged: the bridge must be there before.
  await applyNetworks(context, { required: [hostId], networkIds });
  const domain = await host.findDomain(machineId);
  // What does not run any more is started with what the journal says.
  if (domain?.state === "running") await plug(context, { machineId, hostId, gone, to });
  await put(to);
}

/** All networks of its environment: also those that it has left. */
async function ofEnvironment(
  context: StepContext,
  { machineId, hostId }: Extract<PlanAction, { kind: "set_networks" }>,
): Promise<NetworkTargets> {
  const networks = await context.read(async (journal) => {
    const { environmentId } = (await needMachine(journal, machineId)).spec;
    return await journal.objects.list("network", { environmentId });
  });
  return { required: [hostId], networkIds: networks.map(({ id }) => id) };
}

async function plug(
  context: StepContext,
  of: {
    readonly machineId: MachineId;
    readonly hostId: HostId;
    readonly gone: readonly Nic[];
    readonly to: readonly Nic[];
  },
): Promise<void> {
  const { machineId, hostId, gone, to } = of;
  const host = context.world.hosts.get(hostId);
  const there = new Set((await host.findDomain(machineId))?.macs);
  const cards = await context.read(async (journal) => {
    const world = await needMachineWorld(journal, machineId);
    return domainSpecOf(world, await journal.objects.list("network"), context.world.epoch).nics;
  });
  for (const card of cards) {
    const stays = to.some(({ mac }) => mac === card.mac);
    if (stays && !there.has(card.mac)) await host.attachNic(machineId, card);
  }
  for (const { mac } of gone) await host.detachNic(machineId, mac);
}

async function release(journal: Journal, from: readonly Nic[], to: readonly Nic[]): Promise<void> {
  for (const { networkId, address } of without(from, to)) {
    await journal.addresses.remove(networkId, address);
  }
}

function beforeOf({ record }: StepContext): readonly Nic[] {
  return (record?.observed as Before | undefined)?.nics ?? [];
}

function givenOf({ record }: StepContext): readonly Nic[] | undefined {
  return (record?.outcome as Given | undefined)?.nics;
}

/** The cards of `nics` that are not among the others. */
function without(nics: readonly Nic[], others: readonly Nic[]): readonly Nic[] {
  return nics.filter(({ mac }) => !others.some((other) => other.mac === mac));
}

function sameCards(nics: readonly Nic[], others: readonly Nic[]): boolean {
  return nics.length === others.length && nics.every(({ mac }, at) => mac === others[at]?.mac);
}
