/**
 * The bodies and queries of the API, declared once: validation and OpenAPI read these, the compiler holds them equal to
 * api/contract.ts. Answers are described by reference to the contract's types; they are built by api/views.ts.
 */
import { type Static, Type } from "typebox";
import type {
  EnvironmentBody as EnvironmentBodyContract,
  EnvironmentPatch as EnvironmentPatchContract,
  GroupBody as GroupBodyContract,
  GroupPatch as GroupPatchContract,
  HoldBody as HoldBodyContract,
  ImageBody as ImageBodyContract,
  ImportBody as ImportBodyContract,
  LinkBody as LinkBodyContract,
  LinkPatch as LinkPatchContract,
  MachineBody as MachineBodyContract,
  MachinePatch as MachinePatchContract,
  NetworkBody as NetworkBodyContract,
  NetworkPatch as NetworkPatchContract,
  PlanCheckBody as PlanCheckBodyContract,
  RequestBody as RequestBodyContract,
  TokenBody as TokenBodyContract,
  VolumeBody as VolumeBodyContract,
} from "#api/contract";

const closed = { additionalProperties: false };
/** Names become part of a libvirt domain's name, of files and of lines that people read. */
export const Name = Type.String({
  pattern: "^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$",
  description: "At most 40 small letters, digits and dashes",
});
/** Names of sites, classes and owners; what they mean is policy's business. */
const Label = Type.String({ minLength: 1, maxLength: 64, pattern: "^[A-Za-z0-9._-]+$" });
const Id = Type.String({ minLength: 1, maxLength: 64 });
const Sha256 = Type.String({ pattern: "^[0-9a-f]{64}$" });
const Path = Type.String({ minLength: 1, maxLength: 4096, pattern: "^(/|blob:)" });

const Vcpus = Type.Integer({ minimum: 1, maximum: 512 });
const CpuPercent = Type.Integer({
  minimum: 1,
  maximum: 51_200,
  description: "Percent of one core",
});
const CpuWeight = Type.Integer({ minimum: 1, maximum: 10_000 });
const MemoryMib = Type.Integer({ minimum: 16, maximum: 16 * 1024 * 1024 });
const RateMbps = Type.Integer({ minimum: 1, maximum: 400_000 });
const nullable = <T extends Parameters<typeof Type.Union>[0][number]>(schema: T) =>
  Type.Union([schema, Type.Null()]);
const maybe = <T extends Parameters<typeof Type.Union>[0][number]>(schema: T) =>
  Type.Optional(nullable(schema));

const Range = Type.Object(
  { min: Type.Integer({ minimum: 0 }), max: Type.Integer({ minimum: 0 }) },
  closed,
);
const Mode = Type.Union([
  Type.Literal("auto"),
  Type.Literal("approve"),
  Type.Literal("advise"),
  Type.Literal("pinned"),
]);
const adaptationWords = {
  mode: maybe(Mode),
  vcpus: maybe(Range),
  cpu_percent: maybe(Range),
  memory_mib: maybe(Range),
  sites: maybe(Type.Array(Label, { maxItems: 64 })),
};
export const EnvironmentAdaptation = Type.Object(
  {
    ...adaptationWords,
    links: maybe(
      Type.Object(
        { max_added: Type.Integer({ minimum: 0, maximum: 4_096 }), rate_mbps: Range },
        closed,
      ),
    ),
  },
  closed,
);
export const EnvironmentBody = Type.Object(
  {
    owner: maybe(Label),
    class: Label,
    sites: Type.Array(Label, { minItems: 1, maxItems: 64 }),
    adaptation: maybe(EnvironmentAdaptation),
  },
  closed,
);
export const EnvironmentPatch = Type.Partial(EnvironmentBody, closed);
const networkFields = {
  mtu: Type.Optional(Type.Union([Type.Integer({ minimum: 576, maximum: 9000 }), Type.Null()])),
  gateway: Type.Optional(
    Type.Union([
      Type.Object({ site: Type.String(), nat: Type.Optional(Type.Boolean()) }, closed),
      Type.Null(),
    ]),
  ),
};
export const NetworkBody = Type.Object(
  { cidr: Type.String({ minLength: 9, maxLength: 18 }), ...networkFields },
  closed,
);
export const NetworkPatch = Type.Object(networkFields, closed);
export const ImageBody = Type.Object(
  {
    source: Path,
    sha256: Sha256,
    kernel: maybe(Path),
    initrd: maybe(Path),
    cmdline: maybe(Type.String({ maxLength: 2048, pattern: "^[\\x20-\\x7e]*$" })),
  },
  closed,
);

