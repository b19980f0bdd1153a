/**
 * The gate with all that it needs, small: the real store in memory, facts from the records, engines that are functions,
 * and operations that take effect at once. For tests of the gate alone; the whole path runs in test/simulation.
 */
import type { HostFacts, ObservedMachine } from "@drover/shepherd/model/facts";
import type {
  AnyObjectRecord,
  EnvironmentRecord,
  LinkRecord,
  MachineRecord,
} from "@drover/shepherd/model/objects";
import type { Operation, Plan } from "@drover/shepherd/model/plan";
import type { Finding, Limits } from "@drover/shepherd/model/request";
import { createGate, type Gate, type GateOperations } from "@drover/shepherd/policy/gate";
import type { PolicyInput } from "@drover/shepherd/policy/input";
import type { PolicyEngine, PolicyEntrypoint } from "@drover/shepherd/ports/policy-engine";
import type { Store } from "@drover/shepherd/ports/store";
import { createVirtualClock, type VirtualClock } from "@drover/shepherd/simulated/clock";
import { openSqliteStore } from "@drover/shepherd/store/sqlite";
import pino from "pino";
import { environment, facts, image, nowMs } from "../planner/fleet.ts";

export interface SmallShepherd {
  readonly gate: Gate;
  readonly store: Store;
  readonly clock: VirtualClock;
  /** Everything that engines were asked, in order. */
  readonly asked: {
    readonly owner: string;
    readonly entrypoint: PolicyEntrypoint;
    readonly input: PolicyInput;
  }[];
  readonly hosts: HostFacts[];
  readonly observed: Record<string, ObservedMachine>;
  /** While true operations stay pending. */
  readonly brake: { on: boolean };
  /** Sees the admitted requests. */
  readonly admitted: Parameters<GateOperations["admit"]>[1][];
  machine(id: string): Promise<MachineRecord | undefined>;
  count(): Promise<{ requests: number; decisions: number; events: number }>;
}

/** What an engine says: failed findings, or a level of them; nothing = allowed. */
export type Says = (
  input: PolicyInput,
  entrypoint: PolicyEntrypoint,
) => { readonly findings?: readonly Partial<Finding>[]; readonly limits?: Limits } | undefined;

export async function smallShepherd(world: {
  readonly hosts: readonly HostFacts[];
  readonly machines: readonly MachineRecord[];
  readonly links?: readonly LinkRecord[];
  readonly environments?: readonly EnvironmentRecord[];
  readonly policies?: Readonly<Record<string, Says | "absent">>;
  /** Facts that are older deny what grows or moves; no bound when absent. */
  readonly maxAgeMs?: number;
}): Promise<SmallShepherd> {
  const clock = createVirtualClock(nowMs);
  const store = openSqliteStore(":memory:");
  const records: AnyObjectRecord[] = [
    image,
    ...(world.environments ?? [environment()]),
    ...world.machines,
    ...(world.links ?? []),
  ];
  await store.transaction(async (journal) => {
    for (const record of records) await journal.objects.put(record);
  });
  let lastId = 0;
  const ids = { next: () => `id-${String((lastId += 1)).padStart(4, "0")}` };
  const hosts = [...world.hosts];
  const observed: Record<string, ObservedMachine> = {};
  const asked: SmallShepherd["asked"] = [];
  const brake = { on: false };
  const admitted: SmallShepherd["admitted"] = [];
  const operations = instantOperations(store, clock, ids, brake, admitted);
  const owners = ["operator", "owner:alice", "site:north", "site:south"];
  const engines = new Map(
    owners.flatMap((owner) => {
      const says = world.policies?.[owner] ?? (() => undefined);
      return says === "absent" ? [] : [[owner, engineOf(owner, says, asked)] as const];
    }),
  );
  const gate = await createGate({
    store,
    clock,
    ids,
    log: pino({ level: "silent" }),
    operations,
    engines,
    sensed: {
      sites: () => facts(hosts, []).sites,
      observed: () => observed,
      loads: () => ({}),
      maxAgeMs: world.maxAgeMs,
      refresh: async () => undefined,
    },
  });
  return {
    gate,
    store,
    clock,
    asked,
    hosts,
    observed,
    brake,
    admitted,
    machine: (id) => store.read((journal) => journal.objects.get("machine", id)),
    count: () =>
      store.read(async (journal) => ({
        requests: (await journal.requests.since(0)).length,
        decisions: (await journal.decisions.list({ limit: 100_000 })).length,
        events: await journal.events.last(),
      })),
  };
}

