/** `drover network list | rotate-keys`: the LANs of environments, and the keys of the mesh between sites. */
import type { Command } from "commander";
import type { NetworkView, TunnelRotation } from "#api/contract";
import { define, exitCodes, type Streams } from "#cli/command";
import { show, table } from "#cli/output";

export function addNetwork(program: Command, streams: Streams): void {
  const group = program.command("network").summary("the LANs of environments");

  define<[string | undefined], object>(group, streams, {
    name: "list",
    summary: "networks with their addresses, MTU and gateway",
    setUp: (command) => command.argument("[environment]", "only of this environment"),
    async action(context, _options, environment) {
      const answer = await context.client.get<{ items: NetworkView[] }>("/v1/networks", {
        query: { environment },
      });
      show(context, answer.items, () =>
        table(
          ["NETWORK", "CIDR", "VNI", "MTU", "GATEWAY", "ID"],
          answer.items.map((network) => [
            network.name,
            network.cidr,
            String(network.vni),
            String(network.mtu),
            network.gateway == null
              ? "-"
              : `${network.gateway.site}${network.gateway.nat === true ? " with NAT" : ""}`,
            network.id,
          ]),
        ),
      );
      return exitCodes.ok;
    },
  });

  define<[], object>(group, streams, {
    name: "rotate-keys",
    summary: "new keys on every host of the encrypted mesh between sites, without losing a packet",
    async action(context) {
      const done = await context.client.call<TunnelRotation>("POST", "/v1/tunnels/rotate", {
        waitMs: 60_000,
      });
      show(context, done, () =>
        done.hosts.length === 0
          ? "no host has a tunnel yet: nothing to rotate"
          : `rotation ${done.generation}: new keys at ${done.hosts.join(", ")}`,
      );
      return exitCodes.ok;
    },
  });
}
