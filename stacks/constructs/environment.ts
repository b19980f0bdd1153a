/**
 * `Environment`: machines in groups, one private LAN, links; the hand-written layer over the generated bindings.
 * Emits baselines, envelopes and `start_from`; knows nothing of what is live.
 */
import { join } from "node:path";
import { Construct } from "constructs";
import {
  type EnvironmentAdaptation,
  Environment as EnvironmentResource,
} from "../.gen/providers/drover/environment/index.ts";
import { Group } from "../.gen/providers/drover/group/index.ts";
import type { Image } from "../.gen/providers/drover/image/index.ts";
import { Link, type LinkConfig } from "../.gen/providers/drover/link/index.ts";
import { Machine, type MachineConfig } from "../.gen/providers/drover/machine/index.ts";
import { Network } from "../.gen/providers/drover/network/index.ts";
import { type AdaptationRecord, readAdaptations } from "./adaptations.ts";
import { Rate, Size } from "./quantity.ts";
import type { Pair } from "./topology.ts";

export interface EnvironmentProps {
  /** What its machines are, for policy: "batch", "sensitive". */
  readonly class: string;
  /** Sites it may use, in order of preference. */
  readonly sites: readonly string[];
  /** Private to the environment; another environment may use the same. */
  readonly cidr: string;
  /** A way out of the LAN that stays at this site, whatever moves; `nat` also leads out of the host. */
  readonly gateway?: { readonly site: string; readonly nat?: boolean };
  /** Who answers for it; absent = the principal that applies. */
  readonly owner?: string;
  /** The shepherd's record; default `adaptations.json` in the current directory. */
  readonly adaptationsFile?: string;
  /** What its machines inherit where they say nothing, and the links that guests may add. */
  readonly adaptation?: Adaptation & {
    readonly links?: { readonly maxAdded: number; readonly rate: Required<Bounds<Rate>> };
  };
  /**
   * Baselines of single machines and links (`rank-0--rank-1`) that differ from what their group or call says: where an
   * adopted adaptation goes. `data.drover_adaptations` prints such entries.
   */
  readonly baselines?: Readonly<Record<string, SingleBaseline>>;
}
export interface SingleBaseline {
  readonly vcpus?: number;
  readonly cpuPercent?: number;
  readonly memoryMib?: number;
  readonly site?: string;
  readonly rateMbps?: number;
}

/** A bound on how far a value may adapt; what is absent stays at the baseline. */
export interface Bounds<Value> {
  readonly min?: Value;
  readonly max?: Value;
}
/** How far something may adapt while it runs. */
export interface Adaptation {
  readonly mode?: "auto" | "approve" | "advise" | "pinned";
  readonly vcpus?: Bounds<number>;
  readonly cpuPercent?: Bounds<number>;
  readonly memory?: Bounds<Size>;
  readonly sites?: readonly string[];
}
export interface GroupProps {
  readonly image: Image;
  readonly vcpus?: number;
  /** Hard cap in percent of one host core. */
  readonly cpuPercent?: number;
  readonly memory?: Size;
  readonly class?: string;
  /** Site of each machine by index; default: the environment's sites in turn. */
  readonly site?: (index: number) => string;
  /** Index of the machine that may ask for the whole group; default 0, `null` for nobody. */
  readonly speaker?: number | null;
  readonly adaptation?: Adaptation & {
    /** These stay at their baselines whatever the bounds say. */
    readonly pinned?: readonly ("vcpus" | "cpuPercent" | "memory" | "site")[];
  };
  /** Anything else of the resource, for one machine. */
  readonly override?: (index: number) => Partial<MachineConfig>;
}

export interface ElasticGroupProps extends Omit<GroupProps, "site" | "override"> {
  /** Baseline of the number of machines: a floor that only the stack lowers. */
  readonly count: number;
  /** How many machines guests may scale it to. */
  readonly counts?: Bounds<number>;
  /** Links among its machines, kept as they come and go. */
  readonly topology?: { readonly shape: "ring" | "mesh" | "star"; readonly rate: Rate };
  readonly coupling?: "independent" | "bulk_synchronous" | "pipeline";
  /** Baseline site of all; default: the environment's first. */
  readonly site?: string;
}

export interface LinkProps {
  readonly rate: Rate;
  /** A short queue, so that a small packet never waits long behind large ones. */
  readonly latency?: "low";
  /** What may pass at once above the rate. */
  readonly burst?: Size;
}

const defaults = { vcpus: 1, cpuPercent: 100, memoryMib: 256 };
/** Group members get consecutive addresses from here: .1 stays free for a gateway. */
const firstHostNumber = 10;

export class Environment extends Construct {
  readonly resource: EnvironmentResource;
  readonly network: Network;
  private readonly props: EnvironmentProps;
  private readonly adaptations: readonly AdaptationRecord[];
  private readonly machines = new Map<string, Machine>();