const MachineAdaptation = Type.Object(
  {
    ...adaptationWords,
    pinned_attributes: maybe(
      Type.Array(
        Type.Union([
          Type.Literal("vcpus"),
          Type.Literal("cpu_percent"),
          Type.Literal("memory_mib"),
          Type.Literal("site"),
        ]),
        { maxItems: 4 },
      ),
    ),
  },
  closed,
);
/** Longest wait for a guest that powers off. */
const StopTimeoutS = Type.Integer({ minimum: 0, maximum: 3_600 });
/** What a machine and the template of a group have alike. */
const templateFields = {
  class: maybe(Label),

  vcpus: maybe(Vcpus),
  cpu_percent: maybe(CpuPercent),
  memory_mib: maybe(MemoryMib),
  cpu_weight: maybe(CpuWeight),
  site: maybe(Label),
  adaptation: maybe(MachineAdaptation),
  ceiling: maybe(Type.Object({ vcpus: maybe(Vcpus), memory_mib: maybe(MemoryMib) }, closed)),
  user_data: maybe(Type.String({ maxLength: 16_384 })),
  stop_timeout_s: maybe(StopTimeoutS),
  deletion_protection: Type.Optional(Type.Boolean()),
  allow_restart: Type.Optional(Type.Boolean()),
  raw_xml_patch: maybe(
    Type.Array(
      Type.Object(
        {
          path: Type.String({ minLength: 1, maxLength: 256 }),
          value: Type.String({ maxLength: 1_024 }),
        },
        closed,
      ),
      { maxItems: 64 },
    ),
  ),
};
const machineFields = {
  group: maybe(Name),
  speaker: Type.Optional(Type.Boolean()),
  host: maybe(Label),
  ...templateFields,
  disks: maybe(Type.Array(Type.Object({ volume_id: Id }, closed), { maxItems: 24 })),
};
const Networks = Type.Array(
  Type.Object({ network_id: Id, address: maybe(Type.String({ maxLength: 15 })) }, closed),
  { maxItems: 8 },
);
export const MachineBody = Type.Object(
  {
    ...machineFields,
    image_id: Id,
    networks: Networks,
    start_from: maybe(
      Type.Object(
        {
          vcpus: Vcpus,
          cpu_percent: CpuPercent,
          memory_mib: MemoryMib,
          site: Label,
          adaptation_id: Id,
        },
        closed,
      ),
    ),
  },
  closed,
);
const Planned = Type.Optional(
  Type.Object(
    {
      vcpus: Type.Optional(Type.Integer({ minimum: 0 })),
      cpu_percent: Type.Optional(Type.Integer({ minimum: 0 })),
      memory_mib: Type.Optional(Type.Integer({ minimum: 0 })),
      site: Type.Optional(Type.String({ maxLength: 64 })),
    },
    closed,
  ),
);
export const MachinePatch = Type.Object(
  {
    ...machineFields,
    networks: Type.Optional(Networks),
    planned_from: Planned,
    planned_effective: Planned,
  },
  closed,
);
export const LinkBody = Type.Object(
  {
    machines: Type.Array(Name, { minItems: 1, maxItems: 2 }),
    network: Type.Optional(Type.Union([Name, Type.Null()])),
    rate_mbps: RateMbps,
    latency: Type.Optional(Type.Union([Type.Literal("low"), Type.Null()])),
    burst_kib: Type.Optional(
      Type.Union([Type.Integer({ minimum: 16, maximum: 65_536 }), Type.Null()]),
    ),
  },
  closed,
);
const PlannedRate = Type.Optional(
  Type.Object({ rate_mbps: Type.Optional(Type.Integer({ minimum: 0 })) }, closed),
);
export const LinkPatch = Type.Object(
  { rate_mbps: RateMbps, planned_from: PlannedRate, planned_effective: PlannedRate },
  closed,
);
const MachineCount = Type.Integer({ minimum: 0, maximum: 1_024 });
const PlannedCount = Type.Optional(
  Type.Object({ machine_count: Type.Optional(Type.Integer({ minimum: 0 })) }, closed),
);
export const GroupTemplate = Type.Object(
  {
    ...templateFields,
    image_id: Id,
    networks: Type.Array(Type.Object({ network_id: Id }, closed), { maxItems: 8 }),
  },
  closed,
);
const groupFields = {
  adaptation: maybe(Type.Object({ mode: maybe(Mode), machine_count: maybe(Range) }, closed)),
  topology: maybe(
    Type.Union([
      Type.Literal("none"),
      Type.Literal("ring"),
      Type.Literal("mesh"),
      Type.Literal("star"),
    ]),
  ),
  topology_rate_mbps: maybe(RateMbps),
  coupling: maybe(
    Type.Union([
      Type.Literal("independent"),
      Type.Literal("bulk_synchronous"),
      Type.Literal("pipeline"),
    ]),
  ),
  speaker: maybe(Type.Integer({ minimum: 0 })),
};
export const GroupBody = Type.Object(
  { template: GroupTemplate, machine_count: MachineCount, ...groupFields },
  closed,
);
export const GroupPatch = Type.Object(
  {
    template: Type.Optional(GroupTemplate),
    machine_count: Type.Optional(MachineCount),
    ...groupFields,
    planned_from: PlannedCount,
    planned_effective: PlannedCount,
  },
  closed,
);
export const VolumeBody = Type.Object(
  {
    size_gib: Type.Integer({ minimum: 1, maximum: 65_536 }),
    site: maybe(Label),
    deletion_protection: Type.Optional(Type.Boolean()),
  },
  closed,
);
export const VolumePatch = Type.Partial(VolumeBody, closed);
const Verb = Type.Union([Type.Literal("create"), Type.Literal("update"), Type.Literal("delete")]);
export const PlanCheckBody = Type.Object(
  {
    run: Type.String({ minLength: 1, maxLength: 64 }),
    earlier: Type.Optional(Type.Integer({ minimum: 0 })),
    kind: Type.Union([
      Type.Literal("machine"),
      Type.Literal("group"),
      Type.Literal("link"),
      Type.Literal("environment"),
      Type.Literal("network"),
      Type.Literal("volume"),
      Type.Literal("constraint"),
    ]),
    verb: Verb,
    id: Type.Optional(Id),
    environment: Type.Optional(Id),
    name: Type.Optional(Name),
    body: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
    keep_disk: Type.Optional(Type.Literal(true)),
    addresses: Type.Optional(
      Type.Array(Type.String({ minLength: 7, maxLength: 15 }), { maxItems: 8 }),
    ),
  },
  closed,
);
export const ImportBody = Type.Object(
  {
    environment: Id,
    name: Name,
    host: Type.Optional(Label),
    group: maybe(Name),
    class: maybe(Label),
  },
  closed,
);

