/**
 * Asks a host for its network in one script and reads the answers of iproute2 and nft into plain data
 * (network/observed). Only this file knows how those programs print. JSON where they have it; classes and u32 filters
 * as text, because iproute2 6.1 prints no JSON for htb classes and repeated keys for u32 matches.
 */
import { exits } from "#network/gateway";
import { filterTable } from "#network/names";
import type {
  ObservedFilters,
  ObservedForwarding,
  ObservedLink,
  ObservedNetwork,
  ObservedSelector,
  ObservedShaping,
  ObservedTunnel,
} from "#network/observed";
import { htbMajor } from "#network/rates";
import { servicesDirectory } from "#network/services";

const ourShaped = String.raw`dv[ti][0-9a-f]\{12\}`;
const major = htbMajor.toString(16);

/**
 * One answer a section. The last section asks tc about each shaped device in one batch; each of its parts begins with
 * the line of the device's root qdisc, and the batch itself is printed first, so that parts and devices are matched.
 */
export const readScript = `
echo '@links'; ip -j -d link show
echo '@forwarding'; bridge -j fdb show
echo '@neighbours'; ip -j neigh show nud permanent
echo '@queues'; tc -j qdisc show
echo '@filters'; nft -j list table bridge ${filterTable} 2>/dev/null
echo '@underlay'; nft -j list table ip ${filterTable} 2>/dev/null
echo '@exits'; nft -j list table ip ${exits.name} 2>/dev/null
echo '@services'; for folder in ${servicesDirectory}/dv[nr]*; do
[ -d "$folder" ] || continue
name=\${folder##*/}; pid=$(cat "$folder/pid" 2>/dev/null)
running=no; case $name in dvr*) [ -e "/run/netns/$name" ] && running=yes ;; esac
[ -n "$pid" ] && grep -q "$folder/" "/proc/$pid/cmdline" 2>/dev/null && [ -e "/run/netns/$name" ] && running=yes
echo "$name $running $(cat "$folder/settings.digest" 2>/dev/null || echo -) $(cat "$folder/machines.digest" 2>/dev/null || echo -)"
done
echo '@tunnels'; for device in $(ip -o link show | sed -n 's/^[0-9]*: \\(dvw[0-9a-f]\\{12\\}\\)[:@].*/\\1/p'); do
echo "#$device"
echo "strict $(cat "/proc/sys/net/ipv4/conf/$device/rp_filter")"
ip -o -4 address show dev "$device" | sed -n 's/.* inet \\([0-9.]*\\).*/address \\1/p'
ip -o -4 route show dev "$device" | sed -n 's/^\\([0-9.]*\\) .*/route \\1/p'
for what in public-key listen-port endpoints allowed-ips; do wg show "$device" "$what" | sed "s/^/$what /"; done
done
plan=$(tc qdisc show | sed -n \\
  -e 's/^qdisc htb ${major}: dev \\(${ourShaped}\\) .*/qdisc show dev \\1\\
class show dev \\1\\
filter show dev \\1/p' \\
  -e 's/^qdisc ingress ffff: dev \\(${ourShaped}\\) .*/qdisc show dev \\1\\
filter show dev \\1 parent ffff:/p')
echo '@plan'; echo "$plan"
echo '@shaping'; if [ -n "$plan" ]; then echo "$plan" | tc -batch - ; fi
echo '@end'
`;

/** Throws an Error that says which section cannot be read: the caller names the host. */
export function readNetwork(output: string): ObservedNetwork {
  const sections = splitSections(output);
  const { links, hasIpv6 } = readLinks(json(sections, "links"));
  return {
    hasIpv6,
    links,
    forwarding: readForwarding(json(sections, "forwarding")),
    neighbours: readNeighbours(json(sections, "neighbours")),
    shaping: readShaping(
      json(sections, "queues"),
      sections.get("plan") ?? "",
      sections.get("shaping") ?? "",
    ),
    filters: readFilters(sections.get("filters") ?? ""),
    underlay: readFilters(sections.get("underlay") ?? ""),
    exits: readFilters(sections.get("exits") ?? ""),
    ...readServices(sections.get("services") ?? ""),
    tunnels: readTunnels(sections.get("tunnels") ?? "", links),
  };
}

