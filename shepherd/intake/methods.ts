/**
 * Turns the parameters of a call, from a guest or an operator, into a request of the model. Strict: an unknown key, a
 * number that is none, a machine of another are refused before policy sees them. Knows no transport and no policy:
 * whether it may is asked at the gate.
 */

import { inert } from "#intake/inert";
import { digestOf } from "#model/canonical";
import { Fault } from "#model/fault";
import {
  type EnvironmentRecord,
  type GroupRecord,
  type LinkRecord,
  type MachineRecord,
  nameOfLink,
} from "#model/objects";
import type { LinkAsk, MachineAsk, Request, RequestKind, Subject } from "#model/request";
import type { Ms } from "#model/units";
import { changeGroup, membersOf as membersOfGroup } from "#planner/groups";
import { compareText } from "#planner/target";

/** The records that a call may be about: one environment's. */
export interface Scope {
  readonly environment: EnvironmentRecord;
  readonly machines: readonly MachineRecord[];
  readonly links: readonly LinkRecord[];
  readonly groups: readonly GroupRecord[];
  /** Ids of what a call would add. */
  readonly newId: () => string;
}

/** A request but for what its way in adds: id, subject, key and time. */
export type Ask = Pick<
  Request,
  | "kind"
  | "environmentId"
  | "machines"
  | "links"
  | "group"
  | "scale"
  | "declares"
  | "words"
  | "leaseMs"
  | "withinMs"
  | "reason"
>;

/** What a call asks for once it is read. */
export type Call =
  | { readonly kind: "request"; readonly ask: Ask }
  | { readonly kind: "status"; readonly machines: readonly MachineRecord[] }
  | { readonly kind: "forecast"; readonly forecast: Forecast };

/** A phase announced ahead; nothing is granted for it. */
export interface Forecast {
  readonly environment: EnvironmentRecord;
  readonly machines: readonly MachineRecord[];
  readonly group: string | undefined;
  readonly phase: string;
  readonly inMs: Ms;
  readonly forMs: Ms | undefined;
  readonly vcpus: number | undefined;
  readonly cpuPercent: number | undefined;
  readonly memoryMib: number | undefined;
  readonly rateMbps: number | undefined;
  readonly reason: string;
}

export const methods = [
  "resize",
  "rate",
  "move",
  "scale",
  "topology",
  "release",
  "forecast",
  "status",
] as const;
export type Method = (typeof methods)[number];
/** What a guest may call. */
export const guestMethods: readonly Method[] = methods;

export function isMethod(name: string): name is Method {
  return (methods as readonly string[]).includes(name);
}

type Field = "integer" | "text" | "links";
interface FieldRule {
  readonly type: Field;
  readonly min: number;
  readonly max: number;
}
/** Far above any host: policy says what is too much, these only keep nonsense out. Texts are bounded by their length. */
const fields = {
  vcpus: { type: "integer", min: 1, max: 1_024 },
  cpu_percent: { type: "integer", min: 1, max: 102_400 },
  memory_mib: { type: "integer", min: 1, max: 16 * 2 ** 20 },
  rate_mbps: { type: "integer", min: 1, max: 1_000_000 },
  /** Thirty days (docs/guest-protocol.md). */
  lease_s: { type: "integer", min: 1, max: 2_592_000 },
  in_s: { type: "integer", min: 0, max: 31_536_000 },
  /** A move has to have ended by then, or it does not begin. */
  within_s: { type: "integer", min: 1, max: 2_592_000 },
  for_s: { type: "integer", min: 1, max: 31_536_000 },
  machines: { type: "integer", min: 0, max: 1_024 },
  /** At most so many links in one call. */
  links: { type: "links", min: 0, max: 1_024 },
  phase: { type: "text", min: 1, max: 128 },
  group: { type: "text", min: 1, max: 128 },
  peer: { type: "text", min: 1, max: 128 },
  network: { type: "text", min: 1, max: 128 },
  site: { type: "text", min: 1, max: 128 },
  host: { type: "text", min: 1, max: 128 },
  /** Cut, not refused. */
  reason: { type: "text", min: 0, max: Number.POSITIVE_INFINITY },
} as const satisfies Record<string, FieldRule>;
type FieldName = keyof typeof fields;

