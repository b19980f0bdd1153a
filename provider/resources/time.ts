/** Times as users read them in state: RFC 3339 in UTC, whole milliseconds. */

/** `2026-11-23T10:04:05.000Z`; null for "not by time". */
export function leaseTime(atMs: number | null | undefined): string | null {
  return atMs === null || atMs === undefined ? null : new Date(atMs).toISOString();
}
