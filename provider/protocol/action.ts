/** The noun *action*: validated, planned, invoked with progress. */
import { field, message } from "#plugin/protobuf";
import { clientCapabilities, deferred } from "./capability.ts";
import { diagnostic } from "./diagnostic.ts";
import { dynamicValue } from "./dynamic-value.ts";
import { schema } from "./schema.ts";

export const actionSchema = message("ActionSchema", { schema: field.one(1, () => schema) });

export const validateActionConfig = {
  request: message("ValidateActionConfig.Request", {
    action_type: field.string(1),
    config: field.one(2, () => dynamicValue),
  }),
  response: message("ValidateActionConfig.Response", {
    diagnostics: field.many(1, () => diagnostic),
  }),
};
export const planAction = {
  request: message("PlanAction.Request", {
    action_type: field.string(1),
    config: field.one(2, () => dynamicValue),
    client_capabilities: field.one(3, () => clientCapabilities),
  }),
  response: message("PlanAction.Response", {
    diagnostics: field.many(1, () => diagnostic),
    deferred: field.one(2, () => deferred),
  }),
};
const progress = message("InvokeAction.Event.Progress", { message: field.string(1) });
const completed = message("InvokeAction.Event.Completed", {
  diagnostics: field.many(1, () => diagnostic),
});
export const invokeAction = {
  request: message("InvokeAction.Request", {
    action_type: field.string(1),
    config: field.one(2, () => dynamicValue),
    client_capabilities: field.one(3, () => clientCapabilities),
  }),
  response: message("InvokeAction.Event", {
    progress: field.one(1, () => progress),
    completed: field.one(2, () => completed),
  }),
  stream: true,
} as const;
