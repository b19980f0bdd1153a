/** Who may do what; tokens are shown once and kept as hashes. */
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type Access,
  type AnyRole,
  checkAccess,
  checkExempts,
  checkOwner,
  checkRole,
  checkSpeaksForSite,
  createTokenStore,
} from "@drover/shepherd/api/access";
import type { PolicyValue } from "@drover/shepherd/ports/policy-engine";
import { afterAll, describe, expect, test } from "@jest/globals";

const directory = mkdtempSync(join(tmpdir(), "drover-tokens-"));
afterAll(() => rmSync(directory, { recursive: true }));

test.each<[AnyRole, readonly Access[]]>([
  ["local-root", ["open", "read", "declare", "ask", "operate"]],
  ["operator", ["open", "read", "declare", "ask", "operate"]],
  ["approver", ["open", "read", "approve"]],
  ["security", ["open", "read", "secure"]],
  ["reader", ["open", "read"]],
  ["stack", ["open", "read", "declare", "ask"]],
])("%s may exactly its own", (role, expected) => {
  const all: readonly Access[] = ["open", "read", "declare", "ask", "operate", "approve", "secure"];
  const may = all.filter((access) => {
    try {
      checkAccess({ name: "x", role }, access);
      return true;
    } catch (error) {
      expect(error).toMatchObject({ code: "access.denied" });
      return false;
    }
  });
  expect(may).toEqual(expected);
});

describe("the operator's policy says who may", () => {
  const reader = { name: "rita", role: "reader" } as const;
  const question = { access: "ask", object: { kind: "requests" } } as const;
  const says = (value: PolicyValue) => ({ query: async () => value });
  const value = (allow: unknown) => says({ kind: "value", value: { allow, reason: "so" } });

  test("more than ships, and less", async () => {
    await expect(checkRole(value(true), reader, question)).resolves.toBeUndefined();
    await expect(
      checkRole(value(false), reader, { ...question, access: "read" }),
    ).rejects.toMatchObject({ code: "access.denied" });
  });

  test.each([
    ["is undecided", says({ kind: "undecided", code: "policy.timeout", problem: "slow" })],
    ["says what is no answer", value("yes")],
    ["is not there", undefined],
  ])("while it %s, what ships holds", async (_, engine) => {
    await expect(checkRole(engine, reader, question)).rejects.toMatchObject({
      code: "access.denied",
    });
    await expect(
      checkRole(engine, reader, { ...question, access: "read" }),
    ).resolves.toBeUndefined();
  });

  test("but never that the local root approves", async () => {
    await expect(
      checkRole(
        value(true),
        { name: "local-root", role: "local-root" },
        { ...question, access: "approve" },
      ),
    ).rejects.toMatchObject({ code: "access.denied" });
  });
});

test("a site's owner speaks for the site, and whoever stands at the shepherd", () => {
  const site = { id: "north", owner: "north-lab" };
  expect(() => checkSpeaksForSite({ name: "north-lab", role: "reader" }, site)).not.toThrow();
  expect(() => checkSpeaksForSite({ name: "otto", role: "operator" }, site)).not.toThrow();
  expect(() => checkSpeaksForSite({ name: "south-lab", role: "approver" }, site)).toThrow(
    "north-lab does",
  );
});

test("who exempts from whose rules", () => {
  const owners = new Map([["north", "north-lab"]]);
  const as = (name: string, owner: string) => () =>
    checkExempts({ name, role: "security" }, owner, owners);
  expect(as("sue", "operator")).not.toThrow();
  expect(as("north-lab", "site:north")).not.toThrow();
  expect(as("alice", "owner:alice")).not.toThrow();
  expect(as("sue", "site:north")).toThrow("does not speak for site:north");
  expect(as("sue", "owner:alice")).toThrow("does not speak for owner:alice");
  expect(as("sue", "site:nowhere")).toThrow("does not speak for site:nowhere");
});

test("a stack touches only what it owns", () => {
  expect(() => checkOwner({ name: "alice", role: "stack" }, "alice")).not.toThrow();
  expect(() => checkOwner({ name: "bob", role: "operator" }, "alice")).not.toThrow();
  expect(() => checkOwner({ name: "bob", role: "stack" }, "alice")).toThrow("alice does");
});

test("a created token works now and after a restart, and its file tells nobody what it is", () => {
  const file = join(directory, "tokens.json");
  const token = createTokenStore({ configured: [], file, nowMs: Date.now }).create({
    name: "ci",
    role: "stack",
  });
  expect(createTokenStore({ configured: [], file, nowMs: Date.now }).find(token)).toEqual({
    name: "ci",
    role: "stack",
  });
  expect(readFileSync(file, "utf8")).not.toContain(token);
  expect(statSync(file).mode & 0o777).toBe(0o600);
  expect(() =>
    createTokenStore({ configured: [], file, nowMs: Date.now }).find(`${token}x`),
  ).toThrow("No such token");
  expect(() =>
    createTokenStore({ configured: [], file, nowMs: Date.now }).create({
      name: "ci",
      role: "reader",
    }),
  ).toThrow("exists already");
});
