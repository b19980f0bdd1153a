/**
 * Phases that guests announce: kept until they are over, shown to operators and to policy, granted nothing. An
 * announcement beyond what the stack lets a machine become is denied at once, because no later ask could be granted.
 * Bounded per machine; the same phase announced again replaces the first.
 */
import type { Result } from "#intake/guest-answers";
import type { Forecast } from "#intake/methods";
import type { ForecastRecord, MachineRecord, Range } from "#model/objects";
import type { Ms } from "#model/units";
import type { Journal } from "#ports/store";

/** A program has few phases ahead; more is a loop that announces. */
const maxPerAsker = 16;
/** Without an end it is forgotten after so long. */
const defaultLengthMs: Ms = 3_600_000;

/** Inside the caller's transaction. */
export async function announce(
  journal: Journal,
  forecast: Forecast,
  by: { readonly asker: string; readonly id: string; readonly nowMs: Ms },
): Promise<Result> {
  const beyond = forecast.machines.flatMap((machine) => beyondEnvelope(machine, forecast))[0];
  if (beyond !== undefined) {
    return {
      verdict: "denied",
      code: "policy.denied",
      rule: "envelope",
      message: beyond.message,
      nearest: beyond.nearest,
    };
  }
  const environmentId = forecast.environment.id;
  const prefix = `${environmentId}/${by.asker}/`;
  const key = `${prefix}${forecast.phase}`;
  const all = await journal.objects.list("forecast", { environmentId });
  const over = all.filter(({ spec }) => (spec.untilMs ?? 0) < by.nowMs);
  for (const { id } of over) await journal.objects.remove("forecast", id);
  const own = all.filter((one) => one.key.startsWith(prefix) && !over.includes(one));
  const before = own.find((one) => one.key === key);
  if (before === undefined && own.length >= maxPerAsker) {
    return {
      verdict: "denied",
      code: "forecast.too_many",
      message: `${maxPerAsker} phases are announced already; announce one of them anew, or wait until one is over`,
    };
  }
  const fromMs = by.nowMs + forecast.inMs;
  const record: ForecastRecord = {
    kind: "forecast",
    id: before?.id ?? by.id,
    key,
    environmentId,
    spec: {
      environmentId,
      machines: forecast.machines.map(({ spec }) => spec.name),
      group: forecast.group,
      phase: forecast.phase,
      fromMs,
      untilMs: fromMs + (forecast.forMs ?? defaultLengthMs),
      vcpus: forecast.vcpus,
      cpuPercent: forecast.cpuPercent,
      memoryMib: forecast.memoryMib,
      rateMbps: forecast.rateMbps,
      reason: forecast.reason,
    },
    effective: {},
    version: (before?.version ?? 0) + 1,
    claimed: false,
    createdAtMs: by.nowMs,
  };
  await journal.objects.put(record);
  await journal.events.append({
    kind: "object.changed",
    atMs: by.nowMs,
    environmentId,
    data: { kind: "forecast", id: record.id, key, version: record.version },
  });
  return {
    verdict: "granted",
    code: "granted",
    message: `phase ${forecast.phase} is announced; ask again when it begins`,
    granted: {},
    from_ms: fromMs,
    until_ms: record.spec.untilMs,
  };
}

function beyondEnvelope(
  { spec }: MachineRecord,
  forecast: Forecast,
): readonly { readonly message: string; readonly nearest: Record<string, number> }[] {
  const { envelope, baseline } = spec;
  const rows: readonly [string, number | undefined, Range | undefined, number][] = [
    ["vcpus", forecast.vcpus, envelope.vcpus, baseline.vcpus],
    ["cpu_percent", forecast.cpuPercent, envelope.cpuPercent, baseline.cpuPercent],
    ["memory_mib", forecast.memoryMib, envelope.memoryMib, baseline.memoryMib],
  ];
  return rows.flatMap(([attribute, value, range, base]) => {
    if (value === undefined) return [];
    const { min, max } = range ?? { min: base, max: base };
    if (value >= min && value <= max) return [];
    return [
      {
        message: `${attribute} ${value} is outside ${spec.name}'s ${min} to ${max}`,
        nearest: { [attribute]: Math.min(Math.max(value, min), max) },
      },
    ];
  });
}