  /** @throws Error when adaptations.json is malformed or no site is given. */
  constructor(scope: Construct, id: string, props: EnvironmentProps) {
    super(scope, id);
    if (props.sites.length === 0)
      throw new Error(`Environment "${id}" needs at least one site: sites: ["north"].`);
    this.props = props;
    this.adaptations = readAdaptations(
      props.adaptationsFile ?? join(process.cwd(), "adaptations.json"),
    ).filter((row) => row.environment === id);
    this.resource = new EnvironmentResource(this, "environment", {
      name: id,
      class: props.class,
      sites: [...props.sites],
      ...(props.owner === undefined ? {} : { owner: props.owner }),
      ...(props.adaptation === undefined
        ? {}
        : { adaptation: environmentAdaptation(props.adaptation) }),
    });
    this.resource.overrideLogicalId(id); // addresses that a person can type: drover_machine.ring_rank-0
    this.network = new Network(this, "lan", {
      environmentId: this.resource.id,
      name: "lan",
      cidr: props.cidr,
      ...(props.gateway === undefined ? {} : { gateway: { ...props.gateway } }),
    });
    this.network.overrideLogicalId(`${id}_lan`);
  }

  /** `count` machines named `<name>-0` … of one template. Returns their names, for links. */
  group(name: string, count: number, props: GroupProps): readonly string[] {
    const speaker = props.speaker === undefined ? 0 : props.speaker;
    const names = Array.from({ length: count }, (_, index) => `${name}-${index}`);
    names.forEach((machine, index) => {
      this.add(machine, { ...props, group: name, speaker: index === speaker }, index);
    });
    return names;
  }

  /**
   * A group that scales: the shepherd names its machines `<name>-0` and up and gives their addresses. Unlike the machines
   * of `group`, they are one resource, and a guest may add more within `counts`.
   */
  elasticGroup(name: string, props: ElasticGroupProps): Group {
    const { count, counts, topology, adaptation } = props;
    const baseline = baselineOf(props);
    const group = new Group(this, name, {
      environmentId: this.resource.id,
      name,
      machineCount: count,
      template: {
        imageId: props.image.id,
        ...baseline,
        ...(props.site === undefined ? {} : { site: props.site }),
        ...(props.class === undefined ? {} : { class: props.class }),
        networks: [{ networkId: this.network.id }],
        ...(adaptation === undefined
          ? {}
          : { adaptation: machineAdaptation(baseline, adaptation, this.props.sites) }),
      },
      ...(counts === undefined
        ? {}
        : { adaptation: { machineCount: { min: counts.min ?? count, max: counts.max ?? count } } }),
      ...(topology === undefined
        ? {}
        : { topology: topology.shape, topologyRateMbps: topology.rate.mbps }),
      ...(props.coupling === undefined ? {} : { coupling: props.coupling }),
      speaker: props.speaker === undefined ? 0 : (props.speaker ?? -1),
    });
    group.overrideLogicalId(`${this.node.id}_${name}`);
    return group;
  }

  /** One machine that belongs to no group. */
  machine(name: string, props: GroupProps): string {
    this.add(name, { ...props, speaker: false }, this.machines.size);
    return name;
  }

  /** A promised rate, in both directions, between each pair. */
  link(pairs: readonly Pair[], options: LinkProps): void {
    for (const [left, right] of pairs)
      this.promise(`${left}--${right}`, options, {
        machines: [this.nameOf(left), this.nameOf(right)],
      });
  }

  /**
   * A promised rate, in both directions, of each machine with the whole LAN: it holds for all that the machine exchanges
   * with others than those it has a link of its own with. In `baselines` it is called `rank-0@lan`.
   */
  linkToLan(machines: readonly string[], options: LinkProps): void {
    for (const machine of machines)
      this.promise(`${machine}@lan`, options, {
        machine: this.nameOf(machine),
        network: this.network.name,
      });
  }

  private promise(
    name: string,
    { rate, latency, burst }: LinkProps,
    ends: Pick<LinkConfig, "machines" | "machine" | "network">,
  ): void {
    const link = new Link(this, `link-${name}`, {
      environmentId: this.resource.id,
      ...ends,
      rateMbps: this.props.baselines?.[name]?.rateMbps ?? rate.mbps,
      ...(latency === undefined ? {} : { latency }),
      ...(burst === undefined ? {} : { burstKib: burst.mib * 1024 }),
    });
    // An address of Terraform holds no @.
    link.overrideLogicalId(`${this.node.id}_${name.replace("@", "--")}`);
  }

  private nameOf(machine: string): string {
    const found = this.machines.get(machine);
    if (found === undefined)
      throw new Error(
        `"${this.node.id}" has no machine "${machine}". It has: ${[...this.machines.keys()].join(", ")}.`,
      );
    return found.name;
  }