const sizes = ["vcpus", "cpu_percent", "memory_mib"] as const;
/** A machine is never a parameter: a guest's channel says which it is, an operator names it beside the parameters. */
const known: Record<Method, readonly FieldName[]> = {
  resize: [...sizes, "group", "lease_s", "reason"],
  rate: ["peer", "network", "rate_mbps", "lease_s", "reason"],
  move: ["site", "host", "group", "within_s", "lease_s", "reason"],
  scale: ["group", "machines", "lease_s", "reason"],
  topology: ["group", "links", "lease_s", "reason"],
  release: ["group", "reason"],
  forecast: [...sizes, "rate_mbps", "phase", "group", "in_s", "for_s", "reason"],
  status: [],
};

interface LinkWish {
  readonly machines: readonly [string, string];
  readonly rateMbps: number;
}
interface FieldTypes {
  readonly integer: number;
  readonly text: string;
  readonly links: readonly LinkWish[];
}
type Params = {
  readonly [Name in FieldName]?: FieldTypes[(typeof fields)[Name]["type"]];
};

/**
 * A guest's call. It speaks for itself; for its group when it is the declared speaker; for nobody else.
 * Fault `request.invalid` names the parameter; `request.not_yours` when it names another's group or may not speak for it.
 */
export function guestCall(
  method: Method,
  params: unknown,
  self: MachineRecord,
  scope: Scope,
): Call {
  const read = readParams(method, params);
  // Hosts are nothing that guests know of.
  if (read.host !== undefined) throw invalid("host", "is not for guests; name a site");
  if (read.group !== undefined) {
    if (read.group !== self.spec.group) {
      throw new Fault("request.not_yours", {
        where: "group",
        problem: "a guest asks for its own group only",
      });
    }
    if (!self.spec.speaker) {
      throw new Fault("request.not_yours", {
        where: "group",
        problem: "only the group's declared speaker asks for the group",
      });
    }
  }
  const machines = read.group === undefined ? [self] : membersOf(read.group, scope);
  return callFor(method, read, machines, scope);
}

/** The subject of a guest's requests: its channel says which machine it is. */
export function guestSubject(self: MachineRecord): Subject {
  return { type: "guest", name: self.spec.name, machineId: self.id, roles: [] };
}

/** An operator's or automation's call about a machine or a group of the environment. */
export function operatorCall(
  method: Method,
  about: { readonly machine?: string | undefined; readonly group?: string | undefined },
  params: unknown,
  scope: Scope,
): Call {
  const read = readParams(method, params);
  const { machine } = about;
  const group = about.group ?? read.group;
  const isWhole = method === "move" && machine === undefined && group === undefined;
  if (isWhole) return callFor(method, read, movable(scope), scope);
  if ((machine === undefined) === (group === undefined)) {
    throw invalid("machine", "name either a machine or a group");
  }
  if (group !== undefined) {
    return callFor(method, { ...read, group }, membersOf(group, scope), scope);
  }
  const found = scope.machines.find(({ id, spec }) => spec.name === machine || id === machine);
  if (found === undefined) {
    throw invalid(
      "machine",
      `${scope.environment.spec.name} has no machine ${inert(machine ?? "", 64)}`,
    );
  }
  return callFor(method, read, [found], scope);
}

/** The whole environment, as far as it is anywhere yet. */
function movable({ environment, machines }: Scope): readonly MachineRecord[] {
  const placed = machines.filter(({ effective }) => effective.hostId !== "");
  if (placed.length === 0) {
    throw invalid("environment", `${environment.spec.name} has no machine that could move`);
  }
  return placed;
}

