/**
 * Plays a scenario on simulated hosts in virtual time, with a whole shepherd that may die and come back, and tells what
 * happened as a log that a person can judge. The same file and seed give the same bytes.
 */
import type { Event } from "@drover/shepherd/model/event";
import { toFaultData } from "@drover/shepherd/model/fault";
import type { Operation, StepRecord } from "@drover/shepherd/model/plan";
import type { Request, RequestKind } from "@drover/shepherd/model/request";
import type { GateAnswer } from "@drover/shepherd/policy/gate";
import { liftHold, placeHold } from "@drover/shepherd/policy/hold";
import type { DomainState } from "@drover/shepherd/ports/host";
import type { PolicyEngine } from "@drover/shepherd/ports/policy-engine";
import { createVirtualClock, type VirtualClock } from "@drover/shepherd/simulated/clock";
import { createMortalStore } from "@drover/shepherd/simulated/crash";
import type { DomainData, HostData } from "@drover/shepherd/simulated/data";
import type { FaultEffect } from "@drover/shepherd/simulated/faults";
import type { Delivery } from "@drover/shepherd/simulated/machinery";
import { openSqliteStore, type SqliteStore } from "@drover/shepherd/store/sqlite";
import { environmentId, linkRecord, type Shepherd, siteOf, startShepherd } from "../shepherd.ts";
import { type Command, milliseconds, type ScenarioFile } from "./read.ts";

export interface Played {
  readonly log: string;
  readonly violations: readonly string[];
  /** What is left that should not be, unless the scenario says so: `litter`, `stuck`, `unfinished`. */
  readonly left: readonly string[];
  /** Virtual time that passed. */
  readonly virtualMs: number;
}

const startMs = 1_700_000_000_000;

export async function playScenario(scenario: ScenarioFile, seed = 1): Promise<Played> {
  const stage = new Stage(scenario, seed);
  await stage.begin();
  for (const command of scenario.play) await stage.perform(command);
  return stage.end();
}

class Stage {
  readonly #scenario: ScenarioFile;
  readonly #clock: VirtualClock = createVirtualClock(startMs);
  readonly #store: SqliteStore = openSqliteStore(":memory:");
  readonly #lines: string[] = [];
  readonly #deniedSites = new Set<string>();
  readonly #names = new Map<string, string>();
  #shepherd: Shepherd | undefined;
  #alive = false;
  #shepherds: number;
  #told = 0;

  constructor(scenario: ScenarioFile, seed: number) {
    this.#scenario = scenario;
    this.#shepherds = seed * 100;
  }

  async begin(): Promise<void> {
    this.#lines.push(`# ${this.#scenario.title}`, `# ${this.#scenario.source}`);
    this.#store.onCommit((last) => void this.#hear(last));
    await this.#start();
  }

  async perform(command: Command): Promise<void> {
    await this.#advanceTo(startMs + command.atMs);
    this.#say(`> ${command.text}`);
    const act = (acts as Record<string, Act | undefined>)[command.verb];
    if (act === undefined) throw new Error(`no verb ${command.verb}`);
    await act(this, command);
  }

