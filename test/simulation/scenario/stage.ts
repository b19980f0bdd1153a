/**
 * The stage of a scenario: simulated hosts in virtual time, a whole shepherd that may die and come back, and the log of
 * what happened, in words that a person can judge. What a play does on it stands in acts.ts.
 */
import type { Event } from "@drover/shepherd/model/event";
import { toFaultData } from "@drover/shepherd/model/fault";
import type { Operation, StepRecord } from "@drover/shepherd/model/plan";
import type { PolicyEngine } from "@drover/shepherd/ports/policy-engine";
import { createVirtualClock, type VirtualClock } from "@drover/shepherd/simulated/clock";
import { createMortalStore } from "@drover/shepherd/simulated/crash";
import type { HostData } from "@drover/shepherd/simulated/data";
import { openSqliteStore, type SqliteStore } from "@drover/shepherd/store/sqlite";
import { environmentId, type Shepherd, siteOf, startShepherd } from "../shepherd.ts";
import type { Command, ScenarioFile } from "./read.ts";

export interface Played {
  readonly log: string;
  readonly violations: readonly string[];
  /** What is left that should not be, unless the scenario says so: `litter`, `stuck`, `unfinished`. */
  readonly left: readonly string[];
  /** Virtual time that passed. */
  readonly virtualMs: number;
}

const startMs = 1_700_000_000_000;

export class Stage {
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

  /** Lets time pass until the command is due, and writes it down. */
  async until({ atMs, text }: Command): Promise<void> {
    await this.#advanceTo(startMs + atMs);
    this.#say(`> ${text}`);
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
