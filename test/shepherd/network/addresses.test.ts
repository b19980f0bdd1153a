import { isFault } from "@drover/shepherd/model/fault";
import { checkAddress, lowestFreeAddress, parseCidr } from "@drover/shepherd/network/addresses";
import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";

/** The code of the fault that `work` throws, or what it returned. */
function outcome(work: () => unknown): unknown {
  try {
    return work();
  } catch (error) {
    return isFault(error) ? error.message : error;
  }
}

describe("a CIDR", () => {
  test("is read with its size", () => {
    expect(parseCidr("10.42.0.0/24")).toEqual({
      text: "10.42.0.0/24",
      first: 0x0a2a0000,
      size: 256,
      prefixLength: 24,
    });
  });

  test.each([
    ["10.42.0.5/24", "it has host bits set; the network is 10.42.0.0/24"],
    ["10.42.0.0", "it is not an IPv4 CIDR such as 10.42.0.0/24"],
    ["10.42.0/24", "it is not an IPv4 CIDR such as 10.42.0.0/24"],
    ["10.42.0.0/24/1", "it is not an IPv4 CIDR such as 10.42.0.0/24"],
    ["10.042.0.0/24", "it is not an IPv4 CIDR such as 10.42.0.0/24"],
    ["10.42.0.256/24", "it is not an IPv4 CIDR such as 10.42.0.0/24"],
    ["fd00::/64", "it is not an IPv4 CIDR such as 10.42.0.0/24"],
    ["10.42.0.0/31", "its prefix is not within /8 to /30"],
    ["0.0.0.0/0", "its prefix is not within /8 to /30"],
    ["224.0.0.0/24", "its addresses are not for hosts (0/8, 127/8 or from 224 up)"],
    ["127.0.0.0/24", "its addresses are not for hosts (0/8, 127/8 or from 224 up)"],
  ])("%s is refused: %s", (cidr, problem) => {
    expect(outcome(() => parseCidr(cidr))).toBe(`${cidr} cannot be a network: ${problem}`);
  });
});

describe("an explicit address", () => {
  const cidr = parseCidr("10.42.0.0/24");
  const taken = new Map([["10.42.0.10", "rank-0"]]);
  test.each([
    ["10.42.0.11", "10.42.0.11"],
    ["10.42.0.10", "10.42.0.10 of 10.42.0.0/24 is held by rank-0"],
    ["10.42.1.10", "10.42.1.10 cannot be an address in 10.42.0.0/24: it is outside the network"],
    [
      "10.42.0.0",
      "10.42.0.0 cannot be an address in 10.42.0.0/24: it is the network's own address",
    ],
    [
      "10.42.0.255",
      "10.42.0.255 cannot be an address in 10.42.0.0/24: it is the broadcast address",
    ],
    ["ten", "ten cannot be an address in 10.42.0.0/24: it is not an IPv4 address"],
  ])("%s gives: %s", (address, expected) => {
    expect(outcome(() => checkAddress(cidr, address, taken))).toBe(expected);
  });
});

describe("the lowest free address", () => {
  test.each([
    ["starts at .10", "10.42.0.0/24", [], "10.42.0.10"],
    ["fills the first gap", "10.42.0.0/24", ["10.42.0.10", "10.42.0.12"], "10.42.0.11"],
    ["starts at .2 in a small network", "10.42.0.0/30", [], "10.42.0.2"],
    [
      "uses .2 to .9 last",
      "10.42.0.0/28",
      ["10.42.0.10", "10.42.0.11", "10.42.0.12", "10.42.0.13", "10.42.0.14"],
      "10.42.0.2",
    ],
    [
      "is told when there is none",
      "10.42.0.0/30",
      ["10.42.0.2"],
      "No address of 10.42.0.0/30 is free: 1 are given",
    ],
  ])("%s", (_, cidr, taken, expected) => {
    expect(outcome(() => lowestFreeAddress(parseCidr(cidr), new Set(taken)))).toBe(expected);
  });

  test("is always one that an explicit ask would accept, until none is left", () => {
    fc.assert(
      fc.property(fc.integer({ min: 24, max: 30 }), (prefixLength) => {
        const cidr = parseCidr(`192.168.4.0/${prefixLength}`);
        const taken = new Set<string>();
        // All but the network's, the gateway's and the broadcast address.
        for (let n = 0; n < cidr.size - 3; n += 1) {
          const address = lowestFreeAddress(cidr, taken);
          expect(checkAddress(cidr, address, taken)).toBe(address);
          taken.add(address);
        }
        expect(outcome(() => lowestFreeAddress(cidr, taken))).toMatch(/^No address of/);
        expect(taken.has("192.168.4.1")).toBe(false);
      }),
    );
  });

  test("leaves those that were announced to whoever names them, and gives them when no other is left", () => {
    const cidr = parseCidr("10.42.0.0/28");
    const announced = new Set(["10.42.0.10", "10.42.0.2"]);
    expect(lowestFreeAddress(cidr, new Set(), announced)).toBe("10.42.0.11");
    const taken = new Set<string>();
    const given = Array.from({ length: 13 }, () => {
      const address = lowestFreeAddress(cidr, taken, announced);
      taken.add(address);
      return address;
    });
    expect(given.slice(-2)).toEqual(["10.42.0.10", "10.42.0.2"]);
    expect(new Set(given).size).toBe(13);
  });
});
