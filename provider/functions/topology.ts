/** `ring`, `mesh` and `star`: who is linked with whom, as pairs for `drover_link.machines`. */
import { ArgumentError, type FunctionType, type Parameter } from "#schema/function";

type Pair = readonly [string, string];

const machines: Parameter = {
  name: "machines",
  type: ["list", "string"],
  description: "Names of the machines, in the order in which they are linked.",
};
const common = {
  returns: ["list", ["list", "string"]],
  result: "One list of two names for each link.",
} as const;
const usage = (call: string) =>
  `\n\n\`for_each = { for pair in provider::drover::${call} : join("-", pair) => pair }\` makes one \`drover_link\` of each.`;

export const ring: FunctionType = {
  ...common,
  name: "ring",
  summary: "Links each machine with the next, and the last with the first",
  description: `Links each machine with the next one and the last with the first; two machines have one link.${usage("ring(names)")}`,
  parameters: [machines],
  call: ([given]) => {
    const names = distinct(given, 0, 2);
    const pairs = names.map((name, i): Pair => [name, names[(i + 1) % names.length] ?? name]);
    return names.length === 2 ? pairs.slice(0, 1) : pairs;
  },
};

export const mesh: FunctionType = {
  ...common,
  name: "mesh",
  summary: "Links every machine with every other",
  description: `Links every machine with every other one, once.${usage("mesh(names)")}`,
  parameters: [machines],
  call: ([given]) => {
    const names = distinct(given, 0, 2);
    return names.flatMap((name, i) => names.slice(i + 1).map((other): Pair => [name, other]));
  },
};

export const star: FunctionType = {
  ...common,
  name: "star",
  summary: "Links one machine with each of the others",
  description: `Links one machine with each of the others.${usage('star("front", names)')}`,
  parameters: [
    { name: "center", type: "string", description: "Name of the machine in the middle." },
    { ...machines, description: "Names of the machines around it." },
  ],
  call: ([center, given]) => {
    const names = distinct(given, 1, 1);
    if (names.includes(String(center)))
      throw new ArgumentError(1, `"${center}" is the center; leave it out of the others.`);
    return names.map((name): Pair => [String(center), name]);
  },
};

/** A link has two different ends, and between two machines there is one link. */
function distinct(given: unknown, argument: number, least: number): readonly string[] {
  const names = (given as readonly unknown[]).map((name) => {
    if (typeof name !== "string") throw new ArgumentError(argument, "A name is null.");
    return name;
  });
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined)
    throw new ArgumentError(argument, `"${twice}" stands there twice; name each machine once.`);
  if (names.length < least)
    throw new ArgumentError(
      argument,
      `${names.length} given; name at least ${least === 1 ? "one machine" : `${least} machines`}.`,
    );
  return names;
}
