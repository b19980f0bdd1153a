/** `example_box`: a resource that uses everything a resource can be made of, and fails on demand by its name. */
import { createHash } from "node:crypto";
import { writeFileSync } from "node:fs";
import { setTimeout as wait } from "node:timers/promises";
import { attributes, type PlannedOf, type StateOf } from "@drover/provider/schema/attribute";
import { identityById } from "@drover/provider/schema/identity";
import { defineResource } from "@drover/provider/schema/resource";
import { conflicting, together } from "@drover/provider/schema/rules";
import { sameMac } from "@drover/provider/schema/same";
import { TimeoutReached, timeoutsAttribute } from "@drover/provider/schema/timeouts";
import { wholeNumber } from "@drover/provider/schema/validators";
import { isUnknown } from "@drover/provider/schema/value";
import { type Box, boxes, saveBoxes } from "./boxes.ts";

export const boxAttributes = attributes({
  id: { type: "string", computed: true, description: "Id of the box." },
  name: { type: "string", required: true, description: "Name of the box." },
  size_gib: {
    type: "number",
    optional: true,
    computed: true,
    default: 1,
    description: "Size in GiB.",
    validators: [wholeNumber({ min: 1, max: 1000 })],
  },
  mac: {
    type: "string",
    optional: true,
    computed: true,
    same: sameMac,
    description: "MAC address, in any spelling.",
  },
  zone: {
    type: "string",
    optional: true,
    replaces: ({ prior }) => prior === "island", // from there nothing can be moved
    description: "Where it stands.",
  },
  labels: { type: ["map", "string"], optional: true, description: "Labels." },
  secret_wo: {
    type: "string",
    optional: true,
    sensitive: true,
    writeOnly: true,
    description: "A secret that is kept nowhere.",
  },
  secret_version: { type: "number", optional: true, description: "Raise it to send a new secret." },
  digest: {
    type: "string",
    computed: true,
    follows: ["secret_version"],
    description: "SHA-256 of the secret.",
  },
  disks: {
    type: {
      nesting: "list",
      attributes: {
        name: { type: "string", required: true, description: "Name of the disk." },
        serial: { type: "string", computed: true, description: "Its serial number." },
      },
    },
    optional: true,
    description: "Disks.",
  },
  title: {
    type: "string",
    optional: true,
    deprecated: "Use name.",
    description: "What it was called before.",
  },
  timeouts: timeoutsAttribute({ create: "10m", delete: "10m" }),
});
type Attributes = typeof boxAttributes;
type State = StateOf<Attributes>;
type Plan = PlannedOf<Attributes>;

export const box = defineResource({
  name: "example_box",
  version: 2,
  description: "A box.",
  importId: "id or name",
  attributes: boxAttributes,
  identity: identityById<Attributes>("box"),
  rules: [conflicting("title", "labels"), together("secret_wo", "secret_version")],
  upgrades: {
    0: ({ called, ...state }) => ({ ...state, name: called }), // version 1 said name
    1: ({ size, ...state }) => ({ ...state, size_gib: Number.parseInt(String(size), 10) }), // version 2 counts in GiB
  },
  moves: [
    {
      provider: "example/other",
      type: "other_crate",
      state: ({ state }, report) => {
        if (typeof state["uuid"] === "string") return { id: state["uuid"] };
        report.error("Nothing to move", "This crate has no uuid.");
        return null;
      },
    },
  ],
  configFrom: (config, { labels }) => (labels === null ? config : { ...config, title: null }),
  foresee: async ({ report, log }, { prior, planned, replacing, private: kept }) => {
    log("looks ahead", { replacing, kept });
    if (planned === null) {
      if (prior?.name === "precious")
        report.error("It is precious", "Rename the box before you remove it.");
      return undefined;
    }
    if (typeof planned.size_gib === "number" && planned.size_gib > 100)
      report.at("size_gib").warning("A large box", "It will cost something.");
    return {
      private: { ...kept, foreseen: Number(kept["foreseen"] ?? 0) + 1 },
      ...(isUnknown(planned.mac) ? { planned: { mac: "52:54:00:00:00:01" } } : {}),
    };
  },
  read: async (_, state, kept) => {
    const found = boxes().find(({ id }) => id === state.id);
    return found === undefined
      ? { state: null }
      : {
          state: stateOf(found, state),
          private: { ...kept, reads: Number(kept["reads"] ?? 0) + 1 },
        };
  },
  create: async ({ report, signal, log }, { planned, config, private: kept }) => {
    log("creates", { kept });
    if (planned.name === "bug") throw new RangeError("a bug of the example");
    if (planned.name === "crash")
      await new Promise(() => {
        setImmediate(() => {
          throw new RangeError("crashed on purpose"); // nothing can catch this
        });
      });
    if (planned.name === "slow") {
      writeFileSync(`${process.env["EXAMPLE_FILE"]}.pid`, String(process.pid));
      await wait(600_000, undefined, { signal }).catch(() => undefined);
      const why = signal.reason instanceof TimeoutReached ? signal.reason.message : "interrupted";
      report.error("Not made", why);
      return { state: null };
    }
    const made = boxOf(planned, config, `box-${planned.name}`);
    saveBoxes([...boxes(), made]);
    if (planned.name === "half") report.error("Half made", "The lid is missing.");
    return { state: stateOf(made, planned), private: kept };
  },
  update: async ({ report }, { prior, planned, config, private: kept }) => {
    if (planned.name === "bug") throw new RangeError("a bug of the example");
    if (planned.name === "refused") {
      report.at("name").error("Refused", "Not this name.");
      return { state: prior, private: kept };
    }
    const before = boxes().find(({ id }) => id === prior.id);
    const made = boxOf(planned, config, String(prior.id), before);
    saveBoxes(boxes().map((one) => (one.id === prior.id ? made : one)));
    return { state: stateOf(made, planned), private: kept };
  },
  remove: async ({ report }, state) => {
    if (state.name === "stuck") report.error("Stuck", "It does not go.");
    else saveBoxes(boxes().filter(({ id }) => id !== state.id));
  },
  import: async (_, named) => {
    const found = boxes().find(({ id, name }) => id === named || name === named);
    return found === undefined ? null : stateOf(found, null);
  },
});

function boxOf(planned: Plan, config: Plan, id: string, before?: Box): Box {
  const secret = config.secret_wo;
  const disks = planned.disks as State["disks"];
  return {
    id,
    name: String(planned.name),
    size_gib: Number(planned.size_gib),
    // the world has a spelling of its own
    mac: (typeof planned.mac === "string" ? planned.mac : "52:54:00:00:00:02")
      .replaceAll("-", ":")
      .toLowerCase(),
    zone: planned.zone as string | null,
    labels: planned.labels as Box["labels"],
    digest:
      before !== undefined && before.secret_version === planned.secret_version
        ? before.digest
        : createHash("sha256").update(String(secret)).digest("hex"),
    secret_version: planned.secret_version as number | null,
    disks: disks && disks.map(({ name }) => ({ name, serial: `serial-${name}` })),
  };
}

export function stateOf(found: Box, prior: Plan | null): State {
  return {
    ...found,
    secret_wo: "never shown", // the framework takes it out
    title: (prior?.title ?? null) as string | null,
    timeouts: (prior?.timeouts ?? null) as State["timeouts"],
  };
}