function callFor(
  method: Method,
  params: Params,
  machines: readonly MachineRecord[],
  scope: Scope,
): Call {
  switch (method) {
    case "resize": {
      const wanted = sizesOf(params);
      if (Object.keys(wanted).length === 0) {
        throw invalid("params", "name at least one of vcpus, cpu_percent, memory_mib");
      }
      return requestFor("resize", params, scope, {
        machines: machines.map(({ id }) => ({ machineId: id, ...wanted })),
      });
    }
    case "move": {
      const { site: siteId, host: hostId } = params;
      if (siteId === undefined && hostId === undefined) throw invalid("site", "is missing");
      const to = { ...(siteId && { siteId }), ...(hostId && { hostId }) };
      return requestFor("move", params, scope, {
        machines: machines.map(({ id }) => ({ machineId: id, ...to })),
      });
    }
    case "rate":
      return requestFor("rate", params, scope, { links: [rateAsk(params, machines, scope)] });
    case "scale":
      return scaleCall(params, scope);
    case "topology":
      return requestFor("topology", params, scope, topologyOf(params, machines, scope));
    case "release":
      return releaseCall(params, machines, scope);
    case "status":
      return { kind: "status", machines };
    case "forecast":
      return {
        kind: "forecast",
        forecast: {
          environment: scope.environment,
          machines,
          group: params.group,
          phase: inert(params.phase ?? "next", 128),
          inMs: (params.in_s ?? 0) * 1_000,
          forMs: params.for_s === undefined ? undefined : params.for_s * 1_000,
          vcpus: params.vcpus,
          cpuPercent: params.cpu_percent,
          memoryMib: params.memory_mib,
          rateMbps: params.rate_mbps,
          reason: inert(params.reason ?? ""),
        },
      };
  }
}

function requestFor(
  kind: RequestKind,
  params: Params,
  scope: Scope,
  about: Partial<Pick<Ask, "machines" | "links" | "scale" | "declares" | "words">>,
): Call {
  return {
    kind: "request",
    ask: {
      kind,
      environmentId: scope.environment.id,
      machines: about.machines ?? [],
      links: about.links ?? [],
      ...(about.scale === undefined ? {} : { scale: about.scale }),
      ...(about.declares === undefined ? {} : { declares: about.declares }),
      ...(about.words === undefined ? {} : { words: about.words }),
      ...(params.group === undefined ? {} : { group: params.group }),
      ...(params.lease_s === undefined ? {} : { leaseMs: params.lease_s * 1_000 }),
      ...(params.within_s === undefined ? {} : { withinMs: params.within_s * 1_000 }),
      reason: inert(params.reason ?? ""),
    },
  };
}

function sizesOf(params: Params): Omit<MachineAsk, "machineId"> {
  return {
    ...(params.vcpus === undefined ? {} : { vcpus: params.vcpus }),
    ...(params.cpu_percent === undefined ? {} : { cpuPercent: params.cpu_percent }),
    ...(params.memory_mib === undefined ? {} : { memoryMib: params.memory_mib }),
  };
}

function rateAsk(params: Params, machines: readonly MachineRecord[], scope: Scope): LinkAsk {
  const [machine] = machines;
  const { peer, network, rate_mbps: rateMbps } = params;
  const isOwn = ({ spec }: LinkRecord) =>
    machine !== undefined && spec.machines.includes(machine.spec.name);
  if (network !== undefined) {
    if (peer !== undefined) throw invalid("network", "a link has a peer or a network, not both");
    if (rateMbps === undefined) throw invalid("rate_mbps", "is missing");
    const own = scope.links.find((link) => isOwn(link) && link.spec.network === network);
    if (own === undefined) throw invalid("network", `there is no link to ${inert(network, 64)}`);
    return { linkId: own.id, rateMbps };
  }
  if (peer === undefined) throw invalid("peer", "is missing");
  if (rateMbps === undefined) throw invalid("rate_mbps", "is missing");
  const link = scope.links.find(
    (one) => isOwn(one) && one.spec.machines.includes(peer) && peer !== machine?.spec.name,
  );
  if (link === undefined) {
    throw invalid("peer", `there is no link to ${inert(peer, 64)}`);
  }
  return { linkId: link.id, rateMbps };
}

