/**
 * Machine views from fresh observations: a plan that runs right after a change must not see the moment before it.
 * Asks a host again when what is known is older than a moment, or older than the machine's last operation.
 */
import type { MachineView } from "#api/contract";
import { machineView } from "#api/views";
import type { ApiWorld } from "#api/world";
import type { EnvironmentRecord, MachineRecord } from "#model/objects";
import type { Ms } from "#model/units";

/** Terraform reads a hundred machines in a burst; one answer of their host serves all of them. */
const maxAgeMs = 200;

export interface MachineViews {
  of(record: MachineRecord): Promise<MachineView>;
  ofAll(records: readonly MachineRecord[]): Promise<MachineView[]>;
}

export function createMachineViews(
  world: Pick<ApiWorld, "store" | "sensing" | "clock">,
): MachineViews {
  const { store, sensing, clock } = world;
  async function freshen(record: MachineRecord, notBeforeMs: Ms): Promise<void> {
    const { hostId, state } = record.effective;
    if (hostId === "" || state !== "running") return;
    const seenMs = sensing.observedMachine(record.id)?.observedAtMs ?? 0;
    // The observer joins calls that come together, and never answers with a look that began before this one.
    if (seenMs < notBeforeMs) await sensing.refresh([hostId]);
  }

  async function ofAll(records: readonly MachineRecord[]): Promise<MachineView[]> {
    const known = await store.read(async (journal) => {
      const environments = new Map<string, EnvironmentRecord>();
      for (const one of await journal.objects.list("environment")) environments.set(one.id, one);
      const operations = await Promise.all(
        records.map(
          async ({ id }) => (await journal.operations.list({ machineId: id, limit: 1 }))[0],
        ),
      );
      return { environments, operations };
    });
    await Promise.all(
      records.map((record, index) =>
        freshen(
          record,
          Math.max(clock.nowMs() - maxAgeMs, known.operations[index]?.endedAtMs ?? 0),
        ),
      ),
    );
    const siteOfHost = new Map<string, string>();
    for (const site of sensing.sites()) {
      for (const host of site.hosts) siteOfHost.set(host.id, site.id);
    }
    return records.flatMap((record, index) => {
      const environment = known.environments.get(record.spec.environmentId);
      if (environment === undefined) return []; // deleted between two reads
      const operation = known.operations[index];
      return machineView(record, {
        environment,
        observed: sensing.observedMachine(record.id),
        busy: operation !== undefined && operation.endedAtMs === undefined,
        siteOf: (hostId) => siteOfHost.get(hostId),
      });
    });
  }

  return {
    ofAll,
    async of(record) {
      const [view] = await ofAll([record]);
      if (view === undefined) throw new Error(`machine ${record.id} has no environment`);
      return view;
    },
  };
}
