/**
 * The life of an object that is declared by natural key and has an id: environment, network, image, link, machine.
 * Create is PUT; after it the object is looked up by its key, which does not claim it, so that an apply that was killed
 * before Terraform saved the id finds it again. Reading by id claims it.
 */
import type { ShepherdClient } from "@drover/shepherd/api/client";
import type { PlannedOf, StateOf } from "#schema/attribute";
import type { Report } from "#schema/report";
import type {
  ForeseenChange,
  PrivateData,
  Reached,
  ResourceBehaviour,
  Work,
} from "#schema/resource";
import { type MutationRequest, mutate } from "./mutation.ts";
import { type CheckedKind, checkPlan } from "./plan-check.ts";
import { reportError } from "./problems.ts";

/** How long a last look may take once the verb's own time is over. */
const lookMs = 3000;

export interface DeclaredObject<A, View> {
  /** For messages: `machine`. */
  readonly noun: string;
  readonly attributes: readonly string[];
  /** What the shepherd calls it when a plan of it is judged; absent: its plans are not judged. */
  readonly checkedAs?: CheckedKind;
  /** Where it is created: PUT here, with this body. A plan is judged by it too: then parts may be unknown. */
  readonly put: (planned: PlannedOf<A>, config: PlannedOf<A>) => { path: string; body: object };
  /** Where it is read, changed and deleted. */
  readonly one: (id: string) => string;
  /** Looks it up by its natural key, without claiming it. */
  readonly lookUp: (client: ShepherdClient, key: PlannedOf<A>) => Promise<View | undefined>;
  /** Body of PATCH; undefined when there is nothing to send. Absent: nothing can be changed in place. */
  readonly patch?: (change: {
    prior: StateOf<A>;
    planned: PlannedOf<A>;
    config: PlannedOf<A>;
    private: PrivateData;
  }) => object | undefined;
  /** Looks at a change before it is judged: what is protected, what would be lost. */
  readonly beforeCheck?: (change: ForeseenChange<A>, report: Report) => void;
  /** Waits for what already works on it; the state to change from then, undefined after an error was reported. */
  readonly join?: (work: Work, prior: StateOf<A>, what: string) => Promise<StateOf<A> | undefined>;
  /** What to keep beside the state that was read, beyond what the view says. */
  readonly observe?: (work: Work, view: View) => Promise<PrivateData>;
  readonly state: (view: View, prior: PlannedOf<A> | null) => Reached<A> & { state: StateOf<A> };
  /** The state to return after a change that succeeded; default is what the shepherd says. */
  readonly settle?: (reached: StateOf<A>, planned: PlannedOf<A>) => StateOf<A>;
  /** Deleting it leaves its disk. */
  readonly keepsDisk?: (state: StateOf<A>) => boolean;
  /** A record of what came to nothing: no object, for the next PUT declares it anew. */
  readonly isNowhere?: (view: View) => boolean;
  readonly idOf: (state: StateOf<A>) => string;
  readonly nameOf: (state: PlannedOf<A>) => string;
  /** The object that a user named for import. */
  readonly find: (client: ShepherdClient, id: string) => Promise<View | undefined>;
  /** What to type to import it. */
  readonly importIdOf: (planned: PlannedOf<A>) => string;
  readonly typeName: string;
}

