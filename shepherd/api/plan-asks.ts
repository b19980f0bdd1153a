/**
 * What a change of a Terraform run would ask the gate for, and how it would be put in force: the requests that apply would
 * make, from bodies of which parts may not be known yet. Judges nothing.
 */
import type { Static, TSchema } from "typebox";
import Value from "typebox/value";
import type { PlanCheckAnswer } from "#api/contract";
import { declaredGroup, destroyedGroup, type GroupAsk, patchedGroup } from "#api/group-spec";
import { endsOf } from "#api/link-ends";
import {
  checkCards,
  type Declaration,
  patchedSpec,
  restartReasons,
  wordedMachine,
} from "#api/machine-spec";
import { find } from "#api/records";
import { patchedVolume } from "#api/routes/volumes";
import type { PlanCheckBody } from "#api/schemas";
import {
  GroupBody,
  GroupPatch,
  LinkBody,
  LinkPatch,
  MachineBody,
  MachinePatch,
  VolumePatch,
} from "#api/schemas";
import { Fault } from "#model/fault";
import type { Request } from "#model/request";
import type { Journal } from "#ports/store";

type Body = Static<typeof PlanCheckBody>;

export type About = Partial<
  Pick<Request, "machines" | "links" | "volumes" | "declares" | "scale" | "update" | "keepDisks">
> & {
  readonly ways?: PlanCheckAnswer["ways"];
};

/** What the change would ask the gate for; undefined: nothing, or too little is known to say. Faults as apply would. */
export async function askOf(
  journal: Journal,
  asked: Body,
  declaration: Declaration & { readonly newId: () => string },
): Promise<About | undefined> {
  const { kind, verb, id, name, body } = asked;
  switch (kind) {
    case "machine":
      return verb === "create"
        ? newMachine(name, body, declaration)
        : await changedMachine(journal, asked, declaration);
    case "link":
      return await linkAsk(journal, asked, declaration);
    case "group": {
      if (verb === "create") {
        const known = partial(GroupBody, body);
        const { machine_count } = known;
        // How many there are, and how large each is, is all that anybody decides about.
        if (machine_count === undefined) return undefined;
        const id = declaration.newId();
        const template = Object.assign({ image_id: "", networks: [] }, known.template);
        return await declaredGroup(journal, {
          ...declaration,
          id,
          name: name ?? `new-${id}`,
          body: { ...known, machine_count, template },
        });
      }
      const record = await find(journal, "group", id ?? "");
      if (verb === "delete") {
        refuseProtected(kind, record.spec.name, record.spec.template.deletionProtection);
        return await destroyedGroup(journal, record);
      }
      const patch = partial(GroupPatch, body);
      const { imageId, networks } = record.spec.template;
      const stays = {
        image_id: imageId,
        networks: networks.map(({ networkId }) => ({ network_id: networkId })),
      };
      const template = patch.template && Object.assign(stays, patch.template);
      const ask = await patchedGroup(journal, {
        ...declaration,
        record,
        body: template === undefined ? patch : { ...patch, template },
      });
      return ask && { ...ask, ways: groupWays(patch, ask) };
    }
    case "volume": {
      if (verb === "create") return undefined;
      if (verb === "update") return await changedVolume(journal, asked);
      const record = await find(journal, "volume", id ?? "");
      refuseProtected(kind, record.spec.name, record.spec.deletionProtection);
      return { volumes: [record.id] };
    }
    case "environment":
    case "network":
    case "constraint":
      return undefined;
  }
}

function newMachine(
  name: string | undefined,
  body: Body["body"],
  declaration: Declaration & { readonly newId: () => string },
): About | undefined {
  const id = declaration.newId();
  const said = partial(MachineBody, body);
  const { spec, ask } = wordedMachine({
    ...declaration,
    name: name ?? `new-${id}`,
    id,
    body: said,
  });
  return { machines: [ask], declares: { machines: [{ id, spec }] } };
}

