import { buildBundle } from "@drover/shepherd/opa/bundle";
import { loadPolicy } from "@drover/shepherd/opa/engine";
import { accessActions, type PolicyData } from "@drover/shepherd/policy/data";
import type { PolicyEngine } from "@drover/shepherd/ports/policy-engine";
import { afterEach, beforeAll, expect, test } from "@jest/globals";
import { operatorFolder } from "./vectors.ts";

/** The questions that are not about decisions: who may do what through the API, and what a log leaves out. */
let bundle: Awaited<ReturnType<typeof buildBundle>>;
let engine: PolicyEngine | undefined;

beforeAll(async () => {
  bundle = await buildBundle({ owner: "operator", folder: operatorFolder });
}, 60_000);

afterEach(async () => {
  await engine?.close();
  engine = undefined;
});

async function engineWith(more: Partial<PolicyData["drover"]>): Promise<PolicyEngine> {
  engine = await loadPolicy({
    ...bundle,
    data: { drover: { ...bundle.data.drover, ...more } },
  });
  return engine;
}

async function table(more: Partial<PolicyData["drover"]> = {}): Promise<Record<string, string>> {
  const asked = await engineWith(more);
  const found: Record<string, string> = {};
  for (const role of [
    "local-root",
    "operator",
    "security",
    "approver",
    "reader",
    "stack",
    "boss",
  ]) {
    const allowed: string[] = [];
    for (const action of accessActions) {
      const answer = await asked.query("roles", {
        subject: { type: "operator", name: "alice", role },
        action,
        object: { kind: "environments", owner: "alice" },
      });
      if (answer.kind !== "value") throw new Error(answer.problem);
      if ((answer.value as { allow: boolean }).allow) allowed.push(action);
    }
    found[role] = allowed.join(" ");
  }
  return found;
}

test("roles that ship may do what docs/policy.md says", async () => {
  expect(await table()).toEqual({
    "local-root": "read declare ask operate",
    operator: "read declare ask operate",
    security: "read secure",
    approver: "read approve",
    reader: "read",
    stack: "read declare ask",
    boss: "",
  });
});

test("data replaces roles, but cannot let the local root approve", async () => {
  const all = [...accessActions];
  expect(await table({ roles: { "local-root": all, boss: all } })).toEqual({
    "local-root": "read declare ask operate",
    operator: "",
    security: "",
    approver: "",
    reader: "",
    stack: "",
    boss: "read declare ask operate approve secure",
  });
});

test("a log leaves out what askers wrote, and what data names", async () => {
  const asked = await engineWith({ mask: ["/input/subject/name"] });
  const answer = await asked.query("mask", { input: { request: { reason: "secret" } } });
  if (answer.kind !== "value") throw new Error(answer.problem);
  expect((answer.value as string[]).toSorted()).toEqual([
    "/input/request/reason",
    "/input/subject/name",
  ]);
});