  async end(): Promise<Played> {
    await this.#clock.advance(this.#scenario.watchMs);
    await this.#drainEvents();
    const left = [...(await this.#report())];
    if (this.world.violations.length > 0) left.push("violation");
    const violations = [...this.world.violations];
    this.#say(`violations: ${violations.length === 0 ? "none" : violations.join("; ")}`);
    const virtualMs = this.#clock.nowMs() - startMs;
    const last = this.#shepherd;
    if (last !== undefined)
      await this.#clock.until(Promise.race([last.die(), this.#clock.sleep(60_000)]));
    await this.#store.close();
    return { log: `${this.#lines.join("\n")}\n`, violations, left, virtualMs };
  }

  // What the acts below stand on.

  get shepherd(): Shepherd {
    if (this.#shepherd === undefined || !this.#alive) throw new Error("no shepherd runs");
    return this.#shepherd;
  }
  get world(): Shepherd["world"] {
    if (this.#shepherd === undefined) throw new Error("nothing has begun");
    return this.#shepherd.world;
  }
  get store(): SqliteStore {
    return this.#store;
  }
  get clock(): VirtualClock {
    return this.#clock;
  }
  get deniedSites(): Set<string> {
    return this.#deniedSites;
  }
  get sites(): readonly string[] {
    return Object.keys(this.#scenario.fleet);
  }
  hostsOf(siteId: string): readonly string[] {
    return Object.keys(this.#scenario.fleet[siteId] ?? {});
  }
  host(id: string): HostData {
    const host = this.world.data.hosts[id];
    if (host === undefined) throw new Error(`no host ${id}`);
    return host;
  }
  async machineId(name: string): Promise<string> {
    const record = await this.#store.read((journal) =>
      journal.objects.findByKey("machine", `${environmentId}/${name}`),
    );
    if (record === undefined) throw new Error(`no machine ${name}`);
    return record.id;
  }
  name(id: string, as: string): void {
    this.#names.set(id, as);
  }
  say(text: string): void {
    this.#say(text);
  }
  /** Does not wait: the answer is told when it comes. */
  later(work: Promise<string>): void {
    work.then(
      (text) => this.#say(text),
      (error: unknown) => this.#say(`refused: ${this.#plain(toFaultData(error).message)}`),
    );
  }
  async settle(): Promise<void> {
    await this.#clock.advance(0);
  }

  async kill(afterStep?: (step: StepRecord) => boolean): Promise<void> {
    const shepherd = this.shepherd;
    if (afterStep === undefined) {
      this.#died(shepherd);
      return;
    }
    // The next one is mortal: this one is replaced by a shepherd that will die at that write.
    this.#died(shepherd);
    await this.#start(afterStep);
  }
  async startAgain(): Promise<void> {
    if (this.#alive) throw new Error("a shepherd runs already");
    await this.#start();
  }

  #died(shepherd: Shepherd): void {
    this.#alive = false;
    this.#say("the shepherd is dead");
    void shepherd.die();
  }

  async #start(afterStep?: (step: StepRecord) => boolean): Promise<void> {
    this.#shepherds += 1;
    const before = this.#shepherd;
    let own: Shepherd | undefined;
    const mortal =
      afterStep &&
      createMortalStore(this.#store, {
        afterStep,
        onDeath: () => {
          if (own !== undefined) this.#died(own);
        },
      });
    own = await this.#clock.until(
      startShepherd({
        clock: this.#clock,
        sites: Object.entries(this.#scenario.fleet).map(([id, hosts]) =>
          siteOf(
            id,
            Object.fromEntries(
              Object.entries(hosts).map(([host, { cpu, memory }]) => [
                host,
                { cpuPercent: cpu, memoryMib: memory },
              ]),
            ),
          ),
        ),
        engines: this.#engines(),
        speeds: this.#scenario.speeds,
        store: mortal === undefined ? this.#store : { ...this.#store, ...mortal },
        seed: this.#shepherds,
        care: true,
        ...(before === undefined ? {} : { after: before }),
      }),
    );
    this.#shepherd = own;
    this.#alive = true;
    if (before !== undefined) this.#say("a shepherd is there");
  }

  /** Every owner says yes, but for the sites that `deny` named. */
  #engines(): ReadonlyMap<string, PolicyEngine> {
    const owners = [
      "operator",
      "owner:*",
      ...Object.keys(this.#scenario.fleet).map((id) => `site:${id}`),
    ];
    return new Map(
      owners.map((owner): [string, PolicyEngine] => [
        owner,
        {
          owner,
          evaluate: async (entrypoint) => {
            const no = this.#deniedSites.has(owner.replace(/^site:/, ""));
            return {
              owner,
              entrypoint,
              effect: no ? "deny" : "allow",
              findings: no
                ? [
                    {
                      rule: "scenario",
                      id: "deny",
                      level: "deny",
                      ok: false,
                      msg: `${owner} says no`,
                      params: {},
                      owner,
                      disclose: "owner",
                    },
                  ]
                : [],
              obligations: [],
              limits: {},
              policyDigest: "p",
              dataDigest: "d",
              durationMs: 0,
            };
          },
          query: async () => ({ kind: "undecided", code: "policy.absent", problem: "" }),
          close: async () => undefined,
        },
      ]),
    );
  }

  async #advanceTo(atMs: number): Promise<void> {
    await this.#clock.advance(Math.max(0, atMs - this.#clock.nowMs()));
    await this.#drainEvents();
  }

  #hearing: Promise<void> = Promise.resolve();
  #hear(_last: number): Promise<void> {
    this.#hearing = this.#hearing.then(() => this.#drainEvents()).catch(() => undefined);
    return this.#hearing;
  }
  async #drainEvents(): Promise<void> {
    const events = await this.#store.read((journal) => journal.events.since(this.#told, 10_000));
    for (const event of events) {
      if (event.seq <= this.#told) continue;
      this.#told = event.seq;
      const text = await this.#tell(event);
      const repeats = event.kind === "host.differs" && this.#lines.at(-1)?.endsWith(text ?? "");
      if (text !== undefined && repeats !== true) this.#say(text, event.atMs);
    }
  }

