/** Where this provider finds its shepherd: the provider block, else the environment, else the local socket. */
import { defaultEndpoint, ShepherdClient, UnreachableError } from "@drover/shepherd/api/client";
import type { providerAttributes } from "./catalogue.ts";
import { providerVersion } from "./plugin/address.ts";
import type { Environment } from "./plugin/handshake.ts";
import type { PlannedOf } from "./schema/attribute.ts";
import type { Report } from "./schema/report.ts";
import { isUnknown } from "./schema/value.ts";

export interface Connection {
  readonly client: ShepherdClient;
  /** Why the client looks where it looks, to follow "because". */
  readonly endpointOrigin: string;
}

export type ProviderConfig = PlannedOf<typeof providerAttributes>;

/** Undefined after an error was reported. Sends nothing yet. */
export function connect(
  config: ProviderConfig,
  options: {
    readonly environment: Environment;
    readonly toolVersion: string;
    readonly report: Report;
  },
): Connection | undefined {
  const { environment, report } = options;
  for (const name of ["endpoint", "token", "ca_file"] as const) {
    if (!isUnknown(config[name])) continue;
    report
      .at(name)
      .error(
        "Not known yet",
        `The provider's ${name} is known only after apply, but an object must be read now. Give a known value, or apply what it comes from first (-target).`,
      );
    return undefined;
  }
  const choose = (name: keyof ProviderConfig, variable: string) =>
    typeof config[name] === "string" && config[name] !== ""
      ? { value: config[name], origin: `the provider's ${name} names it` }
      : environment[variable]
        ? { value: environment[variable], origin: `${variable} names it` }
        : undefined;
  const endpoint = choose("endpoint", "DROVER_ENDPOINT") ?? {
    value: defaultEndpoint,
    origin: "it is the default: neither the provider's endpoint nor DROVER_ENDPOINT is set",
  };
  try {
    return {
      client: new ShepherdClient({
        endpoint: endpoint.value,
        token: choose("token", "DROVER_TOKEN")?.value,
        caFile: choose("ca_file", "DROVER_CA_FILE")?.value,
        userAgent: `terraform-provider-drover/${providerVersion} terraform/${options.toolVersion}`,
      }),
      endpointOrigin: endpoint.origin,
    };
  } catch (error) {
    if (!(error instanceof UnreachableError)) throw error;
    report
      .at("endpoint")
      .error("The provider is not configured well", `${error.message} (${endpoint.origin}).`);
    return undefined;
  }
}
