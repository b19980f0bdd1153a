/**
 * The built-ins that policies may use: pure, and compiled into the module itself. No clock, no I/O, no chance, no
 * `sprintf` (the host's differs from Go's). Anything else fails `opa check` at build, and the worker refuses at load.
 * Source: builtinsFunctions of opa 1.20.2 internal/compiler/wasm; measured in the reference notes on opa.
 */
export const allowedBuiltins: ReadonlySet<string> = new Set(
  `abs all and any array.concat array.flatten array.reverse array.slice assign bits.and bits.lsh bits.negate bits.or
   bits.rsh bits.xor ceil concat contains count div endswith eq equal floor format_int glob.match graph.reachable gt
   gte indexof internal.member_2 internal.member_3 internal.template_string intersection is_array is_boolean is_null
   is_number is_object is_set is_string json.filter json.is_valid json.marshal json.remove json.unmarshal lower lt lte
   max min minus mul neq net.cidr_contains net.cidr_intersects numbers.range object.filter object.get object.keys
   object.remove object.union object.union_n or plus product regex.is_valid regex.match rego.metadata.chain
   rego.metadata.rule rem replace round set_diff sort split startswith strings.replace_n strings.reverse substring sum
   to_number trim trim_left trim_prefix trim_right trim_space trim_suffix type_name union upper walk`.split(
    /\s+/,
  ),
);

interface Capabilities {
  readonly builtins: readonly { readonly name: string }[];
  readonly features?: readonly string[];
}

/** What the compiler offers (`opa capabilities --current`), without what policies must not use. */
export function restrictCapabilities(current: string): string {
  const offered = JSON.parse(current) as Capabilities;
  return JSON.stringify({
    ...offered,
    builtins: offered.builtins.filter(({ name }) => allowedBuiltins.has(name)),
    allow_net: [],
  });
}
