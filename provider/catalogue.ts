/** Everything a user can write with this provider; adding a resource means adding its line here. */
import { drain } from "./actions/drain.ts";
import { move } from "./actions/move.ts";
import { release } from "./actions/release.ts";
import { resize } from "./actions/resize.ts";
import { adaptations } from "./data-sources/adaptations.ts";
import { decision } from "./data-sources/decision.ts";
import { decisions } from "./data-sources/decisions.ts";
import { hosts } from "./data-sources/hosts.ts";
import { machineStatus } from "./data-sources/machine-status.ts";
import { site } from "./data-sources/site.ts";
import { sites } from "./data-sources/sites.ts";
import { connection } from "./ephemeral/connection.ts";
import { console as machineConsole } from "./ephemeral/console.ts";
import { guestToken } from "./ephemeral/guest-token.ts";
import { cidrAddress } from "./functions/cidr-address.ts";
import { parseRate } from "./functions/parse-rate.ts";
import { parseSize } from "./functions/parse-size.ts";
import { mesh, ring, star } from "./functions/topology.ts";
import { machines } from "./lists/machine.ts";
import { constraint } from "./resources/constraint.ts";
import { environment } from "./resources/environment.ts";
import { group } from "./resources/group.ts";
import { host } from "./resources/host.ts";
import { image } from "./resources/image.ts";
import { link } from "./resources/link.ts";
import { machine } from "./resources/machine.ts";
import { network } from "./resources/network.ts";
import { site as siteRegistration } from "./resources/site.ts";
import { volume } from "./resources/volume.ts";
import type { ActionType } from "./schema/action.ts";
import { attributes } from "./schema/attribute.ts";
import type { EphemeralType } from "./schema/ephemeral.ts";
import type { FunctionType } from "./schema/function.ts";
import type { ListType } from "./schema/list.ts";
import type { DataSourceType, ResourceType } from "./schema/resource.ts";

export const resources: readonly ResourceType[] = [
  environment,
  network,
  image,
  volume,
  machine,
  group,
  link,
  constraint,
  siteRegistration,
  host,
];
export const dataSources: readonly DataSourceType[] = [
  site,
  sites,
  hosts,
  machineStatus,
  adaptations,
  decision,
  decisions,
];
export const functions: readonly FunctionType[] = [
  parseSize,
  parseRate,
  ring,
  mesh,
  star,
  cidrAddress,
];
export const ephemerals: readonly EphemeralType[] = [connection, machineConsole, guestToken];
export const actions: readonly ActionType[] = [move, resize, release, drain];
export const lists: readonly ListType[] = [machines];

/** The provider block. Each may come from the environment instead; the block wins. */
export const providerAttributes = attributes({
  endpoint: {
    type: "string",
    optional: true,
    description:
      "Where the shepherd listens: `unix:/path`, `http://host:port` or `https://host:port`. Else DROVER_ENDPOINT, else the local socket.",
  },
  token: {
    type: "string",
    optional: true,
    sensitive: true,
    description:
      "Token of the principal that applies. Else DROVER_TOKEN. The local socket needs none.",
  },
  ca_file: {
    type: "string",
    optional: true,
    description:
      "PEM file of the authority that signed the shepherd's certificate. Else DROVER_CA_FILE.",
  },
});
