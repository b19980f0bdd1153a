/** The noun *diagnostic*: an error or a warning, and the attribute that it points at. */
import { type Decoded, type Encodable, field, message } from "#plugin/protobuf";
import type { Diagnostic, PathStep } from "#schema/report";

const step = message("AttributePath.Step", {
  attribute_name: field.optionalString(1),
  element_key_string: field.optionalString(2),
  element_key_int: field.optionalInteger(3),
});
export const attributePath = message("AttributePath", { steps: field.many(1, () => step) });

export const severities = { error: 1, warning: 2 } as const;
export const diagnostic = message("Diagnostic", {
  severity: field.integer(1),
  summary: field.string(2),
  detail: field.string(3),
  attribute: field.one(4, () => attributePath),
});

type WirePath = Encodable<Decoded<typeof attributePath>>;

export function toAttributePath(path: readonly PathStep[]): WirePath {
  return {
    steps: path.map((part) =>
      typeof part === "number" ? { element_key_int: part } : { attribute_name: part },
    ),
  };
}

export function toDiagnostics(
  diagnostics: readonly Diagnostic[],
): readonly Encodable<Decoded<typeof diagnostic>>[] {
  return diagnostics.map(({ severity, summary, detail, path }) => ({
    severity: severities[severity],
    summary,
    detail,
    ...(path.length === 0 ? {} : { attribute: toAttributePath(path.slice(0, pointable(path))) }),
  }));
}

/** Terraform finds the source line of an attribute, and of an index right below it, but of nothing deeper. */
function pointable(path: readonly PathStep[]): number {
  return typeof path[1] === "number" ? 2 : 1;
}
