/**
 * Puts a planned change to the shepherd for a dry decision, before anything is done: what policy would warn of or refuse
 * stands in the plan, at the attribute that it concerns. All changes of one run are told under one id, so that quotas see
 * their sum. Apply is judged again; a shepherd that cannot be asked leaves the plan unjudged, and says so.
 */
import { randomUUID } from "node:crypto";
import { ProblemError, type ShepherdClient, UnreachableError } from "@drover/shepherd/api/client";
import type { PlanCheckAnswer, PlanCheckBody } from "@drover/shepherd/api/contract";
import type { PlannedOf, StateOf } from "#schema/attribute";
import type { Report } from "#schema/report";
import type { Foreseen, ForeseenChange, PrivateData, Work } from "#schema/resource";
import { isUnknown } from "#schema/value";
import { askCheck } from "./plan-run.ts";

export type CheckedKind = PlanCheckBody["kind"];

/** What is known of the object that is checked: parts of a `DeclaredObject`. */
export interface Checked<A> {
  readonly checkedAs: CheckedKind;
  readonly attributes: readonly string[];
  readonly put: (planned: PlannedOf<A>, config: PlannedOf<A>) => { body: object };
  readonly patch?: (change: {
    prior: StateOf<A>;
    planned: PlannedOf<A>;
    config: PlannedOf<A>;
    private: PrivateData;
  }) => object | undefined;
  readonly idOf: (state: StateOf<A>) => string;
  readonly keepsDisk?: (state: StateOf<A>) => boolean;
  readonly titled: (verb: string, state: PlannedOf<A>) => string;
}

/** Shepherds that did not answer a check in this run: one wait is enough. */
const silent = new WeakSet<ShepherdClient>();
/** Shepherds that this run has begun to change: what was planned before is real now, and must not be summed twice. */
const applying = new WeakSet<ShepherdClient>();

/** Told by whatever changes something: from now on each check stands for itself. */
export function startApplying(client: ShepherdClient): void {
  applying.add(client);
}

/** How each attribute of the last change is put in force: filled in by the check, so that the plan shows it. */
export const waysAttribute = {
  type: ["map", "string"],
  computed: true,
  description:
    "How the last change from the stack was to be put in force, by attribute: `live`, `move` (live, to another host) or `restart`. A plan shows it beforehand.",
} as const;

/** A value that only the stack's own plan and state hold, as it stood there; null when there is none yet. */
export function onlyStack<Kept>(value: unknown): Kept | null {
  return value === undefined || isUnknown(value) ? null : (value as Kept | null);
}

/** The id under which the changes of this plan are summed; each stands for itself once the run has begun to change things. */
function runOf({ client, runId }: Work): string {
  return applying.has(client) ? randomUUID() : runId;
}

/** Tells the shepherd what the rest of this plan is to be judged by, too. */
export async function tellPlan(
  work: Work,
  told: Omit<PlanCheckBody, "run" | "earlier">,
  what: string,
): Promise<void> {
  await ask(work, { run: runOf(work), ...told }, what);
}

/** Puts the change to the shepherd. What it says goes into the report; the ways into the plan of a resource that has them. */
export async function checkPlan<A>(
  work: Work,
  change: ForeseenChange<A>,
  of: Checked<A>,
): Promise<Foreseen<A> | undefined> {
  const { prior, planned } = change;
  const about = prior ?? planned;
  if (about === null) return undefined;
  const body = checkOf(runOf(work), change, of);
  if (body === undefined) return undefined;
  const what = of.titled(body.verb, about as PlannedOf<A>);
  const answer = await ask(work, body, what);
  if (answer === undefined) return undefined;
  report(work.report, answer, { what, of, planned });
  if (body.verb !== "update" || !of.attributes.includes("ways")) return undefined;
  const ways = Object.fromEntries(answer.ways.map(({ attribute, way }) => [attribute, way]));
  // A has `ways`: it was looked up just above
  return { planned: { ways } as unknown as Partial<PlannedOf<A>> };
}

/** Undefined when nothing that the shepherd keeps would change. */
function checkOf<A>(
  run: string,
  { prior, planned, config, private: kept, replacing }: ForeseenChange<A>,
  of: Checked<A>,
): PlanCheckBody | undefined {
  const kind = of.checkedAs;
  if (prior !== null && (planned === null || replacing.length > 0)) {
    const kept = of.keepsDisk?.(prior) === true ? { keep_disk: true as const } : {};
    return { run, kind, verb: "delete", id: of.idOf(prior), ...kept };
  }
  if (planned === null || config === null) return undefined;
  if (prior !== null) {
    const body = of.patch?.({ prior, planned, config, private: kept });
    if (body === undefined) return undefined;
    return {
      run,
      kind,
      verb: "update",
      id: of.idOf(prior),
      body: knownBody(body, planned),
      ...namedAddresses(planned),
    };
  }
  const { environment_id, name } = planned as { environment_id?: unknown; name?: unknown };
  return {
    run,
    kind,
    verb: "create",
    ...(typeof environment_id === "string" ? { environment: environment_id } : {}),
    ...(typeof name === "string" ? { name } : {}),
    body: knownBody(of.put(planned, config).body, planned),
    ...namedAddresses(planned),
  };
}

/** Of cards on networks that are perhaps not known yet, so that no machine created before it takes them. */
function namedAddresses(planned: object): { readonly addresses?: string[] } {
  const { networks } = planned as { readonly networks?: unknown };
  const addresses = (Array.isArray(networks) ? networks : []).flatMap((card: unknown) => {
    const { address } = (card ?? {}) as { readonly address?: unknown };
    return typeof address === "string" ? [address] : [];
  });
  return addresses.length === 0 ? {} : { addresses };
}

