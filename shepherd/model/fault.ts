/**
 * A fault: the world failed, or an input was wrong. Carries a stable public code and plain-data details,
 * so that a journaled fault can be read by a newer version. Knows the catalogue, never how it is shown.
 */
import { faultCatalogue } from "#model/fault-catalogue";
import type { FaultEntry } from "#model/faults/entry";

export type FaultCode = keyof typeof faultCatalogue;

/** Facts about one occurrence: names, numbers and units; never secrets, never a guest's raw text unescaped. */
export type FaultDetails = Readonly<Record<string, unknown>>;

/** A fault as plain data, as it stands in the journal and on the wire. */
export interface FaultData {
  readonly code: string;
  readonly message: string;
  readonly hint: string;
  readonly details: FaultDetails;
  readonly cause?: FaultData | undefined;
}

export class Fault extends Error {
  override readonly name = "Fault";
  readonly code: FaultCode;
  readonly details: FaultDetails;

  constructor(code: FaultCode, details: FaultDetails = {}, options?: { cause?: unknown }) {
    super(fillTitle(faultCatalogue[code].title, details), options);
    this.code = code;
    this.details = details;
  }

  get entry(): FaultEntry {
    return faultCatalogue[this.code];
  }

  /** The whole chain as data. Causes that are not faults keep their message under the code `internal`. */
  toData(): FaultData {
    return toFaultData(this);
  }
}

/** True for a fault of exactly this code; narrows a caught value. */
export function isFault(error: unknown, code?: FaultCode): error is Fault {
  return error instanceof Fault && (code === undefined || error.code === code);
}

/** Any caught value as fault data: a Fault keeps its code, everything else becomes `internal` with its message. */
export function toFaultData(error: unknown): FaultData {
  const cause =
    error instanceof Error && error.cause !== undefined ? toFaultData(error.cause) : undefined;
  if (error instanceof Fault) {
    return {
      code: error.code,
      message: error.message,
      hint: error.entry.hint,
      details: error.details,
      cause,
    };
  }
  const message = error instanceof Error ? error.message : String(error);
  return { code: "internal", message, hint: faultCatalogue.internal.hint, details: {}, cause };
}

function fillTitle(title: string, details: FaultDetails): string {
  return title.replace(/\{(\w+)\}/g, (_, key: string) => String(details[key] ?? `{${key}}`));
}
