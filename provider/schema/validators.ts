/**
 * Validators of single values. Each sees a known, non-null value and reports with the number that failed and the
 * nearest one that would pass. Anything that needs two attributes stands with its resource.
 */
import { isIP } from "node:net";
import type { Validator } from "#schema/attribute";
import { Decimal } from "#schema/value";

/** Whole numbers from `min` to `max`, both allowed. */
export function wholeNumber(bounds: { min: number; max: number }): Validator {
  return (value, report) => {
    const text = value instanceof Decimal ? value.text : String(value);
    if (typeof value !== "number" || !Number.isInteger(value)) {
      report.error(
        "Not a whole number",
        `${text} given; use a whole number such as ${bounds.min}.`,
      );
    } else if (value < bounds.min || value > bounds.max) {
      const nearest = value < bounds.min ? bounds.min : bounds.max;
      report.error(
        "Number out of range",
        `${text} given; it must lie between ${bounds.min} and ${bounds.max}. Nearest allowed: ${nearest}.`,
      );
    }
  };
}

export function oneOf(choices: readonly string[]): Validator {
  return (value, report) => {
    if (!choices.includes(String(value)))
      report.error("Unknown choice", `"${value}" given; use one of: ${choices.join(", ")}.`);
  };
}

export function matches(pattern: RegExp, meaning: string): Validator {
  return (value, report) => {
    if (!pattern.test(String(value)))
      report.error("Malformed value", `${JSON.stringify(value)} given; it must be ${meaning}.`);
  };
}

/** Names become parts of device, volume and DNS names. */
export const objectName = matches(
  /^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$/,
  "1 to 40 lower-case letters, digits and hyphens, with a letter or digit at both ends",
);

export const sha256 = matches(/^[0-9a-f]{64}$/, "64 lower-case hexadecimal digits");

/** A file at the shepherd, which knows no working directory of the user's, or an upload. */
export const shepherdFile: Validator = (value, report) => {
  const text = String(value);
  if (text.startsWith("/") || /^blob:[0-9a-f]{64}$/.test(text)) return;
  report.error(
    text.startsWith("blob:") ? "Not an upload" : "Not an absolute path",
    text.startsWith("blob:")
      ? `"${text}" given; an upload is blob: and 64 hexadecimal digits, as \`drover image push\` prints it.`
      : `"${text}" given; the shepherd looks for the file where it runs. Write the whole path (abspath("${text}") when it runs on this machine), ` +
          "or upload the file with `drover image push` and use the blob: name that it prints.",
  );
};

/** `jsonencode({ … })`: JSON, and an object. */
export const jsonObject: Validator = (value, report) => {
  const say = (problem: string) =>
    report.error("Not a JSON object", `${problem}. Write it as jsonencode({ … }).`);
  try {
    const parsed: unknown = JSON.parse(String(value));
    if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed))
      say("It holds another value than an object");
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    say(error.message);
  }
};

export const ipv4Address: Validator = (value, report) => {
  if (parseIpv4(String(value)) === undefined)
    report.error("Not an IPv4 address", `"${value}" given; write one such as 10.42.0.10.`);
};

/** An IPv4 network whose host bits are zero, from /8 to /29. */
/** An IP literal of either family; names do not do. */
export const ipAddress: Validator = (value, report) => {
  if (isIP(String(value)) === 0)
    report.error("Not an IP address", `"${String(value)}" is no IPv4 or IPv6 address.`);
};

export const ipv4Cidr: Validator = (value, report) => {
  const [address = "", bits = ""] = String(value).split("/");
  const parsed = parseIpv4(address);
  const prefix = /^\d{1,2}$/.test(bits) ? Number(bits) : Number.NaN;
  if (parsed === undefined || !(prefix >= 8 && prefix <= 29)) {
    report.error(
      "Not an IPv4 network",
      `"${value}" given; write one such as 10.42.0.0/24, with a prefix from 8 to 29.`,
    );
    return;
  }
  const network = parsed - (parsed % 2 ** (32 - prefix));
  if (network !== parsed)
    report.error(
      "Host bits set in network",
      `"${value}" is an address inside a network; write ${formatIpv4(network)}/${prefix}.`,
    );
};

/** As a number, or undefined when it is not a plain dotted quad. */
export function parseIpv4(text: string): number | undefined {
  const parts = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text)?.slice(1);
  // A leading zero means octal to some readers: refused rather than guessed.
  if (parts?.every((part) => String(Number(part)) === part && Number(part) <= 255) !== true)
    return undefined;
  return parts.reduce((sum, part) => sum * 256 + Number(part), 0);
}

/** Dotted form of an address that `parseIpv4` gave. */
export function formatIpv4(address: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(address / 2 ** shift) % 256).join(".");
}

/** Lists and sets of at least `min` and at most `max` items. */
export function size(bounds: { min: number; max: number }, meaning: string): Validator {
  return (value, report) => {
    const count = Array.isArray(value) ? value.length : 0;
    if (count < bounds.min || count > bounds.max)
      report.error("Wrong number of items", `${count} given; it must hold ${meaning}.`);
  };
}
