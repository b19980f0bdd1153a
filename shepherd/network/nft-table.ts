/**
 * One nft table of ours: rules that never change and sets whose elements do, as text for nft, and compared with what a
 * host has. The comparison needs the host's own spelling of the rules, because every nft version prints them a little
 * differently: the same rules are put into a table without hooks once (shell/host-network) and read back. Pure.
 */
import type { Changes } from "#network/changes";
import type { ObservedFilters } from "#network/observed";

export interface NftTable {
  readonly family: "bridge" | "ip";
  readonly name: string;
  readonly sets: Readonly<Record<string, NftSet>>;
  readonly chains: Readonly<Record<string, NftChain>>;
  /** What it is for, when it is missing. */
  readonly purpose: string;
}
export interface NftSet {
  /** `typeof iifname`, `type ipv4_addr`, … with flags, as nft takes it. */
  readonly declaration: string;
  /** The first part of an element is an interface's name, a string to nft. */
  readonly byInterface?: true;
  /** The kernel fills it; its elements are nobody's wish. */
  readonly dynamic?: true;
}
export interface NftChain {
  readonly hook?: {
    readonly type: "filter" | "nat";
    readonly at: string;
    readonly priority: number;
  };
  readonly rules: readonly string[];
}
/** By set; each element as its parts joined by ` . `. */
export type NftElements = ReadonlyMap<string, ReadonlySet<string>>;

/** The whole table in one transaction, replacing what was there. */
export function tableText(table: NftTable, elements: NftElements): string[] {
  const { family, name } = table;
  return [
    `table ${family} ${name}`,
    `delete table ${family} ${name}`,
    ...body(table, { name, elements, hooked: true }),
  ];
}

/** The same sets and rules without hooks under another name: harmless, and printed back in the host's own spelling. */
export function probeText(table: NftTable, name: string): string[] {
  return body(table, { name, elements: new Map(), hooked: false });
}

/** `elements` undefined: the table is not wished. `expectedRules` is `ObservedFilters.rules` of a probe on this host. */
export function diffTable(
  table: NftTable,
  request: {
    readonly elements: NftElements | undefined;
    readonly observed: ObservedFilters | undefined;
    readonly expectedRules: string;
    readonly changes: Changes;
  },
): void {
  const { elements, observed, changes } = request;
  const place = `${table.family} ${table.name}`;
  const object = `nft table ${place}`;
  if (elements === undefined) {
    if (observed === undefined) return;
    changes.note(
      { object, problem: "surplus", detail: "this host needs none" },
      { nft: [`delete table ${place}`] },
    );
    return;
  }
  const again = { nft: tableText(table, elements) };
  if (observed === undefined) {
    changes.note({ object, problem: "missing", detail: table.purpose }, again);
    return;
  }
  if (observed.rules !== request.expectedRules || observed.chains !== expectedChains(table)) {
    changes.note({ object, problem: "different", detail: "its rules are not ours" }, again);
    return;
  }
  for (const [name, set] of Object.entries(table.sets)) {
    if (set.dynamic) continue;
    const wished = elements.get(name) ?? new Set();
    const there = observed.elements.get(name) ?? new Set();
    for (const element of there) {
      if (wished.has(element)) continue;
      changes.note(
        { object: `${object} set ${name}`, problem: "surplus", detail: element },
        { nft: [`delete element ${place} ${name} { ${spell(set, element)} }`] },
      );
    }
    for (const element of wished) {
      if (there.has(element)) continue;
      changes.note(
        { object: `${object} set ${name}`, problem: "missing", detail: element },
        { nft: [`add element ${place} ${name} { ${spell(set, element)} }`] },
      );
    }
  }
}

/** Chains with their hooks, as shell/read-network tells them. */
function expectedChains(table: NftTable): string {
  return JSON.stringify(
    Object.entries(table.chains).map(([chain, { hook }]) =>
      hook === undefined
        ? [chain, undefined, undefined, undefined]
        : [chain, hook.at, hook.priority, "accept"],
    ),
  );
}

function body(
  table: NftTable,
  as: { readonly name: string; readonly elements: NftElements; readonly hooked: boolean },
): string[] {
  const lines = [`table ${table.family} ${as.name} {`];
  for (const [name, set] of Object.entries(table.sets)) {
    const elements = [...(as.elements.get(name) ?? [])].map((element) => spell(set, element));
    const list = elements.length === 0 ? "" : ` elements = { ${elements.join(", ")} }`;
    lines.push(`set ${name} { ${set.declaration};${list}`, "}");
  }
  for (const [name, { hook, rules }] of Object.entries(table.chains)) {
    lines.push(`chain ${name} {`);
    if (as.hooked && hook !== undefined)
      lines.push(`type ${hook.type} hook ${hook.at} priority ${hook.priority}; policy accept;`);
    lines.push(...rules, "}");
  }
  return [...lines, "}"];
}

function spell(set: NftSet, element: string): string {
  if (!set.byInterface) return element;
  const [device, ...rest] = element.split(" . ");
  return [`"${device}"`, ...rest].join(" . ");
}
