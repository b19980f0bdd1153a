/**
 * The lab's network: a namespace per host, a bridge per site and the router between the sites in a namespace of its
 * own, one link to the machine's namespace (where the shepherd runs). The bridges live with the router, so that the
 * machine's forwarding, firewall and bridges stay as they are. Knows layouts, no daemons.
 */
import { existsSync } from "node:fs";
import { hostsOf, type LabLayout } from "#lab/layout";
import { must, run } from "#lab/process";
import { Fault } from "#model/fault";

/** The machine's route into these addresses, or around them, that is not through the uplink; undefined: they are free. */
export async function foreignRoute({
  cidr,
  uplink,
}: Pick<LabLayout, "cidr" | "uplink">): Promise<string | undefined> {
  const inside = await must(["ip", "-4", "route", "show", "root", cidr]);
  const around = await must(["ip", "-4", "route", "show", "match", cidr]);
  return `${inside}\n${around}`
    .split("\n")
    .map((line) => line.trim())
    .find((line) => line !== "" && !line.startsWith("default") && !line.includes(`dev ${uplink} `));
}

/** Creates namespaces, bridges, links and routes. Expects that nothing of the lab is left (sweep). */
export async function layWires(layout: LabLayout): Promise<void> {
  const { routerNamespace, uplink } = layout;
  const hosts = hostsOf(layout);
  for (const namespace of [routerNamespace, ...hosts.map((host) => host.namespace)])
    await addNamespace(namespace);
  await batch(undefined, [
    `link add ${uplink} type veth peer name root netns ${routerNamespace}`,
    `address add ${layout.uplinkAddress}/30 dev ${uplink}`,
    `link set ${uplink} up`,
  ]);
  await batch(routerNamespace, [
    "link set lo up",
    `address add ${layout.uplinkPeerAddress}/30 dev root`,
    "link set root up",
    ...layout.sites.flatMap((site) => [
      `link add ${site.bridge} type bridge forward_delay 0`,
      `address add ${site.gateway}/24 dev ${site.bridge}`,
      `link set ${site.bridge} up`,
      ...site.hosts.flatMap((host) => [
        `link add ${host.port} type veth peer name uplink netns ${host.namespace}`,
        `link set ${host.port} master ${site.bridge}`,
        `link set ${host.port} up`,
      ]),
    ]),
  ]);
  for (const site of layout.sites) {
    for (const host of site.hosts) {
      await batch(host.namespace, [
        "link set lo up",
        `address add ${host.address}/24 dev uplink`,
        "link set uplink up",
        `route add default via ${site.gateway}`,
      ]);
    }
  }
  await must([
    ...inNamespace(routerNamespace),
    "sh",
    "-c",
    "echo 1 >/proc/sys/net/ipv4/ip_forward",
  ]);
  await batch(
    undefined,
    layout.sites.map((site) => `route add ${site.cidr} via ${layout.uplinkPeerAddress}`),
  );
}

/** Removes namespaces (with all links in them) and the uplink. Namespaces must hold no process any more. */
export async function removeWires(options: {
  readonly namespaces: readonly string[];
  readonly uplink: string;
}): Promise<void> {
  if (existsSync(`/sys/class/net/${options.uplink}`))
    await must(["ip", "link", "delete", options.uplink]);
  for (const namespace of options.namespaces) {
    const removed = await run(["ip", "netns", "delete", namespace]);
    if (removed.code !== 0 && existsSync(`/run/netns/${namespace}`))
      throw new Fault("lab.cleanup_failed", {
        problem: `namespace ${namespace}: ${removed.stderr.trim()}`,
      });
  }
}

/** The last command of a predecessor that was killed may end only now, after the sweep: its namespace gives way. */
async function addNamespace(namespace: string): Promise<void> {
  const add = ["ip", "netns", "add", namespace];
  if ((await run(add)).code === 0) return;
  await run(["ip", "netns", "delete", namespace]);
  await must(add);
}

/** argv prefix for a command in a network namespace alone. Not `ip netns exec`: that remounts sysfs. */
export function inNamespace(namespace: string): readonly string[] {
  return ["nsenter", `--net=/run/netns/${namespace}`, "--"];
}

async function batch(namespace: string | undefined, lines: readonly string[]): Promise<void> {
  const argv = ["ip", "-batch", "-"];
  await must(namespace === undefined ? argv : [...inNamespace(namespace), ...argv], {
    input: `${lines.join("\n")}\n`,
  });
}
