/**
 * `Environment`: machines in groups, one private LAN, links; the hand-written layer over the generated bindings.
 * Emits baselines, envelopes and `start_from`; knows nothing of what is live.
 */
import { join } from "node:path";
import { Construct } from "constructs";
import { Environment as EnvironmentResource } from "../.gen/providers/drover/environment/index.ts";
import { Image } from "../.gen/providers/drover/image/index.ts";
import { Link } from "../.gen/providers/drover/link/index.ts";
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
  /** Who answers for it; absent = the principal that applies. */
  readonly owner?: string;
  /** The shepherd's record; default `adaptations.json` in the current directory. */
  readonly adaptationsFile?: string;
}

/** A bound on how far a value may adapt; what is absent stays at the baseline. */
export interface Bounds<Value> {
  readonly min?: Value;
  readonly max?: Value;
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
  readonly adaptation?: {
    readonly mode?: "auto" | "approve" | "advise" | "pinned";
    readonly vcpus?: Bounds<number>;
    readonly cpuPercent?: Bounds<number>;
    readonly memory?: Bounds<Size>;
    readonly sites?: readonly string[];
  };
  /** Anything else of the resource, for one machine. */
  readonly override?: (index: number) => Partial<MachineConfig>;
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
    });
    this.resource.overrideLogicalId(id); // addresses that a person can type: drover_machine.ring_rank-0
    this.network = new Network(this, "lan", {
      environmentId: this.resource.id,
      name: "lan",
      cidr: props.cidr,
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

  /** One machine that belongs to no group. */
  machine(name: string, props: GroupProps): string {
    this.add(name, { ...props, speaker: false }, this.machines.size);
    return name;
  }

  /** A promised rate, in both directions, between each pair. */
  link(pairs: readonly Pair[], options: { readonly rate: Rate }): void {
    for (const [left, right] of pairs) {
      const link = new Link(this, `link-${left}--${right}`, {
        environmentId: this.resource.id,
        machines: [this.nameOf(left), this.nameOf(right)],
        rateMbps: options.rate.mbps,
      });
      link.overrideLogicalId(`${this.node.id}_${left}--${right}`);
    }
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
    const site = props.site?.(index) ?? this.props.sites[index % this.props.sites.length] ?? "";
    const vcpus = props.vcpus ?? defaults.vcpus;
    const cpuPercent = props.cpuPercent ?? defaults.cpuPercent;
    const memoryMib = props.memory?.mib ?? defaults.memoryMib;
    const { adaptation } = props;
    const record = this.adaptations.find((row) => row.machine === name);
    const machine = new Machine(this, name, {
      environmentId: this.resource.id,
      name,
      ...(props.group === undefined ? {} : { group: props.group, speaker: props.speaker }),
      ...(props.class === undefined ? {} : { class: props.class }),
      imageId: props.image.id,
      vcpus,
      cpuPercent,
      memoryMib,
      site,
      networks: [
        {
          networkId: this.network.id,
          address: addressOf(this.props.cidr, firstHostNumber + this.machines.size),
        },
      ],
      adaptation: {
        mode: adaptation?.mode ?? "auto",
        ...range("vcpus", vcpus, adaptation?.vcpus),
        ...range("cpuPercent", cpuPercent, adaptation?.cpuPercent),
        ...range(
          "memoryMib",
          memoryMib,
          adaptation?.memory && {
            ...mibOf("min", adaptation.memory.min),
            ...mibOf("max", adaptation.memory.max),
          },
        ),
        sites: [...(adaptation?.sites ?? this.props.sites)],
      },
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

function range(
  name: "vcpus" | "cpuPercent" | "memoryMib",
  baseline: number,
  bounds: Bounds<number> | undefined,
) {
  if (bounds === undefined) return {};
  return { [name]: { min: bounds.min ?? baseline, max: bounds.max ?? baseline } };
}

function mibOf(name: "min" | "max", size: Size | undefined) {
  return size === undefined ? {} : { [name]: size.mib };
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