/** So many machines of a group; those that the stack declared stay, whatever number is asked for. */
function scaleCall(params: Params, scope: Scope): Call {
  const { group: name, machines: wanted } = params;
  if (name === undefined) throw invalid("group", "is missing");
  if (wanted === undefined) throw invalid("machines", "is missing");
  const group = groupOf(name, scope);
  if (group === undefined) {
    throw invalid("group", `${inert(name, 64)} was declared machine by machine and does not scale`);
  }
  const { machineCount } = group.spec;
  const { declares, ...change } = changeGroup(group.spec, Math.max(wanted, machineCount), scope);
  return requestFor("scale", params, scope, {
    ...change,
    declares,
    scale: { groupId: group.id, machineCount: wanted },
    words: digestOf({ machines: wanted }),
  });
}

/**
 * The links of these machines as they are to be: named ones come or change, those that guests added and that are not
 * named go. What the stack declared stays; with another rate it is an ask like `rate`.
 */
function topologyOf(
  params: Params,
  machines: readonly MachineRecord[],
  scope: Scope,
): Pick<Ask, "links" | "declares" | "words"> {
  const { links: wishes } = params;
  if (wishes === undefined) throw invalid("links", "is missing");
  const own = new Set<string | undefined>(machines.map(({ spec }) => spec.name));
  const known = new Set(scope.machines.map(({ spec }) => spec.name));
  const named = new Map<string, number>();
  for (const { machines: ends, rateMbps } of wishes) {
    const [left, right] = ends;
    const stranger = ends.find((name) => !known.has(name));
    if (stranger !== undefined) {
      throw invalid(
        "links",
        `${scope.environment.spec.name} has no machine ${inert(stranger, 64)}`,
      );
    }
    if (left === right) throw invalid("links", "a link joins two machines");
    if (!own.has(left) && !own.has(right)) {
      throw new Fault("request.not_yours", {
        where: "links",
        problem: "a guest asks for links that one end of is its own; a speaker for its group's",
      });
    }
    named.set(ends.toSorted(compareText).join("--"), rateMbps);
  }
  const asks: LinkAsk[] = [];
  for (const link of scope.links) {
    const name = nameOfLink(link.spec);
    const rateMbps = named.get(name);
    named.delete(name);
    if (rateMbps !== undefined) asks.push({ linkId: link.id, rateMbps });
    else if (link.spec.origin === "adaptation" && link.spec.machines.some((end) => own.has(end))) {
      asks.push({ linkId: link.id, rateMbps: 0 });
    }
  }
  const added = [...named].map(([name, rateMbps]) => {
    const [left = "", right = ""] = name.split("--");
    return { id: scope.newId(), machines: [left, right] as const, rateMbps };
  });
  return {
    words: digestOf([...wishes].map(({ machines: ends, rateMbps }) => [...ends, rateMbps])),
    links: [...asks, ...added.map(({ id, rateMbps }) => ({ linkId: id, rateMbps }))],
    declares: {
      links: added.map(({ id, machines: ends }) => ({
        id,
        spec: {
          environmentId: scope.environment.id,
          machines: ends,
          rateMbps: 0,
          origin: "adaptation",
        },
      })),
    },
  };
}

/** Back to the baseline: sizes, raised and added links; a whole group gives its added machines back too. */
function releaseCall(params: Params, machines: readonly MachineRecord[], scope: Scope): Call {
  const group = params.group === undefined ? undefined : groupOf(params.group, scope);
  const links = raisedLinks(machines, scope);
  const added =
    group && membersOfGroup(group.spec, scope.machines).length > group.spec.machineCount;
  if (group === undefined || added !== true) {
    return requestFor("release", params, scope, {
      machines: machines.map(({ id }) => ({ machineId: id })),
      links,
    });
  }
  const { machineCount } = group.spec;
  const change = changeGroup(group.spec, machineCount, scope);
  const leaving = new Set(change.machines.map(({ machineId }) => machineId));
  const changing = new Set(change.links.map(({ linkId }) => linkId));
  const staying = machines.filter(({ id }) => !leaving.has(id));
  return requestFor("release", params, scope, {
    machines: [...staying.map(({ id }) => ({ machineId: id })), ...change.machines],
    links: [...links.filter(({ linkId }) => !changing.has(linkId)), ...change.links],
    declares: change.declares,
    scale: { groupId: group.id, machineCount },
  });
}

