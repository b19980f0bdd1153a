/** Action `drover_release`: gives back what was granted beyond the baselines. Needs no policy: giving back is allowed. */
import { defineAction } from "#schema/action";
import { attributes, type StateOf } from "#schema/attribute";
import { exactlyOneOf } from "#schema/rules";
import { type Asked, environmentAttribute, makeRequest } from "./request.ts";

const declared = attributes({
  environment: environmentAttribute,
  machine: { type: "string", optional: true, description: "Name of the machine." },
  group: {
    type: "string",
    optional: true,
    description: "Name of the group, to release all of it.",
  },
  reason: { type: "string", optional: true, description: "Why, for those who look at it later." },
});

export const release = defineAction({
  name: "drover_release",
  description: "Takes a machine or a group back to its baselines.",
  attributes: declared,
  rules: [exactlyOneOf("machine", "group")],
  invoke: (work, config, progress) => makeRequest(work, askedOf(config), progress),
});

function askedOf({ environment, machine, group, reason }: StateOf<typeof declared>): Asked {
  return {
    what: `release ${machine ?? `group ${group}`} of ${environment}`,
    attributes: Object.keys(declared),
    body: {
      method: "release",
      environment,
      ...(machine === null ? {} : { machine }),
      ...(group === null ? {} : { group }),
      params: reason === null ? {} : { reason },
    },
  };
}
