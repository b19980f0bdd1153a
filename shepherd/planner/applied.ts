/**
 * The fleet as it would be after a plan: what a dry run of several changes stands on, one after the other. Pure.
 * A created machine counts at its host from then on, a destroyed one no more.
 */
import type { Facts } from "#model/facts";
import type { MachineRecord } from "#model/objects";
import type { Plan } from "#model/plan";
import type { Request } from "#model/request";
import { withDeclared } from "#planner/declared";
import { specOf } from "#planner/target";

export function applied(facts: Facts, request: Request, plan: Pick<Plan, "actions">): Facts {
  const declared = withDeclared(facts, request);
  const gone = new Set<string>();
  const rates = new Map<string, number>();
  const moved = new Map<string, { hostId: string; siteId: string }>();
  for (const action of plan.actions) {
    if (action.kind === "destroy_machine") gone.add(action.machineId);
    if (action.kind === "remove_volume") gone.add(action.volumeId);
    if (action.kind === "move_machine") {
      const { toHostId: hostId, toSiteId: siteId, volumeIds = [] } = action;
      for (const id of volumeIds) moved.set(id, { hostId, siteId });
    }
    if (action.kind === "set_rate") rates.set(action.linkId, action.toMbps);
  }
  const words = new Map(request.declares?.links?.map(({ id, spec }) => [id, spec]));
  return {
    ...declared,
    machines: declared.machines
      .filter(({ id }) => !gone.has(id))
      .map((machine) => machineAfter(machine, request, plan)),
    links: declared.links
      .map((link) => ({
        ...link,
        spec: words.get(link.id) ?? link.spec,
        effective: { ...link.effective, rateMbps: rates.get(link.id) ?? link.effective.rateMbps },
        version: Math.max(1, link.version),
      }))
      .filter(({ id }) => rates.get(id) !== 0),
    volumes: declared.volumes
      .filter(({ id }) => !gone.has(id))
      .map((volume) => {
        const word = request.declares?.volumes?.find(({ id }) => id === volume.id);
        const spec = word?.spec ?? volume.spec;
        const { sizeGib } = word?.spec ?? volume.effective;
        const effective = { ...volume.effective, ...moved.get(volume.id), sizeGib };
        return { ...volume, spec, effective };
      }),
    groups: declared.groups.map((group) => {
      const word = request.declares?.group;
      const spec = word?.id === group.id ? word.spec : group.spec;
      return { ...group, spec, version: Math.max(1, group.version) };
    }),
  };
}

function machineAfter(
  machine: MachineRecord,
  request: Request,
  plan: Pick<Plan, "actions">,
): MachineRecord {
  const effective = plan.actions.reduce<MachineRecord["effective"]>((now, action) => {
    if (!("machineId" in action) || action.machineId !== machine.id) return now;
    switch (action.kind) {
      case "create_machine": {
        const { hostId, siteId, sizing } = action;
        return { ...now, ...sizing, hostId, siteId, state: "running" };
      }
      case "move_machine":
        return { ...now, hostId: action.toHostId, siteId: action.toSiteId };
      case "set_memory":
        return { ...now, memoryMib: action.toMib };
      case "set_vcpus":
        return { ...now, vcpus: action.to };
      case "set_cpu_percent":
        return { ...now, cpuPercent: action.to };
      case "set_cpu_weight":
        return { ...now, cpuWeight: action.to };
      default:
        return now;
    }
  }, machine.effective);
  const spec = specOf(request, machine);
  return { ...machine, spec, effective, version: Math.max(1, machine.version) };
}
