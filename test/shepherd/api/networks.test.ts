/** Networks that change while their machines run, on simulated hosts: what the journal says, what hosts then have, what is refused. */
import type { LinkView, MachineView, NetworkView } from "@drover/shepherd/api/contract";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import {
  declareRing,
  machineBody,
  mutate,
  need,
  type Ring,
  type Running,
  run,
} from "./shepherd.ts";

let running: Running;
let ring: Ring;

beforeAll(async () => {
  running = await run();
  ring = await declareRing(running, 2);
}, 120_000);
afterAll(async () => {
  expect(running.world.violations).toEqual([]);
  await running.end();
});

const patch = (body: object) =>
  mutate<NetworkView>(running, "PATCH", `/v1/networks/${ring.network.id}`, body);
/** What each host has of the network: its MTU, whether the gateway is there, what machines are told of it. */
const onHosts = () =>
  Object.fromEntries(
    Object.entries(running.world.data.hosts).flatMap(([id, host]) =>
      host.network.bridges.map((bridge) => [
        id,
        [
          bridge.mtu,
          bridge.gateway === undefined ? "no gateway" : bridge.gateway.address,
          bridge.gateway?.wayOut === undefined ? "no way out" : "a way out",
          bridge.services?.router ?? "no router",
        ],
      ]),
    ),
  );

test("a gateway comes, gets a way out, goes to another site, and goes, while the machines run", async () => {
  const home = "north-1"; // the first one of the site that answers
  const { operation } = await patch({ gateway: { site: "north" } });
  expect(operation?.kind).toBe("repair");
  expect(onHosts()[home]).toEqual([1450, "10.42.0.1", "no way out", "10.42.0.1"]);
  await patch({ gateway: { site: "north", nat: true } });
  expect(onHosts()[home]).toEqual([1450, "10.42.0.1", "a way out", "10.42.0.1"]);
  const moved = await patch({ gateway: { site: "south", nat: true } });
  expect(moved.object?.gateway).toEqual({ site: "south", nat: true });
  expect(onHosts()).toMatchObject({
    [home]: [1450, "no gateway", "no way out", "10.42.0.1"],
    "south-1": [1450, "10.42.0.1", "a way out", "10.42.0.1"],
  });
  expect((await patch({ gateway: null })).object?.gateway).toBeNull();
  const carriers = Object.values(onHosts());
  expect(new Set(carriers.map(String))).toEqual(new Set(["1450,no gateway,no way out,no router"]));
  expect(Object.keys(onHosts())).not.toContain("south-1");
  expect((await patch({ gateway: null })).operation).toBeNull();
  const after = await running.client.get<MachineView>(`/v1/machines/${ring.machines[0]?.id}`);
  expect(after.effective.state).toBe("running");
});

test("a gateway whose address a machine has is refused, and so is one at a site that is not the environment's", async () => {
  const body = machineBody(ring, {
    networks: [{ network_id: ring.network.id, address: "10.42.0.1" }],
    group: "other",
  });
  await mutate(running, "PUT", "/v1/environments/ring/machines/first", body);
  await expect(patch({ gateway: { site: "north" } })).rejects.toMatchObject({
    code: "network.address_in_use",
  });
  await expect(patch({ gateway: { site: "east" } })).rejects.toMatchObject({
    code: "request.invalid",
  });
  const [first] = (
    await running.client.get<{ items: MachineView[] }>("/v1/machines?environment=ring&name=first")
  ).items;
  await mutate(running, "DELETE", `/v1/machines/${need(first).id}`);
});

test("a larger MTU is in force at once; a smaller one waits until nothing runs", async () => {
  await expect(patch({ mtu: 1300 })).rejects.toMatchObject({ code: "network.mtu_in_use" });
  await expect(patch({ mtu: 9000 })).rejects.toMatchObject({ code: "network.path_mtu" });
  for (const host of Object.values(running.world.data.hosts)) host.pathMtu = 9100;
  expect((await patch({ mtu: 9000 })).object?.mtu).toBe(9000);
  expect(new Set(Object.values(onHosts()).map(([mtu]) => mtu))).toEqual(new Set([9000]));
});

test("a link of a machine with the network is promised, kept on its host, and changed; the network stays while it is there", async () => {
  const put = async () =>
    await mutate<LinkView>(running, "PUT", "/v1/environments/ring/links", {
      machines: ["rank-1"],
      network: "lan",
      rate_mbps: 30,
    });
  const { object } = await put();
  const rates = () =>
    Object.values(running.world.data.hosts).flatMap((host) =>
      host.network.bridges.flatMap(({ ports }) =>
        ports.flatMap((port) =>
          port.rates.filter(({ peerMac }) => peerMac === undefined).map(({ rateMbps }) => rateMbps),
        ),
      ),
    );
  expect(object).toMatchObject({ machines: ["rank-1"], network: "lan", rate_mbps: 30 });
  expect(rates()).toEqual([30]);
  await mutate(running, "PATCH", `/v1/links/${need(object).id}`, { rate_mbps: 45 });
  expect(rates()).toEqual([45]);
  const found = await running.client.get<{ items: LinkView[] }>(
    "/v1/links?environment=ring&machines=rank-1&network=lan",
  );
  expect(found.items.map(({ id }) => id)).toEqual([need(object).id]);
  await expect(mutate(running, "DELETE", `/v1/networks/${ring.network.id}`)).rejects.toMatchObject({
    code: "object.in_use",
  });
  await mutate(running, "DELETE", `/v1/links/${need(object).id}`);
  expect(rates()).toEqual([]);
});
