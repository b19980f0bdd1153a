/**
 * How long a host takes to become as wished, for 1, 10 and 100 machines with taps and links: our batches beside the
 * same commands run one after the other in the same shell. Real kernel, one namespace, no SSH. Needs root.
 * Prints one row a case; the ratio is what holds across machines.
 */
import { execFileSync } from "node:child_process";
import { derive, type NetworkState } from "@drover/shepherd/network/derive";
import { diffNetwork } from "@drover/shepherd/network/diff";
import { filterProbeText } from "@drover/shepherd/network/filters";
import type { HostNetworkConfig } from "@drover/shepherd/ports/host-network";
import { createHostNetwork } from "@drover/shepherd/shell/host-network";
import { readFilters, readNetwork, readScript } from "@drover/shepherd/shell/read-network";
import { type NamespaceHost, raiseNamespaces } from "../lab/namespaces.ts";
import {
  hostRecord,
  linkRecord,
  machineRecord,
  networkRecord,
} from "../shepherd/network/records.ts";

const machinesPerNetwork = 10;
const largestRival = 100;

for (const count of [1, 10, 100, 1_000]) await measure(count);

async function measure(count: number): Promise<void> {
  const world = raiseNamespaces(2);
  try {
    const [host, elsewhere] = world.hosts;
    if (host === undefined || elsewhere === undefined) throw new Error("no hosts");
    const state = stateOf(count, host, elsewhere);
    const wish = derive(host.id, state);
    const nothing: HostNetworkConfig = { hostId: host.id, bridges: [] };
    const network = createHostNetwork(host.shell);
    await network.apply(nothing);
    addTaps(host, wish);

    const row: Record<string, number> = {};
    const timed = async (name: string, work: () => Promise<unknown>): Promise<void> => {
      const startMs = performance.now();
      await work();
      row[name] = performance.now() - startMs;
    };
    await timed("first apply", () => network.apply(wish));
    await timed("no change", () => network.apply(wish));
    await timed("audit", () => network.audit(wish));
    const links = state.links.map((link) => ({ ...link, effective: { rateMbps: 90 } }));
    await timed("one rate", () =>
      network.apply(
        derive(host.id, { ...state, links: [...links.slice(0, 1), ...state.links.slice(1)] }),
      ),
    );
    await timed("all rates", () => network.apply(derive(host.id, { ...state, links })));
    const away = state.machines.map((machine, index) =>
      index === 0
        ? { ...machine, effective: { ...machine.effective, hostId: elsewhere.id } }
        : machine,
    );
    await timed("one flip", () =>
      network.apply(derive(host.id, { ...state, links, machines: away })),
    );
    await timed("removal", () => network.apply(nothing));

    const commands = await firstCommands(host, wish);
    // It takes as much longer as there are more machines: a thousand would be minutes that tell nothing new.
    if (count <= largestRival) {
      await timed("rival: first apply, command by command", () =>
        host.shell.script(commands.join("\n")),
      );
      if ((await network.audit(wish)).length > 0) throw new Error("the rival did something else");
    }

    const cells = Object.entries(row).map(([name, ms]) => `${name} ${ms.toFixed(0)} ms`);
    const rivalMs = row["rival: first apply, command by command"];
    const ratio = rivalMs === undefined ? Number.NaN : rivalMs / (row["first apply"] ?? 1);
    process.stdout.write(
      `${count} machines, ${commands.length} commands: ${cells.join(", ")}; ratio ${ratio.toFixed(1)}\n`,
    );
  } finally {
    world.down();
  }
}

function stateOf(count: number, host: NamespaceHost, elsewhere: NamespaceHost): NetworkState {
  const lans = Array.from({ length: Math.ceil(count / machinesPerNetwork) }, (_, index) =>
    networkRecord("bench", `lan-${index}`, 0xd00000 + index),
  );
  const machines = lans.flatMap((lan, lanIndex) => {
    const onHost = Math.min(machinesPerNetwork, count - lanIndex * machinesPerNetwork);
    return Array.from({ length: onHost + 1 }, (_, index) =>
      machineRecord({
        environmentId: "bench",
        name: `m-${lanIndex}-${index}`,
        // One machine of each network lives at the other host.
        hostId: index === onHost ? elsewhere.id : host.id,
        networkIds: [lan.id],
        address: `10.42.0.${10 + index}`,
      }),
    );
  });
  return {
    hosts: [hostRecord(host.id, host.address), hostRecord(elsewhere.id, elsewhere.address)],
    networks: lans,
    machines,
    links: machines.flatMap((machine, index) => {
      const next = machines[index + 1];
      const sameLan = next?.effective.nics[0]?.networkId === machine.effective.nics[0]?.networkId;
      return next !== undefined && sameLan
        ? [linkRecord("bench", [machine.spec.name, next.spec.name], 100)]
        : [];
    }),
    incoming: [],
  };
}

function addTaps(host: NamespaceHost, wish: HostNetworkConfig): void {
  const lines = wish.bridges.flatMap((bridge) =>
    bridge.ports.map(
      (port) =>
        `link add ${port.tap} mtu ${bridge.mtu} up type veth peer name g${port.tap.slice(3)}`,
    ),
  );
  execFileSync("nsenter", [`--net=/run/netns/${host.namespace}`, "ip", "-batch", "-"], {
    input: `${lines.join("\n")}\n`,
  });
}

/** The first apply's commands, each as a program of its own; nft stays one transaction. */
async function firstCommands(
  host: NamespaceHost,
  wish: HostNetworkConfig,
): Promise<readonly string[]> {
  const probe = await host.shell.script(
    [
      "nft -f - <<'END'",
      ...filterProbeText("probe"),
      "END",
      "nft -j list table bridge probe",
      "nft delete table bridge probe",
    ].join("\n"),
  );
  const look = readNetwork((await host.shell.script(readScript)).stdout);
  const { batch } = diffNetwork(wish, look, {
    filters: readFilters(probe.stdout)?.rules ?? "",
    underlay: "", // no tunnels and no gateway here
    exits: "",
  });
  return [
    ["nft -f - <<'END'", ...batch.nft, "END"].join("\n"),
    ...batch.ip.map((line) => `ip ${line}`),
    ...batch.bridge.map((line) => `bridge ${line}`),
    ...batch.tc.map((line) => `tc ${line}`),
  ];
}
