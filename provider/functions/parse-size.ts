/** `parse_size`: text such as `2GiB` as numbers for `memory_mib` and its like. */
import type { FunctionType } from "#schema/function";
import { quotient, readAmount, type Units } from "./amount.ts";

const units: Units = {
  noun: "a size",
  example: "2GiB",
  most: 2n ** 53n - 1n,
  factors: {
    B: 1n,
    kB: 1000n,
    KiB: 2n ** 10n,
    MB: 10n ** 6n,
    MiB: 2n ** 20n,
    GB: 10n ** 9n,
    GiB: 2n ** 30n,
    TB: 10n ** 12n,
    TiB: 2n ** 40n,
  },
};

export const parseSize: FunctionType = {
  name: "parse_size",
  summary: "Reads a size such as 2GiB",
  description:
    'Reads a size and gives it in each unit that attributes take, exactly: `memory_mib = provider::drover::parse_size("2GiB").mib`. ' +
    `Units are ${Object.keys(units.factors).join(", ")}; \`GB\` is 10^9 bytes, \`GiB\` is 2^30.`,
  parameters: [{ name: "text", type: "string", description: "A number and a unit: `1.5 GiB`." }],
  returns: ["object", { bytes: "number", mib: "number", gib: "number" }],
  result:
    "The same size in bytes, in MiB and in GiB; a fraction where it is no whole number of them.",
  call: ([text]) => {
    const bytes = readAmount(String(text), units);
    return {
      bytes: Number(bytes),
      mib: quotient(bytes, 2n ** 20n),
      gib: quotient(bytes, 2n ** 30n),
    };
  },
};
