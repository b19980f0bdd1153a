/** Reads a record back from the column that holds it whole. Knows no table. */

export function bodyOf<T>(row: { readonly body: string }): T {
  return JSON.parse(row.body) as T; // written by the statements beside
}
