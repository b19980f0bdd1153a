/** What a declaration in an environment is read with: the sites and hosts there are, and what their owners let it say. */
import type { Declaration } from "#api/machine-spec";
import type { ApiWorld } from "#api/world";
import type { EnvironmentRecord } from "#model/objects";

export function declarationIn(
  { siteIds, rawXmlPaths = {}, clock, sensing }: ApiWorld,
  environment: EnvironmentRecord,
): Declaration {
  const hosts = sensing.sites().flatMap((site) => site.hosts);
  const hostSites = new Map(hosts.map(({ id, siteId }) => [id, siteId]));
  return { environment, siteIds, hostSites, rawXmlPaths, nowMs: clock.nowMs() };
}
