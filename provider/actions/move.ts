/** Action `drover_move`: moves a machine live to another site, disks included. The stack's baseline stays as it is. */
import { defineAction } from "#schema/action";
import { attributes, type StateOf } from "#schema/attribute";
import { isUnknown } from "#schema/value";
import {
  type Asked,
  environmentAttribute,
  foreseeRequest,
  makeRequest,
  termsAttributes,
  termsOf,
} from "./request.ts";

const declared = attributes({
  environment: environmentAttribute,
  machine: { type: "string", required: true, description: "Name of the machine." },
  site: { type: "string", required: true, description: "Site to move it to." },
  ...termsAttributes,
});

export const move = defineAction({
  name: "drover_move",
  description: "Moves a machine live to another site, if every owner agrees.",
  attributes: declared,
  plan: async (work, config) => {
    if (!Object.values(config).some(isUnknown))
      await foreseeRequest(work, askedOf(config as StateOf<typeof declared>));
  },
  invoke: (work, config, progress) => makeRequest(work, askedOf(config), progress),
});

function askedOf(config: StateOf<typeof declared>): Asked {
  const { environment, machine, site } = config;
  return {
    what: `move ${machine} of ${environment} to ${site}`,
    attributes: Object.keys(declared),
    body: { method: "move", environment, machine, params: { site, ...termsOf(config) } },
  };
}
