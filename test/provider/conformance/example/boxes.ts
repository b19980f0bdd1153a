/** Boxes in a file: the world of the example provider, which outlives its process. No shepherd. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";

export interface Box {
  readonly id: string;
  readonly name: string;
  readonly size_gib: number;
  readonly mac: string | null;
  readonly zone: string | null;
  readonly labels: Readonly<Record<string, string>> | null;
  /** Of the write-only secret; the secret itself is kept nowhere. */
  readonly digest: string;
  readonly secret_version: number | null;
  readonly disks: readonly { readonly name: string; readonly serial: string }[] | null;
}

const file = () => process.env["EXAMPLE_FILE"] ?? "";

export function boxes(): readonly Box[] {
  return existsSync(file()) ? (JSON.parse(readFileSync(file(), "utf8")) as Box[]) : [];
}
export function saveBoxes(all: readonly Box[]): void {
  writeFileSync(file(), JSON.stringify(all));
}