/** Reads `nft -j list table`; undefined when it is empty, which is how a missing table answers. */
export function readFilters(text: string): ObservedFilters | undefined {
  if (text.trim() === "") return undefined;
  const elements = new Map<string, ReadonlySet<string>>();
  const chains: unknown[] = [];
  const rules: unknown[] = [];
  for (const item of array(record(JSON.parse(text))["nftables"])) {
    const { set, chain, rule } = record(item);
    if (set !== undefined) {
      const { name, elem } = record(set);
      elements.set(String(name), new Set(array(elem ?? []).map(readElement)));
    }
    if (chain !== undefined) {
      const { name, hook, prio, policy } = record(chain);
      chains.push([name, hook, prio, policy]);
    }
    if (rule !== undefined) {
      const { chain: of, expr } = record(rule);
      rules.push([of, array(expr).map(withoutCounts)]);
    }
  }
  return { chains: JSON.stringify(chains), rules: JSON.stringify(rules), elements };
}

function splitSections(output: string): ReadonlyMap<string, string> {
  const sections = new Map<string, string>();
  for (const part of output.split(/^@/m).slice(1)) {
    const end = part.indexOf("\n");
    sections.set(part.slice(0, end), part.slice(end + 1));
  }
  if (!sections.has("end")) throw new Error("its answer about its network is cut short");
  return sections;
}

function readLinks(answer: readonly unknown[]): {
  readonly links: ReadonlyMap<string, ObservedLink>;
  readonly hasIpv6: boolean;
} {
  const links = new Map<string, ObservedLink>();
  let hasIpv6 = false;
  for (const item of answer) {
    const link = record(item);
    const name = text(link["ifname"]);
    const mode = link["inet6_addr_gen_mode"];
    if (mode !== undefined) hasIpv6 = true;
    const master = text(link["master"]);
    if (!name.startsWith("dv") && !master.startsWith("dv")) continue;
    const info = record(link["linkinfo"] ?? {});
    const kind = text(info["info_kind"]);
    const data = record(info["info_data"] ?? {});
    const port = record(info["info_slave_data"] ?? {});
    links.set(name, {
      name,
      kind,
      up: array(link["flags"]).includes("UP"),
      mtu: Number(link["mtu"]),
      mac: text(link["address"]),
      alias: text(link["ifalias"]),
      master: master === "" ? undefined : master,
      withoutAddresses: mode === undefined || mode === "none",
      ...(kind === "bridge"
        ? {
            bridge: {
              multicastSnooping: data["mcast_snooping"] !== 0,
              spanningTree: data["stp_state"] !== 0,
            },
          }
        : {}),
      ...(kind === "vxlan"
        ? {
            vxlan: {
              vni: Number(data["id"]),
              localAddress: text(data["local"]),
              port: Number(data["port"]),
              learning: data["learning"] !== false,
            },
          }
        : {}),
      ...(info["info_slave_kind"] === "bridge"
        ? {
            bridgePort: {
              learning: port["learning"] === true,
              flood: port["flood"] === true,
              neighbourSuppression: port["neigh_suppress"] === true,
            },
          }
        : {}),
    });
  }
  return { links, hasIpv6 };
}

function readServices(text: string): Pick<ObservedNetwork, "services" | "gateways"> {
  const rows = text.split("\n").flatMap((line) => {
    const [name = "", running, settings = "", machines = ""] = line.split(" ");
    return name === "" ? [] : [{ name, settings, machines, running: running === "yes" }];
  });
  const are = (letter: string) => rows.filter(({ name }) => name.startsWith(`dv${letter}`));
  return {
    services: new Map(are("n").map(({ name, ...row }) => [name, row])),
    gateways: new Map(
      are("r").map(({ name, running, settings }) => [name, running ? settings : ""]),
    ),
  };
}

