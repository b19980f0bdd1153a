/** What a kill left between writing a declaration down and asking for it is gone at the next start; the rest stays. */

import { join } from "node:path";
import type { LinkView, MachineView, NetworkView } from "@drover/shepherd/api/contract";
import type { LinkRecord, MachineRecord } from "@drover/shepherd/model/objects";
import { openSqliteStore } from "@drover/shepherd/store/sqlite";
import { expect, test } from "@jest/globals";
import { declareRing, machineBody, mutate, need, run } from "./shepherd.ts";

test("drafts without an operation go, with their addresses; what runs stays", async () => {
  let running = await run();
  try {
    const ring = await declareRing(running, 2);
    await running.shepherd.stop();
    const store = openSqliteStore(join(running.folder, "state/journal.sqlite"));
    await store.transaction(async (journal) => {
      const machine = need(await journal.objects.get("machine", need(ring.machines[0]).id));
      const link = need(await journal.objects.get("link", need(ring.links[0]).id));
      const environmentId = ring.environment.id;
      const draft: MachineRecord = {
        ...machine,
        id: "draft",
        key: `${environmentId}/rank-9`,
        spec: { ...machine.spec, name: "rank-9" },
        effective: {
          ...machine.effective,
          hostId: "",
          state: "creating",
          nics: machine.effective.nics.map((nic) => ({ ...nic, address: "10.42.0.12" })),
        },
        version: 1,
        claimed: false,
      };
      await journal.objects.put(draft);
      await journal.addresses.put({
        networkId: ring.network.id,
        address: "10.42.0.12",
        machineId: "draft",
      });
      const never: LinkRecord = {
        ...link,
        id: "never",
        key: `${environmentId}/rank-1--rank-9`,
        spec: { ...link.spec, machines: ["rank-1", "rank-9"] },
        version: 1,
        claimed: false,
      };
      await journal.objects.put(never);
    });
    await store.close();

    running = await running.restart();
    const { items: machines } = await running.client.get<{ items: MachineView[] }>("/v1/machines");
    const { items: links } = await running.client.get<{ items: LinkView[] }>("/v1/links");
    expect(machines.map(({ name, effective }) => [name, effective.state])).toEqual([
      ["rank-0", "running"],
      ["rank-1", "running"],
    ]);
    expect(links.map((link) => link.machines)).toEqual([["rank-0", "rank-1"]]);
    const [network] = (await running.client.get<{ items: NetworkView[] }>("/v1/networks")).items;
    const { object } = await mutate<MachineView>(
      running,
      "PUT",
      "/v1/environments/ring/machines/rank-9",
      machineBody({ network: need(network), image: ring.image }),
    );
    expect(object?.networks[0]?.address).toBe("10.42.0.12");
  } finally {
    await running.end();
  }
}, 90_000);