function groupOf(name: string, scope: Scope): GroupRecord | undefined {
  return scope.groups.find(({ spec }) => spec.name === name);
}

/** Links of these machines whose rate is above the baseline: giving back gives them back too. */
function raisedLinks(machines: readonly MachineRecord[], scope: Scope): readonly LinkAsk[] {
  const names = new Set<string | undefined>(machines.map(({ spec }) => spec.name));
  return scope.links
    .filter(
      ({ spec, effective }) =>
        spec.machines.some((name) => names.has(name)) && effective.rateMbps > spec.rateMbps,
    )
    .map(({ id, spec }) => ({ linkId: id, rateMbps: spec.rateMbps }));
}

function membersOf(group: string, scope: Scope): readonly MachineRecord[] {
  const members = scope.machines.filter(({ spec }) => spec.group === group);
  if (members.length === 0) {
    throw invalid("group", `${scope.environment.spec.name} has no group ${inert(group, 64)}`);
  }
  return members;
}

function readParams(method: Method, params: unknown): Params {
  if (params === undefined) return {};
  if (typeof params !== "object" || params === null || Array.isArray(params)) {
    throw invalid("params", "must be an object of named values");
  }
  const read: Record<string, FieldTypes[Field]> = {};
  for (const [key, value] of Object.entries(params)) {
    const name = known[method].find((candidate) => candidate === key);
    if (name === undefined) {
      throw invalid(
        inert(key, 64),
        `${method} takes no such parameter; it takes ${known[method].join(", ")}`,
      );
    }
    read[name] = readField(name, value);
  }
  return read as Params;
}

function readField(name: FieldName, value: unknown): FieldTypes[Field] {
  const { type, min, max }: FieldRule = fields[name];
  if (type === "links") return readLinks(name, value, max);
  if (type === "integer") {
    if (typeof value !== "number" || !Number.isSafeInteger(value)) {
      throw invalid(name, "must be an integer");
    }
    if (value < min || value > max) {
      throw invalid(name, `must be from ${min} to ${max}`, Math.min(Math.max(value, min), max));
    }
    return value;
  }
  if (typeof value !== "string") throw invalid(name, "must be text");
  if (value.length < min || value.length > max) {
    throw invalid(name, `must have ${min} to ${max} characters`);
  }
  return value;
}

/** `[{ "machines": [a, b], "rate_mbps": n }]`, each pair once. */
function readLinks(name: FieldName, value: unknown, most: number): readonly LinkWish[] {
  if (!Array.isArray(value)) throw invalid(name, "must be a list of links");
  if (value.length > most) throw invalid(name, `must have at most ${most} links`, most);
  const pairs = new Set<string>();
  return value.map((item: unknown, index): LinkWish => {
    const where = `${name}[${index}]`;
    if (typeof item !== "object" || item === null) throw invalid(where, "must be an object");
    const { machines, rate_mbps: rate, ...others } = item as Record<string, unknown>;
    const [other] = Object.keys(others);
    if (other !== undefined) throw invalid(`${where}.${inert(other, 64)}`, "is no part of a link");
    const ends: readonly unknown[] = Array.isArray(machines) ? machines : [];
    const [left, right] = ends;
    if (ends.length !== 2 || typeof left !== "string" || typeof right !== "string") {
      throw invalid(`${where}.machines`, "must be two machines' names");
    }
    const rateMbps = Number(readField("rate_mbps", rate));
    const pair = [left, right].toSorted(compareText).join("--");
    if (pairs.has(pair)) throw invalid(where, "names the same two machines again");
    pairs.add(pair);
    return { machines: [left, right], rateMbps };
  });
}

/** `nearest`: the nearest value that would pass this check. */
function invalid(where: string, problem: string, nearest?: number): Fault {
  return new Fault("request.invalid", {
    where,
    problem,
    ...(nearest === undefined ? {} : { nearest }),
  });
}
