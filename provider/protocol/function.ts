/** The noun *function*: what can be called, and a call of it. */
import { type Decoded, type Encodable, field, message } from "#plugin/protobuf";
import type { FunctionType, Parameter } from "#schema/function";
import { diagnostic } from "./diagnostic.ts";
import { dynamicValue } from "./dynamic-value.ts";

const parameter = message("Function.Parameter", {
  name: field.string(1),
  type: field.bytes(2),
  allow_null_value: field.bool(3),
  allow_unknown_values: field.bool(4),
  description: field.string(5),
  description_kind: field.integer(6),
});
const returned = message("Function.Return", { type: field.bytes(1) });
export const functionSignature = message("Function", {
  parameters: field.many(1, () => parameter),
  variadic_parameter: field.one(2, () => parameter),
  return: field.one(3, () => returned),
  summary: field.string(4),
  description: field.string(5),
  description_kind: field.integer(6),
  deprecation_message: field.string(7),
});
const functionError = message("FunctionError", {
  text: field.string(1),
  function_argument: field.optionalInteger(2),
});

export const getFunctions = {
  request: message("GetFunctions.Request", {}),
  response: message("GetFunctions.Response", {
    functions: field.map(1, () => functionSignature),
    diagnostics: field.many(2, () => diagnostic),
  }),
};
export const callFunction = {
  request: message("CallFunction.Request", {
    name: field.string(1),
    arguments: field.many(2, () => dynamicValue),
  }),
  response: message("CallFunction.Response", {
    result: field.one(1, () => dynamicValue),
    error: field.one(2, () => functionError),
  }),
};

const markdown = 1;
export function toSignature(type: FunctionType): Encodable<Decoded<typeof functionSignature>> {
  return {
    parameters: type.parameters.map(toParameter),
    ...(type.variadic === undefined ? {} : { variadic_parameter: toParameter(type.variadic) }),
    return: { type: Buffer.from(JSON.stringify(type.returns)) },
    summary: type.summary,
    description: type.description,
    description_kind: markdown,
    deprecation_message: type.deprecated,
  };
}
function toParameter(one: Parameter): Encodable<Decoded<typeof parameter>> {
  return {
    name: one.name,
    type: Buffer.from(JSON.stringify(one.type)),
    allow_null_value: one.nullable,
    allow_unknown_values: one.acceptsUnknown,
    description: one.description,
    description_kind: markdown,
  };
}
