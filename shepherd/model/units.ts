/**
 * Units and ids as flavoured types: a plain number or string may be given, but one unit never passes for another.
 * The unit is the last word of every name (`memoryMib`, `downtimeMs`); integers everywhere.
 */
declare const flavour: unique symbol;
type Flavour<Base, Name extends string> = Base & { readonly [flavour]?: Name };

export type Ms = Flavour<number, "ms">;
export type Mib = Flavour<number, "mib">;
export type Gib = Flavour<number, "gib">;
export type Bytes = Flavour<number, "bytes">;
export type Mbps = Flavour<number, "mbps">;
/** Percent of one host core: 150 is one and a half cores. A hard cap, not a share. */
export type CpuPercent = Flavour<number, "cpu_percent">;

export type SiteId = Flavour<string, "site">;
export type HostId = Flavour<string, "host">;
export type EnvironmentId = Flavour<string, "environment">;
export type NetworkId = Flavour<string, "network">;
export type MachineId = Flavour<string, "machine">;
export type LinkId = Flavour<string, "link">;
export type ForecastId = Flavour<string, "forecast">;
export type ConstraintId = Flavour<string, "constraint">;
export type GroupId = Flavour<string, "group">;
export type VolumeId = Flavour<string, "volume">;
export type ImageId = Flavour<string, "image">;
export type RequestId = Flavour<string, "request">;
export type DecisionId = Flavour<string, "decision">;
export type PlanId = Flavour<string, "plan">;
export type GrantId = Flavour<string, "grant">;
export type OperationId = Flavour<string, "operation">;
export type AdaptationId = Flavour<string, "adaptation">;
/** Lower-case hex SHA-256 of the canonical JSON of what it names. */
export type Digest = Flavour<string, "sha256">;
