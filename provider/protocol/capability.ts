/** The noun *capability*: what each side of the connection can do, and the answer "not yet" that one of them allows. */
import { field, message } from "#plugin/protobuf";

export const clientCapabilities = message("ClientCapabilities", {
  deferral_allowed: field.bool(1),
  write_only_attributes_allowed: field.bool(2),
});
export const serverCapabilities = message("ServerCapabilities", {
  plan_destroy: field.bool(1),
  get_provider_schema_optional: field.bool(2),
  move_resource_state: field.bool(3),
  generate_resource_config: field.bool(4),
});

export const deferralReasons = {
  resourceConfigUnknown: 1,
  providerConfigUnknown: 2,
  absentPrerequisite: 3,
} as const;
export const deferred = message("Deferred", { reason: field.integer(1) });
