/** `parse_rate`: text such as `1Gbit/s` as numbers for `rate_mbps`. */
import type { FunctionType } from "#schema/function";
import { quotient, readAmount, type Units } from "./amount.ts";

const prefixes = { "": 1n, k: 1000n, M: 10n ** 6n, G: 10n ** 9n, T: 10n ** 12n };
const units: Units = {
  noun: "a rate",
  example: "200Mbit/s",
  most: 10n ** 15n,
  factors: Object.fromEntries(
    Object.entries(prefixes).flatMap(([prefix, factor]) => [
      [`${prefix}bit/s`, factor],
      [`${prefix}bps`, factor],
      [`${prefix}B/s`, 8n * factor],
    ]),
  ),
};

export const parseRate: FunctionType = {
  name: "parse_rate",
  summary: "Reads a rate such as 200Mbit/s",
  description:
    'Reads a rate and gives it in bits, exactly: `rate_mbps = provider::drover::parse_rate("1Gbit/s").mbps`. ' +
    "Units are bit/s, bps and B/s (8 bits), with k, M, G or T before them, powers of 1000.",
  parameters: [{ name: "text", type: "string", description: "A number and a unit: `2.5 Gbit/s`." }],
  returns: ["object", { bps: "number", mbps: "number" }],
  result: "The same rate in bits and in megabits a second.",
  call: ([text]) => {
    const bps = readAmount(String(text), units);
    return { bps: Number(bps), mbps: quotient(bps, 10n ** 6n) };
  },
};