export function declaredObject<A, View>(
  object: DeclaredObject<A, View>,
): Pick<ResourceBehaviour<A>, "foresee" | "read" | "create" | "update" | "remove" | "import"> {
  const { noun, attributes } = object;
  const titled = (verb: string, state: PlannedOf<A>) => `${verb} ${noun} "${object.nameOf(state)}"`;
  const settled = (reached: Reached<A> & { state: StateOf<A> }, planned: PlannedOf<A>) =>
    object.settle === undefined
      ? reached
      : { ...reached, state: object.settle(reached.state, planned) };

  /** Runs a call whose failure is reported; undefined then. */
  async function attempt<T>(
    work: Work,
    what: string,
    call: () => Promise<T>,
  ): Promise<{ value: T } | undefined> {
    try {
      return { value: await call() };
    } catch (error) {
      reportError(work, error, { what, attributes });
      return undefined;
    }
  }

  return {
    async foresee(work, change) {
      object.beforeCheck?.(change, work.report);
      if (work.report.failed || object.checkedAs === undefined) return undefined;
      return await checkPlan(work, change, { ...object, checkedAs: object.checkedAs, titled });
    },

    async read(work, state) {
      const what = titled("read", state as PlannedOf<A>);
      const found = await attempt(work, what, async () => {
        const view = await work.client.find<View>(object.one(object.idOf(state)), {
          signal: work.signal,
        });
        return view && { view, observed: await object.observe?.(work, view) };
      });
      if (found === undefined) return { state };
      if (found.value === undefined) return { state: null };
      const reached = object.state(found.value.view, state as PlannedOf<A>);
      return { ...reached, private: { ...reached.private, ...found.value.observed } };
    },

    async create(work, { planned, config }) {
      const { path, body } = object.put(planned, config);
      const what = titled("create", planned);
      const request: MutationRequest = {
        method: "PUT",
        path,
        body,
        what,
        attributes,
        importHint: `Another state may manage it. To manage it here: terraform import ${object.typeName}.<name> '${object.importIdOf(planned)}'`,
      };
      const outcome = await mutate<View>(work, request);
      // Interrupted saves nothing: a saved half would be tainted and replaced, whereas the next PUT re-attaches.
      if (outcome.kind === "interrupted" || outcome.kind === "refused") return { state: null };
      if (outcome.kind === "done" && !outcome.followed && outcome.object !== null)
        return settled(object.state(outcome.object, planned), planned);
      const found = await attempt(work, titled("look up", planned), () =>
        object.lookUp(work.client, planned),
      );
      if (found === undefined) return { state: null };
      if (found.value === undefined) {
        if (outcome.kind === "done")
          work.report.error(
            `The ${noun} is gone`,
            `The shepherd finished to ${what}, but it does not know it any more. Someone may have deleted it; apply again.`,
          );
        return { state: null };
      }
      if (outcome.kind !== "done" && object.isNowhere?.(found.value) === true)
        return { state: null };
      const reached = object.state(found.value, planned);
      return outcome.kind === "done" ? settled(reached, planned) : reached;
    },

    async update(work, { prior, planned, config, private: kept }) {
      const one = object.one(object.idOf(prior));
      const what = titled("update", planned);
      const from = object.join === undefined ? prior : await object.join(work, prior, what);
      const body =
        from === undefined
          ? undefined
          : object.patch?.({ prior: from, planned, config, private: kept });
      const outcome =
        from === undefined
          ? ({ kind: "interrupted" } as const)
          : body === undefined
            ? ({ kind: "done", object: null, followed: true } as const)
            : await mutate<View>(work, { method: "PATCH", path: one, body, what, attributes });
      if (outcome.kind === "done" && !outcome.followed && outcome.object !== null)
        return settled(object.state(outcome.object, planned), planned);
      // After an interrupt the signal is spent, but what was reached still has to be looked up, quickly.
      const signal = work.signal.aborted ? AbortSignal.timeout(lookMs) : work.signal;
      const found = await attempt(work, titled("read", planned), () =>
        work.client.find<View>(one, { signal }),
      );
      if (found === undefined) return { state: prior, private: kept };
      if (found.value === undefined) {
        work.report.error(
          `The ${noun} is gone`,
          `Could not ${what}: the shepherd does not know it any more. Plan again to create it.`,
        );
        return { state: null };
      }
      if (outcome.kind === "done") return settled(object.state(found.value, planned), planned);
      return object.state(found.value, prior as PlannedOf<A>);
    },

    async remove(work, state) {
      const what = titled("delete", state as PlannedOf<A>);
      const one = object.one(object.idOf(state));
      const exists = await attempt(work, what, () =>
        work.client.find<View>(one, { signal: work.signal }),
      );
      if (exists === undefined || exists.value === undefined) return;
      if (object.join !== undefined && (await object.join(work, state, what)) === undefined) return;
      const query = object.keepsDisk?.(state) === true ? "?keep_disk=1" : "";
      await mutate<null>(work, { method: "DELETE", path: `${one}${query}`, what, attributes });
    },

    async import(work, id) {
      const found = await attempt(work, `import ${noun} "${id}"`, () =>
        object.find(work.client, id),
      );
      return found?.value === undefined ? null : object.state(found.value, null).state;
    },
  };
}

/** A `beforeCheck` for objects with `deletion_protection`: a plan that would destroy one is an error. */
export function refuseProtected(
  change: {
    readonly prior: object | null;
    readonly planned: unknown;
    readonly replacing: readonly string[];
  },
  report: Report,
): void {
  const { prior, planned, replacing } = change;
  const gone = planned === null || replacing.length > 0;
  if (!gone || prior === null || !("deletion_protection" in prior)) return;
  if (prior.deletion_protection !== true) return;
  const why =
    planned === null ? "destroy" : `replace (${replacing.join(", ")} cannot change in place)`;
  report
    .at("deletion_protection")
    .error(
      "It is protected from deletion",
      `This plan would ${why} it. To allow that, apply deletion_protection = false first. [object.protected]`,
    );
}

/** Splits `environment/name`; undefined when it is no such pair. */
export function splitImportId(id: string): { environment: string; name: string } | undefined {
  const [environment, name, ...rest] = id.split("/");
  if (environment === undefined || name === undefined || name === "" || rest.length > 0)
    return undefined;
  return { environment, name };
}
