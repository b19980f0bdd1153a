/** Looks up one object by natural key in a list of the shepherd; lists do not claim what they show. */
import type { ShepherdClient } from "@drover/shepherd/api/client";

/** The only match, or undefined when there is none. */
export async function findOne<View>(
  client: ShepherdClient,
  path: string,
  key: Readonly<Record<string, string>>,
): Promise<View | undefined> {
  const answer = await client.find<{ items: readonly View[] }>(path, { query: key });
  return answer?.items[0];
}
