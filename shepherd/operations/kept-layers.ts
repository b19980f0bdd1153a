/**
 * What a failed move left at its destination for a retry, and for how long: the layer it shipped, whole or in parts, marked
 * as not whole. Derived from what the host says (the file's own time), never remembered; pure.
 */
import type { LitterItem } from "#model/plan";
import type { MachineId, Ms } from "#model/units";
import type { PartialVolume } from "#ports/host";

/** A retry comes within minutes, or after somebody mended something; a day later the layer is another one. */
export const keptLayerMs: Ms = 24 * 3_600_000;

/** A machine's layer; a part of an image, which has a digest for its name, is begun anew by whoever needs it. */
const layerName = /^drover-(?![0-9a-f]{64}\.)(.+)\.qcow2$/;

/** Kept layers that nobody came back for. Those of machines at work stay: their move may be on its way. */
export function expiredLayers(
  partial: readonly PartialVolume[],
  at: { readonly nowMs: Ms; readonly busy: ReadonlySet<MachineId> },
): readonly LitterItem[] {
  return partial.flatMap(({ name, touchedAtMs }): LitterItem[] => {
    const machineId = layerName.exec(name)?.[1];
    if (machineId === undefined || at.busy.has(machineId)) return [];
    if (at.nowMs - touchedAtMs < keptLayerMs) return [];
    return [{ kind: "volume", id: name, because: "expired", machineId }];
  });
}
