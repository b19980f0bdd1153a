/**
 * Words an adaptation as lines that make it the new baseline: HCL for the body of its resource, and an entry of
 * `baselines` for the CDKTF constructs. Pure; where in a stack the resource stands only its author knows.
 */

/** What departs from the baseline, as the shepherd lists it; absent fields stay as they are. */
export interface AdaptedValues {
  readonly vcpus?: number | undefined;
  readonly cpu_percent?: number | undefined;
  readonly memory_mib?: number | undefined;
  readonly site?: string | undefined;
  readonly rate_mbps?: number | undefined;
}

/** Names as the constructs spell them. */
const cdktfNames = {
  vcpus: "vcpus",
  cpu_percent: "cpuPercent",
  memory_mib: "memoryMib",
  site: "site",
  rate_mbps: "rateMbps",
} as const;
const names = Object.keys(cdktfNames) as readonly (keyof typeof cdktfNames)[];

/** Attribute lines as `terraform fmt` writes them: `memory_mib = 320`. */
export function hclPatch(values: AdaptedValues): string {
  const given = names.filter((name) => values[name] !== undefined);
  const width = Math.max(0, ...given.map((name) => name.length));
  return given.map((name) => `${name.padEnd(width)} = ${JSON.stringify(values[name])}\n`).join("");
}

/** One entry of `baselines`: `"rank-0": { memoryMib: 320 },`. */
export function cdktfPatch(object: string, values: AdaptedValues): string {
  const given = names.filter((name) => values[name] !== undefined);
  const fields = given.map((name) => `${cdktfNames[name]}: ${JSON.stringify(values[name])}`);
  return `${JSON.stringify(object)}: { ${fields.join(", ")} },\n`;
}
