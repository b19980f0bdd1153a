/**
 * The bodies and queries of the API, declared once: validation and OpenAPI read these, the compiler holds them equal to
 * api/contract.ts. Answers are described by reference to the contract's types; they are built by api/views.ts.
 */
import { type Static, Type } from "typebox";
import type {
  EnvironmentBody as EnvironmentBodyContract,
  EnvironmentPatch as EnvironmentPatchContract,
  HoldBody as HoldBodyContract,
  ImageBody as ImageBodyContract,
  LinkBody as LinkBodyContract,
  LinkPatch as LinkPatchContract,
  MachineBody as MachineBodyContract,
  MachinePatch as MachinePatchContract,
  NetworkBody as NetworkBodyContract,
  RequestBody as RequestBodyContract,
  TokenBody as TokenBodyContract,
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
const MemoryMib = Type.Integer({ minimum: 16, maximum: 16 * 1024 * 1024 });
const RateMbps = Type.Integer({ minimum: 1, maximum: 400_000 });
const nullable = <T extends Parameters<typeof Type.Union>[0][number]>(schema: T) =>
  Type.Union([schema, Type.Null()]);
const maybe = <T extends Parameters<typeof Type.Union>[0][number]>(schema: T) =>
  Type.Optional(nullable(schema));

export const EnvironmentBody = Type.Object(
  { owner: maybe(Label), class: Label, sites: Type.Array(Label, { minItems: 1, maxItems: 64 }) },
  closed,
);
export const EnvironmentPatch = Type.Partial(EnvironmentBody, closed);
export const NetworkBody = Type.Object(
  { cidr: Type.String({ minLength: 9, maxLength: 18 }) },
  closed,
);
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

const Range = Type.Object(
  { min: Type.Integer({ minimum: 0 }), max: Type.Integer({ minimum: 0 }) },
  closed,
);
const Envelope = Type.Object(
  {
    mode: Type.Union([
      Type.Literal("auto"),
      Type.Literal("approve"),
      Type.Literal("advise"),
      Type.Literal("pinned"),
    ]),
    vcpus: maybe(Range),
    cpu_percent: maybe(Range),
    memory_mib: maybe(Range),
    sites: maybe(Type.Array(Label, { maxItems: 64 })),
  },
  closed,
);
const machineFields = {
  group: maybe(Name),
  speaker: Type.Optional(Type.Boolean()),
  class: maybe(Label),
  vcpus: maybe(Vcpus),
  cpu_percent: maybe(CpuPercent),
  memory_mib: maybe(MemoryMib),
  site: maybe(Label),
  adaptation: maybe(Envelope),
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
  { machines: Type.Tuple([Name, Name]), rate_mbps: RateMbps },
  closed,
);
export const LinkPatch = Type.Object({ rate_mbps: RateMbps }, closed);

export const RequestBody = Type.Object(
  {
    method: Type.Union([
      Type.Literal("resize"),
      Type.Literal("rate"),
      Type.Literal("move"),
      Type.Literal("release"),
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
      Type.Literal("reader"),
      Type.Literal("stack"),
    ]),
  },
  closed,
);

/** Compile-time proof that what is validated is what the contract says. Both directions: a missing field shows too. */
type Same<Left, Right> = [Left] extends [Right] ? ([Right] extends [Left] ? true : never) : never;
const same: [
  Same<Static<typeof EnvironmentBody>, EnvironmentBodyContract>,
  Same<Static<typeof EnvironmentPatch>, EnvironmentPatchContract>,
  Same<Static<typeof NetworkBody>, NetworkBodyContract>,
  Same<Static<typeof ImageBody>, ImageBodyContract>,
  Same<Static<typeof LinkBody>, LinkBodyContract>,
  Same<Static<typeof LinkPatch>, LinkPatchContract>,
  Same<Static<typeof HoldBody>, HoldBodyContract>,
  Same<Static<typeof TokenBody>, TokenBodyContract>,
  Same<Static<typeof RequestBody>, RequestBodyContract>,
  Same<keyof Static<typeof MachineBody>, keyof MachineBodyContract>,
  Same<keyof Static<typeof MachinePatch>, keyof MachinePatchContract>,
] = [true, true, true, true, true, true, true, true, true, true, true];
void same;
