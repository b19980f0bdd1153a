import { readdirSync } from "node:fs";
import { join } from "node:path";
import { openPolicy } from "@drover/shepherd/opa/engine";
import { libraryFolder } from "@drover/shepherd/opa/sources";
import { combine, type Verdict } from "@drover/shepherd/policy/combine";
import type { PolicyInput } from "@drover/shepherd/policy/input";
import type { PolicyEngine, PolicyEntrypoint } from "@drover/shepherd/ports/policy-engine";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { changed, exampleInput } from "./vectors.ts";

/** The bundles that ship, on the scenes of the story: what the demo relies on. */
const owners = {
  operator: "operator",
  "owner:alice": "owner",
  "site:north": "site-north",
  "site:south": "site-south",
};
const engines = new Map<string, PolicyEngine>();

beforeAll(async () => {
  for (const [owner, folder] of Object.entries(owners))
    engines.set(owner, await openPolicy({ owner, folder: join(libraryFolder, "data", folder) }));
}, 60_000);

afterAll(async () => {
  for (const engine of engines.values()) await engine.close();
});

async function ask(entrypoint: PolicyEntrypoint, input: PolicyInput): Promise<Verdict> {
  return combine(
    await Promise.all([...engines.values()].map((engine) => engine.evaluate(entrypoint, input))),
  );
}

function failed(verdict: Verdict): string[] {
  return verdict.findings
    .filter(({ ok }) => !ok)
    .map(({ owner, rule, msg }) => `${owner} ${rule}: ${msg}`);
}

const first = "/environment/machines/0";
const second = "/environment/machines/1";

/** rank-0 moves to south, as a finished plan; with these further changes. */
function moving(set: Readonly<Record<string, unknown>> = {}): PolicyInput {
  const move = {
    machine: "rank-0",
    class: "batch",
    from_site: "north",
    from_host: "north-1",
    to_site: "south",
    to_host: "south-1",
    predicted_ms: 9_000,
    bytes: 500_000_000,
    downtime_ms: 400,
  };
  return changed(exampleInput, {
    "/point": "plan",
    [`${first}/proposed/site`]: "south",
    [`${first}/proposed/host`]: "south-1",
    [`${first}/proposed/memory_mib`]: 1_024,
    "/plan": {
      digest: "d",
      predicted_ms: 9_000,
      bytes: 500_000_000,
      downtime_ms: 400,
      moves: [move],
    },
    ...set,
  });
}

test("all that ship are tried here", () => {
  expect(readdirSync(join(libraryFolder, "data")).toSorted()).toEqual(
    Object.values(owners).toSorted(),
  );
});

test("a group asks within its bounds: all consent", async () => {
  const verdict = await ask(
    "decision",
    changed(exampleInput, {
      "/request/machines": ["rank-0", "rank-1"],
      "/request/group": "rank",
      "/request/lease_ms": 3_600_000,
      [`${first}/proposed`]: {
        vcpus: 1,
        cpu_percent: 60,
        memory_mib: 320,
        site: "north",
        host: "north-1",
      },
      [`${second}/proposed`]: {
        vcpus: 1,
        cpu_percent: 60,
        memory_mib: 320,
        site: "north",
        host: "north-1",
      },
    }),
  );
  expect(failed(verdict)).toEqual([]);
  expect(verdict.effect).toBe("allow");
  expect(verdict.limits.maxDowntimeMs).toBe(10_000);
});

test("6400 % is denied with the rule, the number and the nearest allowed", async () => {
  const verdict = await ask(
    "decision",
    changed(exampleInput, { [`${first}/proposed/cpu_percent`]: 6_400 }),
  );
  expect(verdict.effect).toBe("deny");
  expect(failed(verdict)).toContain("operator envelope: 6400 % is above rank-0's 60 %");
  expect(verdict.findings.find(({ rule }) => rule === "envelope")?.fix).toEqual({
    cpu_percent: 60,
  });
});

