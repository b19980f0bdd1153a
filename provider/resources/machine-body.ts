/** What is sent to create a `drover_machine`, from a plan in which much may still be unknown. Pure. */
import type { MachineBody } from "@drover/shepherd/api/contract";
import { isUnknown, type Unknown } from "#schema/value";
import type {
  AdaptationState as Adaptation,
  MachinePlan as Planned,
  StartFromState as StartFrom,
  MachineState as State,
} from "./machine-attributes.ts";

export function bodyOf(planned: Planned): MachineBody {
  const { networks, start_from } = planned;
  const start =
    start_from === null || isUnknown(start_from) || start_from.adaptation_id === ""
      ? null
      : (start_from as StartFrom);
  return {
    group: known(planned.group),
    speaker: planned.speaker === true,
    class: known(planned.class),
    image_id: String(planned.image_id),
    vcpus: known(planned.vcpus),
    cpu_percent: known(planned.cpu_percent),
    memory_mib: known(planned.memory_mib),
    site: known(planned.site),
    adaptation: envelopeOf(planned.adaptation),
    networks: (networks as State["networks"]).map(({ network_id, address }) => ({
      network_id,
      address: known(address),
    })),
    start_from: start,
  };
}

export function envelopeOf(
  adaptation: Planned["adaptation"],
): (MachineBody["adaptation"] & object) | null {
  if (adaptation === null || isUnknown(adaptation)) return null;
  const { mode, vcpus, cpu_percent, memory_mib, sites } = adaptation as Adaptation;
  return {
    mode: (mode ?? "auto") as "auto",
    ...(vcpus === null ? {} : { vcpus }),
    ...(cpu_percent === null ? {} : { cpu_percent }),
    ...(memory_mib === null ? {} : { memory_mib }),
    ...(sites === null ? {} : { sites }),
  };
}

/** What the shepherd is to choose when it is not known. */
export function known<T>(value: T | Unknown | null): T | null {
  return isUnknown(value) ? null : (value as T | null);
}