/** Objects that say nothing in parts. */
const undivided = new Set(["start_from"]);

/** The body without what is not known yet: a field, a field of an object in it, a whole range or list beyond that. */
function knownBody(body: object, planned: object): Record<string, unknown> {
  const unknowns = new Set(
    Object.entries(planned).flatMap(([name, value]) => (isUnknown(value) ? [name] : [])),
  );
  const known = Object.entries(body).filter(([name]) => !unknowns.has(name));
  return knownFields(Object.fromEntries(known), 1);
}

function knownFields(body: object, levels: number): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(body).flatMap(([name, value]): [string, unknown][] => {
      // A list that lacked an item would be another list: a card or a disk less.
      if (Array.isArray(value)) return value.every(isWhole) ? [[name, value]] : [];
      const isDivisible = typeof value === "object" && value !== null && !isUnknown(value);
      if (isDivisible && levels > 0 && !undivided.has(name))
        return [[name, knownFields(value, levels - 1)]];
      return isWhole(value) ? [[name, value]] : [];
    }),
  );
}

function isWhole(value: unknown): boolean {
  if (value === undefined || isUnknown(value)) return false;
  if (typeof value !== "object" || value === null) return true;
  return Object.values(value).every(isWhole);
}

async function ask(
  work: Work,
  body: PlanCheckBody,
  what: string,
): Promise<PlanCheckAnswer | undefined> {
  const { client, report: said, signal } = work;
  if (silent.has(client)) return undefined;
  try {
    return await askCheck(client, body, signal);
  } catch (error) {
    if (!(error instanceof ProblemError || error instanceof UnreachableError)) throw error;
    if (error instanceof UnreachableError) silent.add(client);
    const why = error instanceof ProblemError ? error.problem.detail : error.message;
    said.warning(
      "The plan was not judged",
      `The shepherd could not say whether it would ${what}: ${why} Apply asks it again. [${error.code}]`,
    );
    return undefined;
  }
}

function report<A>(
  said: Report,
  answer: PlanCheckAnswer,
  { what, of, planned }: { what: string; of: Checked<A>; planned: PlannedOf<A> | null },
): void {
  const at = (attribute: string | null) => {
    const path = attribute?.split(".") ?? [];
    return of.attributes.includes(path[0] ?? "") ? said.at(...path) : said;
  };
  const before = said.diagnostics.length;
  for (const finding of answer.findings) {
    const { rule, owner, message, nearest } = finding;
    const values = Object.entries(nearest ?? {}).map(([name, value]) => `${name} = ${value}`);
    const text = `${sentence(message)}${values.length === 0 ? "" : ` Nearest allowed: ${values.join(", ")}.`}`;
    const where = at(finding.attribute ?? Object.keys(nearest ?? {})[0] ?? null);
    if (finding.severity === "warning")
      where.warning(`Policy: ${rule} (${owner})`, `To ${what}: ${text}`);
    else
      where.error(
        // What no owner says, but drover itself: no room, a restart, a name that is taken.
        owner === "drover"
          ? "The shepherd would refuse this"
          : `Policy does not allow this: ${rule} (${owner})`,
        `The shepherd would not ${what}. ${text} Nothing has been changed. [${answer.code}]`,
      );
  }
  tellWays(at, answer, { what, planned });
  if (answer.verdict === "approval")
    said.warning(
      "This waits for approval when it is applied",
      `To ${what}: ${sentence(answer.message)} Apply prints the request's id and waits within its timeouts; a later apply goes on waiting.`,
    );
  const told = said.diagnostics.slice(before).some(({ severity }) => severity === "error");
  if (answer.verdict === "denied" && !told)
    said.error(
      "The shepherd would refuse this",
      `It would not ${what}. ${sentence(answer.message)} Nothing has been changed. [${answer.code}]`,
    );
}

/** A restart must be allowed; a move is told with its cost. What happens live needs no words. */
function tellWays(
  at: (attribute: string) => Report,
  { ways, predicted }: PlanCheckAnswer,
  { what, planned }: { what: string; planned: object | null },
): void {
  const may = mayRestart(planned);
  const cost =
    predicted === null
      ? ""
      : ` It takes about ${seconds(predicted.duration_ms)}, copies ${Math.ceil(predicted.bytes / 2 ** 20)} MiB and stops the guest for about ${predicted.downtime_ms} ms.`;
  for (const { attribute, way } of ways) {
    if (way === "move")
      at(attribute).warning(
        "This moves the machine, live",
        `To ${what}, it is moved to another host while it runs.${cost}`,
      );
    if (way === "restart" && may)
      at(attribute).warning(
        "This restarts the machine",
        `To ${what}, its guest is stopped and started.`,
      );
    if (way === "restart" && !may)
      at(attribute).error(
        "This needs a restart",
        `${attribute} cannot change while the machine runs. Set allow_restart = true to let apply stop and start its guest, or leave ${attribute} as it is. [machine.restart_needed]`,
      );
  }
}

/** A machine's own word, or that of a group's template. */
function mayRestart(planned: object | null): boolean {
  const { allow_restart, template } = (planned ?? {}) as {
    readonly allow_restart?: unknown;
    readonly template?: { readonly allow_restart?: unknown } | null;
  };
  return (allow_restart ?? template?.allow_restart) === true;
}

function sentence(text: string): string {
  return text === "" ? "" : `${text.replace(/\.$/, "")}.`;
}
function seconds(ms: number): string {
  return `${Number((ms / 1000).toPrecision(2))} s`;
}
