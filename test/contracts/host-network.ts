/**
 * What every driver of a host's network must do, whatever makes forwarding, rates and filters beneath: the simulated one
 * and Linux's VXLAN alike, and an OVN one later. Two hosts, a machine at each. Where they disagree, the simulated is wrong.
 */
import { derive, type NetworkState } from "@drover/shepherd/network/derive";
import type { HostNetwork, HostNetworkConfig } from "@drover/shepherd/ports/host-network";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import {
  hostRecord,
  linkRecord,
  machineRecord,
  networkRecord,
} from "../shepherd/network/records.ts";

export interface NetworkPair {
  /** In the order of `addresses`. */
  readonly networks: readonly [HostNetwork, HostNetwork];
  /** Where the hosts meet. */
  readonly addresses: readonly [string, string];
  /** Makes the tap of the machine at the first host, as a hypervisor does when it starts. */
  startMachine(tap: {
    readonly tap: string;
    readonly mac: string;
    readonly address: string;
  }): Promise<void>;
  /** Lets time pass until the promise settles: real time needs nothing. */
  until<T>(work: Promise<T>): Promise<T>;
  close(): Promise<void>;
}

const hostIds = ["north-1", "south-1"] as const;
const lan = networkRecord("ring", "lan", 0xd00000);
const rank = (index: number, hostId: string) =>
  machineRecord({
    environmentId: "ring",
    name: `rank-${index}`,
    hostId,
    networkIds: [lan.id],
    address: `10.42.0.1${index}`,
  });

export function hostNetworkContract(name: string, open: () => Promise<NetworkPair>): void {
  describe(`host network contract: ${name}`, () => {
    let pair: NetworkPair;
    let state: NetworkState;
    const empty: HostNetworkConfig = { hostId: hostIds[0], bridges: [] };
    const wish = () => derive(hostIds[0], state);
    const apply = (to: HostNetworkConfig) => pair.until(pair.networks[0].apply(to));
    const audit = (to: HostNetworkConfig) => pair.until(pair.networks[0].audit(to));

    beforeAll(async () => {
      pair = await open();
      state = {
        hosts: hostIds.map((id, index) => hostRecord(id, pair.addresses[index] ?? "")),
        networks: [lan],
        machines: [rank(0, "north-1"), rank(1, "south-1")],
        links: [linkRecord("ring", ["rank-0", "rank-1"], 100)],
        incoming: [],
      };
    }, 60_000);
    afterAll(async () => {
      await apply(empty);
      await pair.close();
    }, 60_000);

    test("an empty host equals an empty wish, and differs from any other", async () => {
      expect(await audit(empty)).toEqual([]);
      expect((await audit(wish())).length).toBeGreaterThan(0);
    });

    test("an audit changes nothing", async () => {
      await audit(wish());
      expect(await audit(empty)).toEqual([]);
    });

    test("apply tells what it changed, then the host is equal, then there is nothing to change", async () => {
      expect((await apply(wish())).length).toBeGreaterThan(0);
      expect(await audit(wish())).toEqual([]);
      expect(await apply(wish())).toEqual([]);
    });

    test("a machine's tap that comes is one more apply, and no difference before", async () => {
      const [nic] = rank(0, "north-1").effective.nics;
      if (nic === undefined) throw new Error("a machine without a card");
      await pair.startMachine(nic);
      await apply(wish());
      expect(await audit(wish())).toEqual([]);
    });

    test.each([
      [
        "a rate",
        (now: NetworkState) => ({ ...now, links: [linkRecord("ring", ["rank-0", "rank-1"], 40)] }),
      ],
      ["a link that goes", (now: NetworkState) => ({ ...now, links: [] })],
      [
        "a machine that moves here",
        (now: NetworkState) => ({
          ...now,
          incoming: [{ machineId: "machine-ring-rank-1", hostId: "north-1" }],
        }),
      ],
      [
        "a machine that has moved here",
        (now: NetworkState) => ({
          ...now,
          incoming: [],
          machines: [rank(0, "north-1"), rank(1, "north-1")],
        }),
      ],
      [
        "a machine that has left",
        (now: NetworkState) => ({ ...now, machines: [rank(0, "north-1"), rank(1, "south-1")] }),
      ],
    ])("%s is seen by the audit, and mended by one apply", async (what, change) => {
      state = change(state);
      // What has no tap yet may be prepared, and need not.
      if (what !== "a machine that moves here")
        expect((await audit(wish())).length).toBeGreaterThan(0);
      await apply(wish());
      expect(await audit(wish())).toEqual([]);
    });

    test("what is armed changes nothing until it is fired, and what is fired is no hindrance to the apply that follows", async () => {
      const before = state;
      const [nic] = rank(1, "south-1").effective.nics;
      if (nic === undefined) throw new Error("a machine without a card");
      state = { ...state, machines: [rank(0, "north-1"), rank(1, "north-1")] };
      const armed = await pair.until(pair.networks[0].arm(wish(), [nic]));
      expect(await audit(derive(hostIds[0], before))).toEqual([]);
      armed?.fire();
      await apply(wish());
      expect(await audit(wish())).toEqual([]);
      state = before;
      await apply(wish());
      expect(await audit(wish())).toEqual([]);
    });

    test("two applies at once end with the later wish", async () => {
      const later = { ...state, links: [linkRecord("ring", ["rank-0", "rank-1"], 60)] };
      const both = [wish(), derive(hostIds[0], later)].map((each) => pair.networks[0].apply(each));
      await pair.until(Promise.all(both));
      state = later;
      expect(await audit(wish())).toEqual([]);
    });

    test("a tunnel's public key stays until a fresh one is asked for, and differs by device", async () => {
      const [network] = pair.networks;
      const device = "dvw0123456789a0";
      const key = await pair.until(network.tunnelKey(device));
      expect(key).toMatch(/^[A-Za-z0-9+/]{43}=$/);
      expect(await pair.until(network.tunnelKey(device))).toBe(key);
      expect(await pair.until(network.tunnelKey("dvw0123456789a1"))).not.toBe(key);
      expect(await pair.until(network.tunnelKey(device, { fresh: true }))).not.toBe(key);
    });

    test("a path is measured up to what is asked", async () => {
      const [network] = pair.networks;
      expect(await pair.until(network.pathMtu(pair.addresses[1], 1400))).toBe(1400);
      expect(await pair.until(network.pathMtu(pair.addresses[1], 9000))).toBe(1500);
    });
  });
}
