/**
 * What environments say of adaptation in this run of Terraform. An environment is planned before what stands in it, so an
 * edit of its mode reaches the machines' plans of the same run. Knows only environments that have an id already.
 */
import { isUnknown } from "#schema/value";

/** By id; null: it says nothing. */
const planned = new Map<string, string | null>();

/** Told by each plan of an environment. */
export function planEnvironmentMode(id: unknown, mode: unknown): void {
  if (typeof id !== "string") return;
  if (isUnknown(mode)) planned.delete(id);
  else planned.set(id, typeof mode === "string" ? mode : null);
}

/** Whether it pins what says nothing of a mode itself; undefined: this run has not planned it. */
export function environmentPins(id: unknown): boolean | undefined {
  if (typeof id !== "string") return undefined;
  const mode = planned.get(id);
  return mode === undefined ? undefined : mode === "pinned";
}