function engineOf(owner: string, says: Says, asked: SmallShepherd["asked"]): PolicyEngine {
  return {
    owner,
    close: async () => undefined,
    query: async () => ({ kind: "undecided", code: "policy.absent", problem: "not asked here" }),
    async evaluate(entrypoint, input) {
      asked.push({ owner, entrypoint, input });
      const said = says(input, entrypoint);
      const findings = (said?.findings ?? []).map((finding) => ({
        rule: "test",
        id: "one",
        level: "deny" as const,
        ok: false,
        msg: "no",
        params: {},
        owner,
        disclose: "owner" as const,
        ...finding,
      }));
      const failed = findings.filter(({ ok }) => !ok).map(({ level }) => level);
      return {
        owner,
        entrypoint,
        effect: failed.includes("deny") ? "deny" : failed.includes("approve") ? "approve" : "allow",
        findings,
        obligations: [],
        limits: said?.limits ?? {},
        policyDigest: "p",
        dataDigest: "d",
        durationMs: 0,
      };
    },
  };
}

function instantOperations(
  store: Store,
  clock: VirtualClock,
  ids: { next(): string },
  brake: { on: boolean },
  admitted: SmallShepherd["admitted"],
): GateOperations {
  const run = async () => {
    await store.transaction(async (journal) => {
      for (const operation of await journal.operations.list({ states: ["pending"] })) {
        if (brake.on) return;
        const plan = await journal.plans.get(operation.planId);
        if (plan === undefined) throw new Error("no plan");
        for (const machine of await journal.objects.list("machine")) {
          const effective = after(machine, plan);
          if (effective !== machine.effective) {
            await journal.objects.put({ ...machine, effective, version: machine.version + 1 });
          }
        }
        for (const action of plan.actions) {
          if (action.kind !== "set_rate") continue;
          const link = await journal.objects.get("link", action.linkId);
          if (link === undefined) continue;
          const effective = { ...link.effective, rateMbps: action.toMbps };
          await journal.objects.put({ ...link, effective, version: link.version + 1 });
        }
        await journal.reservations.removeOf(operation.id);
        await journal.operations.put({
          ...operation,
          state: "succeeded",
          endedAtMs: clock.nowMs(),
        });
      }
    });
  };
  return {
    async admit(journal, order) {
      admitted.push(order);
      const { grant, plan, request, kind } = order;
      if (grant.planDigest !== plan.digest) throw new Error("digest");
      const operation: Operation = {
        id: ids.next(),
        kind,
        state: "pending",
        environmentId: request.environmentId,
        machineIds: request.machines.map(({ machineId }) => machineId),
        requestId: request.id,
        planId: plan.id,
        grantId: grant.id,
        epoch: 1,
        progress: { percent: 0, message: "" },
        cancelRequested: false,
        createdAtMs: clock.nowMs(),
      };
      await journal.grants.use(grant.id, operation.id);
      const updated =
        request.update && (await journal.objects.get("machine", operation.machineIds[0] ?? ""));
      if (updated !== undefined && request.update !== undefined) {
        const { spec } = request.update;
        await journal.objects.put({ ...updated, spec, version: updated.version + 1 });
      }
      await journal.operations.put(operation);
      for (const action of plan.actions) {
        if (action.kind !== "create_machine" && action.kind !== "move_machine") continue;
        const machine = await journal.objects.get("machine", action.machineId);
        const sizing = action.kind === "create_machine" ? action.sizing : machine?.effective;
        if (sizing === undefined) continue;
        await journal.reservations.add({
          operationId: operation.id,
          hostId: action.kind === "create_machine" ? action.hostId : action.toHostId,
          machineId: action.machineId,
          cpuPercent: sizing.cpuPercent,
          memoryMib: sizing.memoryMib,
          diskBytes: 2 ** 30,
          expiresAtMs: clock.nowMs() + 600_000,
        });
      }
      return operation;
    },
    kick: () => void run(),
    async wait(id, timeoutMs) {
      const untilMs = clock.nowMs() + timeoutMs;
      for (;;) {
        await run();
        const operation = await store.read((journal) => journal.operations.get(id));
        if (operation === undefined) throw new Error("no operation");
        if (operation.endedAtMs !== undefined || clock.nowMs() >= untilMs) return operation;
        await clock.sleep(100);
      }
    },
  };
}

function after(machine: MachineRecord, plan: Plan): MachineRecord["effective"] {
  return plan.actions.reduce((effective, action) => {
    if (!("machineId" in action) || action.machineId !== machine.id) return effective;
    switch (action.kind) {
      case "create_machine":
        return {
          ...effective,
          ...action.sizing,
          hostId: action.hostId,
          siteId: action.siteId,
          state: "running" as const,
        };
      case "move_machine":
        return { ...effective, hostId: action.toHostId, siteId: action.toSiteId };
      case "set_memory":
        return { ...effective, memoryMib: action.toMib };
      case "set_vcpus":
        return { ...effective, vcpus: action.to };
      case "set_cpu_percent":
        return { ...effective, cpuPercent: action.to };
      case "set_cpu_weight":
        return { ...effective, cpuWeight: action.to };
      case "restart_machine":
      case "set_networks":
        return effective;
      case "destroy_machine":
        return { ...effective, state: "destroying" as const };
    }
  }, machine.effective);
}