test("a move to south with its growth is allowed by all four", async () => {
  const verdict = await ask("plan_check", moving());
  expect(failed(verdict)).toEqual([]);
  expect(verdict.consents.map(({ owner, effect }) => [owner, effect])).toEqual(
    Object.keys(owners).map((owner) => [owner, "allow"]),
  );
});

test("south alone refuses class sensitive, and may be named for it", async () => {
  const verdict = await ask(
    "plan_check",
    moving({ [`${first}/class`]: "sensitive", "/plan/moves/0/class": "sensitive" }),
  );
  expect(verdict.effect).toBe("deny");
  expect(failed(verdict)).toEqual([
    "site:south site_accepts_class: south does not take class sensitive (rank-0)",
  ]);
  expect(
    verdict.consents.filter(({ effect }) => effect === "deny").map(({ owner }) => owner),
  ).toEqual(["site:south"]);
});

test("what a host has left is told to operators only", async () => {
  const verdict = await ask("plan_check", moving({ "/sites/1/hosts/0/used/memory_mib": 1_900 }));
  const [blocking] = verdict.findings;
  expect(blocking).toMatchObject({ rule: "host_headroom", ok: false, disclose: "operator" });
});

test("a mode of approve waits for a person", async () => {
  const verdict = await ask(
    "decision",
    changed(exampleInput, {
      [`${first}/envelope/mode`]: "approve",
      [`${first}/proposed/memory_mib`]: 512,
    }),
  );
  expect([verdict.effect, verdict.code]).toEqual(["approve", "policy.approval_needed"]);
});

test.each(["release", "destroy"] as const)(
  "%s passes everything, even held and over quota",
  async (kind) => {
    const gone = { vcpus: 0, cpu_percent: 0, memory_mib: 0, site: "", host: "" };
    const hold = { active: true, by: "olga", reason: "power", since_ms: 1, until_ms: 0 };
    const recent = Array.from({ length: 500 }, (_, index) => ({
      id: `r${index}`,
      at_ms: 999_990,
      subject: "rank-0",
      kind: "resize",
      effect: "deny",
      machines: ["rank-0"],
    }));
    const verdict = await ask(
      "decision",
      changed(exampleInput, {
        "/request/kind": kind,
        [`${first}/memory_mib`]: 900_000,
        ...(kind === "destroy" ? { [`${first}/proposed`]: gone } : {}),
        "/hold": hold,
        "/sites/0/hold": hold,
        "/environment/recent": { total: 500, requests: recent },
      }),
    );
    expect(failed(verdict)).toEqual([]);
    expect(verdict.effect).toBe("allow");
  },
);

test("a hold stops an adaptation and not the stack's own change", async () => {
  const held = changed(exampleInput, {
    "/hold": { active: true, by: "olga", reason: "power", since_ms: 1, until_ms: 0 },
    [`${first}/proposed/memory_mib`]: 512,
  });
  expect((await ask("decision", held)).effect).toBe("deny");
  const update = changed(held, {
    "/request/kind": "update",
    "/subject": { type: "stack", name: "ci", roles: ["stack"] },
  });
  expect((await ask("decision", update)).effect).toBe("allow");
});

test("a flood is limited for its asker alone", async () => {
  const recent = Array.from({ length: 30 }, (_, index) => ({
    id: `r${index}`,
    at_ms: 990_000 + index,
    subject: "rank-1",
    kind: "resize",
    effect: "deny",
    machines: [],
  }));
  const flooded = changed(exampleInput, {
    [`${first}/proposed/memory_mib`]: 320,
    "/environment/recent": { total: 30, requests: recent },
  });
  expect((await ask("decision", flooded)).effect).toBe("allow");
  const flooder = changed(flooded, { "/subject/name": "rank-1", "/subject/machine": "rank-1" });
  const verdict = await ask("decision", flooder);
  expect(failed(verdict)).toEqual([
    "operator request_rate: 30 requests of rank-1 in 60000 ms, at most 30",
  ]);
  expect(verdict.findings[0]?.fix).toEqual({ retry_after_ms: 50_000 });
});
