/** A plan for people: what each of its actions does, in a few words, one a line. Knows no request and no verdict. */
import type { ApprovalView } from "#api/contract";

type PlanView = ApprovalView["plan"];

export function actionLines({ actions, cost }: PlanView): string[] {
  const lines = actions.map(lineOf).filter((line) => line !== "");
  const seconds = (cost.duration_ms / 1000).toFixed(2);
  const mib = (cost.bytes / 2 ** 20).toFixed(0);
  return [
    ...(lines.length === 0 ? ["nothing live has to change"] : lines),
    `predicted ${seconds} s, ${mib} MiB copied, ${Math.round(cost.downtime_ms)} ms down`,
  ];
}

function lineOf(action: PlanView["actions"][number]): string {
  switch (action.kind) {
    case "create_machine":
      return `create ${short(action.machine_id)} at ${action.site_id} on ${action.host_id}`;
    case "move_machine":
      return `move ${short(action.machine_id)} from ${action.from_site_id}/${action.from_host_id} to ${action.to_site_id}/${action.to_host_id}`;
    case "set_memory":
      return `memory of ${short(action.machine_id)} from ${action.from_mib} to ${action.to_mib} MiB`;
    case "set_vcpus":
      return `vCPUs of ${short(action.machine_id)} from ${action.from} to ${action.to}`;
    case "set_cpu_percent":
      return `CPU of ${short(action.machine_id)} from ${action.from} to ${action.to} % of a core`;
    case "set_rate":
      return `rate of ${short(action.link_id)} from ${action.from_mbps} to ${action.to_mbps} Mbit/s`;
    case "destroy_machine":
      return `destroy ${short(action.machine_id)} on ${action.host_id}`;
    default:
      return action.kind.replaceAll("_", " ");
  }
}

/** Ids in full are in --json; people compare beginnings and ends. */
function short(id: string): string {
  return id.length <= 20 ? id : `${id.slice(0, 8)}…${id.slice(-4)}`;
}
