/**
 * A function of the provider: `provider::drover::parse_size("2GiB")`. Pure and offline: Terraform calls it on a provider
 * that was never configured, as often as it likes.
 */
import type { ValueType } from "#schema/attribute";
import type { Value } from "#schema/value";

export interface Parameter {
  readonly name: string;
  readonly type: ValueType;
  readonly description: string;
  /** Called with null too; else Terraform refuses null. */
  readonly nullable?: true;
  /** Called with unknowns too; else an unknown argument makes the result unknown without a call. */
  readonly acceptsUnknown?: true;
}

export interface FunctionType {
  /** A verb or a noun without prefix. */
  readonly name: string;
  readonly summary: string;
  readonly description: string;
  readonly parameters: readonly Parameter[];
  /** Takes any number of further arguments; they follow the others. */
  readonly variadic?: Parameter;
  readonly returns: ValueType;
  /** What `returns` means, for documentation. */
  readonly result: string;
  readonly deprecated?: string;
  /** @throws ArgumentError when an argument is no good. */
  readonly call: (values: readonly Value[]) => Value;
}

/** Names the argument (from 0) that is no good, and why. */
export class ArgumentError extends Error {
  override readonly name = "ArgumentError";
  readonly argument: number | undefined;
  constructor(argument: number | undefined, message: string) {
    super(message);
    this.argument = argument;
  }
}
