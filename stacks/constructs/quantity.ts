/** Sizes and rates with their unit said once, so that a stack never holds a bare number of unknown unit. */

export class Size {
  readonly mib: number;
  private constructor(mib: number) {
    this.mib = mib;
  }
  /** Whole MiB; throws on a fraction or less than 1. */
  static mebibytes(amount: number): Size {
    return new Size(positiveInteger(amount, "MiB"));
  }
  static gibibytes(amount: number): Size {
    return new Size(positiveInteger(amount * 1024, "MiB"));
  }
}

export class Rate {
  readonly mbps: number;
  private constructor(mbps: number) {
    this.mbps = mbps;
  }
  /** Whole megabits (10^6) a second. */
  static mbps(amount: number): Rate {
    return new Rate(positiveInteger(amount, "Mbit/s"));
  }
  static gbps(amount: number): Rate {
    return new Rate(positiveInteger(amount * 1000, "Mbit/s"));
  }
}

function positiveInteger(amount: number, unit: string): number {
  if (!Number.isInteger(amount) || amount < 1) {
    throw new Error(`${amount} ${unit} is not a size: give a whole number of at least 1 ${unit}.`);
  }
  return amount;
}
