/**
 * `drover_machine`: one virtual machine that adapts while it runs. Its attributes hold baselines, live values stand in
 * `effective`; a live value that no adaptation explains is shown in the baseline's place, so that plan puts it back.
 * Knows what the shepherd says about drift; never judges itself whether a value was approved.
 */
import { path, type ShepherdClient } from "@drover/shepherd/api/client";
import type { MachineView, Mutation, OperationView } from "@drover/shepherd/api/contract";
import { identityById } from "#schema/identity";
import { defineResource, type PrivateData, type Work } from "#schema/resource";
import { adaptable } from "./adaptation-attributes.ts";
import { declaredObject, refuseProtected, splitImportId } from "./declared-object.ts";
import { findOne } from "./lookup.ts";
import {
  type MachineAttributes,
  machineAttributes,
  type MachinePlan as Planned,
  type MachineState as State,
} from "./machine-attributes.ts";
import { bodyOf } from "./machine-body.ts";
import { changes, type Kept, patchOf, planMachine, sameLive } from "./machine-plan.ts";
import { machineRules, validateMachine } from "./machine-rules.ts";
import { keepPromises, stateOf } from "./machine-state.ts";
import { joinOperations } from "./mutation.ts";

export const machine = defineResource({
  name: "drover_machine",
  version: 0,
  description:
    "A virtual machine that may adapt while it runs: resized and moved live, within its envelope and policy.",
  importId:
    "environment/name or id; a machine that another tool made, by environment/name=<its libvirt UUID>",
  attributes: machineAttributes,
  rules: machineRules,
  validate: validateMachine,
  plan: planMachine,
  identity: identityById("machine"),
  ...declaredObject<MachineAttributes, MachineView>({
    noun: "machine",
    checkedAs: "machine",
    beforeCheck: refuseProtected,
    typeName: "drover_machine",
    attributes: Object.keys(machineAttributes),
    put: (planned, config) => ({
      path: path`/v1/environments/${String(planned.environment_id)}/machines/${String(planned.name)}`,
      body: bodyOf(planned, config),
    }),
    one: (id) => path`/v1/machines/${id}`,
    lookUp: (client, planned) =>
      findOne<MachineView>(client, "/v1/machines", {
        environment: String(planned.environment_id),
        name: String(planned.name),
      }),
    join,
    observe,
    patch: ({ prior, planned, config, private: kept }) => patchOf(prior, { planned, config }, kept),
    state: stateOf,
    settle: keepPromises,
    keepsDisk: (state) => state.keep_disk === true,
    isNowhere: ({ effective }) => effective.host === "" && effective.state === "failed",
    idOf: (state) => state.id ?? "",
    nameOf: (state) => String(state.name),
    find: (client, id) => {
      const [name = "", domain] = id.split("=");
      if (domain !== undefined) return takeOver(client, name, domain);
      const key = splitImportId(id);
      return key === undefined
        ? client.find(path`/v1/machines/${id}`)
        : findOne<MachineView>(client, "/v1/machines", key);
    },
    importIdOf: (planned) => `${String(planned.environment_id)}/${String(planned.name)}`,
  }),
});

/**
 * Takes a machine that another tool made into an environment, as it runs. Terraform imports at plan and again at apply:
 * the second time the shepherd answers with what it has.
 */
async function takeOver(
  client: ShepherdClient,
  name: string,
  domain: string,
): Promise<MachineView | undefined> {
  const body = splitImportId(name);
  if (body === undefined) return undefined;
  const { object, operation } = await client.call<Mutation<MachineView>>(
    "POST",
    path`/v1/foreign-machines/${domain}/import`,
    { body },
  );
  if (operation === null) return object ?? undefined;
  await client.waitForOperation(operation.id);
  return await client.find<MachineView>(path`/v1/machines/${domain.toLowerCase()}`);
}

/** A live value that nothing explains yet may be an adaptation half way: only then its operation is looked for. */
async function observe(work: Work, view: MachineView): Promise<PrivateData> {
  const { effective, drift } = view;
  const plain = adaptable.every((name) => sameLive(name, effective[name], view[name]));
  if (plain || drift.length > 0 || effective.adaptation_id !== null) return {};
  const { items } = await work.client.get<{ items: readonly OperationView[] }>("/v1/operations", {
    query: { machine: view.id, active: "1" },
    signal: work.signal,
  });
  const adapting = items.some(({ kind }) => kind !== "create" && kind !== "update");
  return adapting ? ({ adapting } satisfies Kept as PrivateData) : {};
}

/**
 * Joins what is under way. Values that the plan saw on their way to the baseline count as they are then, and an
 * adaptation that was recorded meanwhile stays; all other values must be as the plan saw them.
 */
async function join(work: Work, prior: State, what: string): Promise<State | undefined> {
  const id = prior.id ?? "";
  if (!(await joinOperations(work, { id, what }))) return undefined;
  const { effective } = prior;
  const onTheirWay = changes(prior, prior as Planned, {});
  if (onTheirWay.length === 0 || effective === null) return prior;
  const view = await work.client.find<MachineView>(path`/v1/machines/${id}`);
  if (view === undefined) return prior;
  const now = Object.fromEntries(onTheirWay.map((name) => [name, view.effective[name]]));
  const { adaptation_id } = view.effective;
  return { ...prior, effective: { ...effective, ...now, adaptation_id } };
}
