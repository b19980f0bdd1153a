/**
 * Decides again what a support bundle holds: policies out of the file, facts out of the file, a journal in memory.
 * Nothing is asked of any shepherd or host, and nothing is written.
 */
import { gunzipSync } from "node:zlib";
import type { DecidedPolicy } from "#api/contract";
import { Fault } from "#model/fault";
import type { Consent, Decision } from "#model/request";
import { loadPolicy } from "#opa/engine";
import type { PolicyData } from "#policy/data";
import { decideAgain } from "#policy/decide-again";
import { type DecisionSnapshot, differencesOf, policiesOf, snapshotFormat } from "#policy/snapshot";
import type { PolicyEngine } from "#ports/policy-engine";
import { openSqliteStore } from "#store/sqlite";

export interface Bundle {
  readonly snapshots: readonly DecisionSnapshot[];
  readonly policies: readonly DecidedPolicy[];
}

export interface Replayed {
  readonly request: string;
  readonly kind: string;
  readonly decisions: readonly string[];
  readonly effect: string;
  readonly code: string;
  readonly plan: { readonly digest: string; readonly actions: string } | undefined;
  readonly same: boolean;
  readonly differences: readonly string[];
}

export function keyOf({
  owner,
  policyDigest,
  dataDigest,
}: Pick<Consent, "owner" | "policyDigest" | "dataDigest">): string {
  return `${owner} ${policyDigest} ${dataDigest}`;
}

/** Of one decision or of all. Faults `snapshot.unreadable`, `snapshot.unknown`. */
export async function replayBundle(
  text: string,
  of: { readonly file: string; readonly decision: string | undefined },
): Promise<readonly Replayed[]> {
  const { snapshots, policies } = read(text, of.file);
  const { decision } = of;
  const chosen =
    decision === undefined
      ? snapshots
      : snapshots.filter(
          ({ request, decisions }) =>
            request.id === decision || decisions.some(({ id }) => id === decision),
        );
  if (chosen.length === 0) {
    throw new Fault("snapshot.unknown", { file: of.file, decision: decision ?? "any" });
  }
  const engines = new Map<string, PolicyEngine>();
  try {
    const replayed: Replayed[] = [];
    for (const snapshot of chosen) replayed.push(await replay(snapshot, policies, engines));
    return replayed;
  } finally {
    for (const engine of engines.values()) await engine.close();
  }
}

async function replay(
  snapshot: DecisionSnapshot,
  policies: readonly DecidedPolicy[],
  engines: Map<string, PolicyEngine>,
): Promise<Replayed> {
  const used = new Map<string, PolicyEngine>();
  const missing: string[] = [];
  for (const wanted of policiesOf(snapshot)) {
    const key = keyOf(wanted);
    const engine = engines.get(key) ?? (await load(policies, key));
    if (engine === undefined) {
      missing.push(`the policy of ${wanted.owner} is not in the file`);
      continue;
    }
    engines.set(key, engine);
    used.set(wanted.owner, engine);
  }
  const store = openSqliteStore(":memory:");
  try {
    const again = await decideAgain(snapshot, { store, engines: used });
    const differences = [...missing, ...differencesOf(snapshot, again), ...gaveUp(snapshot)];
    return { ...told(snapshot), same: differences.length === 0, differences };
  } finally {
    await store.close();
  }
}

async function load(
  policies: readonly DecidedPolicy[],
  key: string,
): Promise<PolicyEngine | undefined> {
  const found = policies.find(
    (one) =>
      keyOf({ owner: one.owner, policyDigest: one.policy_digest, dataDigest: one.data_digest }) ===
      key,
  );
  if (found === undefined) return undefined;
  return await loadPolicy({
    owner: found.owner,
    wasm: new Uint8Array(gunzipSync(Buffer.from(found.wasm_gz_base64, "base64"))),
    // Its digest is compared with the recorded one by what it answers.
    data: found.data as PolicyData,
    policyDigest: found.policy_digest,
    dataDigest: found.data_digest,
  });
}

/** Verdicts of a clock or of load are nobody's to repeat. */
const notRepeatable = new Set(["policy.timeout", "policy.overloaded", "policy.trap"]);

function gaveUp({ decisions }: DecisionSnapshot): readonly string[] {
  return decisions
    .filter(({ code }) => notRepeatable.has(code))
    .map(({ code }) => `${code} was said by the machine, not by the policy: it cannot be repeated`);
}

function told({
  request,
  decisions,
  plan,
}: DecisionSnapshot): Omit<Replayed, "same" | "differences"> {
  const last: Decision | undefined = decisions.at(-1);
  return {
    request: request.id,
    kind: request.kind,
    decisions: decisions.map(({ id }) => id),
    effect: last?.effect ?? "",
    code: last?.code ?? "",
    plan:
      plan === undefined
        ? undefined
        : {
            digest: plan.digest,
            actions: plan.actions.map(({ kind }) => kind).join(", ") || "nothing to do",
          },
  };
}

function read(text: string, file: string): Bundle {
  const problem = (what: string) => new Fault("snapshot.unreadable", { file, problem: what });
  let found: Partial<Bundle> | null;
  try {
    found = JSON.parse(text) as Partial<Bundle> | null;
  } catch (cause) {
    throw new Fault("snapshot.unreadable", { file, problem: "it is no JSON" }, { cause });
  }
  const { snapshots, policies } = found ?? {};
  if (!Array.isArray(snapshots) || !Array.isArray(policies)) {
    throw problem("it is no bundle of `drover support`, or one of an older release");
  }
  const other = (snapshots as readonly DecisionSnapshot[]).find(
    ({ format }) => format !== snapshotFormat,
  );
  if (other !== undefined)
    throw problem(`its snapshots have format ${other.format}, not ${snapshotFormat}`);
  return { snapshots, policies };
}
