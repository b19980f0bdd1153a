/**
 * Writes a request's new words in the transaction of its grant: records of what it creates, with their addresses, and
 * new specifications of what is there. Before a grant nothing of a declaration stands in the journal. Knows no host.
 */
import { canonicalJson } from "#model/canonical";
import { Fault } from "#model/fault";
import type {
  GroupRecord,
  GroupSpec,
  LinkRecord,
  LinkSpec,
  MachineRecord,
  MachineSpec,
  Nic,
} from "#model/objects";
import type { Adaptation, Request } from "#model/request";
import type { GroupId, LinkId, MachineId, Ms } from "#model/units";
import { checkAddress, lowestFreeAddress, parseCidr, reservedAddresses } from "#network/addresses";
import { freeMacAddress, tapName } from "#network/names";
import { announcedAddresses } from "#operations/announced-addresses";
import { changeVolume, tellChange } from "#operations/records";
import { matchCards } from "#planner/cards";
import { draftedGroup, draftedLink, draftedMachine } from "#planner/declared";
import type { Journal } from "#ports/store";

/** Faults `conflict.exists`, `object.unknown`, `network.full`, `network.address_taken` and the like: nothing is written. */
export async function declare(journal: Journal, request: Request, nowMs: Ms): Promise<void> {
  const { declares } = request;
  if (declares?.group !== undefined) await declareGroup(journal, declares.group, nowMs);
  for (const { id, spec } of declares?.machines ?? []) {
    await declareMachine(journal, { id, spec, nowMs });
  }
  for (const { id, spec } of declares?.links ?? []) {
    await declareLink(journal, { id, spec, nowMs });
  }
  for (const { id, spec } of declares?.volumes ?? []) {
    await changeVolume(journal, { id, nowMs, change: { spec } });
  }
}

async function declareMachine(
  journal: Journal,
  of: { readonly id: MachineId; readonly spec: MachineSpec; readonly nowMs: Ms },
): Promise<void> {
  const { id, spec, nowMs } = of;
  const there = await journal.objects.get("machine", id);
  if (there !== undefined) {
    if (canonicalJson(there.spec) === canonicalJson(spec)) return;
    const changed: MachineRecord = { ...there, spec, version: there.version + 1 };
    await journal.objects.put(changed);
    return await tellChange(journal, changed, nowMs);
  }
  const granted = await stillGranted(journal, { spec, nowMs });
  const { startFrom, ...words } = spec;
  const kept = granted === undefined ? words : { ...words, startFrom };
  const drafted = draftedMachine(id, kept, nowMs);
  const record: MachineRecord = {
    ...drafted,
    effective: {
      ...drafted.effective,
      nics: await giveNics(journal, { spec, id, nowMs }),
      adaptationId: granted?.id,
      leaseUntilMs: granted?.leaseUntilMs,
      reason: granted?.reason,
    },
    version: 1,
  };
  await journal.objects.put(record);
  for (const { networkId, address } of record.effective.nics) {
    await journal.addresses.put({ networkId, address, machineId: id });
  }
  // The grant goes on with the machine that takes its predecessor's place.
  if (granted !== undefined) await journal.adaptations.put({ ...granted, machineId: id });
  await tellChange(journal, record, nowMs);
}

async function declareLink(
  journal: Journal,
  of: { readonly id: LinkId; readonly spec: LinkSpec; readonly nowMs: Ms },
): Promise<void> {
  const there = await journal.objects.get("link", of.id);
  if (there !== undefined && canonicalJson(there.spec) === canonicalJson(of.spec)) return;
  const record: LinkRecord =
    there === undefined
      ? { ...draftedLink(of.id, of.spec, of.nowMs), version: 1 }
      : { ...there, spec: of.spec, version: there.version + 1 };
  await journal.objects.put(record);
  await tellChange(journal, record, of.nowMs);
}

async function declareGroup(
  journal: Journal,
  of: { readonly id: GroupId; readonly spec: GroupSpec },
  nowMs: Ms,
): Promise<void> {
  const there = await journal.objects.get("group", of.id);
  if (there !== undefined && canonicalJson(there.spec) === canonicalJson(of.spec)) return;
  const record: GroupRecord =
    there === undefined
      ? { ...draftedGroup(of.id, of.spec, nowMs), version: 1 }
      : { ...there, spec: of.spec, version: there.version + 1 };
  await journal.objects.put(record);
  await tellChange(journal, record, nowMs);
}

