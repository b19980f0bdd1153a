/**
 * Action `drover_move`: moves a machine, a group or the whole environment live to another site or host, disks included.
 * The stack's baseline stays as it is.
 */
import { defineAction } from "#schema/action";
import { attributes, type StateOf } from "#schema/attribute";
import { conflicting, exactlyOneOf } from "#schema/rules";
import { duration, parseDuration } from "#schema/timeouts";
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
  machine: {
    type: "string",
    optional: true,
    description: "Name of the machine. Without machine and group the whole environment moves.",
  },
  group: { type: "string", optional: true, description: "Name of the group, to move all of it." },
  site: { type: "string", optional: true, description: "Site to move to." },
  host: { type: "string", optional: true, description: "Host to move to, and no other." },
  within: {
    type: "string",
    optional: true,
    description:
      "It has to have ended so soon, `30m`, or it does not begin. Absent: as long as it takes.",
    validators: [duration],
  },
  ...termsAttributes,
});

export const move = defineAction({
  name: "drover_move",
  description:
    "Moves a machine, a group or a whole environment live to another site or host, if every owner agrees.",
  attributes: declared,
  rules: [exactlyOneOf("site", "host"), conflicting("machine", "group")],
  plan: async (work, config) => {
    if (!Object.values(config).some(isUnknown))
      await foreseeRequest(work, askedOf(config as StateOf<typeof declared>));
  },
  invoke: (work, config, progress) => makeRequest(work, askedOf(config), progress),
});

function askedOf(config: StateOf<typeof declared>): Asked {
  const { environment, machine, group, site, host } = config;
  const withinMs = parseDuration(config.within ?? "");
  const what = machine ?? (group === null ? "all" : `group ${group}`);
  return {
    what: `move ${what} of ${environment} to ${site ?? host}`,
    attributes: Object.keys(declared),
    body: {
      method: "move",
      environment,
      ...(machine === null ? {} : { machine }),
      ...(group === null ? {} : { group }),
      params: {
        ...(site === null ? {} : { site }),
        ...(host === null ? {} : { host }),
        ...(withinMs === undefined ? {} : { within_s: Math.ceil(withinMs / 1_000) }),
        ...termsOf(config),
      },
    },
  };
}
