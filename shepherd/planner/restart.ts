/**
 * What of a machine's specification only its next start puts in force: what it is booted able to reach, user data, XML
 * patches, data volumes. Pure: compares the specification with what the machine was started with; plans nothing.
 */
import { digestOf } from "#model/canonical";
import type { MachineEffective, MachineSpec, Started } from "#model/objects";
import { ceilingOf } from "#planner/target";

export const restartAttributes = ["ceiling", "user_data", "raw_xml_patch", "disks"] as const;
export type RestartAttribute = (typeof restartAttributes)[number];

/** What a machine that starts now with this specification has in force. */
export function startedOf(spec: MachineSpec): Started {
  return {
    userData: spec.userData,
    xmlPatches: spec.xmlPatches ?? [],
    disks: spec.disks ?? [],
  };
}

/**
 * Declared, but not in force before the next start; empty when it was never started. A lowered ceiling is none: what a
 * machine could reach beyond its word, its envelope keeps it from.
 */
export function restartNeeded(machine: {
  readonly spec: MachineSpec;
  readonly effective: MachineEffective;
}): readonly RestartAttribute[] {
  const { spec, effective } = machine;
  if (effective.hostId === "" || spec.origin === "import") return [];
  const wanted = ceilingOf(spec);
  const { ceiling } = effective;
  const before: Started = effective.started ?? { disks: [] };
  const after = startedOf(spec);
  const changed: Record<RestartAttribute, boolean> = {
    ceiling: wanted.vcpus > ceiling.vcpus || wanted.memoryMib > ceiling.memoryMib,
    user_data: before.userData !== after.userData,
    raw_xml_patch: digestOf(before.xmlPatches ?? []) !== digestOf(after.xmlPatches),
    disks: digestOf(before.disks) !== digestOf(after.disks),
  };
  return restartAttributes.filter((attribute) => changed[attribute]);
}
