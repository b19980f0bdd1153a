/**
 * Removes litter from one host, item by item. What was litter when a person looked may not be any more: each item is
 * judged again right before it goes, by the journal and by the hosts, and silence keeps it. Nothing to undo.
 */
import { Fault } from "#model/fault";
import type { LitterItem, PlanAction } from "#model/plan";
import type { HostId, VolumeId } from "#model/units";
import { expiredLayers } from "#operations/kept-layers";
import type { Look, Step, StepContext } from "#operations/step";
import { hasVolume } from "#operations/volumes";
import { ask } from "#operations/whereabouts";

const sweepBudgetMs = 60_000;

export function sweepSteps(action: Extract<PlanAction, { kind: "sweep_host" }>): readonly Step[] {
  const { hostId } = action;
  return action.litter.map((item) => ({
    name: `${hostId}: remove ${item.kind} ${item.id}`,
    budgetMs: sweepBudgetMs,
    weightMs: 200,
    onFault: "go_on",
    undoNeedless: "nobody's",
    async observe(context): Promise<Look> {
      return { verdict: (await isThere(context, hostId, item)) ? "todo" : "done" };
    },
    async do(context) {
      await mustBeLitter(context, hostId, item);
      const host = context.world.hosts.get(hostId);
      if (item.kind === "domain") await host.stopDomain(item.id, { graceMs: 0 });
      else await host.volumes.remove(item.id);
    },
  }));
}

async function isThere(context: StepContext, hostId: HostId, item: LitterItem): Promise<boolean> {
  const host = context.world.hosts.get(hostId);
  if (item.because === "expired") return (await host.volumes.listPartial()).some(isIt(item));
  const found =
    item.kind === "domain" ? await host.findDomain(item.id) : await host.volumes.find(item.id);
  return found !== undefined;
}

/** A data volume's file is a left-over only where the volume is not at home, and home has it. Undefined: it is one. */
async function whyNoCopy(
  context: StepContext,
  hostId: HostId,
  { id, name }: { readonly id: VolumeId; readonly name: string },
): Promise<string | undefined> {
  const { hosts } = context.world;
  const { record, isBusy } = await context.read(async (journal) => {
    const machines = (await journal.objects.list("machine")).filter((one) => hasVolume(one, id));
    const open = await journal.operations.list({
      states: ["pending", "running", "undoing", "stuck"],
    });
    return {
      record: await journal.objects.get("volume", id),
      isBusy: machines.some((one) => open.some(({ machineIds }) => machineIds.includes(one.id))),
    };
  });
  const home = record?.effective.hostId ?? "";
  if (home === "") return "the journal does not know where the volume lies";
  if (home === hostId) return "the volume lies here";
  if (isBusy) return "an operation is at its machine";
  const domains = await hosts.get(hostId).listDomains();
  const user = domains.find(({ diskVolumes = [] }) => diskVolumes.includes(name));
  if (user !== undefined) return `${user.name} uses it`;
  const found = await hosts.get(home).volumes.find(name);
  return found === undefined ? `${home}, where the volume lies, does not have it` : undefined;
}

function isIt(item: LitterItem) {
  return ({ name }: { readonly name: string }) => name === item.id;
}

/** Fault `sweep.not_litter` says what it has become. */
async function mustBeLitter(context: StepContext, hostId: HostId, item: LitterItem): Promise<void> {
  const refuse = (problem: string) =>
    new Fault("sweep.not_litter", { host: hostId, object: `${item.kind} ${item.id}`, problem });
  if (item.volumeId !== undefined) {
    const problem = await whyNoCopy(context, hostId, { id: item.volumeId, name: item.id });
    if (problem !== undefined) throw refuse(problem);
    return;
  }
  const { machineId } = item;
  const { record, open } = await context.read(async (journal) => ({
    record: machineId && (await journal.objects.get("machine", machineId)),
    open:
      machineId === undefined
        ? []
        : await journal.operations.list({
            states: ["pending", "running", "undoing", "stuck"],
            machineId,
          }),
  }));
  if (open.length > 0) throw refuse("an operation is at its machine");
  if (item.because === "expired") {
    const kept = (await context.world.hosts.get(hostId).volumes.listPartial()).filter(isIt(item));
    const expired = expiredLayers(kept, { nowMs: context.world.clock.nowMs(), busy: new Set() });
    if (expired.length === 0) throw refuse("a move came back for it");
    return;
  }
  if (record?.effective.hostId === hostId) throw refuse("it is the machine's own");
  if (item.because === "unknown") {
    if (record !== undefined) throw refuse("the journal knows its machine now");
    if (machineId !== undefined && (await ask(context.world, machineId, hostId)) === "running") {
      throw refuse("it runs");
    }
  } else {
    if (record === undefined) throw refuse("its machine is gone from the journal");
    const home = await ask(context.world, record.id, record.effective.hostId);
    if (home !== "running") throw refuse(`its own host says ${home}`);
  }
  if (item.kind === "volume" && machineId !== undefined) {
    const domain = await ask(context.world, machineId, hostId);
    if (domain !== "absent" && domain !== "shut_off") throw refuse(`a domain there is ${domain}`);
  }
}
