/** List of `drover_machine` for `terraform query`: every machine that the shepherd knows, ready to be imported. */
import type { MachineView } from "@drover/shepherd/api/contract";
import { attributes } from "#schema/attribute";
import { defineList } from "#schema/list";
import type { ObjectValue } from "#schema/value";
import { stateOf } from "../resources/machine-state.ts";

const declared = attributes({
  environment: {
    type: "string",
    optional: true,
    description: "Name or id of an environment. Absent: all.",
  },
  group: { type: "string", optional: true, description: "Only machines of this group." },
});

export const machines = defineList({
  name: "drover_machine",
  description: "The machines of an environment, or of all, each with its identity.",
  attributes: declared,
  async *list(work, { environment, group }) {
    const { items } = await work.client.get<{ items: readonly MachineView[] }>("/v1/machines", {
      query: { environment: environment ?? undefined },
      signal: work.signal,
    });
    for (const view of items) {
      if (group !== null && view.group !== group) continue;
      yield {
        identity: { id: view.id },
        displayName: `${view.environment}/${view.name}`,
        // a state is an object of wire values; its named type has no index signature
        state: () => stateOf(view, null).state as unknown as ObjectValue,
      };
    }
  },
});
