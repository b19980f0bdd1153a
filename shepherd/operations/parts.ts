/**
 * Image parts on hosts: placed once per host under their content's name, kept while any machine uses the image, swept
 * from all hosts with the last one. Knows files and volumes, not machines' disks.
 */
import { toFaultData } from "#model/fault";
import type { HostId, MachineId, Ms } from "#model/units";
import { withBudget } from "#operations/budget";
import {
  baseVolume,
  type ImagePart,
  imageParts,
  machineParts,
  seedParts,
} from "#operations/domain-spec";
import { imagesOfKeptDisks } from "#operations/keep-disk";
import { type MachineWorld, needMachineWorld } from "#operations/records";
import type { Look, Step, StepContext } from "#operations/step";

/** A base of some GiB over a slow line; progress shows that it goes on. */
const uploadBudgetMs: Ms = 30 * 60_000;
const sweepBudgetMs: Ms = 15_000;

export function placePartsStep(of: { machineId: MachineId; name: string; hostId: HostId }): Step {
  const partsOf = (context: StepContext) =>
    context.read(async (journal) => machineParts(await needMachineWorld(journal, of.machineId)));
  return {
    name: `${of.name}: image on ${of.hostId}`,
    budgetMs: uploadBudgetMs,
    weightMs: 1_000,
    undoNeedless: "parts are shared and swept with the last machine of their image",
    async observe(context): Promise<Look> {
      const { volumes } = context.world.hosts.get(of.hostId);
      const missing: string[] = [];
      for (const part of await partsOf(context)) {
        if ((await volumes.find(part.volume)) === undefined) missing.push(part.volume);
      }
      return missing.length === 0 ? { verdict: "done" } : { verdict: "todo", seen: { missing } };
    },
    do: async (context) => placeParts(context, of.hostId, await partsOf(context)),
  };
}

/** Those that are not there yet. */
export async function placeParts(
  context: StepContext,
  hostId: HostId,
  parts: readonly ImagePart[],
): Promise<{ readonly bytes: number }> {
  const { volumes } = context.world.hosts.get(hostId);
  const { images } = context.world;
  let bytes = 0;
  for (const part of parts) {
    // Two machines of one image may start here at once: the second finds the first one's part.
    await context.exclusives(`part ${hostId} ${part.volume}`, async () => {
      if ((await volumes.find(part.volume)) !== undefined) return;
      const { content } = part;
      const sizeBytes = content?.length ?? (await images.sizeBytes(part.source));
      await volumes.upload({
        name: part.volume,
        format: part.format,
        sizeBytes,
        capacityBytes: part.capacityBytes ?? sizeBytes,
        open: () => (content === undefined ? images.open(part.source) : [content]),
        onProgress: (done) =>
          context.progress(done / Math.max(1, sizeBytes), `placing ${part.volume} on ${hostId}`),
      });
      bytes += sizeBytes;
    });
  }
  return { bytes };
}

/**
 * Removes the image's parts from every host when no machine is left that uses them. A host that does not answer keeps
 * them: files of a known name harm nobody.
 */
export async function sweepParts(
  context: StepContext,
  of: MachineWorld,
): Promise<{ swept: number }> {
  const { world } = context;
  const leaving = of.machine.id;
  const parts = machineParts(of);
  let swept = 0;
  await Promise.all(
    world.fleet.map(async ({ id }) => {
      try {
        await withBudget(
          world.clock,
          { what: `sweep of ${id}`, budgetMs: sweepBudgetMs },
          async () => {
            const { volumes } = world.hosts.get(id);
            for (const { volume } of parts) {
              // Asked under the part's lock: a machine that is being created has its record already.
              await context.exclusives(`part ${id} ${volume}`, async () => {
                if ((await usedParts(context, leaving)).has(volume)) return;
                if ((await volumes.find(volume)) === undefined) return;
                await volumes.remove(volume);
                swept += 1;
              });
            }
          },
        );
      } catch (error) {
        world.log.warn({ host: id, fault: toFaultData(error) }, "parts stay on a host");
      }
    }),
  );
  return { swept };
}

/** Volumes of parts that other machines' images have. */
function usedParts(context: StepContext, leaving: MachineId): Promise<ReadonlySet<string>> {
  return context.read(async (journal) => {
    const images = new Map(
      (await journal.objects.list("image")).map((record) => [record.id, record]),
    );
    const used = new Set<string>((await imagesOfKeptDisks(journal)).map(baseVolume));
    for (const machine of await journal.objects.list("machine")) {
      const image = images.get(machine.spec.imageId);
      if (machine.id === leaving) continue;
      for (const part of seedParts(machine)) used.add(part.volume);
      if (image === undefined) continue;
      for (const part of imageParts(image)) used.add(part.volume);
    }
    return used;
  });
}
