/** Reads an amount with a unit (`1.5 GiB`, `200Mbit/s`) exactly. Pure; each function brings its own units. */
import { ArgumentError } from "#schema/function";
import { Decimal } from "#schema/value";

export interface Units {
  /** What one of the unit is, in the smallest one; keys as they are shown in errors. */
  readonly factors: Readonly<Record<string, bigint>>;
  /** For errors: `a size`, `2GiB`. */
  readonly noun: string;
  readonly example: string;
  /** Largest amount that is taken, in the smallest unit: no mistake of a unit gets through. */
  readonly most: bigint;
}

/** In the smallest unit, a whole number. @throws ArgumentError for argument 0. */
export function readAmount(text: string, units: Units): bigint {
  const refuse = (why: string): never => {
    throw new ArgumentError(0, `${JSON.stringify(text)} is not ${units.noun}: ${why}.`);
  };
  const match = /^\s*(\d{1,18})(?:\.(\d{1,9}))?\s*([A-Za-z/]+)\s*$/.exec(text);
  if (match === null) return refuse(`write a number and a unit, such as ${units.example}`);
  const [, whole = "", fraction = "", unit = ""] = match;
  const factor = factorOf(units, unit);
  if (factor === undefined)
    return refuse(`its unit must be one of ${Object.keys(units.factors).join(", ")}`);
  const scaled = BigInt(whole + fraction) * factor;
  const scale = 10n ** BigInt(fraction.length);
  if (scaled % scale !== 0n) return refuse("it is a fraction of the smallest unit");
  const amount = scaled / scale;
  return amount > units.most ? refuse("it is too large to be meant") : amount;
}

/** Letter case matters only where two units differ by nothing else. */
function factorOf({ factors }: Units, unit: string): bigint | undefined {
  if (Object.hasOwn(factors, unit)) return factors[unit];
  const alike = Object.entries(factors).filter(
    ([name]) => name.toLowerCase() === unit.toLowerCase(),
  );
  return alike.length === 1 ? alike[0]?.[1] : undefined;
}

/** `amount / divisor` as an exact Terraform number; the divisor's only factors are 2 and 5. */
export function quotient(amount: bigint, divisor: bigint): number | Decimal {
  const whole = amount / divisor;
  let rest = amount % divisor;
  if (rest === 0n) return Number(whole);
  let digits = "";
  while (rest > 0n) {
    rest *= 10n;
    digits += String(rest / divisor);
    rest %= divisor;
  }
  return new Decimal(`${whole}.${digits}`);
}
