/**
 * The audit of what stands: every environment as it is now against the policies of now, on demand and every quarter of
 * an hour. Grants and forbids nothing; what it finds is an event and a row of the report. Asks the same engines as the
 * gate, at their entrypoint `audit`.
 */
import type { Logger } from "pino";
import type { EnvironmentRecord } from "#model/objects";
import type { Finding } from "#model/request";
import type { Ms } from "#model/units";
import { type Engines, engineOf } from "#policy/consult";
import { gatherFacts, type Sensed } from "#policy/facts";
import { History } from "#policy/history";
import { ownersOf } from "#policy/owners";
import { auditInput } from "#policy/policy-input";
import { inputFor } from "#policy/visible";
import type { Clock } from "#ports/clock";
import type { Store } from "#ports/store";

export interface AuditFinding {
  readonly environmentId: string;
  readonly environment: string;
  readonly finding: Finding;
  /** Of the bundle that said so; where its rule stands can be looked up with it. */
  readonly policyDigest: string;
  readonly firstSeenMs: Ms;
}
export interface AuditReport {
  readonly atMs: Ms;
  readonly environments: number;
  readonly checks: number;
  readonly findings: readonly AuditFinding[];
}
export interface Audit {
  /** Looks now. A rule that gives no value is a finding too. */
  report(): Promise<AuditReport>;
  start(): void;
  stop(): void;
}

const everyMs: Ms = 900_000;
/** After a start hosts are looked at first. */
const firstMs: Ms = 30_000;

export function createAudit(world: {
  readonly store: Store;
  readonly sensed: Sensed;
  readonly engines: Engines;
  readonly clock: Clock;
  readonly log: Logger;
}): Audit {
  const { store, sensed, engines, clock, log } = world;
  /** What the last round found, and since when. */
  let known = new Map<string, Ms>();
  let cancelTimer: () => void = () => undefined;
  let stopped = true;

  async function auditOne(environment: EnvironmentRecord, nowMs: Ms): Promise<Said[]> {
    const facts = await store.read(async (journal) => {
      const history = new History();
      await history.load(journal, nowMs);
      return gatherFacts(journal, { sensed, history, nowMs, environmentId: environment.id });
    });
    const sites = facts.machines
      .filter(
        ({ environmentId, effective }) =>
          environmentId === environment.id && effective.hostId !== "",
      )
      .map(({ effective }) => effective.siteId);
    await othersTurn();
    const input = auditInput(facts, environment);
    await othersTurn();
    const said: Said[] = [];
    for (const owner of ownersOf(environment, [...new Set(sites)].toSorted())) {
      const answer = await engineOf(engines, owner)?.evaluate("audit", inputFor(owner, input));
      for (const finding of answer?.findings ?? [absent(owner)]) {
        said.push({
          environment,
          finding: { ...finding, owner },
          policyDigest: answer?.policyDigest ?? "",
        });
      }
    }
    return said;
  }

  async function report(): Promise<AuditReport> {
    const atMs = clock.nowMs();
    const environments = await store.read((journal) => journal.objects.list("environment"));
    const said: Said[] = [];
    for (const environment of environments) {
      said.push(...(await auditOne(environment, atMs)));
      await othersTurn();
    }
    const failed = said.filter(({ finding }) => !finding.ok && finding.code !== "policy.exempt");
    const seen = new Map<string, Ms>();
    const findings = failed.map((one): AuditFinding => {
      const key = keyOf(one);
      const firstSeenMs = known.get(key) ?? atMs;
      seen.set(key, firstSeenMs);
      const { environment, finding, policyDigest } = one;
      return {
        environmentId: environment.id,
        environment: environment.spec.name,
        finding,
        policyDigest,
        firstSeenMs,
      };
    });
    await tell(
      findings.filter((one) => one.firstSeenMs === atMs && !known.has(keyOfFinding(one))),
      atMs,
    );
    known = seen;
    return { atMs, environments: environments.length, checks: said.length, findings };
  }

  /** Once when it appears: the feed tells of changes, the report of what stands. */
  async function tell(fresh: readonly AuditFinding[], atMs: Ms): Promise<void> {
    if (fresh.length === 0) return;
    await store.transaction(async (journal) => {
      for (const { environmentId, finding } of fresh) {
        const { owner, rule, id, level, code, msg } = finding;
        await journal.events.append({
          kind: "audit.finding",
          atMs,
          environmentId,
          data: { owner, rule, id, level, code, msg },
        });
      }
    });
  }

  function sleep(forMs: Ms): void {
    cancelTimer();
    if (stopped) return;
    cancelTimer = clock.at(clock.nowMs() + forMs, () => {
      report()
        .catch((error: unknown) => log.error({ err: error }, "the audit failed; trying again"))
        .finally(() => sleep(everyMs));
    });
  }

  return {
    report,
    start() {
      stopped = false;
      sleep(firstMs);
    },
    stop() {
      stopped = true;
      cancelTimer();
    },
  };
}

/** Each environment's facts are the whole fleet's: what is due meanwhile comes between the parts of its audit. */
function othersTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

interface Said {
  readonly environment: EnvironmentRecord;
  readonly finding: Finding;
  readonly policyDigest: string;
}

function keyOf({ environment, finding }: Said): string {
  return `${environment.id} ${finding.owner} ${finding.rule} ${finding.id}`;
}

function keyOfFinding({ environmentId, finding }: AuditFinding): string {
  return `${environmentId} ${finding.owner} ${finding.rule} ${finding.id}`;
}

function absent(owner: string): Finding {
  return {
    rule: "policy",
    id: "missing",
    level: "deny",
    ok: false,
    code: "policy.absent",
    msg: `no policy of ${owner} is loaded`,
    params: {},
    owner,
    disclose: "operator",
  };
}
