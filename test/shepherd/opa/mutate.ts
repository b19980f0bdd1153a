/** Values with one thing missing, empty, or of another type: what facts look like when something has gone wrong. */
export interface Mutation {
  /** Which field, and what became of it. */
  readonly what: string;
  readonly value: unknown;
}

/** All single mutations of a value: of itself and of everything below it. */
export function mutationsOf(value: unknown, path = ""): Mutation[] {
  const here: Mutation[] =
    path === ""
      ? []
      : othersOf(value).map((other) => ({
          what: `${path} = ${JSON.stringify(other)}`,
          value: other,
        }));
  if (typeof value !== "object" || value === null) return here;
  const below = Object.entries(value).flatMap(([key, item]) =>
    mutationsOf(item, `${path}/${key}`).map(({ what, value: other }) => ({
      what,
      value: replaced(value, key, other),
    })),
  );
  const dropped = Object.keys(value).map((key) => ({
    what: `${path}/${key} dropped`,
    value: without(value, key),
  }));
  return [...here, ...below, ...dropped];
}

/** The value empty, and the value as another type that looks alike: what a comparison or a sum would swallow. */
function othersOf(value: unknown): unknown[] {
  switch (typeof value) {
    case "string":
      return ["", [value]];
    case "number":
      return [null, String(value)];
    case "boolean":
      return [null, String(value)];
    default:
      return Array.isArray(value) ? [[], {}] : [{}, []];
  }
}

function replaced(value: object, key: string, other: unknown): unknown {
  return Array.isArray(value)
    ? value.with(Number(key), other)
    : Object.fromEntries(Object.entries(value).map(([k, v]) => [k, k === key ? other : v]));
}

function without(value: object, key: string): unknown {
  return Array.isArray(value)
    ? value.toSpliced(Number(key), 1)
    : Object.fromEntries(Object.entries(value).filter(([k]) => k !== key));
}
