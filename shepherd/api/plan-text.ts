/** A plan in words for people: what each action does, with the names of what it does it to, and what it is predicted to cost. */
import { nameOfLink } from "#model/objects";
import type { Plan, PlanAction } from "#model/plan";
import type { Journal } from "#ports/store";

/** One line an action, and the cost. An object that is gone keeps the beginning of its id. */
export async function planText(journal: Journal, plan: Plan): Promise<string[]> {
  const { environmentId } = plan;
  const names = new Map<string, string>();
  for (const { id, spec } of await journal.objects.list("machine", { environmentId })) {
    names.set(id, spec.name);
  }
  for (const { id, spec } of await journal.objects.list("volume", { environmentId })) {
    names.set(id, spec.name);
  }
  for (const { id, spec } of await journal.objects.list("link", { environmentId })) {
    names.set(id, nameOfLink(spec));
  }
  // What the plan is to create is no record yet; its request names it.
  const request = await journal.requests.get(plan.requestId);
  for (const { id, spec } of request?.declares?.machines ?? []) names.set(id, spec.name);
  for (const { id, spec } of request?.declares?.links ?? []) names.set(id, nameOfLink(spec));
  const { durationMs, bytes, downtimeMs } = plan.cost;
  return [
    ...(plan.actions.length === 0
      ? ["nothing live has to change"]
      : plan.actions.map((action) => renderAction(action, names))),
    `predicted ${(durationMs / 1000).toFixed(2)} s, ${(bytes / 2 ** 20).toFixed(0)} MiB copied, ${Math.round(downtimeMs)} ms down`,
  ];
}

export function renderAction(action: PlanAction, names: ReadonlyMap<string, string>): string {
  const name = (id: string) => names.get(id) ?? short(id);
  switch (action.kind) {
    case "create_machine":
      return `create ${name(action.machineId)} on ${action.siteId}/${action.hostId}`;
    case "move_machine":
      return `move ${name(action.machineId)} from ${action.fromSiteId}/${action.fromHostId} to ${action.toSiteId}/${action.toHostId}`;
    case "restart_machine":
      return `restart ${name(action.machineId)} on ${action.hostId}`;
    case "set_networks":
      return `network cards of ${name(action.machineId)} on ${action.hostId}: ${action.networks.length}`;
    case "set_memory":
      return `memory of ${name(action.machineId)} from ${action.fromMib} to ${action.toMib} MiB`;
    case "set_vcpus":
      return `vCPUs of ${name(action.machineId)} from ${action.from} to ${action.to}`;
    case "set_cpu_percent":
      return `CPU of ${name(action.machineId)} from ${action.from} to ${action.to} %`;
    case "set_cpu_weight":
      return `CPU weight of ${name(action.machineId)} from ${action.from} to ${action.to}`;
    case "set_rate":
      return `rate of ${name(action.linkId)} from ${action.fromMbps} to ${action.toMbps} Mbit/s`;
    case "apply_network":
      return `network of ${action.hostIds.join(", ")}`;
    case "sweep_host":
      return `remove ${action.litter.length} left-over objects from ${action.hostId}`;
    case "grow_volume":
      return `grow volume ${name(action.volumeId)} on ${action.hostId} from ${action.fromGib} to ${action.toGib} GiB`;
    case "remove_volume":
      return `remove volume ${name(action.volumeId)} from ${action.hostId}`;
    case "destroy_machine":
      return `destroy ${name(action.machineId)} on ${action.hostId}${action.keepDisk === true ? ", its disk stays" : ""}`;
  }
}

function short(text: string): string {
  return text.slice(0, 12);
}