  private add(
    name: string,
    props: Omit<GroupProps, "speaker"> & { group?: string; speaker: boolean },
    index: number,
  ): void {
    if (this.machines.has(name))
      throw new Error(`"${this.node.id}" already has a machine "${name}".`);
    const own = this.props.baselines?.[name];
    const site =
      own?.site ?? props.site?.(index) ?? this.props.sites[index % this.props.sites.length] ?? "";
    const baseline = { ...baselineOf(props), ...sizesOf(own) };
    const { adaptation } = props;
    const record = this.adaptations.find((row) => row.machine === name);
    const machine = new Machine(this, name, {
      environmentId: this.resource.id,
      name,
      ...(props.group === undefined ? {} : { group: props.group, speaker: props.speaker }),
      ...(props.class === undefined ? {} : { class: props.class }),
      imageId: props.image.id,
      ...baseline,
      site,
      networks: [
        {
          networkId: this.network.id,
          address: addressOf(this.props.cidr, firstHostNumber + this.machines.size),
        },
      ],
      adaptation: machineAdaptation(baseline, adaptation ?? {}, this.props.sites),
      ...(record === undefined
        ? {}
        : {
            startFrom: {
              vcpus: record.vcpus,
              cpuPercent: record.cpu_percent,
              memoryMib: record.memory_mib,
              site: record.site,
              adaptationId: record.adaptation_id,
            },
          }),
      ...props.override?.(index),
    });
    machine.overrideLogicalId(`${this.node.id}_${name}`);
    this.machines.set(name, machine);
  }
}

interface Sizes {
  readonly vcpus: number;
  readonly cpuPercent: number;
  readonly memoryMib: number;
}
function baselineOf(props: Pick<GroupProps, "vcpus" | "cpuPercent" | "memory">): Sizes {
  return {
    vcpus: props.vcpus ?? defaults.vcpus,
    cpuPercent: props.cpuPercent ?? defaults.cpuPercent,
    memoryMib: props.memory?.mib ?? defaults.memoryMib,
  };
}

/** The sizes that an entry of `baselines` names. */
function sizesOf(own: SingleBaseline | undefined): Partial<Sizes> {
  const { vcpus, cpuPercent, memoryMib } = own ?? {};
  return {
    ...(vcpus === undefined ? {} : { vcpus }),
    ...(cpuPercent === undefined ? {} : { cpuPercent }),
    ...(memoryMib === undefined ? {} : { memoryMib }),
  };
}

const attributeNames = {
  vcpus: "vcpus",
  cpuPercent: "cpu_percent",
  memory: "memory_mib",
  site: "site",
} as const;

function machineAdaptation(
  baseline: Sizes,
  adaptation: NonNullable<GroupProps["adaptation"]>,
  sites: readonly string[],
) {
  const { mode, vcpus, cpuPercent, memory, pinned } = adaptation;
  return {
    ...(mode === undefined ? {} : { mode }),
    ...range("vcpus", vcpus, baseline.vcpus),
    ...range("cpuPercent", cpuPercent, baseline.cpuPercent),
    ...range("memoryMib", memory && inMib(memory), baseline.memoryMib),
    sites: [...(adaptation.sites ?? sites)],
    ...(pinned === undefined
      ? {}
      : { pinnedAttributes: pinned.map((name) => attributeNames[name]) }),
  };
}

function environmentAdaptation(
  adaptation: NonNullable<EnvironmentProps["adaptation"]>,
): EnvironmentAdaptation {
  const { mode, vcpus, cpuPercent, memory, sites, links } = adaptation;
  return {
    ...(mode === undefined ? {} : { mode }),
    ...range("vcpus", vcpus),
    ...range("cpuPercent", cpuPercent),
    ...range("memoryMib", memory && inMib(memory)),
    ...(sites === undefined ? {} : { sites: [...sites] }),
    ...(links === undefined
      ? {}
      : {
          links: {
            maxAdded: links.maxAdded,
            rateMbps: { min: links.rate.min.mbps, max: links.rate.max.mbps },
          },
        }),
  };
}

/** What is left open is the baseline; without one both ends must be given. */
function range(
  name: "vcpus" | "cpuPercent" | "memoryMib",
  bounds: Bounds<number> | undefined,
  baseline?: number,
) {
  if (bounds === undefined) return {};
  const { min = baseline, max = baseline } = bounds;
  if (min === undefined || max === undefined)
    throw new Error(
      `Bounds of ${name} for a whole environment need min and max: no baseline fills in.`,
    );
  return { [name]: { min, max } };
}

function inMib({ min, max }: Bounds<Size>): Bounds<number> {
  return {
    ...(min === undefined ? {} : { min: min.mib }),
    ...(max === undefined ? {} : { max: max.mib }),
  };
}

/** The n-th address of an IPv4 CIDR, dotted. Throws when it lies outside. */
function addressOf(cidr: string, number: number): string {
  const match = /^(\d+)\.(\d+)\.(\d+)\.(\d+)\/(\d+)$/.exec(cidr);
  if (match === null) throw new Error(`"${cidr}" is not an IPv4 CIDR such as 10.42.0.0/24.`);
  const [a = 0, b = 0, c = 0, d = 0, bits = 0] = match.slice(1).map(Number);
  const base = ((a << 24) | (b << 16) | (c << 8) | d) >>> 0;
  if (number >= 2 ** (32 - bits) - 1)
    throw new Error(
      `${cidr} has no room for machine number ${number - firstHostNumber + 1}. Use a larger CIDR.`,
    );
  const address = base + number;
  return [24, 16, 8, 0].map((shift) => (address >>> shift) & 255).join(".");
}