async function changedMachine(
  journal: Journal,
  of: Pick<Body, "id" | "verb" | "body" | "keep_disk">,
  declaration: Declaration,
): Promise<About | undefined> {
  const record = await find(journal, "machine", of.id ?? "");
  if (of.verb === "delete") {
    refuseProtected("machine", record.spec.name, record.spec.deletionProtection);
    return {
      machines: [{ machineId: record.id }],
      ...(of.keep_disk === true ? { keepDisks: true as const } : {}),
    };
  }
  const body = partial(MachinePatch, of.body);
  const { spec, ask } = patchedSpec(record, body, declaration);
  await checkCards(journal, record, { spec, nowMs: declaration.nowMs });
  const restarts = new Set(restartReasons({ before: record, spec, ask }));
  const ways = Object.keys(body)
    .filter((attribute) => !attribute.startsWith("planned_"))
    .map((attribute) => ({
      attribute,
      way: restarts.has(attribute) ? ("restart" as const) : ("live" as const),
    }));
  return {
    machines: [ask ?? { machineId: record.id }],
    update: { baseline: spec.baseline, envelope: spec.envelope, spec },
    ways,
  };
}

/** A volume that is larger, which a host has to make so; its other words are its stack's own. */
async function changedVolume(
  journal: Journal,
  { id, body }: Pick<Body, "id" | "body">,
): Promise<About | undefined> {
  const record = await find(journal, "volume", id ?? "");
  const spec = patchedVolume(record, partial(VolumePatch, body));
  if (record.effective.hostId === "" || spec.sizeGib <= record.effective.sizeGib) return undefined;
  return {
    declares: { volumes: [{ id: record.id, spec }] },
    ways: [{ attribute: "size_gib", way: "live" }],
  };
}

/** A restart is of all its machines; what is not named here nobody's guest notices. */
function groupWays(patch: object, { machines }: GroupAsk): PlanCheckAnswer["ways"] {
  const way = machines.some(({ restart }) => restart === true) ? "restart" : "live";
  return Object.keys(patch)
    .filter((attribute) => !attribute.startsWith("planned_"))
    .map((attribute) => ({ attribute, way: attribute === "template" ? way : "live" }));
}

async function linkAsk(
  journal: Journal,
  of: Pick<Body, "id" | "verb" | "body">,
  declaration: Declaration & { readonly newId: () => string },
): Promise<About | undefined> {
  if (of.verb === "create") {
    const body = whenWhole(LinkBody, of.body);
    if (body === undefined) return undefined;
    const id = declaration.newId();
    const { environment } = declaration;
    const rateMbps = body.rate_mbps;
    const spec = { environmentId: environment.id, ...endsOf(body), rateMbps };
    return { links: [{ linkId: id, rateMbps }], declares: { links: [{ id, spec }] } };
  }
  const record = await find(journal, "link", of.id ?? "");
  if (of.verb === "delete") return { links: [{ linkId: record.id, rateMbps: 0 }] };
  const body = whenWhole(LinkPatch, of.body);
  if (body === undefined) return undefined;
  const rateMbps = body.rate_mbps;
  return {
    links: [{ linkId: record.id, rateMbps }],
    declares: { links: [{ id: record.id, spec: { ...record.spec, rateMbps } }] },
    ways: [{ attribute: "rate_mbps", way: "live" }],
  };
}

function refuseProtected(kind: string, key: string, isProtected: boolean | undefined): void {
  if (isProtected === true) {
    throw new Fault("object.protected", { kind, key, attribute: "deletion_protection" });
  }
}

/** The body where all that it must say is known; undefined: it is not yet. */
function whenWhole<Schema extends TSchema>(
  schema: Schema,
  body: Body["body"],
): Static<Schema> | undefined {
  return Value.Check(schema, body ?? {}) ? ((body ?? {}) as Static<Schema>) : undefined;
}

/** What of the body is known. Fault `request.invalid` when what is there is wrong. */
export function partial<Schema extends TSchema>(
  schema: Schema,
  body: Body["body"],
): Partial<Static<Schema>> {
  const given = body ?? {};
  const wrong = Value.Errors(schema, given).find(({ keyword }) => keyword !== "required");
  if (wrong === undefined) return given as Partial<Static<Schema>>;
  const attribute = wrong.instancePath.split("/")[1] ?? "";
  throw new Fault("request.invalid", {
    where: attribute === "" ? "body" : attribute,
    ...(attribute === "" ? {} : { attribute }),
    problem: wrong.message,
  });
}
