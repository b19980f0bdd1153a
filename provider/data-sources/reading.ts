/** One look at the shepherd for a data source: what goes wrong is reported at the attribute that it concerns. */
import type { Work } from "#schema/resource";
import { reportError } from "../resources/problems.ts";

/** The body's answer, or null after its failure was reported. `what` follows "Could not": `read site "north"`. */
export async function reading<State>(
  work: Work,
  what: string,
  attributes: readonly string[],
  body: () => Promise<State | null>,
): Promise<State | null> {
  try {
    return await body();
  } catch (error) {
    reportError(work, error, { what, attributes });
    return null;
  }
}
