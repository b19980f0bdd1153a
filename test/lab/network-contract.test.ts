/** The network driver's contract on Linux: VXLAN, bridges, nft and tc in namespaces. Needs root and WireGuard's tools. */
import { createHostNetwork } from "@drover/shepherd/shell/host-network";
import { hostNetworkContract } from "../contracts/host-network.ts";
import { raiseNamespaces } from "./namespaces.ts";

hostNetworkContract("VXLAN", async () => {
  const world = raiseNamespaces(2);
  const [here, there] = world.hosts;
  if (here === undefined || there === undefined) throw new Error("no hosts");
  return {
    networks: [createHostNetwork(here.shell), createHostNetwork(there.shell)],
    addresses: [here.address, there.address],
    async startMachine({ tap, mac, address }) {
      world.addGuest({ name: "rank-0", tap, mac, address, host: here, mtu: 1450 });
    },
    until: (work) => work,
    async close() {
      await here.shell.script("rm -f /run/drover/dvw0123456789a[01].key");
      world.down();
    },
  };
});