/** Never asks for a private key: `wg show … dump` would print it. */
function readTunnels(
  text: string,
  links: ObservedNetwork["links"],
): ReadonlyMap<string, ObservedTunnel> {
  return new Map(
    text
      .split(/^#/m)
      .slice(1)
      .map((part) => {
        const [device = "", ...lines] = part.trim().split("\n");
        const said = (what: string): readonly string[] =>
          lines.flatMap((line) =>
            line.startsWith(`${what} `) ? [line.slice(what.length + 1)] : [],
          );
        const columns = (what: string) =>
          new Map(said(what).map((line) => line.split("\t") as [string, string]));
        const [allowed, addresses] = [columns("allowed-ips"), said("address")];
        const link = links.get(device);
        const tunnel: ObservedTunnel = {
          up: link?.up ?? false,
          mtu: link?.mtu ?? 0,
          address: addresses.length === 1 ? addresses[0] : undefined,
          publicKey: said("public-key")[0] ?? "",
          port: Number(said("listen-port")[0] ?? 0),
          strict: said("strict")[0] !== "2",
          peers: [...columns("endpoints")].map(([publicKey, endpoint]) => ({
            publicKey,
            endpoint,
            allowed: allowed.get(publicKey) ?? "",
          })),
          routes: new Set(said("route")),
        };
        return [device, tunnel] as const;
      }),
  );
}

function readForwarding(answer: readonly unknown[]): readonly ObservedForwarding[] {
  return answer.flatMap((item): ObservedForwarding[] => {
    const entry = record(item);
    const mac = text(entry["mac"]);
    const device = text(entry["ifname"]);
    const state = text(entry["state"]);
    if (text(entry["master"]).startsWith("dvb")) {
      // `permanent` behind a port is the port's own address, which the kernel keeps.
      return state === "permanent"
        ? []
        : [{ mac, device, table: "bridge", fixed: state === "static" }];
    }
    if (!device.startsWith("dvx") || entry["dst"] === undefined) return [];
    const address = text(entry["dst"]);
    return [{ mac, device, table: "tunnel", address, fixed: state === "permanent" }];
  });
}

function readNeighbours(answer: readonly unknown[]): ObservedNetwork["neighbours"] {
  return answer.flatMap((item) => {
    const entry = record(item);
    const bridge = text(entry["dev"]);
    if (!bridge.startsWith("dvb")) return [];
    return [{ bridge, address: text(entry["dst"]), mac: text(entry["lladdr"]) }];
  });
}

interface Shaping {
  htb: boolean;
  ingress: boolean;
  readonly classes: Map<
    number,
    { readonly rateBits: number; readonly ceilBits: number; readonly burstBytes: number }
  >;
  readonly queues: Map<number, number>;
  readonly selectors: ObservedSelector[];
}

function readShaping(
  queues: readonly unknown[],
  plan: string,
  answers: string,
): ReadonlyMap<string, ObservedShaping> {
  const shaping = new Map<string, Shaping>();
  for (const item of queues) {
    const queue = record(item);
    const device = text(queue["dev"]);
    if (!/^dv[ti][0-9a-f]{12}$/.test(device)) continue;
    const there = shaping.get(device) ?? {
      htb: false,
      ingress: false,
      classes: new Map(),
      queues: new Map(),
      selectors: [],
    };
    shaping.set(device, there);
    const kind = text(queue["kind"]);
    if (kind === "ingress") there.ingress = true;
    if (kind === "htb" && queue["handle"] === `${major}:`) there.htb = true;
    const parent = new RegExp(`^${major}:([0-9a-f]+)$`).exec(text(queue["parent"]))?.[1];
    if (kind === "bfifo" && parent !== undefined) {
      there.queues.set(Number.parseInt(parent, 16), Number(record(queue["options"])["limit"]));
    }
  }
  const devices = [...plan.matchAll(/^qdisc show dev (\S+)$/gm)].map((match) => match[1] ?? "");
  const parts = answers.split(/^qdisc \S+ \S+ root .*$/m).slice(1);
  if (parts.length !== devices.length) {
    throw new Error(`tc told of ${parts.length} devices when asked about ${devices.length}`);
  }
  for (const [index, device] of devices.entries()) {
    const there = shaping.get(device);
    const part = parts[index] ?? "";
    if (there === undefined) throw new Error(`tc told of ${device}, which appeared meanwhile`);
    readClasses(part, there.classes);
    there.selectors.push(...readSelectors(part));
  }
  return shaping;
}

function readClasses(part: string, into: Shaping["classes"]): void {
  const line = new RegExp(
    String.raw`^class htb ${major}:([0-9a-f]+) .*\brate (\d+)(\w*)bit ceil (\d+)(\w*)bit burst (\d+)(K|M)?b`,
    "gm",
  );
  const sizes: Readonly<Record<string, number>> = { K: 1024, M: 1024 * 1024 };
  for (const [, minor = "", rate, rateUnit, ceil, ceilUnit, burst, unit] of part.matchAll(line)) {
    into.set(Number.parseInt(minor, 16), {
      rateBits: bits(rate, rateUnit),
      ceilBits: bits(ceil, ceilUnit),
      burstBytes: Number(burst) * (sizes[unit ?? ""] ?? 1),
    });
  }
}

/** tc prints a rate in the largest unit that loses nothing. */
function bits(number = "", unit = ""): number {
  const factors: Readonly<Record<string, number>> = { "": 1, K: 1e3, M: 1e6, G: 1e9, T: 1e12 };
  return Number(number) * (factors[unit] ?? Number.NaN);
}

/** Filters as `tc filter show` prints them; exported for the answers of kernels that have flower. */
export function readSelectors(part: string): readonly ObservedSelector[] {
  return part
    .split(/^filter /m)
    .slice(1)
    .flatMap((filter): ObservedSelector[] => {
      const flower = /\bpref (\d+) flower chain \d+ handle /.exec(filter)?.[1];
      if (flower !== undefined) return [readFlower(filter, Number(flower))];
      // A preference is listed three times: itself, its hash table, and the selector, which alone has an order.
      const preference = /\bpref (\d+) \S+ chain/.exec(filter)?.[1];
      if (preference === undefined || !/\border \d+ key ht/.test(filter)) return [];
      const minor = new RegExp(String.raw`\bflowid ${major}:([0-9a-f]+)`).exec(filter)?.[1];
      const redirect = /mirred \(Egress Redirect to device (\S+)\) stolen/.exec(filter)?.[1];
      return [
        {
          classifier: "u32",
          at: filter.startsWith(`parent ${major}:`) ? "root" : "ingress",
          preference: Number(preference),
          match: readMatch(filter),
          ...(minor === undefined ? {} : { classMinor: Number.parseInt(minor, 16) }),
          ...(redirect === undefined ? {} : { redirect }),
        },
      ];
    });
}

/** A line for each field that it compares; what is none of ours in shape matches nothing that we wish. */
function readFlower(filter: string, preference: number): ObservedSelector {
  const minor = new RegExp(String.raw`\bclassid ${major}:([0-9a-f]+)`).exec(filter)?.[1];
  const redirect = /mirred \(Egress Redirect to device (\S+)\) stolen/.exec(filter)?.[1];
  const fields = [...filter.matchAll(/^ {2}(\S+)(?: (\S+))?$/gm)]
    .map(([, name = "", value = ""]) => ({ name, value }))
    .filter(({ name }) => !/^(not_)?in_hw$/.test(name));
  const [field] = fields;
  const side = field?.name === "src_mac" ? "source" : "destination";
  const isOurs = field === undefined || (fields.length === 1 && /^(src|dst)_mac$/.test(field.name));
  const match =
    field === undefined ? { side: "any" as const } : ({ side, mac: field.value } as const);
  return {
    classifier: "flower",
    at: filter.startsWith(`parent ${major}:`) ? "root" : "ingress",
    preference,
    match: isOurs ? match : undefined,
    ...(minor === undefined ? {} : { classMinor: Number.parseInt(minor, 16) }),
    ...(redirect === undefined ? {} : { redirect }),
  };
}

/** u32 compares words of four bytes, counted from the network header: a MAC is spread over two of them. */
function readMatch(filter: string): ObservedSelector["match"] {
  const words = [...filter.matchAll(/match ([0-9a-f]{8})\/([0-9a-f]{8}) at (-?\d+)/g)];
  const [first, second] = words.map(([, value = "", mask = "", at = ""]) => ({
    value,
    place: `${mask}@${at}`,
  }));
  if (words.length === 1 && first?.value === "00000000" && first.place === "00000000@0") {
    return { side: "any" };
  }
  if (words.length !== 2 || first === undefined || second === undefined) return undefined;
  if (first.place === "ffffffff@-8" && second.place === "ffff0000@-4") {
    return { side: "source", mac: macOf(first.value + second.value.slice(0, 4)) };
  }
  if (first.place === "0000ffff@-16" && second.place === "ffffffff@-12") {
    return { side: "destination", mac: macOf(first.value.slice(4) + second.value) };
  }
  return undefined;
}

function macOf(digits: string): string {
  return digits.replace(/..(?!$)/g, "$&:");
}

function readElement(element: unknown): string {
  if (typeof element === "string") return element;
  const value = record(element);
  if (value["elem"] !== undefined) return readElement(record(value["elem"])["val"]);
  return array(value["concat"]).map(String).join(" . ");
}

function withoutCounts(expression: unknown): unknown {
  return "counter" in record(expression) ? { counter: true } : expression;
}

function json(sections: ReadonlyMap<string, string>, name: string): readonly unknown[] {
  const section = sections.get(name) ?? "";
  // iproute2 prints nothing at all for an empty list in some versions.
  if (section.trim() === "") return [];
  try {
    return array(JSON.parse(section));
  } catch (error) {
    throw new Error(`its answer about ${name} cannot be read`, { cause: error });
  }
}

function record(value: unknown): Readonly<Record<string, unknown>> {
  if (typeof value !== "object" || value === null) throw new Error("an answer has another shape");
  return value as Readonly<Record<string, unknown>>;
}

function array(value: unknown): readonly unknown[] {
  if (!Array.isArray(value)) throw new Error("an answer is no list");
  return value;
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}
