/** The `code` of a system error (`ENOENT`) or a library's; undefined when there is none. Asks no prototype: errors cross realms. */
export function errorCode(error: unknown): string | undefined {
  if (typeof error !== "object" || error === null || !("code" in error)) return undefined;
  return typeof error.code === "string" ? error.code : undefined;
}
