/**
 * The fleet as it is with a request's new words: machines and links that it would create stand among the facts, nowhere
 * yet and with nothing in force, so that policy and planner see them before anything is written. Pure. What is there
 * already keeps its present word; `specOf` in target.ts tells the new one.
 */
import type { Facts } from "#model/facts";
import {
  type GroupRecord,
  type GroupSpec,
  type LinkRecord,
  type LinkSpec,
  type MachineRecord,
  type MachineSpec,
  nameOfLink,
  type Sizing,
} from "#model/objects";
import type { Request } from "#model/request";
import { ceilingOf, sizingOf } from "#planner/target";

export function withDeclared(facts: Facts, request: Request): Facts {
  const { declares } = request;
  if (declares === undefined) return facts;
  const machines = (declares.machines ?? [])
    .map(({ id, spec }) => draftedMachine(id, spec, facts.nowMs))
    .filter((machine) => !facts.machines.some((known) => isSame(known, machine)));
  const links = (declares.links ?? [])
    .map(({ id, spec }) => draftedLink(id, spec, facts.nowMs))
    .filter((link) => !facts.links.some((known) => isSame(known, link)));
  const { group } = declares;
  const drafted = group && draftedGroup(group.id, group.spec, facts.nowMs);
  return {
    ...facts,
    machines: [...facts.machines, ...machines],
    links: [...facts.links, ...links],
    groups:
      drafted === undefined || facts.groups.some((known) => isSame(known, drafted))
        ? facts.groups
        : [...facts.groups, drafted],
  };
}

/** By id or name: what a dry run assumed may have become real meanwhile, and must not count twice. */
function isSame(
  known: { readonly id: string; readonly key: string },
  drafted: { readonly id: string; readonly key: string },
): boolean {
  return known.id === drafted.id || known.key === drafted.key;
}

/** A machine before its grant: no host, no address, version 0. */
export function draftedMachine(id: string, spec: MachineSpec, nowMs: number): MachineRecord {
  const start: Sizing & { readonly siteId: string } = spec.startFrom ?? spec.baseline;
  const ceiling = ceilingOf(spec);
  return {
    kind: "machine",
    id,
    key: `${spec.environmentId}/${spec.name}`,
    environmentId: spec.environmentId,
    spec,
    effective: {
      ...sizingOf(start),
      ...(spec.cpuWeight === undefined ? {} : { cpuWeight: spec.cpuWeight }),
      siteId: start.siteId,
      hostId: "",
      state: "creating",
      ceiling: {
        vcpus: Math.max(ceiling.vcpus, start.vcpus),
        memoryMib: Math.max(ceiling.memoryMib, start.memoryMib),
      },
      nics: [],
    },
    version: 0,
    claimed: false,
    createdAtMs: nowMs,
  };
}

/** A link before its grant: nothing of it is in force. */
export function draftedLink(id: string, spec: LinkSpec, nowMs: number): LinkRecord {
  return {
    kind: "link",
    id,
    key: `${spec.environmentId}/${nameOfLink(spec)}`,
    environmentId: spec.environmentId,
    spec,
    effective: { rateMbps: 0 },
    version: 0,
    claimed: false,
    createdAtMs: nowMs,
  };
}

export function draftedGroup(id: string, spec: GroupSpec, nowMs: number): GroupRecord {
  return {
    kind: "group",
    id,
    key: `${spec.environmentId}/${spec.name}`,
    environmentId: spec.environmentId,
    spec,
    effective: { machineCount: 0 },
    version: 0,
    claimed: false,
    createdAtMs: nowMs,
  };
}