export const RequestBody = Type.Object(
  {
    method: Type.Union([
      Type.Literal("resize"),
      Type.Literal("rate"),
      Type.Literal("move"),
      Type.Literal("release"),
      Type.Literal("scale"),
      Type.Literal("topology"),
      Type.Literal("forecast"),
    ]),
    environment: Name,
    machine: Type.Optional(Name),
    group: Type.Optional(Name),
    params: Type.Object(
      {
        vcpus: Type.Optional(Vcpus),
        cpu_percent: Type.Optional(CpuPercent),
        memory_mib: Type.Optional(MemoryMib),
        peer: Type.Optional(Name),
        rate_mbps: Type.Optional(RateMbps),
        site: Type.Optional(Label),
        host: Type.Optional(Label),
        within_s: Type.Optional(Type.Integer({ minimum: 1, maximum: 2_592_000 })),
        machines: Type.Optional(MachineCount),
        links: Type.Optional(
          Type.Array(
            Type.Object({ machines: Type.Tuple([Name, Name]), rate_mbps: RateMbps }, closed),
            { maxItems: 4_096 },
          ),
        ),
        phase: Type.Optional(Type.String({ minLength: 1, maxLength: 128 })),
        in_s: Type.Optional(Type.Integer({ minimum: 0, maximum: 31_536_000 })),
        for_s: Type.Optional(Type.Integer({ minimum: 1, maximum: 31_536_000 })),
        lease_s: Type.Optional(Type.Integer({ minimum: 1, maximum: 31_536_000 })),
        reason: Type.Optional(Type.String({ maxLength: 200 })),
      },
      closed,
    ),
  },
  closed,
);
export const HoldBody = Type.Object(
  {
    scope: Type.Union([
      Type.Literal("everything"),
      Type.Object({ site_id: Label }, closed),
      Type.Object({ environment_id: Id }, closed),
    ]),
    reason: Type.String({ minLength: 1, maxLength: 200 }),
    for_ms: Type.Optional(Type.Integer({ minimum: 1 })),
  },
  closed,
);
export const TokenBody = Type.Object(
  {
    name: Name,
    role: Type.Union([
      Type.Literal("operator"),
      Type.Literal("approver"),
      Type.Literal("security"),
      Type.Literal("reader"),
      Type.Literal("stack"),
    ]),
    human: Type.Optional(Name),
  },
  closed,
);

