/**
 * The life of what an operator registers at the shepherd: sites and hosts. They have a name of their own, PUT writes them
 * whole, and nothing runs because of it: the shepherd begins, or ends, to look at them.
 */
import type { PlannedOf, StateOf } from "#schema/attribute";
import type { ResourceBehaviour, Work } from "#schema/resource";
import { reportError } from "./problems.ts";

export interface RegisteredObject<A, View> {
  readonly noun: string;
  readonly attributes: readonly string[];
  /** Where it is written, read and deleted. */
  readonly one: (state: PlannedOf<A>) => { readonly write: string; readonly read: string };
  readonly body: (planned: PlannedOf<A>) => object;
  /** What the shepherd does not show stays as the stack said. */
  readonly state: (view: View, prior: PlannedOf<A> | null) => StateOf<A>;
  readonly nameOf: (state: PlannedOf<A>) => string;
  readonly find: (work: Work, id: string) => Promise<View | undefined>;
}

export function registeredObject<A, View>(
  object: RegisteredObject<A, View>,
): Pick<ResourceBehaviour<A>, "read" | "create" | "update" | "remove" | "import"> {
  const { attributes, noun } = object;

  /** Null after its failure was reported. */
  async function attempt<T>(
    work: Work,
    what: string,
    call: () => Promise<T>,
  ): Promise<{ readonly value: T } | null> {
    try {
      return { value: await call() };
    } catch (error) {
      reportError(work, error, { what, attributes });
      return null;
    }
  }
  const titled = (verb: string, state: PlannedOf<A>) => `${verb} ${noun} "${object.nameOf(state)}"`;
  const look = (work: Work, state: PlannedOf<A>) =>
    work.client.find<View>(object.one(state).read, { signal: work.signal });

  async function write(
    work: Work,
    verb: string,
    planned: PlannedOf<A>,
  ): Promise<StateOf<A> | null> {
    const written = await attempt(work, titled(verb, planned), async () => {
      await work.client.call("PUT", object.one(planned).write, {
        body: object.body(planned),
        signal: work.signal,
      });
      return await look(work, planned);
    });
    return written?.value === undefined ? null : object.state(written.value, planned);
  }

  return {
    async read(work, state) {
      const known = state as PlannedOf<A>;
      const found = await attempt(work, titled("read", known), () => look(work, known));
      if (found === null) return { state };
      return { state: found.value === undefined ? null : object.state(found.value, known) };
    },
    async create(work, { planned }) {
      return { state: await write(work, "register", planned) };
    },
    async update(work, { prior, planned }) {
      return { state: (await write(work, "update", planned)) ?? prior };
    },
    async remove(work, state) {
      const known = state as PlannedOf<A>;
      await attempt(work, titled("remove", known), async () => {
        if ((await look(work, known)) === undefined) return;
        await work.client.call("DELETE", object.one(known).write, { signal: work.signal });
      });
    },
    async import(work, id) {
      const found = await attempt(work, `import ${noun} "${id}"`, () => object.find(work, id));
      return found?.value === undefined ? null : object.state(found.value, null);
    },
  };
}