  async #tell(event: Event): Promise<string | undefined> {
    const { kind, data } = event;
    const text = (key: string) => String(data[key]);
    const operation = () => this.#operationName(text("operationId"));
    const because = () => {
      const fault = data["fault"] as { code: string; message: string } | undefined;
      return fault === undefined ? "" : ` (${fault.code}: ${fault.message})`;
    };
    switch (kind) {
      case "shepherd.started":
      case "object.changed":
      case "request.received":
      case "decision.made":
      case "plan.made":
      case "grant.issued":
        return undefined;
      case "operation.started":
        return `${operation()} ${data["resumed"] === true ? "resumed" : "started"}: ${text("kind")}`;
      case "operation.progress":
        return undefined;
      case "operation.ended":
        return `${operation()} ${text("state")}${because()}`;
      case "step.started":
        return data["state"] === "undoing" ? `${operation()} undoing ${text("name")}` : undefined;
      case "step.ended":
        // The pivot is where a machine changes its place: always worth a line.
        if (
          data["state"] === "done" &&
          !this.#scenario.steps &&
          !/copy and switch/.test(text("name"))
        )
          return undefined;
        return `${operation()} ${text("state")} ${text("name")}${because()}`;
      case "adaptation.started":
        return `adaptation: ${JSON.stringify(data["values"])}`;
      case "adaptation.ended":
        return "adaptation ended";
      case "hold.changed":
        return `hold ${data["active"] === true ? "placed" : "lifted"}: ${JSON.stringify(data["scope"])}`;
      case "host.state":
        return `host ${text("host")} is ${text("state")}`;
      case "host.marked":
        return `host ${text("hostId")} is ${data["active"] === true ? "" : "not "}${text("kind")}`;
      case "host.differs": {
        const differs = data["active"] === true ? "differs" : "differs no more";
        // What a network is made of is not this file's matter: one line for all its parts.
        if (data["class"] === "network")
          return `${text("hostId")} ${differs}: its network -> repair`;
        return `${text("hostId")} ${differs}: ${text("class")}, ${text("object")}, ${text("detail")} -> ${text("answer")}`;
      }
      case "object.deleted":
        return `${text("kind")} ${text("key").replace(`${environmentId}/`, "")} is gone`;
      default:
        return kind;
    }
  }

  #operationNames = 0;
  #operationName(id: string): string {
    const known = this.#names.get(id);
    if (known !== undefined) return known;
    this.#operationNames += 1;
    const name = `op${this.#operationNames}`;
    this.#names.set(id, name);
    return name;
  }

  #say(text: string, atMs = this.#clock.nowMs()): void {
    const seconds = ((atMs - startMs) / 1000).toFixed(1).padStart(8);
    this.#lines.push(`${seconds}  ${this.#plain(text)}`);
  }

  /** Names instead of ids. */
  #plain(text: string): string {
    return text
      .replace(/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g, (id) => {
        const known = this.#names.get(id);
        if (known !== undefined) return known;
        return id.startsWith("00000000-0000-4000-8000")
          ? `machine-${Number(id.slice(-4)) - 1}`
          : "ID";
      })
      .replaceAll("\n", " ");
  }

  async #report(): Promise<readonly string[]> {
    const { machines, operations, reservations, links } = await this.#store.read(
      async (journal) => ({
        machines: await journal.objects.list("machine"),
        operations: await journal.operations.list({}),
        reservations: await journal.reservations.list(),
        links: await journal.objects.list("link"),
      }),
    );
    const left: string[] = [];
    this.#say("--");
    for (const { id, spec, effective } of machines) {
      const { state, hostId, vcpus, cpuPercent, memoryMib } = effective;
      const guest = this.world.insideGuest(id);
      const inside =
        guest === undefined
          ? "runs nowhere"
          : `in the guest: on ${guest.hostId}, ${guest.bootId}, ${guest.vcpus} vCPU, ${guest.cpuPercent} %, ${guest.memoryMib} MiB, disk ${guest.diskContent === "" ? "empty" : "whole"}`;
      this.#say(
        `${spec.name}: ${state} at ${hostId === "" ? "no host" : hostId}, ${vcpus} vCPU, ${cpuPercent} %, ${memoryMib} MiB; ${inside}`,
      );
    }
    for (const { spec, effective } of links) {
      this.#say(`link ${spec.machines.join(" - ")}: ${effective.rateMbps} Mbit/s`);
    }
    const open = operations.filter(({ endedAtMs }) => endedAtMs === undefined);
    if (open.length > 0) left.push("unfinished");
    for (const one of open) {
      this.#say(`unfinished: ${this.#operationName(one.id)} ${one.state}, ${one.progress.message}`);
    }
    const stuck = operations.filter(({ state }) => state === "stuck");
    if (stuck.length > 0) left.push("stuck");
    for (const one of stuck) this.#say(`stuck: ${questionOf(one, this.#operationName(one.id))}`);
    if (open.length + stuck.length === 0 && reservations.length > 0) {
      left.push("reservations");
      this.#say(`reservations left: ${reservations.length}`);
    }
    const litter = this.#litter(new Map(machines.map((one) => [one.id, one.effective.hostId])));
    if (litter.length > 0) left.push("litter");
    for (const one of litter) this.#say(`left over: ${one}`);
    return left;
  }

  #litter(home: ReadonlyMap<string, string>): readonly string[] {
    return Object.values(this.world.data.hosts).flatMap((host) => [
      ...Object.values(host.domains)
        .filter(({ id, spec }) => spec !== undefined && home.get(id) !== host.id)
        .map(({ name, state }) => `${host.id}: domain ${name} ${state}`),
      ...Object.keys(host.volumes).flatMap((name) => {
        const id = /^drover-([0-9a-f-]{36})\.qcow2$/.exec(name)?.[1];
        return id === undefined || home.get(id) === host.id ? [] : [`${host.id}: volume ${name}`];
      }),
    ]);
  }
}

function questionOf({ fault }: Operation, name: string): string {
  const commands = (fault?.details["commands"] ?? []) as readonly string[];
  return `${name}: ${fault?.message ?? ""}${commands.map((one) => `\n              $ ${one}`).join("")}`;
}

type Act = (stage: Stage, command: Command) => Promise<void> | void;

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
const acts: Record<string, Act> = {
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
