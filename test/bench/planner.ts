/**
 * Times the planner at the size of the published set (papers.md G9: 2,089 machines on 279 hosts): one growth that must
 * move, one creation, a group that its host cannot hold. Prints milliseconds; run with `node test/bench/planner.ts`.
 */
import { plan } from "@drover/shepherd/planner/plan";
import { facts, host, machine, request } from "../shepherd/planner/fleet.ts";

const hostCount = 279;
const machineCount = 2_089;
const repeats = 20;

const siteIds = ["north", "south", "east"];
const hosts = Array.from({ length: hostCount }, (_, n) => {
  const siteId = siteIds[n % siteIds.length] ?? "north";
  return host(`${siteId}-${n}`, siteId, { cpuPercent: 6_400, memoryMib: 262_144, diskGib: 4_000 });
});
const machines = Array.from({ length: machineCount }, (_, n) => {
  const at = hosts[(n * 7) % hostCount] ?? hosts[0];
  if (at === undefined) throw new Error("no host");
  return machine(
    `m-${n}`,
    { hostId: at.id, siteId: at.siteId },
    {
      baseline: { memoryMib: 8_192 + ((n * 37) % 16) * 1_024, cpuPercent: 200, vcpus: 4 },
      envelope: { memoryMib: { min: 1, max: 300_000 }, sites: siteIds },
      effective: { ceiling: { vcpus: 64, memoryMib: 300_000 } },
    },
  );
});
const fresh = machine("new", { hostId: "", siteId: "north" }, { baseline: { memoryMib: 16_384 } });
const known = facts(hosts, [...machines, fresh], {
  environments: [
    {
      ...(facts([], []).environments[0] ?? fail()),
      spec: { name: "ring", owner: "alice", class: "batch", sites: siteIds },
    },
  ],
});
const at = (n: number) => machines[n]?.id ?? "";

const cases = {
  "grow in place": request("resize", [{ machineId: at(5), memoryMib: 24_000 }]),
  "grow by a move": request("resize", [{ machineId: at(5), memoryMib: 150_000 }]),
  create: request("create", [{ machineId: fresh.id }]),
  "a group of 7 on one host": request(
    "resize",
    Array.from({ length: 7 }, (_, n) => ({ machineId: at(n * hostCount), memoryMib: 60_000 })),
  ),
};
for (const [name, asked] of Object.entries(cases)) {
  const times: number[] = [];
  let answer = plan(asked, known);
  for (let n = 0; n < repeats; n++) {
    const start = performance.now();
    answer = plan(asked, known);
    times.push(performance.now() - start);
  }
  times.sort((left, right) => left - right);
  const outcome = answer.kind === "planned" ? `${answer.actions.length} actions` : answer.code;
  const median = times[repeats / 2] ?? 0;
  console.log(
    `${name.padEnd(30)} median ${median.toFixed(1)} ms, max ${(times.at(-1) ?? 0).toFixed(1)} ms, ${outcome}`,
  );
}

function fail(): never {
  throw new Error("facts have an environment");
}
