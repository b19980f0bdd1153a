/** `cidr_address`: the address of a number in a network, as machines may have it. */
import { ArgumentError, type FunctionType } from "#schema/function";
import { Report } from "#schema/report";
import { formatIpv4, ipv4Cidr, parseIpv4 } from "#schema/validators";

export const cidrAddress: FunctionType = {
  name: "cidr_address",
  summary: "The address of a number in a network",
  description:
    'Counts the addresses of a network that a machine may have, from 1: `cidr_address("10.42.0.0/24", 10)` is `10.42.0.10`. ' +
    "A negative number counts from the end: -1 is the last. Unlike `cidrhost` it never gives the network's own or its broadcast address.",
  parameters: [
    { name: "cidr", type: "string", description: "The network: `10.42.0.0/24`." },
    {
      name: "number",
      type: "number",
      description: "Which address, from 1; from the end if negative.",
    },
  ],
  returns: "string",
  result: "The address in dotted form.",
  call: ([cidr, number]) => {
    const report = new Report();
    ipv4Cidr(String(cidr), report);
    const [problem] = report.diagnostics;
    if (problem !== undefined) throw new ArgumentError(0, problem.detail);
    const [address = "", bits = ""] = String(cidr).split("/");
    const usable = 2 ** (32 - Number(bits)) - 2;
    if (typeof number !== "number" || !Number.isInteger(number) || number === 0)
      throw new ArgumentError(
        1,
        `Give a whole number from 1 to ${usable}, or from -1 to -${usable}.`,
      );
    if (Math.abs(number) > usable)
      throw new ArgumentError(1, `${number} given; ${cidr} has ${usable} addresses for machines.`);
    const base = parseIpv4(address) ?? 0;
    return formatIpv4(base + (number > 0 ? number : usable + 1 + number));
  },
};
