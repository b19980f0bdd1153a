/** Who may do what; tokens are shown once and kept as hashes. */
import { mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type Access,
  type AnyRole,
  checkAccess,
  checkOwner,
  createTokenStore,
} from "@drover/shepherd/api/access";
import { afterAll, expect, test } from "@jest/globals";

const directory = mkdtempSync(join(tmpdir(), "drover-tokens-"));
afterAll(() => rmSync(directory, { recursive: true }));

test.each<[AnyRole, readonly Access[]]>([
  ["local-root", ["open", "read", "declare", "ask", "operate"]],
  ["operator", ["open", "read", "declare", "ask", "operate"]],
  ["approver", ["open", "read", "approve"]],
  ["reader", ["open", "read"]],
  ["stack", ["open", "read", "declare", "ask"]],
])("%s may exactly its own", (role, expected) => {
  const all: readonly Access[] = ["open", "read", "declare", "ask", "operate", "approve"];
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

test("a stack touches only what it owns", () => {
  expect(() => checkOwner({ name: "alice", role: "stack" }, "alice")).not.toThrow();
  expect(() => checkOwner({ name: "bob", role: "operator" }, "alice")).not.toThrow();
  expect(() => checkOwner({ name: "bob", role: "stack" }, "alice")).toThrow("alice does");
});

test("a created token works now and after a restart, and its file tells nobody what it is", () => {
  const file = join(directory, "tokens.json");
  const token = createTokenStore({ configured: [], file }).create({ name: "ci", role: "stack" });
  expect(createTokenStore({ configured: [], file }).find(token)).toEqual({
    name: "ci",
    role: "stack",
  });
  expect(readFileSync(file, "utf8")).not.toContain(token);
  expect(statSync(file).mode & 0o777).toBe(0o600);
  expect(() => createTokenStore({ configured: [], file }).find(`${token}x`)).toThrow(
    "No such token",
  );
  expect(() =>
    createTokenStore({ configured: [], file }).create({ name: "ci", role: "reader" }),
  ).toThrow("exists already");
});
