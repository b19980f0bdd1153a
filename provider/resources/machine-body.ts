/** What is sent to create a `drover_machine`, from a plan in which much may still be unknown. Pure. */
import type {
  MachineAdaptation,
  MachineBody,
  RangeBody,
  XmlPatch,
} from "@drover/shepherd/api/contract";
import { isUnknown, type Unknown } from "#schema/value";
import type { MachinePlan as Planned, StartFromState as StartFrom } from "./machine-attributes.ts";

/** `config` holds what stands in no plan. */
export function bodyOf(planned: Planned, config: Pick<Planned, "user_data_wo">): MachineBody {
  const { start_from } = planned;
  const start =
    start_from === null || isUnknown(start_from) || start_from.adaptation_id === ""
      ? null
      : (start_from as StartFrom);
  return {
    group: known(planned.group),
    speaker: planned.speaker === true,
    ...templateOf(planned),
    user_data: known(config.user_data_wo) ?? known(planned.user_data),
    site: known(planned.site),
    host: known(planned.host),
    networks: networksOf(planned.networks),
    disks: disksOf(planned.disks),
    start_from: start,
  };
}

/** What a machine and a group's template have in common. */
export type Template = Pick<
  Planned,
  | "class"
  | "image_id"
  | "vcpus"
  | "cpu_percent"
  | "cpu_weight"
  | "memory_mib"
  | "adaptation"
  | "ceiling"
  | "user_data"
  | "stop_timeout_s"
  | "deletion_protection"
  | "allow_restart"
  | "raw_xml_patch"
>;

export function templateOf(planned: Template) {
  return {
    class: known(planned.class),
    image_id: planned.image_id as string,
    vcpus: known(planned.vcpus),
    cpu_percent: known(planned.cpu_percent),
    cpu_weight: known(planned.cpu_weight),
    memory_mib: known(planned.memory_mib),
    adaptation: adaptationBody(planned.adaptation),
    ceiling: known(planned.ceiling) as MachineBody["ceiling"] & object,
    user_data: known(planned.user_data),
    stop_timeout_s: known(planned.stop_timeout_s),
    deletion_protection: planned.deletion_protection === true,
    allow_restart: planned.allow_restart === true,
    raw_xml_patch: patchesOf(planned.raw_xml_patch),
  } satisfies Partial<MachineBody>;
}

export function networksOf(networks: Planned["networks"]): MachineBody["networks"] {
  return knownItems(networks).map(({ network_id, address }) => ({
    network_id: network_id as string,
    address: known(address),
  }));
}

export function disksOf(disks: Planned["disks"]): { volume_id: string }[] {
  return knownItems(disks).map(({ volume_id }) => ({ volume_id: volume_id as string }));
}

export function patchesOf(patches: Planned["raw_xml_patch"]): XmlPatch[] | null {
  if (known(patches) === null) return null;
  return knownItems(patches).map(({ path, value }) => ({
    path: path as string,
    value: value as string,
  }));
}

/** The items of a list that are known themselves; none of a list that is not. */
export function knownItems<Item>(
  list: readonly (Item | Unknown)[] | Unknown | null,
): readonly Item[] {
  return (known(list) ?? []).filter((item): item is Item => !isUnknown(item));
}

/** The machine's own bounds; null where it says nothing and inherits all. */
export function adaptationBody(adaptation: Planned["adaptation"]): MachineAdaptation | null {
  const given = known(adaptation);
  if (given === null) return null;
  const { mode, vcpus, cpu_percent, memory_mib, sites, pinned_attributes } = given;
  return {
    mode: known(mode) as MachineAdaptation["mode"] & string,
    vcpus: known(vcpus) as RangeBody | null,
    cpu_percent: known(cpu_percent) as RangeBody | null,
    memory_mib: known(memory_mib) as RangeBody | null,
    sites: known(sites) as string[] | null,
    pinned_attributes: known(pinned_attributes) as MachineAdaptation["pinned_attributes"] & object,
  };
}

/** What the shepherd is to choose when it is not known. */
export function known<T>(value: T | Unknown | null): T | null {
  return isUnknown(value) ? null : (value as T | null);
}