/** The adaptation that startFrom names, if it still holds and belonged to this machine's predecessor. */
export async function stillGranted(
  journal: Journal,
  of: { readonly spec: MachineSpec; readonly nowMs: Ms },
): Promise<Adaptation | undefined> {
  const { startFrom, environmentId } = of.spec;
  if (startFrom === undefined) return undefined;
  const adaptation = await journal.adaptations.get(startFrom.adaptationId);
  if (adaptation?.environmentId !== environmentId) return undefined;
  if (adaptation.leaseUntilMs !== undefined && adaptation.leaseUntilMs <= of.nowMs)
    return undefined;
  const { machineId, formerMachine, values } = adaptation;
  // A living machine keeps its own grants, and only a machine of the same name is a successor.
  if (machineId === undefined || formerMachine !== of.spec.name) return undefined;
  if ((await journal.objects.get("machine", machineId)) !== undefined) return undefined;
  // What the file says is a claim; what was granted stands in the journal.
  const within =
    values.vcpus === startFrom.vcpus &&
    values.cpuPercent === startFrom.cpuPercent &&
    values.memoryMib === startFrom.memoryMib &&
    values.siteId === startFrom.siteId;
  return within ? adaptation : undefined;
}

/**
 * Addresses, MACs and taps of the cards that a specification names; takes none of them. `has`: those that the machine has
 * already, of which it keeps what is still named.
 */
export async function giveNics(
  journal: Journal,
  of: {
    readonly spec: Pick<MachineSpec, "environmentId" | "networks">;
    readonly id: MachineId;
    readonly nowMs: Ms;
    readonly has?: readonly Nic[];
  },
): Promise<readonly Nic[]> {
  const { environmentId } = of.spec;
  const environment = await journal.objects.get("environment", environmentId);
  const announced = await announcedAddresses(journal, environment?.spec.name ?? "", of.nowMs);
  const ownName = ({ spec }: MachineRecord) => `${environment?.spec.name ?? "?"}/${spec.name}`;
  const machines = await journal.objects.list("machine");
  const macs = new Set(machines.flatMap(({ effective }) => effective.nics.map((nic) => nic.mac)));
  const { kept } = matchCards(of.has ?? [], of.spec.networks);
  const slots = new Set((of.has ?? []).map(({ tap }) => tap));
  const nics: Nic[] = [];
  for (const [place, wanted] of of.spec.networks.entries()) {
    const there = kept[place];
    if (there !== undefined) {
      nics.push(there);
      continue;
    }
    const network = await journal.objects.get("network", wanted.networkId);
    if (network === undefined || network.spec.environmentId !== environmentId) {
      throw new Fault("object.unknown", { kind: "network", id: wanted.networkId });
    }
    const cidr = parseCidr(network.spec.cidr);
    const taken = new Map<string, string>([
      ...reservedAddresses(network),
      ...nics
        .filter(({ networkId }) => networkId === network.id)
        .map((nic): [string, string] => [nic.address, "itself"]),
    ]);
    for (const row of await journal.addresses.list(network.id)) {
      const holder = machines.find((machine) => machine.id === row.machineId);
      // A gone machine's address is not given away while its lease lives, but who asks for it by name gets it.
      const resting = row.freeFromMs === undefined || row.freeFromMs > of.nowMs;
      if (holder !== undefined || (resting && wanted.address === undefined)) {
        taken.set(row.address, holder === undefined ? "a machine that is gone" : ownName(holder));
      }
    }
    const address =
      wanted.address === undefined
        ? lowestFreeAddress(cidr, taken, announced)
        : checkAddress(cidr, wanted.address, taken);
    // The name of a card that goes is not given anew: both may be there for a while.
    const slot = freeSlot(of.id, slots);
    const mac = freeMacAddress(of.id, slot, macs);
    macs.add(mac);
    slots.add(tapName(of.id, slot));
    nics.push({
      networkId: network.id,
      address,
      prefixLength: cidr.prefixLength,
      mac,
      tap: tapName(of.id, slot),
    });
  }
  return nics;
}

function freeSlot(id: MachineId, taken: ReadonlySet<string>): number {
  let slot = 0;
  while (taken.has(tapName(id, slot))) slot += 1;
  return slot;
}
