/** The verbs of a play: what each word of a scenario's line does on the stage. Adding one is adding an entry. */
import type { Request, RequestKind } from "@drover/shepherd/model/request";
import type { GateAnswer } from "@drover/shepherd/policy/gate";
import { liftHold, placeHold } from "@drover/shepherd/policy/hold";
import type { DomainState } from "@drover/shepherd/ports/host";
import type { DomainData } from "@drover/shepherd/simulated/data";
import type { FaultEffect } from "@drover/shepherd/simulated/faults";
import type { Delivery } from "@drover/shepherd/simulated/machinery";
import { environmentId, linkRecord } from "../shepherd.ts";
import { type Command, milliseconds } from "./read.ts";
import type { Stage } from "./stage.ts";

export type Act = (stage: Stage, command: Command) => Promise<void> | void;

const subjects: Record<string, Request["subject"]> = {
  operator: { type: "operator", name: "olga", roles: ["operator"] },
  stack: { type: "stack", name: "alice", roles: ["stack"] },
  automation: { type: "automation", name: "automation", roles: [] },
};

async function submit(
  stage: Stage,
  command: Command,
  kind: RequestKind,
  about: Partial<Request>,
): Promise<void> {
  const [name = ""] = command.words;
  const by = command.options["by"] ?? "operator";
  const subject = subjects[by] ?? {
    type: "guest" as const,
    name: by,
    machineId: await stage.machineId(by),
    roles: [],
  };
  const answer = stage.shepherd.submit({
    kind,
    subject,
    ...(command.options["key"] === undefined ? {} : { idempotencyKey: command.options["key"] }),
    ...(command.options["for"] === undefined
      ? {}
      : { leaseMs: milliseconds(command.options["for"]) }),
    ...about,
  });
  stage.later(answer.then((said) => `${kind} ${name}: ${verdict(said)}`));
  await stage.settle();
}

function verdict({ decision }: GateAnswer): string {
  return decision.effect === "allow" ? "granted" : `${decision.code}: ${decision.message}`;
}

const first = ({ words }: Command): string => words[0] ?? "";

