/**
 * What policy sees: contract 1 of the input, in the wire's words, declared once. From here come the TypeScript types,
 * the door's validator (opa/door.ts) and policies/schemas/input.json (`node test/tools/policy-schemas.ts --write`).
 * Strict on purpose: no unknown field, and almost no optional one, because a rule that sums cannot see what is absent.
 * Pure declarations: facts.ts fills them, Rego reads them. A field added here is added there and in docs/policy.md.
 */
import { type Static, Type } from "typebox";
import { constraintLevels } from "#model/objects";

/** The version of the contract between shepherd and policies; both sides refuse another. */
export const contractVersion = 1;

const closed = { additionalProperties: false };
const name = Type.String({ minLength: 1, maxLength: 128 });
const amount = Type.Integer({ minimum: 0 });

export const points = ["request", "plan", "stack", "audit"] as const;
export const requestKinds = [
  "create",
  "update",
  "destroy",
  "resize",
  "rate",
  "move",
  "scale",
  "topology",
  "release",
  "repair",
] as const;
/** Beside the requests: nobody asks at the point `audit`, the standing state is judged. */
export const judgedKinds = [...requestKinds, "audit"] as const;
export const subjectTypes = ["guest", "operator", "automation", "stack", "shepherd"] as const;
export const adaptationModes = ["auto", "approve", "advise", "pinned"] as const;

/** One instance of one rule does not deny these environments until then; what could not be decided is never excused. */
export const exemption = {
  id: name,
  rule: name,
  instance: name,
  environments: Type.Array(name, { minItems: 1 }),
  expires_ms: Type.Integer({ minimum: 1 }),
  approved_by: name,
  ticket: name,
};

/** A rule instance that an environment declares for itself; `id` cannot be one of a bundle's own. */
const DeclaredConstraint = Type.Object(
  {
    rule: name,
    id: name,
    level: Type.Enum([...constraintLevels]),
    params: Type.Record(Type.String(), Type.Unknown()),
  },
  closed,
);

const sizing = { vcpus: amount, cpu_percent: amount, memory_mib: amount };
const Sizing = Type.Object(sizing, closed);
/** Absent: 100, the default; only the stack changes it, and nothing is taken from a host for it. */
const CpuWeight = Type.Optional(Type.Integer({ minimum: 1, maximum: 10_000 }));
const Range = Type.Object({ min: amount, max: amount }, closed);
const Capacity = Type.Object({ cpu_percent: amount, memory_mib: amount, disk_gib: amount }, closed);

/** Always written whole, so that a lost fact cannot look like "no hold". Inactive: empty strings and zeros. */
const Hold = Type.Object(
  {
    active: Type.Boolean(),
    by: Type.String(),
    reason: Type.String(),
    since_ms: amount,
    /** 0 = until it is lifted. */
    until_ms: amount,
  },
  closed,
);

const Machine = Type.Object(
  {
    name,
    /** The machine's own class, else its environment's. */
    class: name,
    /** "" when it belongs to none. */
    group: Type.String(),
    /** Where it runs now; "" before it was placed (create). */
    site: Type.String(),
    host: Type.String(),
    /** Effective sizes; zeros before it was created. */
    ...sizing,
    cpu_weight: CpuWeight,
    /** Virtual size of its own disk layer, rounded up: what it may come to take at a host. */
    disk_gib: amount,
    /** The stack's words; for create and update the new ones. */
    baseline: Type.Object({ ...sizing, site: name }, closed),
    /** Inclusive bounds. An attribute that does not adapt has min = max = its baseline; sites always holds the baseline's. */
    envelope: Type.Object(
      {
        mode: Type.Enum([...adaptationModes]),
        vcpus: Range,
        cpu_percent: Range,
        memory_mib: Range,
        sites: Type.Array(name, { minItems: 1 }),
      },
      closed,
    ),
    /** Smallest effective sizes within the last hour, now included; zeros before it was created. */
    hour_low: Sizing,
    /** What it counts with while operations run: the larger of its effective sizes and what is reserved for it at one host. */
    held: Type.Object({ cpu_percent: amount, memory_mib: amount }, closed),
    /**
     * What it would be after this request: equal to the effective values where nothing changes, zeros when it would be
     * destroyed. At the point `request` the host of a machine that must be placed is "" (and its site too, when the
     * request names none); at the point `plan` both are the planner's choice.
     */
    proposed: Type.Object(
      { ...sizing, cpu_weight: CpuWeight, site: Type.String(), host: Type.String() },
      closed,
    ),
  },
  closed,
);

