/**
 * Who calls, and what they may do. The unix socket's file mode decides who is `local-root`; everybody else shows a
 * bearer token, of which only the hash is kept. Policy comes later and judges what is asked; this only opens the door.
 */
import { createHash, randomBytes } from "node:crypto";
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import type { Role, TokenRecord } from "#configuration/configuration";
import { errorCode } from "#model/error-code";
import { Fault } from "#model/fault";
import type { Subject } from "#model/request";

/** read: look. declare: environments and what is in them. ask: requests. operate: holds, cancels, tokens. */
export type Access = "open" | "read" | "declare" | "ask" | "operate" | "approve";

/** Also of the socket's principal. */
export type AnyRole = Role | "local-root";

/** local-root can never approve: whoever can restart the shepherd must not also be the second pair of eyes. */
const allowed: Readonly<Record<AnyRole, readonly Access[]>> = {
  "local-root": ["open", "read", "declare", "ask", "operate"],
  operator: ["open", "read", "declare", "ask", "operate"],
  approver: ["open", "read", "approve"],
  reader: ["open", "read"],
  stack: ["open", "read", "declare", "ask"],
};

export interface Principal {
  readonly name: string;
  readonly role: AnyRole;
}
export const localRoot: Principal = { name: "local-root", role: "local-root" };

export function mayAccess(principal: Principal, access: Access): boolean {
  return allowed[principal.role].includes(access);
}

/** Fault `access.denied` names what the role lacks. */
export function checkAccess(principal: Principal, access: Access): void {
  if (mayAccess(principal, access)) return;
  throw new Fault("access.denied", {
    principal: principal.name,
    role: principal.role,
    access,
  });
}

/** A stack may only touch what its own name owns; operators and local-root may touch everything. */
export function checkOwner(principal: Principal, owner: string): void {
  if (principal.role !== "stack" || principal.name === owner) return;
  throw new Fault("access.not_owner", { principal: principal.name, owner });
}

/** The principal as policy sees it. Declarations come from the stack, asks from an operator. */
export function subjectOf(principal: Principal, type: "stack" | "operator"): Subject {
  return { type, name: principal.name, roles: [principal.role] };
}

export interface TokenStore {
  /** Fault `access.token_unknown`. */
  find(token: string): Principal;
  /** The new token, shown this once. Fault `access.token_exists` when the name is taken. */
  create(request: { readonly name: string; readonly role: Role }): string;
  list(): readonly { readonly name: string; readonly role: Role }[];
}

/** 32 random bytes: long enough that a plain hash of it cannot be searched. */
const tokenBytes = 32;
const tokenPrefix = "drover_";

/** Tokens of drover.yaml, plus those created at run time, which live in `file` (mode 0600, replaced whole). */
export function createTokenStore(options: {
  readonly configured: readonly TokenRecord[];
  readonly file: string;
}): TokenStore {
  let created = readTokens(options.file);
  const all = () => [...options.configured, ...created];
  return {
    find(token) {
      const sha256 = hashOf(token);
      const found = all().find((record) => record.sha256 === sha256);
      if (found === undefined) throw new Fault("access.token_unknown");
      return { name: found.name, role: found.role };
    },
    create({ name, role }) {
      if (name === localRoot.name || all().some((record) => record.name === name)) {
        throw new Fault("access.token_exists", { name });
      }
      const token = `${tokenPrefix}${randomBytes(tokenBytes).toString("base64url")}`;
      const next = [...created, { name, role, sha256: hashOf(token) }];
      mkdirSync(dirname(options.file), { recursive: true, mode: 0o700 });
      writeFileSync(`${options.file}.new`, `${JSON.stringify(next, undefined, 2)}\n`, {
        mode: 0o600,
        flush: true,
      });
      renameSync(`${options.file}.new`, options.file);
      created = next;
      return token;
    },
    list: () => all().map(({ name, role }) => ({ name, role })),
  };
}

function readTokens(file: string): readonly TokenRecord[] {
  try {
    return JSON.parse(readFileSync(file, "utf8")) as TokenRecord[]; // written by create() only
  } catch (error) {
    if (errorCode(error) === "ENOENT") return [];
    throw error;
  }
}

function hashOf(token: string): string {
  return createHash("sha256").update(token).digest("hex");
}
