import { join } from "node:path";
import { digestOf } from "@drover/shepherd/model/canonical";
import { buildBundle } from "@drover/shepherd/opa/bundle";
import { inputProblems } from "@drover/shepherd/opa/door";
import { Sandbox } from "@drover/shepherd/opa/sandbox";
import { sorted } from "@drover/shepherd/opa/sorted";
import { collectSources, libraryFolder } from "@drover/shepherd/opa/sources";
import { adaptationModes, type PolicyInput, requestKinds } from "@drover/shepherd/policy/input";
import type { PolicyOutput } from "@drover/shepherd/policy/output";
import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { askNative } from "./native.ts";

/**
 * Inputs that nobody thought of: random fleets and asks, small numbers so that bounds are often met exactly. Native OPA
 * and the WASM host must give the same answer to each, with every bundle that ships.
 */
const seed = 20_261_123;
const runs = 150;

const size = fc.record({
  vcpus: fc.nat({ max: 4 }),
  cpu_percent: fc.constantFrom(0, 10, 20, 40, 60, 61, 80, 81, 6_400),
  memory_mib: fc.constantFrom(0, 128, 192, 256, 320, 512, 1_024, 1_025, 4_096),
});
const range = fc
  .tuple(fc.nat({ max: 60 }), fc.nat({ max: 1_000 }))
  .map(([min, more]) => ({ min, max: min + more }));
const site = fc.constantFrom("north", "south");
const place = fc.constantFrom(
  { site: "north", host: "north-1" },
  { site: "north", host: "north-2" },
  { site: "south", host: "south-1" },
  { site: "south", host: "" },
  { site: "", host: "" },
);
const hold = fc.record({
  active: fc.boolean(),
  by: fc.constantFrom("olga", "ned"),
  reason: fc.string({ maxLength: 12 }),
  since_ms: fc.nat(),
  until_ms: fc.constantFrom(0, 1_030_000, 1_060_000),
});
const quiet = { active: false, by: "", reason: "", since_ms: 0, until_ms: 0 };
const holds = fc.oneof({ weight: 4, arbitrary: fc.constant(quiet) }, hold);

const machine = fc
  .record({
    class: fc.constantFrom("batch", "sensitive", "interactive"),
    now: size,
    where: place,
    disk_gib: fc.nat({ max: 12 }),
    baseline: fc.record({
      vcpus: fc.nat({ max: 2 }),
      cpu_percent: fc.constantFrom(10, 20),
      memory_mib: fc.constantFrom(192, 256),
      site,
    }),
    envelope: fc.record({
      mode: fc.constantFrom(...adaptationModes),
      vcpus: range,
      cpu_percent: range,
      memory_mib: range,
      sites: fc.uniqueArray(site, { minLength: 1 }),
    }),
    low: size,
    still: fc.boolean(),
    next: size,
    nextPlace: place,
  })
  .map(({ now, where, low, still, next, nextPlace, ...rest }) => ({
    ...rest,
    ...now,
    ...where,
    group: "rank",
    hour_low: low,
    held: { cpu_percent: now.cpu_percent, memory_mib: now.memory_mib },
    proposed: still ? { ...now, ...where } : { ...next, ...nextPlace },
  }));

const capacity = fc.record({
  cpu_percent: fc.constantFrom(0, 100, 200, 400),
  memory_mib: fc.constantFrom(0, 1_024, 4_096),
  disk_gib: fc.constantFrom(0, 4, 20),
});
const host = (id: string) =>
  fc.record({
    id: fc.constant(id),
    state: fc.constantFrom("up" as const, "up" as const, "degraded" as const),
    lend: capacity,
    used: capacity,
    reserved: capacity,
    free: fc.record({ memory_mib: fc.nat({ max: 5_000 }), disk_gib: fc.nat({ max: 30 }) }),
  });

const whole = { view: "whole" as const, shares: { total: 0, rows: [] } };
const moving = { machines: 0, cpu_percent: 0, memory_mib: 0, disk_gib: 0 };

