/** The package's public entry: constructs for CDKTF stacks, and the generated bindings beneath them. */

export * as bindings from "./.gen/providers/drover/index.ts";
export { type AdaptationRecord, readAdaptations } from "./constructs/adaptations.ts";
export {
  type Adaptation,
  type ElasticGroupProps,
  Environment,
  type EnvironmentProps,
  type GroupProps,
  type LinkProps,
  type SingleBaseline,
} from "./constructs/environment.ts";
export { Rate, Size } from "./constructs/quantity.ts";
export { meshTopology, type Pair, ringTopology, starTopology } from "./constructs/topology.ts";