const Link = Type.Object(
  {
    /** Its two machines, sorted, joined by `--`; of one machine and its network: `machine@network`. */
    name,
    machines: Type.Array(name, { minItems: 1, maxItems: 2 }),
    /** The network that is its other end; absent: there are two machines. */
    network: Type.Optional(name),
    rate_mbps: amount,
    baseline_mbps: amount,
    proposed_mbps: amount,
  },
  closed,
);

/** One request of this environment in the last hour, the one being judged excluded, whatever became of it. */
const RecentRequest = Type.Object(
  {
    id: name,
    at_ms: amount,
    /** subject.name of who asked. */
    subject: name,
    kind: Type.Enum([...requestKinds]),
    effect: Type.Enum(["allow", "approve", "deny"]),
    /** Names of the machines it was about; those that are gone are left out. */
    machines: Type.Array(name),
  },
  closed,
);

/** One move of this environment in the last 24 hours. Its cause is the type of who asked for it. */
const RecentMove = Type.Object(
  {
    operation: name,
    /** When its operation was granted. */
    at_ms: amount,
    machine: name,
    cause: Type.Enum([...subjectTypes]),
    from_site: name,
    to_site: name,
    /** Measured when it has ended, else predicted. */
    bytes: amount,
    downtime_ms: amount,
    /** failed: the machine stayed where it was. */
    outcome: Type.Enum(["running", "done", "failed"]),
  },
  closed,
);

/** What moves under way hold at their destinations while the sources still hold it. */
const Moving = Type.Object(
  { machines: amount, cpu_percent: amount, memory_mib: amount, disk_gib: amount },
  closed,
);

/** What one environment takes at one site, running operations included: a move counts at both. */
const Share = Type.Object(
  {
    environment: name,
    owner: name,
    machines: amount,
    cpu_percent: amount,
    memory_mib: amount,
    disk_gib: amount,
  },
  closed,
);

const Host = Type.Object(
  {
    id: name,
    state: Type.Enum(["up", "degraded"]),
    /** How long ago it said what stands here. Absent only in inputs recorded before there were ages. */
    age_ms: Type.Optional(amount),
    /** What the owner lends. */
    lend: Capacity,
    /** Effective sizes of all our machines there plus what foreign machines take. */
    used: Capacity,
    /** Held by running operations beyond `used`. */
    reserved: Capacity,
    /** What the host itself says is free now; zeros when it was not observed. */
    free: Type.Object({ memory_mib: amount, disk_gib: amount }, closed),
  },
  closed,
);

const Move = Type.Object(
  {
    machine: name,
    class: name,
    from_site: name,
    from_host: name,
    to_site: name,
    to_host: name,
    predicted_ms: amount,
    bytes: amount,
    downtime_ms: amount,
  },
  closed,
);