const question = fc
  .record({
    planning: fc.boolean(),
    kind: fc.constantFrom(...requestKinds),
    subject: fc.constantFrom("guest" as const, "operator" as const, "stack" as const),
    environmentHold: holds,
    siteHold: holds,
    machines: fc.array(machine, { maxLength: 5 }),
    rates: fc.tuple(fc.nat({ max: 6_000 }), fc.nat({ max: 6_000 })),
    recent: fc.array(fc.nat({ max: 120_000 }), { maxLength: 40 }),
    north: fc.tuple(host("north-1"), host("north-2")),
    south: fc.tuple(host("south-1")),
    downtime_ms: fc.constantFrom(100, 10_000, 10_001),
  })
  .map((random): PolicyInput => {
    const machines = random.machines.map((each, index) => ({ name: `rank-${index}`, ...each }));
    const moves = machines
      .filter(({ host, proposed }) => host !== "" && proposed.host !== "" && host !== proposed.host)
      .map(({ name, class: of, site: from, host: fromHost, proposed }) => ({
        machine: name,
        class: of,
        from_site: from,
        from_host: fromHost,
        to_site: proposed.site === "" ? "south" : proposed.site,
        to_host: proposed.host,
        predicted_ms: 1,
        bytes: 1,
        downtime_ms: random.downtime_ms,
      }));
    return {
      contract: 1,
      now_ms: 1_000_000,
      point: random.planning ? "plan" : "request",
      request: {
        id: "r1",
        kind: random.kind,
        machines: machines.slice(0, 1).map(({ name }) => name),
        links: machines.length > 1 ? ["rank-0--rank-1"] : [],
        reason: "random",
      },
      subject: { type: random.subject, name: "rank-0", roles: [] },
      environment: {
        name: "ring",
        owner: "alice",
        class: "batch",
        sites: ["north", "south"],
        machines,
        links:
          machines.length > 1
            ? [
                {
                  name: "rank-0--rank-1",
                  machines: ["rank-0", "rank-1"],
                  rate_mbps: random.rates[0],
                  baseline_mbps: 200,
                  proposed_mbps: random.rates[1],
                },
              ]
            : [],
        recent: {
          total: random.recent.length,
          requests: random.recent.map((agoMs, index) => ({
            id: `old-${index}`,
            at_ms: 1_000_000 - agoMs,
            subject: index % 2 === 0 ? "rank-0" : "rank-1",
            kind: "resize",
            effect: "allow",
            machines: [],
          })),
        },
        counts: { machines: machines.length, links: machines.length > 1 ? 1 : 0 },
        groups:
          machines.length > 0 ? [{ name: "rank", machines: machines.map(({ name }) => name) }] : [],
        moves: { total: 0, rows: [] },
        moving,
        hold: random.environmentHold,
      },
      owner: {
        name: "alice",
        others: {
          environments: 0,
          machines: 0,
          vcpus: 0,
          cpu_percent: 0,
          memory_mib: 0,
          disk_gib: 0,
          rate_mbps: 0,
        },
        moving,
        moved_bytes: 0,
      },
      exemptions: [],
      sites: [
        { id: "north", owner: "ned", hold: random.siteHold, hosts: [...random.north], ...whole },
        { id: "south", owner: "sue", hold: quiet, hosts: [...random.south], ...whole },
      ],
      hold: quiet,
      ...(random.planning
        ? {
            plan: {
              digest: "d",
              predicted_ms: 1,
              bytes: 1,
              downtime_ms: random.downtime_ms,
              moves,
            },
          }
        : {}),
    };
  });

test.each(["operator", "owner", "site-north", "site-south"])(
  "native OPA and the WASM host agree on random inputs: %s",
  async (name) => {
    const folder = join(libraryFolder, "data", name);
    const bundle = await buildBundle({ owner: name, folder });
    const inputs = fc.sample(question, { seed, numRuns: runs });
    const questions = inputs.map((input) => ({
      entrypoint: input.point === "plan" ? ("plan_check" as const) : ("decision" as const),
      input,
      data: bundle.data.drover,
    }));
    expect(questions.flatMap(({ entrypoint, input }) => inputProblems(entrypoint, input))).toEqual(
      [],
    );
    const native = await askNative(await collectSources({ owner: name, folder }), questions);
    const sandbox = new Sandbox({ wasm: bundle.wasm, data: bundle.data, entrypoints: [] });
    const differences: unknown[] = [];
    const effects = new Map<string, number>();
    for (const [index, { entrypoint, input }] of questions.entries()) {
      const outcome = await sandbox.evaluate(`drover/main/${entrypoint}`, JSON.stringify(input));
      const ours =
        outcome.kind === "results"
          ? (outcome.results as { result: PolicyOutput }[])[0]?.result
          : undefined;
      if (ours !== undefined) effects.set(ours.effect, (effects.get(ours.effect) ?? 0) + 1);
      if (digestOf(sorted(ours)) !== digestOf(sorted(native[index])))
        differences.push({ input, outcome, native: native[index] });
    }
    await sandbox.close();
    expect(differences).toEqual([]);
    // both answers must be among them, or the comparison says little
    expect(effects.get("allow") ?? 0).toBeGreaterThan(2);
    expect(effects.get("deny") ?? 0).toBeGreaterThan(2);
  },
  60_000,
);
