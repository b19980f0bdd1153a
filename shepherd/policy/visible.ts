/**
 * What of the facts each owner's policy may see. An environment's owner learns nothing of hosts, nor what others hold;
 * a site's owner learns the numbers of their own hosts only. What is cut is empty, so a rule that needs it gives no
 * value, and that denies. Pure: replay cuts a stored input the same way.
 */
import type { PolicyInput, PolicySite } from "#policy/input";
import { type OwnerName, siteOfOwner } from "#policy/owners";

/** The copy of the input that this owner's bundle is asked with. */
export function inputFor(owner: OwnerName, whole: PolicyInput): PolicyInput {
  const { constraints, ...shared } = whole;
  // What an environment declares binds through its owner's policy; nobody else's bundle is asked with it.
  const isOwners = owner === `owner:${whole.environment.owner}`;
  const input = constraints !== undefined && isOwners ? whole : shared;
  const exemptions = input.exemptions.filter((one) => one.owner === owner);
  if (owner === "operator") return { ...input, exemptions };
  const ownSite = siteOfOwner(owner);
  return {
    ...input,
    exemptions,
    sites: input.sites.map((site): PolicySite => {
      if (site.id === ownSite) return site;
      if (ownSite !== undefined) return { ...site, view: "none", hosts: [], shares: none };
      const rows = site.shares.rows.filter((share) => share.owner === input.environment.owner);
      return { ...site, view: "own", hosts: [], shares: { total: rows.length, rows } };
    }),
  };
}

const none: PolicySite["shares"] = { total: 0, rows: [] };
