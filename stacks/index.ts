/** The package's public entry: constructs for CDKTF stacks, and the generated bindings beneath them. */

export * as bindings from "./.gen/providers/drover/index.ts";
export { type AdaptationRecord, readAdaptations } from "./constructs/adaptations.ts";
export { Environment, type EnvironmentProps, type GroupProps } from "./constructs/environment.ts";
export { Rate, Size } from "./constructs/quantity.ts";
export { meshTopology, type Pair, ringTopology, starTopology } from "./constructs/topology.ts";