/** The verbs of a play. */
export const acts: Readonly<Record<string, Act | undefined>> = {
  /** create rank-0 rank-1 on=south */
  async create(stage, { words, options }) {
    const siteId = options["on"] ?? stage.sites[0] ?? "";
    const done = stage.shepherd.create(
      words.map((name) => ({
        name,
        baseline: {
          vcpus: 1,
          cpuPercent: Number(options["cpu"] ?? 20),
          memoryMib: Number(options["memory"] ?? 256),
          siteId,
        },
        envelope: {
          mode: "auto",
          vcpus: { min: 1, max: 2 },
          cpuPercent: { min: 10, max: 100 },
          memoryMib: { min: 192, max: Number(options["max"] ?? 1024) },
          sites: stage.sites,
        },
      })),
    );
    stage.later(
      done.then(
        (answers) => `create ${words.join(" ")}: ${[...new Set(answers.map(verdict))].join("; ")}`,
      ),
    );
    await stage.settle();
  },
  /** resize rank-0 memory=512 cpu=60 vcpus=2 for=1h by=rank-0 */
  async resize(stage, command) {
    const { options } = command;
    const number = (key: string) => (options[key] === undefined ? {} : Number(options[key]));
    const machineId = await stage.machineId(first(command));
    await submit(stage, command, "resize", {
      machines: [
        {
          machineId,
          ...(typeof number("memory") === "number" ? { memoryMib: Number(options["memory"]) } : {}),
          ...(typeof number("cpu") === "number" ? { cpuPercent: Number(options["cpu"]) } : {}),
          ...(typeof number("vcpus") === "number" ? { vcpus: Number(options["vcpus"]) } : {}),
        },
      ],
    });
  },
  /** move rank-0 to=south */
  async move(stage, command) {
    const machineId = await stage.machineId(first(command));
    const siteId = command.options["to"];
    await submit(stage, command, "move", {
      machines: [{ machineId, ...(siteId === undefined ? {} : { siteId }) }],
    });
  },
  async release(stage, command) {
    await submit(stage, command, "release", {
      machines: [{ machineId: await stage.machineId(first(command)) }],
    });
  },
  async destroy(stage, command) {
    await submit(stage, { ...command, options: { by: "stack", ...command.options } }, "destroy", {
      machines: [{ machineId: await stage.machineId(first(command)) }],
    });
  },
  /** link rank-0 rank-1 mbps=100: as a stack's apply leaves it. */
  async link(stage, { words, options }) {
    const [left = "", right = ""] = words;
    await stage.store.transaction((journal) =>
      journal.objects.put(linkRecord(left, right, Number(options["mbps"]))),
    );
  },
  async rate(stage, command) {
    const [left = "", right = ""] = command.words;
    await submit(stage, command, "rate", {
      links: [{ linkId: `link-${left}-${right}`, rateMbps: Number(command.options["mbps"]) }],
    });
  },
  /** Whatever runs on that machine. */
  async cancel(stage, command) {
    const machineId = await stage.machineId(first(command));
    const [open] = await stage.store.read((journal) =>
      journal.operations.list({ states: ["pending", "running", "undoing"], machineId }),
    );
    if (open === undefined) stage.say("nothing runs there");
    else await stage.shepherd.operations.cancel(open.id);
  },
  async retry(stage, command) {
    const machineId = await stage.machineId(first(command));
    const [stuck] = await stage.store.read((journal) =>
      journal.operations.list({ states: ["stuck"], machineId }),
    );
    if (stuck === undefined) stage.say("nothing is stuck there");
    else await stage.shepherd.operations.retry(stuck.id);
  },
  /** A host, or all of a site, does not answer any more; its guests run on. */
  cut(stage, command) {
    const name = first(command);
    for (const id of stage.sites.includes(name) ? stage.hostsOf(name) : [name])
      stage.world.setReachable(id, false);
  },
  join(stage, command) {
    const name = first(command);
    for (const id of stage.sites.includes(name) ? stage.hostsOf(name) : [name])
      stage.world.setReachable(id, true);
  },
  "power-cycle"(stage, command) {
    stage.world.powerCycle(first(command));
  },
  /** fault south-1 perform hang nth=2 times=3; `any` stands for every host or call */
  fault(stage, { words, options }) {
    const [hostId = "any", call = "any", effect = "fail"] = words;
    stage.world.faults.inject({
      ...(hostId === "any" ? {} : { hostId }),
      ...(call === "any" ? {} : { call }),
      ...(options["nth"] === undefined ? {} : { nth: Number(options["nth"]) }),
      ...(options["times"] === undefined ? {} : { times: Number(options["times"]) }),
      effect: effect as FaultEffect,
    });
  },
  heal(stage) {
    stage.world.faults.clear();
  },
  /** kill; or kill after=WORDS-OF-STEP state=done: with the write that says so. phase=handed_over: with that mark. */
  async kill(stage, { options }) {
    const { after, state, phase } = options;
    if (after === undefined && phase === undefined) {
      await stage.kill();
      return;
    }
    await stage.kill((step) => {
      if (phase !== undefined) {
        return (
          (step.outcome as { phase?: string } | undefined)?.phase === phase &&
          step.state === "doing"
        );
      }
      return (
        step.name.includes((after ?? "").replaceAll("_", " ")) && step.state === (state ?? "done")
      );
    });
  },
  async start(stage) {
    await stage.startAgain();
  },
  async hold(stage, { words, options }) {
    await placeHold(stage, {
      scope: scopeOf(words[0]),
      by: "olga",
      reason: "scenario",
      ...(options["for"] === undefined ? {} : { forMs: milliseconds(options["for"]) }),
    });
    stage.shepherd.operations.kick();
  },
  async lift(stage, { words }) {
    await liftHold(stage, scopeOf(words[0]), "olga");
  },
  deny(stage, command) {
    stage.deniedSites.add(first(command));
  },
  allow(stage, command) {
    stage.deniedSites.delete(first(command));
  },
  async drain(stage, command) {
    await stage.shepherd.marks.drain({ hostId: first(command), by: "olga", reason: "maintenance" });
  },
  async undrain(stage, command) {
    await stage.shepherd.marks.lift(first(command), "draining", "olga");
  },
  async "drain-status"(stage, command) {
    const progress = await stage.shepherd.drains.progress(first(command));
    if (progress === undefined) stage.say("not draining");
    else {
      stage.say(`${progress.machines} left, ${progress.moving.length} moving`);
      for (const { machine, code, message } of progress.blockers) {
        stage.say(`blocked: ${machine.spec.name}: ${code}: ${message}`);
      }
    }
  },
  "confirm-dead"(stage, command) {
    stage.later(
      stage.shepherd.marks
        .confirmDead({ hostId: first(command), by: "olga", reason: "burnt", fencedBy: "power off" })
        .then((mark) => {
          stage.shepherd.operations.kick();
          return `${mark.hostId} confirmed dead`;
        }),
    );
  },
  return(stage, command) {
    stage.later(
      stage.shepherd.janitor
        .welcome(first(command), "olga")
        .then((removed) => `${first(command)} is back; removed ${removed.length}`),
    );
  },
  /** Behind the shepherd's back. */
  async setmem(stage, { words }) {
    const id = await stage.machineId(words[0] ?? "");
    const host = Object.values(stage.world.data.hosts).find(
      ({ domains }) => domains[id] !== undefined,
    );
    stage.world.setMemoryBehind(host?.id ?? "", id, Number(words[1]));
  },
  /** Its guest has so much in use and gives none of it up: `use rank-0 300`; 0: it lets go. */
  async use(stage, { words }) {
    const id = await stage.machineId(words[0] ?? "");
    const host = Object.values(stage.world.data.hosts).find(
      ({ domains }) => domains[id] !== undefined,
    );
    stage.world.holdMemory(host?.id ?? "", id, Number(words[1]));
  },
  /** The guest powered itself off, and its domain with it. */
  async vanish(stage, { words, options }) {
    const id = await stage.machineId(words[0] ?? "");
    for (const host of Object.values(stage.world.data.hosts)) {
      if (options["at"] === undefined || options["at"] === host.id) delete host.domains[id];
    }
  },
  /** Somebody starts a second copy by hand: state=running or shut_off. */
  async twin(stage, { words, options }) {
    const id = await stage.machineId(words[0] ?? "");
    const original = Object.values(stage.world.data.hosts).flatMap(
      ({ domains }) => domains[id] ?? [],
    )[0];
    if (original === undefined) throw new Error("it runs nowhere");
    const at = stage.host(options["at"] ?? "");
    at.domains[id] = {
      ...original,
      job: "none",
      state: (options["state"] ?? "running") as DomainState,
    };
  },
  async resume(stage, { words, options }) {
    const id = await stage.machineId(words[0] ?? "");
    const domain = stage.host(options["at"] ?? "").domains[id];
    if (domain !== undefined) Object.assign(domain, { state: "running", job: "none" });
  },
  foreign(stage, { words, options }) {
    stage.world.startForeign(words[0] ?? "", {
      id: `foreign-${words[1]}`,
      name: words[1] ?? "",
      vcpus: 1,
      memoryMib: Number(options["memory"]),
      cpuPercent: Number(options["cpu"] ?? 20),
    });
  },
  "foreign-ends"(stage, { words }) {
    stage.world.stopForeign(words[0] ?? "", `foreign-${words[1]}`);
  },
  /** A domain with our mark that no record knows. */
  stray(stage, { words, options }) {
    const host = stage.host(words[0] ?? "");
    const model = Object.values(stage.world.data.hosts)
      .flatMap(({ domains }) => Object.values(domains))
      .find(({ spec }) => spec !== undefined);
    if (model?.spec === undefined) throw new Error("a stray needs a machine to look like");
    const id = "11111111-1111-4111-8111-111111111111";
    const disk = `drover-${id}.qcow2`;
    host.volumes[disk] = {
      name: disk,
      capacityBytes: 1,
      allocatedBytes: 1,
      backing: undefined,
      content: "",
    };
    const domain: DomainData = {
      ...model,
      id,
      name: "drover-ring-old",
      spec: { ...model.spec, id, name: "drover-ring-old", diskVolume: disk, nics: [] },
      state: (options["state"] ?? "shut_off") as DomainState,
      diskContent: "",
      job: "none",
    };
    host.domains[id] = domain;
  },
  /** Its network is as after a reboot that nobody told of. */
  "forget-network"(stage, command) {
    stage.host(first(command)).network = { hostId: first(command), bridges: [] };
  },
  async sweep(stage) {
    stage.later(
      stage.shepherd.janitor.sweep().then((found) => `swept: ${found.length} differences`),
    );
    await stage.settle();
  },
  async janitor(stage) {
    stage.later(
      stage.shepherd.janitor
        .clean("olga")
        .then(
          (operations) =>
            `janitor: ${operations.map(({ state }) => state).join(", ") || "nothing to do"}`,
        ),
    );
    await stage.settle();
  },
  /** Domain events are lost, doubled or reordered from now on. */
  events(stage, command) {
    stage.world.setEvents(first(command) as Delivery);
  },
  /** Only lets time pass. */
  wait() {},
};

function scopeOf(word: string | undefined) {
  if (word === undefined || word === "everything") return "everything" as const;
  return word === "ring" ? { environmentId } : { siteId: word };
}
