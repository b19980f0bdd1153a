/**
 * Reads adaptations.json, the shepherd's record beside the stack: what each machine was granted beyond its baseline.
 * Constructs hand it on as `start_from`, so that a rebuilt machine starts where it was granted to be, through the gate.
 */
import { existsSync, readFileSync } from "node:fs";

/** One line of the file. */
export interface AdaptationRecord {
  readonly environment: string;
  readonly machine: string;
  readonly vcpus: number;
  readonly cpu_percent: number;
  readonly memory_mib: number;
  readonly site: string;
  readonly adaptation_id: string;
}

/** All machine records of the file; none when it does not exist. Throws, naming file and entry, when it is malformed. */
export function readAdaptations(file: string): readonly AdaptationRecord[] {
  if (!existsSync(file)) return [];
  let rows: unknown;
  try {
    rows = JSON.parse(readFileSync(file, "utf8"));
  } catch (cause) {
    throw new Error(
      `${file} is not JSON. The shepherd writes it; restore it with \`drover adaptations pull\`.`,
      { cause },
    );
  }
  if (!Array.isArray(rows))
    throw new Error(`${file} must hold a list. Restore it with \`drover adaptations pull\`.`);
  return rows
    .filter((row) => isRecord(row) && row["machine"] !== undefined && row["machine"] !== null)
    .map((row, index) => check(row, `${file}[${index}]`));
}

function check(row: Record<string, unknown>, where: string): AdaptationRecord {
  for (const key of ["environment", "machine", "site", "adaptation_id"]) {
    if (typeof row[key] !== "string")
      throw new Error(
        `${where}.${key} must be a string. Restore the file with \`drover adaptations pull\`.`,
      );
  }
  for (const key of ["vcpus", "cpu_percent", "memory_mib"]) {
    if (!Number.isInteger(row[key]))
      throw new Error(
        `${where}.${key} must be a whole number. Restore the file with \`drover adaptations pull\`.`,
      );
  }
  return row as unknown as AdaptationRecord; // every field was just checked
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
