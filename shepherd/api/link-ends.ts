/** What a link joins, as a body says it and as it is kept, and whether it is there to be joined. Knows no gate. */
import type { LinkBody } from "#api/contract";
import { Fault } from "#model/fault";
import type { EnvironmentRecord, LinkSpec } from "#model/objects";
import type { Journal } from "#ports/store";

/** What a link joins, as it is kept: two machines, sorted, or a machine and a network. */
export type Ends = Pick<LinkSpec, "machines" | "network">;

/** Fault `request.invalid` unless there are two machines, or one and a network. */
export function endsOf({ machines, network }: Pick<LinkBody, "machines" | "network">): Ends {
  const [left, right] = machines.toSorted();
  const refuse = (problem: string): never => {
    throw new Fault("request.invalid", { where: "machines", attribute: "machines", problem });
  };
  if (left === undefined) return refuse("a link joins two machines, or a machine and a network");
  if (network != null)
    return right === undefined
      ? { machines: [left], network }
      : refuse(`a link joins one machine with ${network}, not ${left} and ${right}`);
  if (right === undefined) return refuse(`a link joins ${left} with another machine or a network`);
  if (left === right) return refuse(`a link joins two machines, not ${left} with itself`);
  return { machines: [left, right] };
}

/** As `terraform import` takes it. */
export function importIdOf(environment: EnvironmentRecord, { machines, network }: Ends): string {
  const ends = network === undefined ? machines.join(",") : `${machines[0]}@${network}`;
  return `${environment.spec.name}/${ends}`;
}

/** Faults `object.unknown` for an end that is not there, `request.invalid` for a machine without a card on the network. */
export async function checkEnds(
  journal: Journal,
  environment: EnvironmentRecord,
  { machines, network }: Ends,
): Promise<void> {
  const find = async <Kind extends "machine" | "network">(
    kind: Kind,
    name: string,
    attribute: string,
  ) => {
    const found = await journal.objects.findByKey(kind, `${environment.id}/${name}`);
    if (found !== undefined) return found;
    throw new Fault("object.unknown", { kind, id: `${environment.spec.name}/${name}`, attribute });
  };
  for (const name of machines) {
    if (name === undefined) continue;
    const machine = await find("machine", name, "machines");
    if (network === undefined) continue;
    const lan = await find("network", network, "network");
    if (machine.spec.networks.some(({ networkId }) => networkId === lan.id)) continue;
    throw new Fault("request.invalid", {
      where: "network",
      attribute: "network",
      problem: `${name} has no card on ${network}`,
    });
  }
}
