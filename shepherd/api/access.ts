/**
 * Who calls, and what they may do. The unix socket's file mode decides who is `local-root`; everybody else shows a
 * bearer token, of which only the hash is kept. Policy comes later and judges what is asked; this only opens the door.
 */
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { createTokenSecrets } from "#api/token-secrets";
import type { Role, TokenRecord } from "#configuration/configuration";
import { errorCode } from "#model/error-code";
import { Fault } from "#model/fault";
import type { Subject } from "#model/request";
import type { Ms } from "#model/units";
import type { PolicyEngine } from "#ports/policy-engine";

/**
 * read: look. declare: environments and what is in them. ask: requests. operate: holds, cancels, tokens. approve: votes
 * on requests. secure: exemptions and policies.
 */
export type Access = "open" | "read" | "declare" | "ask" | "operate" | "approve" | "secure";

/** Also of the socket's principal. */
export type AnyRole = Role | "local-root";

/** local-root can never approve: whoever can restart the shepherd must not also be the second pair of eyes. */
const allowed: Readonly<Record<AnyRole, readonly Access[]>> = {
  "local-root": ["open", "read", "declare", "ask", "operate"],
  operator: ["open", "read", "declare", "ask", "operate"],
  approver: ["open", "read", "approve"],
  security: ["open", "read", "secure"],
  reader: ["open", "read"],
  stack: ["open", "read", "declare", "ask"],
};

export interface Principal {
  readonly name: string;
  readonly role: AnyRole;
  /** The person behind the token, where it names one. */
  readonly human?: string | undefined;
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

/** A site's owner speaks for it; whoever stands at the shepherd may act for them. Fault `recall.not_owner`. */
export function checkSpeaksForSite(
  principal: Principal,
  site: { readonly id: string; readonly owner: string },
): void {
  if (principal.name === site.owner) return;
  if (principal.role === "local-root" || principal.role === "operator") return;
  throw new Fault("recall.not_owner", {
    principal: principal.name,
    site: site.id,
    owner: site.owner,
  });
}

/** From a rule of the operator security exempts; from an owner's rule only that owner does. Fault `exemption.not_owner`. */
export function checkExempts(
  principal: Principal,
  owner: string,
  siteOwners: ReadonlyMap<string, string>,
): void {
  if (owner === "operator") return;
  const [kind, name] = owner.split(":");
  const speaker = kind === "site" ? siteOwners.get(name ?? "") : name;
  if (principal.name === speaker) return;
  throw new Fault("exemption.not_owner", { by: principal.name, owner });
}

/** What a call wants, as far as it is known before its body is read. */
export interface RoleQuestion {
  readonly access: Access;
  readonly object: { readonly kind: string; readonly environment?: string | undefined };
}

/**
 * Asks the operator's policy (entrypoint `roles`). While it has no answer the table above stands: an API that a broken
 * bundle locks would lock out whoever mends it. That the local root approves nothing, no policy can change.
 */
export async function checkRole(
  engine: Pick<PolicyEngine, "query"> | undefined,
  principal: Principal,
  { access, object }: RoleQuestion,
): Promise<void> {
  if (access === "open") return;
  if (principal.role === "local-root" && access === "approve") checkAccess(principal, access);
  const { name, role } = principal;
  const said = await engine?.query("roles", {
    subject: { type: role === "stack" ? "stack" : "operator", name, role },
    action: access,
    object,
  });
  const verdict = said?.kind === "value" ? roleVerdictOf(said.value) : undefined;
  if (verdict === undefined) return checkAccess(principal, access);
  if (!verdict) throw new Fault("access.denied", { principal: name, role, access });
}

function roleVerdictOf(value: unknown): boolean | undefined {
  if (typeof value !== "object" || value === null || !("allow" in value)) return undefined;
  return typeof value.allow === "boolean" ? value.allow : undefined;
}

/** The principal as policy sees it. Declarations come from the stack, asks from an operator. */
export function subjectOf(principal: Principal, type: "stack" | "operator"): Subject {
  const { name, role, human } = principal;
  return { type, name, roles: [role], ...(human === undefined ? {} : { human }) };
}

export interface TokenStore {
  /** Fault `access.token_unknown`. */
  find(token: string): Principal;
  /**
   * The new token; shown this once, and to the same call when its answer was lost. Fault `access.token_exists` when the
   * name is taken.
   */
  create(request: Omit<TokenRecord, "sha256">, callId?: string): string;
  list(): readonly Omit<TokenRecord, "sha256">[];
}

/** Tokens of drover.yaml, plus those created at run time, which live in `file` (mode 0600, replaced whole). */
export function createTokenStore(options: {
  readonly configured: readonly TokenRecord[];
  readonly file: string;
  readonly nowMs: () => Ms;
}): TokenStore {
  let created = readTokens(options.file);
  const secrets = createTokenSecrets(`${options.file}.keys`, options.nowMs);
  const all = () => [...options.configured, ...created];
  return {
    find(token) {
      const sha256 = hashOf(token);
      const found = all().find((record) => record.sha256 === sha256);
      if (found === undefined) throw new Fault("access.token_unknown");
      return withoutHash(found);
    },
    create({ name, role, human }, callId) {
      const taken = all().find((record) => record.name === name);
      if (taken !== undefined && callId !== undefined) {
        const told = secrets.madeFor(callId).find((secret) => hashOf(secret) === taken.sha256);
        if (told !== undefined && taken.role === role && taken.human === human) return told;
      }
      if (name === localRoot.name || taken !== undefined) {
        throw new Fault("access.token_exists", { name });
      }
      const token = secrets.make(callId);
      const named = human === undefined ? {} : { human };
      const next = [...created, { name, role, ...named, sha256: hashOf(token) }];
      mkdirSync(dirname(options.file), { recursive: true, mode: 0o700 });
      writeFileSync(`${options.file}.new`, `${JSON.stringify(next, undefined, 2)}\n`, {
        mode: 0o600,
        flush: true,
      });
      renameSync(`${options.file}.new`, options.file);
      created = next;
      return token;
    },
    list: () => all().map(withoutHash),
  };
}

function withoutHash({ name, role, human }: TokenRecord): Omit<TokenRecord, "sha256"> {
  return { name, role, ...(human === undefined ? {} : { human }) };
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
