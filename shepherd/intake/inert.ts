/**
 * Makes text of guests and other strangers inert: nothing in it moves a cursor, changes a colour, breaks a line or turns
 * the reading direction, wherever it is shown later. Pure. What was there is replaced, not removed, so that it shows.
 */

/** Longest reason that is kept, in characters. */
export const maxReasonLength = 200;

/** C0, DEL and C1 controls (escape sequences begin with one), line and paragraph separators, direction marks and overrides, byte order mark, tags, lone surrogates. */
const live =
  /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\u{e0000}-\u{e007f}]|\p{Cs}/gu;

export function inert(text: string, maxLength: number = maxReasonLength): string {
  return text
    .slice(0, maxLength)
    .replace(/[\ud800-\udbff]$/, "")
    .replace(live, "\ufffd");
}
