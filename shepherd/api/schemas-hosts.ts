/** What the routes of registered hosts take: bodies as they are validated, proved equal to their contract. */
import { isIP } from "node:net";
import { type Static, Type } from "typebox";
import type {
  HostBody as HostBodyContract,
  HostPatch as HostPatchContract,
  SiteBody as SiteBodyContract,
} from "#api/contract-hosts";
import { Fault } from "#model/fault";

const closed = { additionalProperties: false };
const Word = Type.String({ minLength: 1, maxLength: 253 });
const Rate = Type.Integer({ minimum: 1, maximum: 1_000_000 });
const maybe = <T extends Type.TSchema>(schema: T) =>
  Type.Optional(Type.Union([schema, Type.Null()]));

const Lend = Type.Object(
  {
    cpu_percent: Type.Integer({ minimum: 1, maximum: 1_000_000 }),
    memory_mib: Type.Integer({ minimum: 1, maximum: 1_000_000_000 }),
    disk_gib: Type.Integer({ minimum: 1, maximum: 1_000_000_000 }),
  },
  closed,
);
const Ssh = Type.Object(
  {
    address: Word,
    port: Type.Optional(Type.Integer({ minimum: 1, maximum: 65_535 })),
    user: Type.Optional(Word),
    /** A name, never a path: no slash, and no dot first. */
    key: Type.String({ pattern: "^[A-Za-z0-9_][A-Za-z0-9_.-]{0,126}$" }),
    host_key: Type.String({ pattern: "^(ssh-|ecdsa-)\\S+ [A-Za-z0-9+/=]+", maxLength: 4096 }),
  },
  closed,
);
export const HostBody = Type.Object(
  {
    pool: maybe(Word),
    migration_address: Word,
    lend: Lend,
    uplink_mbps: maybe(Rate),
    ssh: maybe(Ssh),
    libvirt_socket: maybe(Type.String({ pattern: "^/", maxLength: 253 })),
    acceleration: Type.Optional(Type.Union([Type.Literal("kvm"), Type.Literal("tcg")])),
  },
  closed,
);
export const HostPatch = Type.Object(
  { lend: Type.Optional(Lend), uplink_mbps: maybe(Rate) },
  closed,
);
const Folder = Type.String({ pattern: "^/", maxLength: 1024 });
export const SiteBody = Type.Object(
  { owner: Word, policy: Folder, key_dir: maybe(Folder) },
  closed,
);
/** As in drover.yaml. */
export const HostName = Type.String({ pattern: "^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$" });

/** Fault `request.invalid`. */
export function checkAddress(address: string): void {
  if (isIP(address) !== 0) return;
  throw new Fault("request.invalid", {
    where: "migration_address",
    attribute: "migration_address",
    problem: `${address} is not an IP address`,
  });
}

type Same<Left, Right> = [Left] extends [Right] ? ([Right] extends [Left] ? true : never) : never;
const same: [
  Same<Static<typeof HostBody>, HostBodyContract>,
  Same<Static<typeof HostPatch>, HostPatchContract>,
  Same<Static<typeof SiteBody>, SiteBodyContract>,
] = [true, true, true];
void same;
