/** A provider that exercises every noun of the protocol without a shepherd: the subject of the protocol's own tests. */
import type { Catalogue } from "@drover/provider/protocol/answers/session";
import { defineAction } from "@drover/provider/schema/action";
import { attributes } from "@drover/provider/schema/attribute";
import { defineEphemeral } from "@drover/provider/schema/ephemeral";
import { ArgumentError, type FunctionType } from "@drover/provider/schema/function";
import { defineList } from "@drover/provider/schema/list";
import { defineDataSource } from "@drover/provider/schema/resource";
import { isUnknown } from "@drover/provider/schema/value";
import { box, stateOf } from "./box.ts";
import { boxes, saveBoxes } from "./boxes.ts";

const count = defineDataSource({
  name: "example_count",
  description: "How many boxes there are.",
  attributes: attributes({
    zone: { type: "string", optional: true, description: "Only those that stand there." },
    total: { type: "number", computed: true, description: "How many." },
  }),
  read: async (_, { zone }) => ({
    zone,
    total: boxes().filter((one) => zone === null || one.zone === zone).length,
  }),
});

/** A key that is good for a moment; each renewal counts. */
const key = defineEphemeral({
  name: "example_key",
  description: "A key.",
  attributes: attributes({
    lock: { type: "string", required: true, description: "What it opens." },
    key: { type: "string", computed: true, sensitive: true, description: "The key." },
  }),
  open: async ({ report }, config) => {
    if (config.lock === "nothing") {
      report.at("lock").error("No such lock", "There is nothing to open.");
      return null;
    }
    return {
      result: { ...config, key: `key-of-${config.lock}` },
      renewAtMs: 1_700_000_000_250,
      private: { renewals: 0, lock: config.lock },
    };
  },
  renew: async (_, kept) => {
    const renewals = Number(kept["renewals"]) + 1;
    return renewals > 2
      ? undefined
      : { renewAtMs: 1_700_000_000_000 + renewals, private: { ...kept, renewals } };
  },
  close: async ({ log }, kept) => log("closed", { kept }),
});

const shake = defineAction({
  name: "example_shake",
  description: "Shakes all boxes.",
  attributes: attributes({
    times: { type: "number", required: true, description: "How often." },
    hard: { type: "bool", optional: true, description: "Whether a box may break." },
  }),
  plan: async ({ report }, { hard }) => {
    if (hard === true) report.at("hard").warning("Hard", "A box may break.");
  },
  invoke: async ({ report, signal, log }, { times, hard }, progress) => {
    for (let n = 1; n <= times; n++) {
      if (signal.aborted) {
        log("stopped shaking");
        report.error("Interrupted", `Shaken ${n - 1} times.`);
        return;
      }
      progress(`shaken ${n} of ${times}`);
      await new Promise((resolve) => setImmediate(resolve));
    }
    if (hard === true) {
      saveBoxes([]);
      report.warning("Broken", "All of them.");
    }
  },
});

const list = defineList({
  name: "example_box",
  description: "All boxes.",
  attributes: attributes({
    zone: { type: "string", optional: true, description: "Only those that stand there." },
  }),
  async *list({ report }, { zone }) {
    for (const one of boxes())
      if (zone === null || one.zone === zone)
        yield {
          identity: { id: one.id },
          displayName: one.name,
          state: () => stateOf(one, null),
        };
    if (zone === "fog") report.warning("Fog", "There may be more.");
  },
});

const glue: FunctionType = {
  name: "glue",
  summary: "Glues texts",
  description: "Glues texts with something between them.",
  parameters: [
    { name: "between", type: "string", description: "What stands between them.", nullable: true },
  ],
  variadic: { name: "texts", type: "string", description: "The texts.", acceptsUnknown: true },
  returns: "string",
  result: "One text.",
  call: ([between, ...texts]) => {
    if (between === "bug") throw new RangeError("a bug of the example");
    const strange = texts.findIndex((text) => typeof text !== "string" || isUnknown(text));
    if (strange !== -1) throw new ArgumentError(strange + 1, "It is not known.");
    return texts.join(typeof between === "string" ? between : "");
  },
};

export const catalogue: Catalogue = {
  resources: [box],
  dataSources: [count],
  functions: [glue],
  ephemerals: [key],
  actions: [shake],
  lists: [list],
};
