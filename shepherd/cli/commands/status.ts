/** `drover status` and `drover watch`: the whole picture once, and what happens as it happens. */
import type { Command } from "commander";
import type { EventView, MachineView, Status } from "#api/contract";
import { type Context, define, exitCodes, type Streams, wholeNumber } from "#cli/command";
import { clean, clockTime, show, table } from "#cli/output";
import { defaultCpuWeight } from "#model/objects";

export function addStatus(program: Command, streams: Streams): void {
  define<[], object>(program, streams, {
    name: "status",
    summary: "show sites, hosts, machines and what is going on",
    async action(context) {
      const status = await context.client.get<Status>("/v1/status");
      show(context, status, () => renderStatus(status));
      return exitCodes.ok;
    },
  });

  define<[], { since?: number; environment?: string; for?: number }>(program, streams, {
    name: "watch",
    summary: "follow events as they are journaled, until interrupted",
    description: "One line an event; with --json one JSON document a line.",
    setUp: (command) =>
      command
        .option("--since <seq>", "begin after this event (0: from the beginning)", wholeNumber)
        .option("--environment <id>", "only events of this environment (name or id)"),
    async action(context, options) {
      const only = await environmentId(context, options.environment);
      const stop = new AbortController();
      process.once("SIGINT", () => stop.abort());
      try {
        const events = context.client.events({ sinceSeq: options.since, signal: stop.signal });
        for await (const event of events) {
          if (only !== undefined && event.environment_id !== only) continue;
          context.write(context.json ? `${JSON.stringify(event)}\n` : `${renderEvent(event)}\n`);
        }
      } catch (error) {
        if (!stop.signal.aborted) throw error;
      }
      return exitCodes.ok;
    },
  });
}

async function environmentId(
  context: Context,
  name: string | undefined,
): Promise<string | undefined> {
  if (name === undefined) return undefined;
  const { items } = await context.client.get<{ items: { id: string; name: string }[] }>(
    "/v1/environments",
  );
  return items.find((one) => one.name === name || one.id === name)?.id ?? name;
}

export function renderStatus(status: Status): string {
  const hosts = status.sites.flatMap((site) =>
    site.hosts.map((host) => {
      const here = status.environments
        .flatMap(({ machines }) => machines)
        .filter((machine) => machine.effective.host === host.id);
      const total = (of: (machine: MachineView) => number) =>
        here.reduce((sum, machine) => sum + of(machine), 0);
      return [
        site.id,
        host.id,
        host.state,
        here.length,
        `${total((one) => one.effective.cpu_percent)} of ${host.lend.cpu_percent}`,
        `${total((one) => one.effective.memory_mib)} of ${host.lend.memory_mib}`,
        host.foreign.count === 0
          ? "-"
          : `${host.foreign.count} (${host.foreign.cpu_percent} %, ${host.foreign.memory_mib} MiB)`,
      ];
    }),
  );
  const machines = status.environments.flatMap((environment) =>
    environment.machines.map((machine) => machineRow(environment.name, machine, status.now_ms)),
  );
  return [
    `shepherd ${status.version}, world ${status.world}`,
    "",
    table(["SITE", "HOST", "STATE", "MACHINES", "CPU %", "MEMORY MIB", "FOREIGN"], hosts),
    ...(machines.length === 0
      ? ["", "no machines"]
      : [
          "",
          table(
            ["MACHINE", "STATE", "WHERE", "VCPUS", "CPU %", "MEMORY", "ADAPTED", "DRIFT"],
            machines,
          ),
        ]),
    ...(status.operations.length === 0
      ? []
      : [
          "",
          table(
            ["OPERATION", "KIND", "STATE", "DONE", "NOW"],
            status.operations.map((one) => [
              one.id,
              one.kind,
              one.state,
              `${one.progress.percent} %`,
              one.progress.message,
            ]),
          ),
        ]),
    ...waitingLines(status.waiting),
    ...status.holds.map(
      (hold) =>
        `\nHOLD on ${scopeText(hold.scope)} by ${clean(hold.by)}: ${clean(hold.reason)}, ${
          hold.until_ms === undefined
            ? "until it is lifted"
            : `until ${clockTime(hold.until_ms, status.now_ms)}`
        }`,
    ),
  ].join("\n");
}

function machineRow(environment: string, machine: MachineView, nowMs: number) {
  const { effective, guest_seen: seen } = machine;
  const changed = (live: number, baseline: number, inGuest = live) =>
    [
      live === baseline ? String(live) : `${live} (${baseline})`,
      ...(inGuest === live ? [] : [`guest ${inGuest}`]),
    ].join(", ");
  const lease = effective.lease_until_ms;
  return [
    `${environment}/${machine.name}`,
    effective.state,
    effective.host === "" ? effective.site : effective.host,
    changed(effective.vcpus, machine.vcpus, seen?.vcpus),
    [
      changed(effective.cpu_percent, machine.cpu_percent),
      ...(effective.cpu_weight === defaultCpuWeight ? [] : [`weight ${effective.cpu_weight}`]),
    ].join(", "),
    changed(effective.memory_mib, machine.memory_mib, seen?.memory_mib),
    effective.adaptation_id === null
      ? "-"
      : lease === null
        ? "until released"
        : `until ${clockTime(lease, nowMs)}`,
    machine.drift.map(({ attribute, actual }) => `${attribute}=${actual}`).join(" ") || "-",
  ];
}

function waitingLines({
  approvals,
  exemptions,
  overdue_recalls: overdue,
  reviews,
}: Status["waiting"]) {
  return [
    ...(approvals === 0 ? [] : [`\nWAITING: ${approvals} for approval; drover approvals list`]),
    ...(exemptions === 0
      ? []
      : [`\nWAITING: ${exemptions} exemptions for a second person; drover exempt --list`]),
    ...(reviews === 0 ? [] : [`\nWAITING: ${reviews} for review; drover obligations list`]),
    ...(overdue === 0 ? [] : [`\nOVERDUE: ${overdue} recalls of consent; drover recall --list`]),
  ];
}

function scopeText(scope: Status["holds"][number]["scope"]): string {
  if (scope === "everything") return "everything";
  return "site_id" in scope ? `site ${scope.site_id}` : `environment ${scope.environment_id}`;
}

/** Sequence, time, kind and the facts of the kind, shortest first, in one line. */
export function renderEvent(event: EventView): string {
  const data = Object.entries(event.data as Record<string, unknown>)
    .filter(([, value]) => value !== undefined && value !== null)
    .map(([key, value]) => `${key}=${typeof value === "object" ? JSON.stringify(value) : value}`);
  const line = `${String(event.seq).padStart(6)} ${new Date(event.at_ms).toISOString().slice(11, 23)} ${event.kind.padEnd(18)} ${data.join(" ")}`;
  return clean(line).slice(0, 200);
}