export const PolicyInput = Type.Object(
  {
    contract: Type.Literal(contractVersion),
    now_ms: amount,
    /**
     * Where the question is asked. Before planning: `request`, or `stack` for what a stack declares; `plan` on the
     * finished plan; `audit` on the standing state, where `proposed` is what is.
     */
    point: Type.Enum([...points]),
    request: Type.Object(
      {
        id: name,
        kind: Type.Enum([...judgedKinds]),
        /** Names of the machines and links it is about; each stands in `environment`. */
        machines: Type.Array(name),
        links: Type.Array(name),
        /** Set when a whole group was asked for. */
        group: Type.Optional(name),
        /** Absent: until released, the longest lease there is. */
        lease_ms: Type.Optional(Type.Integer({ minimum: 1 })),
        /** Untrusted text. */
        reason: Type.String({ maxLength: 200 }),
      },
      closed,
    ),
    subject: Type.Object(
      {
        type: Type.Enum([...subjectTypes]),
        name,
        /** The machine whose channel the request came through: guests only. */
        machine: Type.Optional(name),
        roles: Type.Array(name),
      },
      closed,
    ),
    environment: Type.Object(
      {
        name,
        owner: name,
        class: name,
        sites: Type.Array(name, { minItems: 1 }),
        /** All of them, not only those asked for. */
        machines: Type.Array(Machine),
        links: Type.Array(Link),
        /** Lengths of the two, a guard against lost rows. */
        counts: Type.Object({ machines: amount, links: amount }, closed),
        /** Names of the members of each group that has any. */
        groups: Type.Array(
          Type.Object({ name, machines: Type.Array(name, { minItems: 1 }) }, closed),
        ),
        /** `total` is the length of `requests`, a guard against lost rows. */
        recent: Type.Object({ total: amount, requests: Type.Array(RecentRequest) }, closed),
        /** Moves of the last 24 hours, the newest ones when there are very many; `total` guards as above. */
        moves: Type.Object({ total: amount, rows: Type.Array(RecentMove) }, closed),
        moving: Moving,
        hold: Hold,
      },
      closed,
    ),
    /** The owner of the environment, over all environments that are theirs. */
    owner: Type.Object(
      {
        name,
        /** Of all their environments but this one, effective or reserved. */
        others: Type.Object(
          {
            environments: amount,
            machines: amount,
            vcpus: amount,
            cpu_percent: amount,
            memory_mib: amount,
            disk_gib: amount,
            rate_mbps: amount,
          },
          closed,
        ),
        /** Of all their environments, this one included. */
        moving: Moving,
        /** Copied by moves of all their environments in the last 24 hours, running ones included as predicted. */
        moved_bytes: amount,
      },
      closed,
    ),
    sites: Type.Array(
      Type.Object(
        {
          id: name,
          owner: name,
          /** Age of the oldest words of its hosts that this decision rests on; also for bundles that see no hosts. */
          age_ms: Type.Optional(amount),
          hold: Hold,
          /** What this bundle is shown (visible.ts): all; own = no hosts, shares of the environment's owner; none. */
          view: Type.Enum(["whole", "own", "none"]),
          hosts: Type.Array(Host),
          /** `total` is the length of `rows`, a guard against lost ones. */
          shares: Type.Object({ total: amount, rows: Type.Array(Share) }, closed),
        },
        closed,
      ),
      { minItems: 1 },
    ),
    /** Present exactly at the point `plan`. */
    plan: Type.Optional(
      Type.Object(
        {
          digest: name,
          predicted_ms: amount,
          bytes: amount,
          downtime_ms: amount,
          moves: Type.Array(Move),
        },
        closed,
      ),
    ),
    /** A hold on everything; those of a site or an environment stand there. */
    hold: Hold,
    /** Given at run time (`drover exempt`), beside those in the bundle's data. A bundle sees only those from its own rules. */
    exemptions: Type.Array(Type.Object({ ...exemption, owner: name }, closed)),
    /**
     * Declared by the environment (`drover_constraint`); absent: none. Only its owner's bundle sees them: the engine puts
     * them beside the instances of the bundle's data for this one question.
     */
    constraints: Type.Optional(Type.Array(DeclaredConstraint, { minItems: 1 })),
  },
  closed,
);

export type PolicyInput = Static<typeof PolicyInput>;
export type PolicyMachine = Static<typeof Machine>;
export type PolicyLink = Static<typeof Link>;
export type PolicyHost = Static<typeof Host>;
export type PolicySite = PolicyInput["sites"][number];
export type PolicyPlan = NonNullable<PolicyInput["plan"]>;
export type PolicyMove = Static<typeof Move>;
export type PolicyShare = Static<typeof Share>;
export type PolicyMoving = Static<typeof Moving>;
export type PolicyRecentMove = Static<typeof RecentMove>;
export type PolicyConstraint = Static<typeof DeclaredConstraint>;
export type PolicyHold = Static<typeof Hold>;
export type PolicyPoint = PolicyInput["point"];

/** No hold: what stands in the input where none is active. */
export const noHold: PolicyHold = { active: false, by: "", reason: "", since_ms: 0, until_ms: 0 };