/** Compile-time proof that what is validated is what the contract says. Both directions: a missing field shows too. */
type Same<Left, Right> = [Left] extends [Right] ? ([Right] extends [Left] ? true : never) : never;
const same: [
  Same<Static<typeof EnvironmentBody>, EnvironmentBodyContract>,
  Same<Static<typeof EnvironmentPatch>, EnvironmentPatchContract>,
  Same<Static<typeof NetworkBody>, NetworkBodyContract>,
  Same<Static<typeof NetworkPatch>, NetworkPatchContract>,
  Same<Static<typeof ImageBody>, ImageBodyContract>,
  Same<Static<typeof LinkBody>, LinkBodyContract>,
  Same<Static<typeof LinkPatch>, LinkPatchContract>,
  Same<Static<typeof HoldBody>, HoldBodyContract>,
  Same<Static<typeof TokenBody>, TokenBodyContract>,
  Same<Static<typeof RequestBody>, RequestBodyContract>,
  Same<Static<typeof VolumeBody>, VolumeBodyContract>,
  Same<Static<typeof PlanCheckBody>, PlanCheckBodyContract>,
  Same<Static<typeof ImportBody>, ImportBodyContract>,
  Same<keyof Static<typeof GroupBody>, keyof GroupBodyContract>,
  Same<keyof Static<typeof GroupPatch>, keyof GroupPatchContract>,
  Same<keyof Static<typeof MachineBody>, keyof MachineBodyContract>,
  Same<keyof Static<typeof MachinePatch>, keyof MachinePatchContract>,
] = [
  true,
  true,
  true,
  true,
  true,
  true,
  true,
  true,
  true,
  true,
  true,
  true,
  true,
  true,
  true,
  true,
  true,
];
void same;
