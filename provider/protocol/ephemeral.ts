/** The noun *ephemeral resource*: opened, renewed while Terraform runs, closed. */
import { type Decoded, type Encodable, field, message } from "#plugin/protobuf";
import { clientCapabilities, deferred } from "./capability.ts";
import { diagnostic } from "./diagnostic.ts";
import { dynamicValue } from "./dynamic-value.ts";

const timestamp = message("google.protobuf.Timestamp", {
  seconds: field.integer(1),
  nanos: field.integer(2),
});
const diagnostics = field.many(1, () => diagnostic);

export const validateEphemeralResourceConfig = {
  request: message("ValidateEphemeralResourceConfig.Request", {
    type_name: field.string(1),
    config: field.one(2, () => dynamicValue),
  }),
  response: message("ValidateEphemeralResourceConfig.Response", { diagnostics }),
};
export const openEphemeralResource = {
  request: message("OpenEphemeralResource.Request", {
    type_name: field.string(1),
    config: field.one(2, () => dynamicValue),
    client_capabilities: field.one(3, () => clientCapabilities),
  }),
  response: message("OpenEphemeralResource.Response", {
    diagnostics,
    renew_at: field.one(2, () => timestamp),
    result: field.one(3, () => dynamicValue),
    private: field.optionalBytes(4),
    deferred: field.one(5, () => deferred),
  }),
};
export const renewEphemeralResource = {
  request: message("RenewEphemeralResource.Request", {
    type_name: field.string(1),
    private: field.optionalBytes(2),
  }),
  response: message("RenewEphemeralResource.Response", {
    diagnostics,
    renew_at: field.one(2, () => timestamp),
    private: field.optionalBytes(3),
  }),
};
export const closeEphemeralResource = {
  request: message("CloseEphemeralResource.Request", {
    type_name: field.string(1),
    private: field.optionalBytes(2),
  }),
  response: message("CloseEphemeralResource.Response", { diagnostics }),
};

export function toTimestamp(atMs: number): Encodable<Decoded<typeof timestamp>> {
  const seconds = Math.floor(atMs / 1000);
  return { seconds, nanos: (atMs - seconds * 1000) * 1_000_000 };
}
