/** Validators: what passes, and what is said about what does not. */
import type { Validator } from "@drover/provider/schema/attribute";
import { Report } from "@drover/provider/schema/report";
import {
  ipv4Address,
  ipv4Cidr,
  objectName,
  oneOf,
  sha256,
  shepherdFile,
  size,
  wholeNumber,
} from "@drover/provider/schema/validators";
import { Decimal, type Value } from "@drover/provider/schema/value";
import { expect, test } from "@jest/globals";

const percent = wholeNumber({ min: 1, max: 100 });
const pair = size({ min: 2, max: 2 }, "the names of two machines");

test.each<[string, Validator, Value, string | undefined]>([
  ["a whole number at its lower bound", percent, 1, undefined],
  [
    "a whole number below",
    percent,
    0,
    "0 given; it must lie between 1 and 100. Nearest allowed: 1.",
  ],
  [
    "a whole number above",
    percent,
    6400,
    "6400 given; it must lie between 1 and 100. Nearest allowed: 100.",
  ],
  ["half a vCPU", percent, 1.5, "1.5 given; use a whole number such as 1."],
  [
    "0.1, which comes as text",
    percent,
    new Decimal("0.1"),
    "0.1 given; use a whole number such as 1.",
  ],
  [
    "a number beyond 2^53",
    percent,
    2n ** 60n,
    "1152921504606846976 given; use a whole number such as 1.",
  ],
  ["a known mode", oneOf(["auto", "pinned"]), "auto", undefined],
  ["an unknown mode", oneOf(["auto", "pinned"]), "pin", '"pin" given; use one of: auto, pinned.'],
  ["a name", objectName, "rank-0", undefined],
  ["a name with a capital", objectName, "Rank", expect.stringContaining("lower-case") as never],
  [
    "a name that ends in a hyphen",
    objectName,
    "rank-",
    expect.stringContaining("both ends") as never,
  ],
  ["a hash", sha256, "a".repeat(64), undefined],
  ["half a hash", sha256, "a".repeat(32), expect.stringContaining("64") as never],
  ["a file at the shepherd", shepherdFile, "/srv/base.qcow2", undefined],
  ["an upload", shepherdFile, `blob:${"a".repeat(64)}`, undefined],
  [
    "a path that only the user's shell knows",
    shepherdFile,
    "images/base.qcow2",
    expect.stringContaining('abspath("images/base.qcow2")') as never,
  ],
  ["half an upload", shepherdFile, "blob:abc", expect.stringContaining("64 hexadecimal") as never],
  ["an address", ipv4Address, "10.42.0.10", undefined],
  [
    "an address with 256",
    ipv4Address,
    "10.42.0.256",
    expect.stringContaining("10.42.0.10") as never,
  ],
  [
    "an address with a leading zero",
    ipv4Address,
    "10.42.0.010",
    expect.stringContaining("given") as never,
  ],
  ["a network", ipv4Cidr, "10.42.0.0/24", undefined],
  [
    "a network with host bits",
    ipv4Cidr,
    "10.42.3.7/22",
    '"10.42.3.7/22" is an address inside a network; write 10.42.0.0/22.',
  ],
  [
    "a network of two addresses",
    ipv4Cidr,
    "10.42.0.0/31",
    expect.stringContaining("from 8 to 29") as never,
  ],
  ["a network without a prefix", ipv4Cidr, "10.42.0.0", expect.stringContaining("/24") as never],
  ["two items", pair, ["a", "b"], undefined],
  ["one item", pair, ["a"], "1 given; it must hold the names of two machines."],
])("%s", (_, validate, value, words) => {
  const report = new Report();
  validate(value, report.at("x"));
  expect(report.diagnostics.map(({ detail }) => detail)).toEqual(
    words === undefined ? [] : [words],
  );
});

test("a path below a nested attribute stands in the text, since Terraform points only at its top", () => {
  const report = new Report();
  report.at("networks", 1, "address").error("Not an IPv4 address", "x given.");
  expect(report.diagnostics).toEqual([
    {
      severity: "error",
      summary: "Not an IPv4 address",
      detail: "networks[1].address: x given.",
      path: ["networks", 1, "address"],
    },
  ]);
});
